"""What defines an agent, a crew or a flow of CrewAI, as it was declared: a run fills in its own inputs in place."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from crewai import Crew, Process
from crewai.flow.flow import Flow
from crewai.llms.base_llm import BaseLLM

from crew_guard.adapters.crewai import checks
from crew_guard.adapters.crewai.checks import agents_of, name_of
from crew_guard.adapters.crewai.model import model_name
from crew_guard.adapters.defining import called, each, names, plain, read, tried

_BESIDE = ("system_template", "prompt_template", "response_template", "apps", "mcps")
"""Of an agent, what no run fills in."""
_VARIABLE = re.compile(r"{[A-Za-z_][\w-]*}", re.ASCII)
"""What CrewAI fills in."""
_BROUGHT = ("crewai.tools.mcp", "crewai_tools.tools.crewai_platform")
"""Where the tools are defined that an agent's own kickoff adds to those that it was given."""


def name_of_host(host: Any) -> str:
    """What an agent, a crew or a flow is called: an agent by its role."""
    return called(tried(checks.called, host), "crew" if isinstance(host, Crew) else None, host)


def definition_of(host: Any) -> Any:
    """What can be read of an agent, a crew or a flow. See Described."""
    if isinstance(host, Flow):
        return tried(_of_flow, host)
    return tried(_of_crew if isinstance(host, Crew) else _of_agent, host)


def _of_crew(crew: Crew) -> Any:
    led = crew.process is Process.hierarchical
    manager = tried(_of_manager, crew) if led else None
    # Who has a task is nobody's choice where a manager leads: CrewAI gives them all to that one.
    owners = None if led else each(lambda task: name_of(task.agent), crew.tasks)
    planner = tried(_bare, crew.planning_llm) if crew.planning else None
    agents = [agent for agent in agents_of(crew) if agent is not crew.manager_agent]
    return [
        plain(crew.process),
        each(_of_agent, agents),
        each(partial(_of_task, longer=_adds_to_tasks(crew)), crew.tasks),
        owners,
        manager,
        planner,
    ]


def _adds_to_tasks(crew: Crew) -> bool:
    """Whether a run adds a plan, or a conversation, to the tasks' own texts, and leaves it there."""
    given: Any = tried(getattr, crew, "_inputs") or {}
    return crew.planning or "crew_chat_messages" in given


def _of_manager(crew: Crew) -> Any:
    agent = crew.manager_agent
    # Where it was given a model only, CrewAI makes the agent at the first kickoff, and keeps it.
    if agent is None or agent.llm is crew.manager_llm:
        return _bare(crew.manager_llm)
    return _of_agent(agent)


def _of_agent(agent: Any) -> Any:
    texts = [_declared(agent, name) for name in ("role", "goal", "backstory")]
    tools = names(_tool, tried(getattr, agent, "tools"))
    return [type(agent).__qualname__, texts, tried(_model, agent), tools, read(agent, *_BESIDE)]


def _of_task(task: Any, *, longer: bool) -> Any:
    texts = [_declared(task, "description", longer=longer), _declared(task, "expected_output")]
    return [type(task).__qualname__, texts, names(_tool, task.tools)]


def _of_flow(flow: Any) -> Any:
    """Its methods, and what each listens to; of a declared one also what each does."""
    declared = flow._definition.model_dump(mode="json", include={"methods"})  # noqa: SLF001  it has no other name
    return [type(flow).__qualname__, {name: _of_method(method) for name, method in declared["methods"].items()}]


def _of_method(method: dict[str, Any]) -> Any:
    does = method["do"]
    return [method["start"], method["listen"], method["router"], None if does["call"] == "code" else does]


def _declared(part: Any, name: str, *, longer: bool = False) -> Any:
    """A text before a run filled in its inputs; or the one that was given instead since.

    Args:
        longer: a run may have added something to it
    """
    first, now = (plain(tried(getattr, part, each)) for each in (f"_original_{name}", name))
    return first if isinstance(first, str) and isinstance(now, str) and _came_of(first, now, longer=longer) else now


def _came_of(first: str, now: str, *, longer: bool) -> bool:
    """Whether a text is another with anything in the place of its variables: who filled it in may be another crew."""
    start, *others = map(re.escape, _VARIABLE.split(first) + [""] * longer)
    between = "".join(f"(?>.*?{one})" for one in others[:-1])  # each where it comes first: no search begins anew
    end = "".join(f".*{one}" for one in others[-1:])
    return re.fullmatch(start + between + end, now, re.DOTALL) is not None


def _model(agent: Any) -> str:
    return model_name(agent.llm)


def _bare(llm: Any) -> str | None:
    """A model's name alone: a text of PROVIDER/NAME becomes an object at the first kickoff."""
    name = model_name(llm).partition(":")[2] if isinstance(llm, BaseLLM) else llm
    return name.rpartition("/")[2] if isinstance(name, str) else None


def _tool(tool: Any) -> str | None:
    return None if type(tool).__module__.startswith(_BROUGHT) else tool.name
