"""Who takes part: roles, agents, tasks and the crew that they make."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field

from crew_guard.core.tools import Tool

T = TypeVar("T")


class Role(BaseModel):
    """A definition that agents share: what they are for and how they go about it."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: str = Field(min_length=1, pattern=r"^[A-Za-z][\w -]*$")
    """What policies, journals and tasks call it."""
    goal: str = Field(min_length=1)
    """What an agent of this role is after, in a sentence."""
    title: str = ""
    """What the agent is told it is, e.g. a senior analyst; its name by default. May hold {variables}."""
    instructions: str = ""
    """How it works; may hold {variables} that the run's inputs fill in."""
    tools: tuple[str, ...] | None = None
    """Names of the tools an agent of this role may have; absent restricts nothing."""
    model: str | None = None
    """Its model, e.g. openai:gpt-4.1-mini; absent takes the supervisor's."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Longest completion it asks for."""
    completion_min: int | None = Field(default=None, ge=1)
    """Shortest completion still of use to it, in tokens; absent takes the policy's."""
    max_steps: int | None = Field(default=None, ge=0)
    """Model calls of one agent of this role in a run, retries included; the policy's own cap holds, too."""


@dataclass(frozen=True, slots=True, eq=False)
class Agent:
    """A member of a crew."""

    role: Role
    tools: tuple[Tool, ...] | list[Tool] = ()
    model: str | None = None
    """Overrides its role's model."""
    name: str = ""
    """Unique in its crew; its role's name by default."""

    def __post_init__(self) -> None:
        _must_be(self.role, Role, "an agent's role", "load_role(name) gives one")
        tools = _several(self.tools, Tool, "an agent's tools", "make a function one with @tool")
        if not self.name:
            object.__setattr__(self, "name", self.role.name)
        object.__setattr__(self, "tools", tools)
        allowed = self.role.tools
        for given in self.tools:
            if allowed is not None and given.name not in allowed:
                raise ValueError(
                    f"agent {self.name!r}: its role allows the tools {', '.join(allowed) or 'none'}, not {given.name!r}"
                )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verifier says of one trial."""

    passed: bool
    reason: str = ""
    """Why, in words for the agent and for the person who reads the result."""
    grade: float | None = None
    """In [0, 1] where the verifier grades; absent for a plain yes or no."""


@dataclass(frozen=True, slots=True)
class TaskContext:
    """What a verifier may look at besides the output."""

    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    """Outputs of the tasks before, by task name."""


Verifier: TypeAlias = Callable[[Any, TaskContext], Verdict | bool]


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One thing for one agent to do."""

    description: str
    """May hold {variables}, filled in from the run's inputs."""
    agent: str = ""
    """The name of the agent that does it; the crew's only agent by default."""
    output: type[BaseModel] | None = None
    """A pydantic model that the answer must follow; plain text by default."""
    verify: Verifier | None = None
    """Whether the output is right: without it no verdict is given, not a good one."""
    name: str = ""
    """Unique in its crew; task_1, task_2 … by default."""
    context: tuple[str, ...] | None = None
    """The tasks before it whose outputs its agent is shown, by name; all of them by default."""

    def __post_init__(self) -> None:
        if self.output is not None and not (isinstance(self.output, type) and issubclass(self.output, BaseModel)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"a task's output must be a class of pydantic's BaseModel, not {self.output!r}")
        if self.verify is not None and not callable(self.verify):
            raise TypeError(f"a task's verify must be a function (output, context), not {self.verify!r}")


@dataclass(frozen=True, slots=True, eq=False)
class Crew:
    """Agents, their tasks in order, and the fixed path to take where they can't be relied on."""

    agents: tuple[Agent, ...] | list[Agent]
    tasks: tuple[Task, ...] | list[Task]
    fallback: Any = None
    """A Workflow that does the same job on a fixed path."""
    name: str = "crew"
    process: Literal["sequential"] = "sequential"
    defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Inputs used where a run gives none."""

    def __post_init__(self) -> None:
        agents = _several(self.agents, Agent, "a crew's agents", "Agent(role) makes one")
        tasks = _several(self.tasks, Task, "a crew's tasks", "Task(description) makes one")
        names = [agent.name for agent in agents]
        if self.process != "sequential":
            raise ValueError(f"crew {self.name!r}: the process {self.process!r} is not known; there is sequential")
        if not agents:
            raise ValueError(f"crew {self.name!r} has no agents")
        if not tasks:
            raise ValueError(f"crew {self.name!r} has no tasks")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"crew {self.name!r}: two agents are named {twice[0]!r}; give one of them a name=")
        object.__setattr__(self, "agents", agents)
        object.__setattr__(self, "tasks", tuple(self._named(task, i, names) for i, task in enumerate(tasks, 1)))
        task_names = [task.name for task in self.tasks]
        if twice := sorted({name for name in task_names if task_names.count(name) > 1}):
            raise ValueError(f"crew {self.name!r}: two tasks are named {twice[0]!r}")
        for i, task in enumerate(self.tasks):
            if unknown := sorted({*(task.context or ())} - {*task_names[:i]}):
                raise ValueError(f"crew {self.name!r}: {task.name} wants {unknown[0]!r}, which is no task before it")

    def _named(self, task: Task, ordinal: int, agents: list[str]) -> Task:
        agent = task.agent or (agents[0] if len(agents) == 1 else "")
        if not agent:
            raise ValueError(f"crew {self.name!r}: task {ordinal} needs agent=, one of {', '.join(agents)}")
        if agent not in agents:
            raise ValueError(
                f"crew {self.name!r}: task {ordinal} names the agent {agent!r}; its agents are {', '.join(agents)}"
            )
        return replace(task, agent=agent, name=task.name or f"task_{ordinal}")

    def agent(self, name: str) -> Agent:
        """The member of this name."""
        return next(agent for agent in self.agents if agent.name == name)

    def variables(self) -> frozenset[str]:
        """The names of all {variables} that its tasks and roles hold."""
        texts = [task.description for task in self.tasks]
        roles = [agent.role for agent in self.agents]
        texts += [text for role in roles for text in (role.title, role.goal, role.instructions)]
        return frozenset(name for text in texts for name in _VARIABLE.findall(text))


def _must_be(value: object, kind: type, what: str, hint: str) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{what} must be a {kind.__name__}, not {value!r}: {hint}")


def _several(values: Any, kind: type[T], what: str, hint: str) -> tuple[T, ...]:
    if not isinstance(values, list | tuple):
        raise TypeError(f"{what} must be a list, not {values!r}")
    several = tuple(cast("list[T]", values))
    for value in several:
        _must_be(value, kind, f"each of {what}", hint)
    return several


_VARIABLE = re.compile(r"(?<!\{)\{([A-Za-z_]\w*)\}(?!\})")


def fill(text: str, inputs: Mapping[str, Any]) -> str:
    """The text with its {variables} replaced, in one pass: a value is never itself expanded.

    Raises:
        KeyError: a variable is not among the inputs
    """
    return _VARIABLE.sub(lambda match: str(inputs[match[1]]), text)
