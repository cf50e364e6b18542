"""Whose record a verdict on a workflow's node goes into: the node with its model and what defines its behaviour."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from functools import lru_cache, partial
from typing import Any, cast

from pydantic import BaseModel

from crew_guard.core.reliability.trials import Subject
from crew_guard.core.reliance import behaviour_of, digest
from crew_guard.core.roles import Crew
from crew_guard.core.tools import Tool
from crew_guard.ports import Means, Model
from crew_guard.workflows.agents import Delegation
from crew_guard.workflows.nodes import Node
from crew_guard.workflows.shape import Shape


def subjects_of(workflow: str, shape: Shape, means: Means | None) -> dict[str, Subject]:
    """By node, and by NODE/AGENT for the agents inside of one."""
    found: dict[str, Subject] = {}
    for node in shape.nodes.values():
        if isinstance(node.function, Delegation):
            found.update(_inside(workflow, node.name, node.function.crew, means))
        else:
            found[node.name] = Subject(workflow, _model(node.model, means), node.name, _version(node))
    return found


def _inside(workflow: str, node: str, crew: Crew, means: Means | None) -> Iterator[tuple[str, Subject]]:
    models = {agent.name: _asked(agent.model or agent.role.model, means) for agent in crew.everyone()}
    version = behaviour_of(crew, models)
    several = ", ".join(sorted(set(models.values())))
    yield node, Subject(workflow, several, node, version)
    for agent in crew.everyone():
        yield f"{node}/{agent.name}", Subject(workflow, models[agent.name], f"{node}/{agent.name}", version)


def _model(model: Model | str | None, means: Means | None) -> str:
    if model is None:
        return ""
    return _asked(model, means) if isinstance(model, str) else model.name


def _asked(name: str | None, means: Means | None) -> str:
    return (name or "") if means is None else means.model_named(name).name


def _version(node: Node) -> str:
    function = node.function.function if isinstance(node.function, Tool) else node.function
    output = None if node.output is None else _schema(node.output)
    return digest([text_of(function), node.system, output, node.max_tokens, node.each, node.copies, node.ahead_by])


def _schema(output: type[BaseModel]) -> Any:
    """What an output must be; its name where it has no JSON Schema."""
    try:
        return output.model_json_schema()
    except Exception:  # noqa: BLE001  fields of users' own types, and hooks that raise what they like
        return output.__qualname__


def text_of(function: Any) -> str:
    """A function as it is written, with what a partial or a closure gives it; its name where nobody knows."""
    if isinstance(function, partial):
        bound = cast("partial[Any]", function)
        return str([text_of(bound.func), _data([bound.args, bound.keywords])])
    try:
        source = _source(function)
    except (OSError, TypeError):  # an object that compares by value has no hash
        return str(getattr(function, "__qualname__", type(function).__qualname__))
    return str([source, texts]) if (texts := _texts_around(function)) else source


def _texts_around(function: Any) -> list[tuple[str, str]]:
    """Texts that a closure holds, its prompt say, by name. Not its numbers and lists: those may count and collect."""
    inner = inspect.unwrap(getattr(function, "__func__", function))
    code, cells = getattr(inner, "__code__", None), getattr(inner, "__closure__", None) or ()
    found: list[tuple[str, str]] = []
    for name, cell in zip(getattr(code, "co_freevars", ()), cells, strict=True) if cells else ():
        with suppress(ValueError):  # one that is not filled yet
            if isinstance(held := cell.cell_contents, str):
                found.append((name, held))
    return found


def _data(value: Any) -> Any:
    """What of a value is the same in every process: data, functions as they are written, of others the type's name."""
    if value is None or isinstance(value, str | bytes | int | float | Enum):
        return repr(value)
    if isinstance(value, BaseModel):
        return _data(value.__dict__)
    if isinstance(value, Mapping):
        return sorted((str(name), _data(each)) for name, each in cast("Mapping[Any, Any]", value).items())
    if isinstance(value, list | tuple):
        return [_data(each) for each in cast("Iterable[Any]", value)]
    return text_of(value) if callable(value) else type(value).__qualname__


@lru_cache(maxsize=256)
def _source(function: Any) -> str:
    return inspect.getsource(function)
