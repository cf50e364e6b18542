"""One Agent, or a sequential Crew, as a Runtime: stood in for, run on a thread, and handed back as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from anyio import CapacityLimiter, to_thread
from crewai import Agent, Crew, Process, Task
from crewai.llms.base_llm import BaseLLM
from crewai.tools.base_tool import BaseTool

from crew_guard.adapters.crewai.model import check_model, gated_model
from crew_guard.adapters.crewai.tools import gated_tool
from crew_guard.adapters.hosted import ModelFacts, RunNotes, come_from
from crew_guard.errors import ConfigError
from crew_guard.ports import Gate, RuntimeResult


@dataclass(frozen=True, slots=True)
class CrewAIRuntime:
    """Runs one Agent or one Crew. A Runtime of ports."""

    host: Agent | Crew
    facts: ModelFacts

    def __post_init__(self) -> None:
        if not isinstance(self.host, Agent | Crew):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(f"of CrewAI, crew_guard guards an Agent or a Crew, not a {type(self.host).__name__} yet")
        self._check()

    @property
    def name(self) -> str:
        return "crewai"

    def members(self) -> Sequence[str]:
        """The agents' roles, as they were declared."""
        return list(dict.fromkeys(_name(agent) for agent in _agents(self.host)))

    def task_texts(self, inputs: Mapping[str, Any]) -> Sequence[str]:  # noqa: ARG002  CrewAI fills them in itself
        """The tasks' descriptions as they were declared; see Tasked. An agent's task is among the inputs."""
        if isinstance(self.host, Agent):
            return []
        # An earlier run filled in its own inputs: those were given to that run.
        return [task._original_description or task.description for task in self.host.tasks]  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    async def run(self, inputs: Mapping[str, Any], gate: Gate) -> RuntimeResult:
        """Kick off on a thread; the answer, as a pydantic object where it is one, is the output.

        A thread can't be ended. Where this is cancelled it waits for the thread, whose every further call
        the gate refuses; cancelled again, it leaves the thread behind. Until the thread is through the
        user's objects stay stood in for.

        Args:
            inputs: for an agent its task, under "task" or "input"; for a crew the crew's inputs
            gate: every model call and tool execution goes through it
        Raises:
            ConfigError: an agent has no task, or is in another guarded run
            RefusedError: the guard refused an action and CrewAI let that through
        """
        if isinstance(self.host, Agent) and not inputs.get("task", inputs.get("input")):
            raise ConfigError(f"agent {_name(self.host)!r} needs a task: run('…') or run({{'task': '…'}})")
        self._check()
        # A limiter of its own: threads that were left behind must not use up those of others.
        work = to_thread.run_sync(self._run, inputs, gate, abandon_on_cancel=True, limiter=CapacityLimiter(1))
        thread = asyncio.ensure_future(work)
        try:
            return await asyncio.shield(thread)
        except asyncio.CancelledError:
            await asyncio.wait({thread})  # so that whoever cancelled sees that the work goes on
            _ = thread.cancelled() or thread.exception()
            raise

    def _run(self, inputs: Mapping[str, Any], gate: Gate) -> RuntimeResult:
        notes = RunNotes()
        with _stood_in_for(self.host, gate, self.facts, notes):
            if isinstance(self.host, Agent):
                answer = cast(Any, self.host).kickoff(inputs.get("task", inputs.get("input")))
                outputs: dict[str, Any] = {}
            else:
                answer = cast(Any, self.host).kickoff(inputs=dict(inputs))
                outputs = {task.name or f"task_{i}": task.raw for i, task in enumerate(answer.tasks_output, 1)}
        output = answer.pydantic if answer.pydantic is not None else answer.raw
        if notes.unanswered:
            reason = "CrewAI gave up at max_iter with the model's request for a tool as the answer"
            return RuntimeResult(output, outputs, partial=True, reason=reason)
        return RuntimeResult(output, outputs)

    def _check(self) -> None:
        if isinstance(self.host, Crew):
            _refuse_parts(self.host, "the crew", _CREW_PARTS)
            if self.host.process is not Process.sequential:
                raise ConfigError("the crew is hierarchical; crew_guard guards sequential crews as yet")
            for task in self.host.tasks:
                _check_task(task)
        for agent in _agents(self.host):
            _check_agent(agent, alone=isinstance(self.host, Agent))


