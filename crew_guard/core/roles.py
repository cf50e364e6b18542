"""Who takes part: roles, agents, tasks and the crew that they make."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from crew_guard.core.given import listed, must_be, must_name, must_name_model, several, texts
from crew_guard.core.processes import BUILT_IN, PROCESSES, Process, Turns, check_order, ends
from crew_guard.core.tools import Tool
from crew_guard.core.verdicts import Judge, TaskContext, Verdict, Verifier, Verify, check_verify

__all__ = ["Agent", "Crew", "Role", "Task", "TaskContext", "Verdict", "Verifier", "fill"]


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
    model: str | None = Field(default=None, min_length=1)
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
    delegates: bool = False
    """In a hierarchical crew: whether it may call other members itself, as far down as max_depth lets it."""

    def __post_init__(self) -> None:
        must_be(self.role, Role, "an agent's role", "load_role(name) gives one")
        texts(self, "an agent's", "name", "model")
        must_name(self.name, "an agent's name", default=True)
        must_name_model(self.model, "an agent's model")
        tools = several(self.tools, Tool, "an agent's tools", "make a function one with @tool")
        if not self.name:
            object.__setattr__(self, "name", self.role.name)
        object.__setattr__(self, "tools", tools)
        names = [tool.name for tool in tools]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            # A server could name its tool like one of yours, and be called in its place.
            raise ValueError(f"agent {self.name!r} has two tools named {twice[0]!r}; give one another name or a prefix")
        allowed = self.role.tools
        for given in self.tools:
            if allowed is not None and given.name not in allowed:
                raise ValueError(
                    f"agent {self.name!r}: its role allows the tools {', '.join(allowed) or 'none'}, not {given.name!r}"
                )


MANAGER = Role(
    name="manager",
    goal="Get the task done by the members of your crew.",
    instructions="Break the task into parts. Delegate each part to the member whose goal fits it best, with all that "
    "it needs to know, because it sees nothing else. Look at what comes back, delegate again where something is "
    "missing, and then answer yourself. Do no part of the work that a member can do.",
)
"""Who leads a hierarchical crew that names no manager."""


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One thing for one agent to do."""

    description: str
    """May hold {variables}, filled in from the run's inputs."""
    agent: str = ""
    """The name of the agent that does it; the crew's only agent by default."""
    output: type[BaseModel] | None = None
    """A pydantic model that the answer must follow; plain text by default."""
    verify: Verify | None = None
    """Whether the output is right, a function or a Judge; without it only the output's model gives a verdict."""
    name: str = ""
    """Unique in its crew; task_1, task_2 … by default."""
    guardrails: Sequence[Any] = ()
    """Checks of the answer, in order, before it counts: docs/guardrails.md says what may stand here."""
    context: tuple[str, ...] | list[str] | None = None
    """Names of tasks whose outputs it needs; by default all before it, in a parallel crew none."""
    kind: str = ""
    """What kind of work it is: an agent's record is kept by kind, whatever crew it works in; by default its name."""

    def __post_init__(self) -> None:
        texts(self, "a task's", "description", "agent", "name", "kind")
        for name in ("name", "kind"):
            must_name(getattr(self, name), f"a task's {name}", default=True)
        if self.output is not None and not (isinstance(self.output, type) and issubclass(self.output, BaseModel)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"a task's output must be a class of pydantic's BaseModel, not {self.output!r}")
        check_verify(self.verify, "a task's verify")
        listed(self.guardrails, "a task's guardrails")
        if self.context is not None:
            names = several(self.context, str, "a task's context", "it holds names of tasks")
            object.__setattr__(self, "context", names)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Crew:
    """Agents, their tasks, how they go about them, and the fixed path to take where they can't be relied on."""

    agents: tuple[Agent, ...] | list[Agent]
    tasks: tuple[Task, ...] | list[Task]
    fallback: Any = None
    """A Workflow that does the same job on a fixed path."""
    name: str = "crew"
    process: Process = "sequential"
    """sequential, parallel, hierarchical, handoff or conversation: docs/crews.md says when to use which."""
    defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Inputs used where a run gives none."""
    manager: Agent | Role | None = None
    """Of a hierarchical crew: who delegates its tasks to the agents; by default one is made."""
    turns: Turns | None = None
    """Of a conversation: when it ends."""
    selector: Agent | Role | None = None
    """Of a conversation: who says who speaks next; by default they speak in order."""
    verify: Verify | None = None
    """Whether the crew's output, or its workflow's, is right as a whole: a function (output, context) or a Judge."""
    # Found once, because every run asks for them

    _variables: frozenset[str] = field(init=False, repr=False)
    _everyone: tuple[Agent, ...] = field(init=False, repr=False)
    _judges: tuple[Judge, ...] = field(init=False, repr=False)
    _results: tuple[Task, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        texts(self, "a crew's", "name")
        must_name(self.name, "a crew's name")
        must_be(self.defaults, Mapping, "a crew's defaults", "they are inputs by name, used where a run gives none")
        agents = several(self.agents, Agent, "a crew's agents", "Agent(role) makes one")
        tasks = several(self.tasks, Task, "a crew's tasks", "Task(description) makes one")
        names = [agent.name for agent in agents]
        if self.fallback is not None and not callable(getattr(self.fallback, "run", None)):
            raise ValueError(
                f"crew {self.name!r}: its fallback must be a workflow, such as chain(...) makes, not {self.fallback!r}"
            )
        if self.process not in PROCESSES:
            known = ", ".join(PROCESSES)
            raise ValueError(f"crew {self.name!r}: the process {self.process!r} is not known; there are {known}")
        if not agents:
            raise ValueError(f"crew {self.name!r} has no agents")
        if not tasks:
            raise ValueError(f"crew {self.name!r} has no tasks")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"crew {self.name!r}: two agents are named {twice[0]!r}; give one of them a name=")
        check_verify(self.verify, f"crew {self.name!r}: verify")
        object.__setattr__(self, "agents", agents)
        self._leaders(names)
        object.__setattr__(self, "tasks", tuple(self._named(task, i, names) for i, task in enumerate(tasks, 1)))
        task_names = [task.name for task in self.tasks]
        if twice := sorted({name for name in task_names if task_names.count(name) > 1}):
            raise ValueError(f"crew {self.name!r}: two tasks are named {twice[0]!r}")
        try:
            check_order(self.process, self.needs())
        except ValueError as error:
            raise ValueError(f"crew {self.name!r}: {error}") from None
        object.__setattr__(self, "_variables", self._found_variables())
        judges = {
            id(one): one for one in (*(task.verify for task in self.tasks), self.verify) if isinstance(one, Judge)
        }
        object.__setattr__(self, "_judges", tuple(judges.values()))
        self._judges_have_names()
        last = ends(self.needs()) if self.process == "parallel" else [self.tasks[-1].name]
        object.__setattr__(self, "_results", tuple([task for task in self.tasks if task.name in last]))

    def _judges_have_names(self) -> None:
        models = {agent.name: "an agent" for agent in self.everyone()}
        for judge in self.judges():
            if models.setdefault(judge.name, f"a judge on {judge.model}") != f"a judge on {judge.model}":
                raise ValueError(f"crew {self.name!r}: its judge {judge.name!r} has the name of {models[judge.name]}")

    def _leaders(self, names: list[str]) -> None:
        for name, process in (("manager", "hierarchical"), ("turns", "conversation"), ("selector", "conversation")):
            if getattr(self, name) is not None and self.process != process:
                raise ValueError(f"crew {self.name!r}: {name}= is for the process {process}, not {self.process}")
        if self.process == "conversation":
            must_be(self.turns, Turns, "a conversation's turns", "Turns(until=...) says when it ends")
            ender = self.turns.ended_by if self.turns else ""
            if ender and ender not in names:
                raise ValueError(f"crew {self.name!r}: ended_by={ender!r} is none of its agents, {', '.join(names)}")
        if self.process == "hierarchical" and self.manager is None:
            object.__setattr__(self, "manager", MANAGER)
        for name in ("manager", "selector"):
            self._leader(name, names)
        leaders = [leader for leader in (self.manager, self.selector) if isinstance(leader, Agent)]
        object.__setattr__(self, "_everyone", (*self.agents, *leaders))
        built_in = BUILT_IN.get(self.process)
        for agent in self.everyone():
            if any(tool.name == built_in for tool in agent.tools):
                raise ValueError(
                    f"crew {self.name!r}: {agent.name} has a tool {built_in!r}, as its process adds one; rename it"
                )

    def _leader(self, name: str, agents: list[str]) -> None:
        given = getattr(self, name)
        if given is None:
            return
        leader = Agent(given) if isinstance(given, Role) else given
        must_be(leader, Agent, f"a crew's {name}", "Agent(role) makes one; a Role does, too")
        if leader.name in agents:
            raise ValueError(f"crew {self.name!r}: its {name} and an agent are both named {leader.name!r}")
        object.__setattr__(self, name, leader)

    def _named(self, task: Task, ordinal: int, agents: list[str]) -> Task:
        agent = task.agent or (agents[0] if len(agents) == 1 or self.process == "conversation" else "")
        if not agent and isinstance(self.manager, Agent):
            agent = self.manager.name
            agents = [agent]
        if not agent:
            raise ValueError(f"crew {self.name!r}: task {ordinal} needs agent=, one of {', '.join(agents)}")
        if agent not in agents:
            raise ValueError(
                f"crew {self.name!r}: task {ordinal} names the agent {agent!r}; its agents are {', '.join(agents)}"
            )
        name = task.name or f"task_{ordinal}"
        return replace(task, agent=agent, name=name, kind=task.kind or name)

    def agent(self, name: str) -> Agent:
        """The member of this name."""
        return next(agent for agent in self.everyone() if agent.name == name)

    def everyone(self) -> tuple[Agent, ...]:
        """Every identity that calls a model: its agents, its manager, its selector."""
        return self._everyone

    def judges(self) -> tuple[Judge, ...]:
        """The models that give verdicts, each once."""
        return self._judges

    def attributed(self, verdict: Verdict) -> Verdict:
        """The verdict; where it blames somebody whom the crew hasn't got, it says so and blames nobody."""
        known = {*(agent.name for agent in self.everyone()), *(task.name for task in self.tasks)}
        if not verdict.blames or verdict.blames in known:
            return verdict
        told = f"it blames {verdict.blames!r}, which is no agent and no task of the crew"
        return replace(verdict, blames="", reason=f"{verdict.reason} ({told})" if verdict.reason else told)

    def needs(self) -> dict[str, tuple[str, ...] | None]:
        """By task, in order: the tasks that it names as its context."""
        return {task.name: None if task.context is None else tuple(task.context) for task in self.tasks}

    def results(self) -> tuple[Task, ...]:
        """The tasks whose output is the crew's: the last one; of a parallel crew all that no other takes up."""
        return self._results

    def variables(self) -> frozenset[str]:
        """The names of all {variables} that its tasks and roles hold."""
        return self._variables

    def _found_variables(self) -> frozenset[str]:
        texts = [task.description for task in self.tasks]
        roles = [agent.role for agent in self.everyone()]
        texts += [text for role in roles for text in (role.title, role.goal, role.instructions)]
        return frozenset(name for text in texts for name in _VARIABLE.findall(text))


_VARIABLE = re.compile(r"(?<!\{)\{([A-Za-z_]\w*)\}(?!\})")


def fill(text: str, inputs: Mapping[str, Any]) -> str:
    """The text with its {variables} replaced, in one pass: a value is never itself expanded.

    Raises:
        KeyError: a variable is not among the inputs
    """
    return _VARIABLE.sub(lambda match: str(inputs[match[1]]), text)
