"""One node's work given to a bounded agent or crew: its steps, tokens and dollars are the node's, within the run's.

Inside, each agent is an actor of its own, NODE/AGENT, so that an agent's caps and loop rules hold for it, too.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from msgspec.structs import replace
from pydantic import BaseModel

from crew_guard.core.actions import Action, Grant, Outcome
from crew_guard.core.content import Check, Place
from crew_guard.core.events import AgentStep
from crew_guard.core.headroom import Remaining
from crew_guard.core.limits import UNCAPPED
from crew_guard.core.messages import ModelReply, ModelRequest
from crew_guard.core.plain import plain
from crew_guard.core.roles import Agent, Crew, TaskContext, Verdict
from crew_guard.core.tools import Tool
from crew_guard.core.verdicts import Judge, Verify
from crew_guard.errors import LimitExceededError, PolicyDeniedError
from crew_guard.ports import CallTerms, Flow, Gate, Model, RuntimeResult, ToolResult
from crew_guard.workflows.answering import refuse_unpriced
from crew_guard.workflows.context import NodeContext, NodeFailedError
from crew_guard.workflows.hearing import hear


@dataclass(frozen=True, slots=True)
class Delegation:
    """A node's function: the crew does the work."""

    crew: Crew

    async def __call__(self, value: Any, context: NodeContext) -> Any:
        """The crew's output.

        Raises:
            NodeFailedError: it gave none
            RefusedError: a cap of the node's, or the guard, ended it
        """
        node = context.node
        if context.means is None:
            raise NodeFailedError(f"{node} delegates to the crew {self.crew.name!r}: a Supervisor has to run it")
        runtime = context.means.runtime_of(self.crew)
        gate = Inside(context.gate, node, dollars=context.dollars)
        flow = context.gate.flow(node)
        for agent in self.crew.everyone():
            if agent.role.max_steps is not None:
                flow.cap(gate.actor(agent.name), UNCAPPED._replace(steps=agent.role.max_steps))
        inputs = self._inputs(value, context)
        found: list[RuntimeResult] = []

        async def work() -> str:
            found.append(await runtime.run(inputs, cast(Gate, gate)))
            return _as_text(found[0].output)

        await context.gate.delegate(node, self.crew.name, self.crew.tasks[0].description, work)
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError  # an agent's loop hands over what it has instead
        output = _output_of(found[0], node)
        await self._verified(output, TaskContext(inputs, found[0].outputs), context)
        return output

    async def _verified(self, output: Any, seen: TaskContext, context: NodeContext) -> None:
        """Hear the crew's own verifier of the whole: its verdict is the node's.

        Raises:
            NodeFailedError: it says no
        """
        if self.crew.verify is None:
            return
        verdict = self.crew.attributed(await heard(self.crew.verify, output, context, whose=self.crew.name, seen=seen))
        context.gate.judged(context.node, context.node, verdict)
        if not verdict.passed:
            why = verdict.reason or "no reason given"
            raise NodeFailedError(f"{context.node}: the verifier of {self.crew.name}'s output said no: {why}")

    def _inputs(self, value: Any, context: NodeContext) -> dict[str, Any]:
        """The run's inputs, the fields of what the node is given, and {value}: all of that as text."""
        problem = f"\n\nThe attempt before was turned down: {context.problem}" if context.problem else ""
        given = {**self.crew.defaults, **context.inputs, **_fields(value), "value": _as_text(value) + problem}
        if missing := sorted(self.crew.variables() - given.keys()):
            needs = ", ".join(f"{{{name}}}" for name in missing)
            raise NodeFailedError(f"the crew {self.crew.name!r} needs {needs}; given: {', '.join(sorted(given))}")
        return given


