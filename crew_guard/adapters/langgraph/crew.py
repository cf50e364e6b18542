"""A crew of ours as a StateGraph: a node for each task, and in it a graph for each agent that works on it.

What a task says, how its answer is mended and checked and how a crew ends is our own runtime's; LangGraph runs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, TypedDict, cast

from langgraph.graph import (  # pyright: ignore[reportMissingTypeStubs]  it has types, and no stubs
    END,
    START,
    StateGraph,
)

from crew_guard.adapters.compiling import CrewRuntime, Seat, called_on_host
from crew_guard.adapters.langgraph.bridges import Run, SeatedChat, SeatedTool, Turn, seated_chat, seated_tool
from crew_guard.adapters.native.conversation import conversation
from crew_guard.adapters.native.handoff import handoff
from crew_guard.adapters.native.hierarchical import hierarchical
from crew_guard.adapters.native.loop import AgentLoop, BuiltIn
from crew_guard.adapters.native.sequential import sequential
from crew_guard.adapters.native.work import TaskEndedError, Work
from crew_guard.core.messages import ModelReply, ModelRequest
from crew_guard.core.processes import Process
from crew_guard.core.roles import Agent, Crew, Task
from crew_guard.core.tools import Tool
from crew_guard.ports import CallTerms, Gate, Model, RuntimeResult, ToolResult

Do = Callable[[Task], Awaitable[None]]


def _merged(before: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    return {**before, **more}


class CrewState(TypedDict):
    """What the nodes of a crew's graph pass on."""

    task_outputs: Annotated[dict[str, Any], _merged]
    """By task name."""


class AgentState(TypedDict):
    """What an agent's graph begins with, and ends with."""

    agent_task: str
    agent_answer: Any


@dataclass(frozen=True, slots=True)
class CrewGraphRuntime(CrewRuntime):
    """Runs a crew of ours on LangGraph. A Runtime of ports."""

    @property
    def name(self) -> str:
        return "langgraph"

    async def run(self, inputs: Mapping[str, Any], gate: Gate) -> RuntimeResult:
        """Do the tasks as the crew's process goes about them.

        Raises:
            ModelError: a provider failed for good
        """
        loop = asyncio.get_running_loop()
        seats = {agent.name: Seat(agent, self.model_for(agent), gate, loop) for agent in self.crew.everyone()}
        seated = cast(Gate, SeatedGate(gate, seats))
        return await _PROCESSES[self.crew.process](GraphWork(self.crew, self.model_for, inputs, seated))


@dataclass(slots=True)
class SeatedGate:
    """A gate whose model calls and tool executions go through LangChain's objects; the rest is the run's own gate's."""

    gate: Gate
    seats: Mapping[str, Seat]
    _chats: dict[str, SeatedChat] = field(default_factory=dict[str, SeatedChat])
    _tools: dict[tuple[str, int], SeatedTool] = field(default_factory=dict[tuple[str, int], SeatedTool])

    async def call_model(self, agent: str, model: Model, request: ModelRequest, terms: CallTerms) -> ModelReply:
        """See Gate.call_model."""
        if agent not in self.seats:
            return await self.gate.call_model(agent, model, request, terms)  # a judge has no seat in the crew
        chat = self._chats.get(agent)
        if chat is None:
            chat = self._chats[agent] = seated_chat(self.seats[agent])
        return await chat.turn(Turn(request, terms))

    async def call_tool(self, agent: str, tool: Tool, arguments: str | Mapping[str, Any]) -> ToolResult:
        """See Gate.call_tool."""
        key = (agent, id(tool))
        seated = self._tools.get(key)
        if seated is None:
            seated = self._tools[key] = seated_tool(self.seats[agent], tool)
        return await seated.execution(Run(arguments))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.gate, name)


_now: ContextVar[AgentLoop | None] = ContextVar("crew_guard_graph_loop", default=None)
"""The loop that an agent's node is to run."""


class GraphLoop(AgentLoop):
    """An agent's loop that runs in a graph of the agent's own, so that traces show whose turn it is."""

    __slots__ = ()

    async def turns(self) -> Any:
        """See AgentLoop.turns."""
        token = _now.set(self)
        try:
            state = await _agent_graph(self.agent.name).ainvoke({"agent_task": self.task.name, "agent_answer": None})
        finally:
            _now.reset(token)
        return state["agent_answer"]


