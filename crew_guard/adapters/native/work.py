"""What every process shares: loops for agents, verdicts on outputs, and how a task ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from crew_guard.adapters.native.loop import AgentLoop, BuiltIn, UnfinishedError
from crew_guard.core.decisions import Stop
from crew_guard.core.roles import Agent, Crew, Task, TaskContext, Verdict
from crew_guard.errors import RefusedError
from crew_guard.ports import Gate, Model, RuntimeResult
from crew_guard.workflows.context import noted_at
from crew_guard.workflows.hearing import hear


class TaskEndedError(Exception):
    """A task ended without an output that can be used, and the crew's part with it. The text says why."""

    def __init__(self, reason: str, partial: Any = None, stop: Stop | None = None) -> None:
        super().__init__(reason)
        self.partial = partial
        self.stop = stop


@dataclass(frozen=True, slots=True)
class Work:
    """One run of one crew."""

    crew: Crew
    model_for: Callable[[Agent], Model]
    inputs: Mapping[str, Any]
    gate: Gate
    outputs: dict[str, Any] = field(default_factory=dict[str, Any])
    """By task name, as they come."""

    def loop(self, agent: Agent, task: Task, built_in: Mapping[str, BuiltIn] | None = None) -> AgentLoop:
        """A loop of this agent at this task, with nothing said yet."""
        return AgentLoop(agent, task, self.model_for(agent), self.gate, built_in={} if built_in is None else built_in)

    def earlier(self, task: Task) -> dict[str, Any]:
        """The outputs that a task builds on: those it names, else all so far, in a parallel crew none."""
        wanted = task.context
        if wanted is None:
            wanted = () if self.crew.process == "parallel" else tuple(self.outputs)
        return {name: self.outputs[name] for name in wanted}

    async def finish(self, agent: str, task: Task, output: Any) -> None:
        """Keep a task's output, and hear its verifier.

        Raises:
            TaskEndedError: the verifier said no
        """
        self.outputs[task.name] = output
        if task.verify is None:
            if task.output is not None:
                self.gate.judged(agent, task.name, Verdict(passed=True, source="schema"))
            return
        with ending(agent, lambda: output):
            seen = TaskContext(self.inputs, self.outputs)
            verdict = await hear(task.verify, output, seen, self.gate, self.model_for, whose=agent)
        verdict = self.crew.attributed(verdict)
        self.gate.judged(agent, task.name, verdict)
        if not verdict.passed:
            why = verdict.reason or "no reason given"
            raise TaskEndedError(f"{agent}: the verifier of {task.name} said no: {why}", output)

    async def do(self, task: Task) -> None:
        """One task by its agent.

        Raises:
            TaskEndedError: there is no output that can be used
        """
        loop = self.loop(self.crew.agent(task.agent), task)
        with ending(task.agent, loop.so_far, task.name):
            output = await loop.run(self.inputs, self.earlier(task))
        await self.finish(task.agent, task, output)

    async def in_order(self, do: Callable[[Task], Awaitable[None]]) -> RuntimeResult:
        """The tasks one after the other; the last one's output is the crew's."""
        try:
            for task in self.crew.tasks:
                await do(task)
        except TaskEndedError as error:
            return self.unfinished(error)
        return RuntimeResult(self.outputs[self.crew.tasks[-1].name], self.outputs)

    def unfinished(self, error: TaskEndedError) -> RuntimeResult:
        """What there is, and why it is not all."""
        return RuntimeResult(error.partial, self.outputs, partial=True, reason=str(error), stop=error.stop)


@dataclass(frozen=True, slots=True)
class ending:  # noqa: N801  used as a function
    """What may end a task becomes one kind of error, a TaskEndedError, which holds what there is so far.

    Any other error says whose it is.
    """

    agent: str
    so_far: Callable[[], Any]
    task: str = ""
    """What the agent is at; empty where it is none of its doing, as what a verifier raises."""

    def __enter__(self) -> None: ...

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        match error:
            case UnfinishedError():
                raise TaskEndedError(f"{self.agent}: {error}", error.partial) from None
            case RefusedError():
                raise TaskEndedError(str(error.stop), self.so_far(), error.stop) from None
            case asyncio.CancelledError():
                # The supervisor ends this work and reads its own latch; what there is goes with the result.
                raise TaskEndedError("it was ended", self.so_far()) from None
            case Exception() if self.task:
                noted_at(error, self.agent, self.task)
            case _:
                pass