async def heard(
    verify: Verify, output: Any, context: NodeContext, *, whose: str, seen: TaskContext | None = None
) -> Verdict:
    """What a crew's verifier, or a judge, says inside of a node: a judge is NODE/JUDGE, its calls are the node's.

    Args:
        whose: the crew, or node, whose output it is
        seen: what a function may look at; by default the inputs and outputs of the workflow
    Raises:
        RefusedError, ModelError: the judge can't be asked
    """
    gate = cast(Gate, Inside(context.gate, context.node, dollars=context.dollars))
    known = TaskContext(context.inputs, context.outputs) if seen is None else seen
    found: list[Verdict] = []

    def model_for(judge: Agent) -> Model:
        return context.model_named(judge.role.model)

    async def work() -> str:
        found.append(await hear(verify, output, known, gate, model_for, whose=whose))
        return found[0].reason

    # What is done inside of a handoff counts for whoever handed it on, too.
    if isinstance(verify, Judge):
        await context.gate.delegate(context.node, verify.name, verify.question, work)
    else:
        await work()
    return found[0]


def _output_of(result: RuntimeResult, node: str) -> Any:
    stop = result.stop
    if stop is not None:
        raise PolicyDeniedError(stop) if stop.reason == "denied" else LimitExceededError(stop)
    if result.partial or result.output is None:
        raise NodeFailedError(f"{node}: {result.reason or 'its crew gave no output'}")
    return result.output


def _fields(value: Any) -> dict[str, Any]:
    if isinstance(value, BaseModel):
        return {name: getattr(value, name) for name in type(value).model_fields}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: each for key, each in cast("Mapping[Any, Any]", value).items() if isinstance(key, str)}
    return {}


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Inside:
    """The gate as the agents inside of a node see it: they act under names of their own, within the node's caps."""

    gate: Gate
    node: str
    dollars: bool

    def actor(self, agent: str) -> str:
        return f"{self.node}/{agent}"

    def _target(self, place: Place, target: str) -> str:
        return f"{self.node}/{target}" if place == "outputs" else target

    async def admit(self, action: Action) -> Grant:
        return await self.gate.admit(replace(action, agent=self.actor(action.agent)))

    def admit_blocking(self, action: Action) -> Grant:
        return self.gate.admit_blocking(replace(action, agent=self.actor(action.agent)))

    def settle(self, grant: Grant, outcome: Outcome) -> None:
        self.gate.settle(grant, outcome)

    def in_thread(self, work: Grant | str, *, around: bool = False) -> Callable[[], object]:
        return self.gate.in_thread(self.actor(work) if isinstance(work, str) else work, around=around)

    def progress(self, grant: Grant | None = None, text: str = "") -> None:
        self.gate.progress(grant, text)

    def moved(self, agent: str, task: str, step: AgentStep) -> None:
        self.gate.moved(self.actor(agent), task, step)

    def flow(self, workflow: str) -> Flow:
        return self.gate.flow(workflow)

    def judged(self, agent: str, task: str, verdict: Verdict) -> None:
        self.gate.judged(self.actor(agent), task, verdict)

    def remaining(self, agent: str) -> Remaining:
        own, around = self.gate.remaining(self.actor(agent)), self.gate.remaining(self.node)
        seconds = [each for each in (own.seconds, around.seconds) if each is not None]
        counts = (min(a, b) for a, b in zip(own[:4], around[:4], strict=True))
        return Remaining(*counts, seconds=min(seconds) if seconds else None)

    def notices(self, agent: str) -> tuple[str, ...]:
        return (*self.gate.notices(self.actor(agent)), *self.gate.notices(self.node))

    async def delegate(self, agent: str, to: str, task: str, work: Callable[[], Awaitable[str]]) -> str:
        return await self.gate.delegate(self.actor(agent), to, task, work)

    async def call_model(self, agent: str, model: Model, request: ModelRequest, terms: CallTerms) -> ModelReply:
        refuse_unpriced(model, self.node, dollars=self.dollars)
        return await self.gate.call_model(self.actor(agent), model, request, terms)

    async def check(self, place: Place, agent: str, target: str, value: Any) -> Check:
        return await self.gate.check(place, self.actor(agent), self._target(place, target), value)

    def check_blocking(self, place: Place, agent: str, target: str, value: Any) -> Check:
        return self.gate.check_blocking(place, self.actor(agent), self._target(place, target), value)

    async def call_tool(self, agent: str, tool: Tool, arguments: str | Mapping[str, Any]) -> ToolResult:
        return await self.gate.call_tool(self.actor(agent), tool, arguments)
