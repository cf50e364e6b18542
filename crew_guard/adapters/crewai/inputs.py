"""What an Agent, a Crew or a Flow can be run with: what would be taken silently for something else is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from crewai import Agent, Crew
from crewai.flow.flow import Flow

from crew_guard.adapters.crewai.checks import agents_of, name_of
from crew_guard.errors import ConfigError

FOR_EACH = "for_each"
_TASK = "task"


def task_of(inputs: Mapping[str, Any]) -> Any:
    """The task of a single agent."""
    return inputs.get(_TASK, inputs.get("input"))


def check_inputs(host: Any, inputs: Mapping[str, Any]) -> None:
    """Whether the inputs are such as this host is run with.

    Raises:
        ConfigError: they are not
    """
    if isinstance(host, Agent) and not task_of(inputs):
        raise ConfigError(f"agent {name_of(host)!r} needs a task: run('…') or run({{'task': '…'}})")
    if not isinstance(host, Crew) or FOR_EACH not in inputs:
        return
    each: Any = inputs[FOR_EACH]
    kind = type(each).__name__
    if others := ", ".join(name for name in inputs if name != FOR_EACH):
        raise ConfigError(
            f"for_each stands alone, and here is {others}, too: give that with each of the inputs, "
            "run({'for_each': [{…}, {…}]})"
        )
    several = cast("Sequence[object]", each) if isinstance(each, list | tuple) else (None,)
    if not all(isinstance(one, Mapping) for one in several):
        raise ConfigError(f"for_each must be a list of inputs, [{{…}}, {{…}}], not {kind}")


def inputs_of(host: Any, text: str) -> dict[str, Any]:
    """The inputs that a text stands for.

    Raises:
        ConfigError: there are none: nobody would read it
    """
    if isinstance(host, Crew) and _TASK not in (names := _variables(host)):
        example = ", ".join(f"{name!r}: '…'" for name in names)
        raise ConfigError(
            "a Crew has tasks of its own, and no {task} in them for a text: "
            + (f"give it its inputs, run({{{example}}})" if names else "it has no variables, so run it with run()")
        )
    if isinstance(host, Flow) and not _has(cast(Any, host).state, _TASK):
        raise ConfigError(
            f"the state of {type(cast(Any, host)).__name__} has no field task for a text: "
            "give the flow what its state takes, run({'task': '…'}) say"
        )
    return {_TASK: text}


def _has(state: Any, name: str) -> bool:
    return name in state if isinstance(state, dict) else hasattr(state, name)


def _variables(crew: Crew) -> list[str]:
    """The names of inputs in the texts of a crew, as its author wrote them."""
    return list(dict.fromkeys(name for text in _texts(crew) for name in re.findall(r"{([A-Za-z_][\w-]*)}", text)))


def _texts(crew: Crew) -> Iterator[str]:
    parts = {"description": crew.tasks, "expected_output": crew.tasks}
    parts |= dict.fromkeys(("role", "goal", "backstory"), agents_of(crew))
    for name, several in parts.items():
        for one in several:
            text = getattr(one, f"_original_{name}", None) or getattr(one, name, None)
            if isinstance(text, str):
                yield text
