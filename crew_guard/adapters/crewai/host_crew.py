"""A crew of ours as CrewAI's own Agents, Tasks and Crew, with every name kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from anyio import CapacityLimiter, to_thread
from crewai import Agent as HostAgent
from crewai import Crew as HostCrew
from crewai import Process
from crewai import Task as HostTask
from crewai.tasks.conditional_task import ConditionalTask

from crew_guard.adapters.compiling import CrewRuntime, Seat
from crew_guard.adapters.crewai.bridge import SeatModel, SeatTool, table_of_run
from crew_guard.adapters.crewai.leftovers import forget_earlier_runs
from crew_guard.adapters.crewai.patches import install
from crew_guard.adapters.crewai.talk import Table, ended_by
from crew_guard.adapters.native.work import TaskEndedError, Work
from crew_guard.adapters.run_tasks import contained
from crew_guard.core.roles import Agent, Crew, Task, fill
from crew_guard.errors import ConfigError
from crew_guard.ports import Gate, RuntimeResult

PROCESSES = ("sequential", "parallel", "hierarchical")
_ENDLESS = 10**6
"""Turns that CrewAI allows an agent: the gate bounds them, and at its own bound CrewAI would ask the model again."""


@dataclass(frozen=True, slots=True)
class CompiledRuntime(CrewRuntime):
    """Runs a Crew of ours on CrewAI. A Runtime of ports."""

    listeners: Sequence[Callable[[HostCrew], object]] = field(default=())
    """Told of the host's crew before it is kicked off: to set callbacks on it."""

    def __post_init__(self) -> None:
        if self.crew.process not in PROCESSES:
            raise ConfigError(
                f"crew {self.crew.name!r}: CrewAI has no process {self.crew.process}; it has {', '.join(PROCESSES)}. "
                "Run it with runtime='native', or choose one of those"
            )
        if any(agent.delegates for agent in self.crew.agents):
            name = next(agent.name for agent in self.crew.agents if agent.delegates)
            raise ConfigError(
                f"crew {self.crew.name!r}: {name} delegates further, which CrewAI lets only the manager do; "
                "set delegates=False, or run it with runtime='native'"
            )
        install()

    @property
    def name(self) -> str:
        return "crewai"

    async def run(self, inputs: Mapping[str, Any], gate: Gate) -> RuntimeResult:
        """Kick the host's crew off on a thread; its models and tools act on this loop.

        Raises:
            ModelError: a provider failed for good
        """
        table = self._table(inputs, gate)
        host = built(table)
        for listener in self.listeners:
            listener(host)
        work = to_thread.run_sync(self._kickoff, table, host, abandon_on_cancel=True, limiter=CapacityLimiter(1))
        thread = asyncio.ensure_future(work)
        try:
            await asyncio.shield(thread)
        except asyncio.CancelledError as error:
            table.end(error)
            await asyncio.wait({thread})
            _ = thread.cancelled() or thread.exception()
            return table.work.unfinished(_with_all(table, TaskEndedError("it was ended")))
        except Exception as error:  # noqa: BLE001  what the host raises stands for what failed at the table
            ended = ended_by(table, error)
            if ended is None:
                raise (table.failed or error) from None
            return table.work.unfinished(_with_all(table, ended) if self.crew.process == "parallel" else ended)
        outputs, ends = table.work.outputs, [task.name for task in self.crew.results()]
        return RuntimeResult(outputs[ends[0]] if len(ends) == 1 else {name: outputs[name] for name in ends}, outputs)

    def _table(self, inputs: Mapping[str, Any], gate: Gate) -> Table:
        loop = asyncio.get_running_loop()
        seats = {agent.name: Seat(agent, self.model_for(agent), gate, loop) for agent in self.crew.everyone()}
        return Table(Work(self.crew, self.model_for, inputs, gate), loop, seats)

    @staticmethod
    def _kickoff(table: Table, host: HostCrew) -> None:
        token = table_of_run.set(table)
        forget_earlier_runs(host)
        try:
            with contained():
                cast(Any, host).kickoff()
        finally:
            table_of_run.reset(token)