_AGENT_PARTS = ("apps", "mcps", "memory", "knowledge", "knowledge_sources", "skills", "a2a")
_CREW_PARTS = ("memory", "planning", "knowledge", "knowledge_sources", "skills", "manager_agent", "manager_llm")


def _check_agent(agent: Any, *, alone: bool) -> None:
    whose = f"agent {getattr(agent, 'role', '?')!r}"
    if not isinstance(agent, Agent):
        raise ConfigError(f"{whose} is a {type(agent).__name__}, which is run by another framework: guard that one")
    _refuse_parts(agent, whose, _AGENT_PARTS)
    if agent.planning_config is not None and agent.planning_config.llm is not None:
        raise ConfigError(f"{whose} plans with a model of its own, which the guard can't reach; leave its llm out")
    if come_from(vars(agent).get("guardrail"), "crewai", frozenset({"LLMGuardrail"})):
        raise ConfigError(f"{whose} has a guardrail with a model of its own; give its words as a string")
    if agent.allow_delegation and not alone:
        raise ConfigError(f"{whose} may delegate, which the guard can't count yet: set allow_delegation=False")
    check_model(agent.llm, whose)
    calling = vars(agent).get("function_calling_llm")
    if calling is not None:
        check_model(calling, f"the function_calling_llm of {whose}")


def _check_task(task: Task) -> None:
    whose = f"task {task.name or task.description[:40]!r}"
    if task.output_json is not None:
        raise ConfigError(f"{whose} has output_json, for which CrewAI builds a client of its own: use output_pydantic")
    several = vars(task).get("guardrails")
    given: list[object] = [*(several if isinstance(several, list | tuple) else [several]), task.guardrail]
    if any(_calls_a_model(guardrail) for guardrail in given):
        raise ConfigError(f"{whose} has a guardrail in words, whose model the guard can't reach yet: use a function")


def _calls_a_model(guardrail: object) -> bool:
    return isinstance(guardrail, str) or come_from(guardrail, "crewai", frozenset({"LLMGuardrail"}))


def _refuse_parts(host: Agent | Crew, whose: str, parts: tuple[str, ...]) -> None:
    for part in parts:
        if vars(host).get(part):
            raise ConfigError(f"{whose} has {part}, which calls models or tools that the guard can't reach yet")


def _agents(host: Agent | Crew) -> list[Agent]:
    if isinstance(host, Agent):
        return [host]
    found = [*host.agents, *(task.agent for task in host.tasks if task.agent is not None)]
    return cast(list[Agent], list({id(agent): agent for agent in found}.values()))


def _name(agent: Agent) -> str:
    declared = agent._original_role or agent.role  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return declared.strip()


@contextmanager
def _stood_in_for(host: Agent | Crew, gate: Gate, facts: ModelFacts, notes: RunNotes) -> Generator[None]:
    """Give every agent and task gated models and tools. Fields are set past pydantic, to be set back exactly."""
    doubles: dict[tuple[int, str], BaseTool] = {}

    def tools(agent: Agent, given: Sequence[BaseTool] | None) -> list[BaseTool] | None:
        if given is None:
            return None
        name = _name(agent)
        return [doubles.setdefault((id(tool), name), gated_tool(tool, name, gate, notes)) for tool in given]

    changes: list[tuple[Any, dict[str, Any]]] = []
    for agent in _agents(host):
        calling = vars(agent).get("function_calling_llm") or vars(host).get("function_calling_llm")
        name = _name(agent)
        changed: dict[str, Any] = {
            "llm": gated_model(cast(BaseLLM, agent.llm), name, gate, facts, notes),
            "function_calling_llm": calling and gated_model(calling, name, gate, facts, notes),
            "tools": tools(agent, agent.tools),
            "agent_executor": None,  # one from an earlier run holds the models of then
        }
        changes.append((agent, changed))
    if isinstance(host, Crew):
        changes.append((host, {"stream": False}))
        changes += [(task, {"tools": tools(cast(Agent, task.agent), task.tools)}) for task in host.tasks if task.agent]
    before = [(obj.__dict__, {key: obj.__dict__.get(key) for key in changed}) for obj, changed in changes]
    try:
        for obj, changed in changes:
            obj.__dict__.update(changed)
        yield
    finally:
        for attributes, kept in before:
            attributes.update(kept)