def _agent_graph(agent: str) -> Any:
    async def turns(_: AgentState) -> dict[str, Any]:
        loop = cast(AgentLoop, _now.get())
        return {"agent_answer": await AgentLoop.turns(loop)}

    graph: Any = StateGraph(AgentState)
    node = node_name(agent, AgentState)
    graph.add_node(node, turns)
    graph.add_edge(START, node)
    graph.add_edge(node, END)
    return graph.compile(name=agent)


@dataclass(frozen=True, slots=True)
class GraphWork(Work):
    """One run of one crew, as a graph."""

    ended: list[TaskEndedError] = field(default_factory=list[TaskEndedError])

    def loop(self, agent: Agent, task: Task, built_in: Mapping[str, BuiltIn] | None = None) -> AgentLoop:
        """See Work.loop."""
        return GraphLoop(agent, task, self.model_for(agent), self.gate, built_in={} if built_in is None else built_in)

    async def in_order(self, do: Do) -> RuntimeResult:
        """See Work.in_order."""
        names = [task.name for task in self.crew.tasks]
        before = {name: names[:place][-1:] for place, name in enumerate(names)}
        return await self.through(do, before)

    async def at_once(self, do: Do) -> RuntimeResult:
        """The tasks as soon as those that they need are done."""
        return await self.through(do, {name: list(needs or ()) for name, needs in self.crew.needs().items()})

    async def through(self, do: Do, before: Mapping[str, Sequence[str]]) -> RuntimeResult:
        """The graph of the tasks, run to its end.

        Args:
            do: does one task
            before: by task, those that come before it
        """
        try:
            await crew_graph(self.crew, self._noting(do), before).ainvoke({"task_outputs": {}})
        except TaskEndedError as error:
            return self.unfinished(self._with_all(error))
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # the node that was under way says what it has
            return self.unfinished(self._with_all(self.ended[-1] if self.ended else TaskEndedError("it was ended")))
        last = [task.name for task in self.crew.results()]
        output = self.outputs[last[0]] if len(last) == 1 else {name: self.outputs[name] for name in last}
        return RuntimeResult(output, self.outputs)

    def _noting(self, do: Do) -> Callable[[Task], Awaitable[dict[str, Any]]]:
        async def node(task: Task) -> dict[str, Any]:
            try:
                await do(task)
            except TaskEndedError as error:
                self.ended.append(error)
                if self.crew.process == "parallel":
                    self.outputs.pop(task.name, None)  # a verifier said no to it: nothing may build on it
                raise
            return {"task_outputs": {task.name: self.outputs[task.name]}}

        return node

    def _with_all(self, error: TaskEndedError) -> TaskEndedError:
        if self.crew.process != "parallel":
            return error
        found = {task.name: self.outputs[task.name] for task in self.crew.tasks if task.name in self.outputs}
        return TaskEndedError(str(error), found or error.partial, error.stop)


def crew_graph(crew: Crew, do: Callable[[Task], Awaitable[dict[str, Any]]], before: Mapping[str, Sequence[str]]) -> Any:
    """The compiled graph of a crew: a node for each task, by the task's name."""

    def body(task: Task) -> Callable[[CrewState], Awaitable[dict[str, Any]]]:
        async def node(_: CrewState) -> dict[str, Any]:
            return await do(task)

        return node

    graph: Any = StateGraph(CrewState)
    names = called_on_host([task.name for task in crew.tasks], partial(node_name, state=CrewState))
    followed = {name for earlier in before.values() for name in earlier}
    for task in crew.tasks:
        graph.add_node(names[task.name], body(task), metadata={"crew_guard_agent": task.agent})
    for task in crew.tasks:
        earlier = [names[name] for name in before[task.name]]
        # A list waits for all of them; START and a single one are no list.
        graph.add_edge(earlier if len(earlier) > 1 else next(iter(earlier), START), names[task.name])
        if task.name not in followed:
            graph.add_edge(names[task.name], END)
    return graph.compile(name=crew.name)


def node_name(name: str, state: type) -> str:
    """A name as LangGraph takes it for a node."""
    cleaned = name.replace(":", "-").replace("|", "-")
    reserved = cleaned in state.__annotations__ or cleaned.startswith("__")
    return f"task {cleaned}" if reserved else cleaned


async def _parallel(work: Work) -> RuntimeResult:
    async def do(task: Task) -> None:
        await work.do(task)

    return await cast(GraphWork, work).at_once(do)


_PROCESSES: dict[Process, Callable[[Work], Awaitable[RuntimeResult]]] = {
    "sequential": sequential,
    "parallel": _parallel,
    "hierarchical": hierarchical,
    "handoff": handoff,
    "conversation": conversation,
}