def built(table: Table) -> HostCrew:
    """The host's crew. Its texts are for the host's traces: what the models read is kept by the table."""
    crew, inputs = table.work.crew, table.work.inputs
    agents = {name: _agent(table, seat.agent) for name, seat in table.seats.items()}
    manager = crew.manager.name if isinstance(crew.manager, Agent) else None
    twins = _twins(table) if crew.process == "parallel" else {}
    tasks: dict[str, HostTask] = {}
    host_tasks: list[HostTask] = []
    for stage in _stages(crew):
        for task in stage:
            context = [tasks[name] for name in task.context or ()]
            options: dict[str, Any] = {"async_execution": crew.process == "parallel"}
            host_task = HostTask(
                name=task.name,
                description=fill(task.description, inputs),
                expected_output=task.output.__name__ if task.output else "an answer",
                agent=twins.get(task.name) or agents[manager or task.agent],
                output_pydantic=task.output,
                **({"context": context} if context else {}),
                **options,
            )
            tasks[task.name] = host_task
            table.tasks[str(host_task.id)] = task
            host_tasks.append(host_task)
        if crew.process == "parallel":
            host_tasks.append(_barrier(agents[stage[0].agent]))
    leads: dict[str, Any] = {}
    if manager is not None:
        leads = {"process": Process.hierarchical, "manager_agent": agents.pop(manager)}
    everyone: list[Any] = [*agents.values(), *twins.values()]
    return HostCrew(name=crew.name, agents=everyone, tasks=host_tasks, cache=False, verbose=False, **leads)


def _twins(table: Table) -> dict[str, HostAgent]:
    """By task, who does it where its agent has another at the same time: one of CrewAI's does one after the other."""
    twins: dict[str, HostAgent] = {}
    for stage in _stages(table.work.crew):
        at_work: set[str] = set()
        for task in stage:
            if task.agent in at_work:
                twins[task.name] = _agent(table, table.seats[task.agent].agent)
            at_work.add(task.agent)
    return twins


def _agent(table: Table, agent: Agent) -> HostAgent:
    role, inputs = agent.role, table.work.inputs
    return HostAgent(
        role=agent.name,
        goal=fill(role.goal, inputs),
        backstory=fill(role.instructions or role.title, inputs) or role.name,
        llm=SeatModel(table, agent.name),
        tools=[SeatTool(table, agent.name, tool) for tool in agent.tools],
        cache=False,
        max_iter=_ENDLESS,
        max_retry_limit=0,
        allow_delegation=False,
        verbose=False,
    )


def _stages(crew: Crew) -> list[list[Task]]:
    """Tasks that may run at the same time, stage by stage; of other processes one stage in order."""
    if crew.process != "parallel":
        return [list(crew.tasks)]
    stages: list[list[Task]] = []
    done: set[str] = set()
    waiting = list(crew.tasks)
    while waiting:
        stage = [task for task in waiting if done.issuperset(task.context or ())]
        waiting = [task for task in waiting if task not in stage]
        done |= {task.name for task in stage}
        stages.append(stage)
    return stages


def _barrier(agent: HostAgent) -> ConditionalTask:
    """A task that is never done: CrewAI waits for those at the same time before it looks at it."""
    return ConditionalTask(
        name="wait", description="Wait.", expected_output="nothing", agent=agent, condition=_never_due
    )


def _never_due(_output: Any) -> bool:
    return False


def _with_all(table: Table, error: TaskEndedError) -> TaskEndedError:
    """The same error with all outputs so far as its partial, in the order of the tasks."""
    work = table.work
    found = {task.name: work.outputs[task.name] for task in work.crew.tasks if task.name in work.outputs}
    return TaskEndedError(str(error), found or error.partial, error.stop)
