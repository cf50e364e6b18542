"""A crew of ours as a Workflow of LlamaIndex: a step for each task, and a FunctionAgent for each agent's turns.

The processes are those of our own runtime; what they are made of, a chain of tasks and an agent's turns, is the
host's: so a crew means the same here as there, call by call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from crew_guard.adapters.compiling import CrewRuntime
from crew_guard.adapters.llama_index.bridge import HostedLoop
from crew_guard.adapters.llama_index.crew_flow import Course, CrewFlow, flow_for
from crew_guard.adapters.llama_index.handlers import finished
from crew_guard.adapters.native.conversation import conversation
from crew_guard.adapters.native.handoff import handoff
from crew_guard.adapters.native.hierarchical import hierarchical
from crew_guard.adapters.native.loop import AgentLoop, BuiltIn
from crew_guard.adapters.native.sequential import sequential
from crew_guard.adapters.native.work import TaskEndedError, Work
from crew_guard.core.processes import Process
from crew_guard.core.roles import Agent, Task
from crew_guard.ports import Gate, RuntimeResult


class HostedWork(Work):
    """One run of one crew, whose tasks are steps and whose agents are the host's."""

    def loop(self, agent: Agent, task: Task, built_in: Mapping[str, BuiltIn] | None = None) -> AgentLoop:
        """A loop of this agent whose turns a FunctionAgent takes."""
        loop = HostedLoop(agent, task, self.model_for(agent), self.gate)
        if built_in is not None:
            loop.built_in = built_in
        return loop

    async def in_order(self, do: Callable[[Task], Awaitable[None]]) -> RuntimeResult:
        """The tasks one after the other, each a step."""
        error = await _flow_through(self, do)
        if error is not None:
            return self.unfinished(error)
        return RuntimeResult(self.outputs[self.crew.tasks[-1].name], self.outputs)


async def _parallel(work: Work) -> RuntimeResult:
    """The tasks as soon as what they need is there; one that fails ends the others."""

    async def do(task: Task) -> None:
        try:
            await work.do(task)
        except TaskEndedError:
            work.outputs.pop(task.name, None)  # a verifier said no to it: nothing may build on it
            raise

    error = await _flow_through(work, do)
    if error is not None:
        found = {task.name: work.outputs[task.name] for task in work.crew.tasks if task.name in work.outputs}
        return work.unfinished(TaskEndedError(str(error), found or error.partial, error.stop))
    ends = [task.name for task in work.crew.results()]
    output = work.outputs[ends[0]] if len(ends) == 1 else {name: work.outputs[name] for name in ends}
    return RuntimeResult(output, work.outputs)


async def _flow_through(work: Work, do: Callable[[Task], Awaitable[None]]) -> TaskEndedError | None:
    """Run the crew's workflow; what ended it early, or None."""
    course = Course(work.crew, do)
    try:
        await finished(flow_for(work.crew)(course).run(), at_once=True)
    except asyncio.CancelledError:
        await course.end()
        if course.ended is None:
            return TaskEndedError("it was ended")
    if course.error is not None:
        raise course.error
    return course.ended


_PROCESSES: dict[Process, Callable[[Work], Awaitable[RuntimeResult]]] = {
    "sequential": sequential,
    "parallel": _parallel,
    "hierarchical": hierarchical,
    "handoff": handoff,
    "conversation": conversation,
}


@dataclass(frozen=True, slots=True)
class CompiledCrew(CrewRuntime):
    """Runs a Crew as a Workflow. A Runtime of ports."""

    def __post_init__(self) -> None:
        flow_for(self.crew)  # before the run's time begins

    @property
    def name(self) -> str:
        return "llama-index"

    @property
    def workflow(self) -> type[CrewFlow]:
        """The host's class that the crew became, to draw or to look into: its steps are the tasks."""
        return flow_for(self.crew)

    async def run(self, inputs: Mapping[str, Any], gate: Gate) -> RuntimeResult:
        """Do the tasks as the crew's process goes about them.

        Raises:
            ModelError: a provider failed for good
        """
        return await _PROCESSES[self.crew.process](HostedWork(self.crew, self.model_for, inputs, gate))
