"""A crew of ours at a table of CrewAI's: each agent's conversation is kept here, as our own runtime keeps it.

CrewAI's loop decides when a model is asked and executes tools; what is said to the model is ours, so
that the same crew costs the same on every host.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

from crew_guard.adapters.compiling import Seat
from crew_guard.adapters.native.loop import AgentLoop, BuiltIn, json_in, wish_of
from crew_guard.adapters.native.work import TaskEndedError, Work, ending
from crew_guard.core.messages import Message, ModelReply, ModelRequest, ToolRequest
from crew_guard.core.roles import Task
from crew_guard.core.tools import Tool
from crew_guard.errors import RefusedError
from crew_guard.loops import is_being_cancelled

T = TypeVar("T")


class PartEndedError(Exception):
    """The crew's part has ended; CrewAI has nothing to try again. Why stands at the table."""

    _flow_listener_logged = True
    """CrewAI prints no error of a listener: the run's result tells why it ended."""

    def __init__(self) -> None:
        super().__init__("crew_guard ended the crew's part")


@dataclass(slots=True)
class Table:
    """What one run of a compiled crew shares."""

    work: Work
    loop: asyncio.AbstractEventLoop
    seats: Mapping[str, Seat]
    """By agent."""
    tasks: dict[str, Task] = field(default_factory=dict[str, Task])
    """By the id of the host's task."""
    failed: BaseException | None = None
    """What ended the crew's part first."""
    _talks: dict[tuple[str, str], Talk] = field(default_factory=dict[tuple[str, str], "Talk"])
    _under_way: set[Future[Any]] = field(default_factory=set[Future[Any]])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the run's loop, in this thread's context, and wait for it here.

        Raises:
            PartEndedError: it failed, or something else did
        """
        with self._lock:
            if self.failed is not None:
                work.close()
                raise PartEndedError
            future = asyncio.run_coroutine_threadsafe(work, self.loop)
            self._under_way.add(future)
        try:
            return future.result()
        except PartEndedError:
            raise
        except (Exception, CancelledError) as error:  # noqa: BLE001  kept at the table: the host may swallow it
            self.end(error)
            raise PartEndedError from None
        finally:
            with self._lock:
                self._under_way.discard(future)

    def end(self, error: BaseException) -> None:
        """End the crew's part: what is under way is cancelled, and nothing begins any more."""
        with self._lock:
            if self.failed is None:
                self.failed = error
            others = tuple(self._under_way)
        for future in others:
            future.cancel()

    def talk(self, agent: str, host_task: Any) -> Talk:
        """The conversation of an agent at a task: one of the crew's, or one that another agent gave it."""
        key = agent, str(getattr(host_task, "id", ""))
        with self._lock:
            known = self._talks.get(key)
            if known is None:
                task = self.tasks.get(key[1])
                given = task is None
                task = task or Task(host_task.description, agent, name="delegated")
                loop = self.work.loop(self.seats[agent].agent, task, self._built_in(agent, given=given))
                known = self._talks[key] = Talk(self, loop, given=given)
        return known

    def _built_in(self, agent: str, *, given: bool) -> Mapping[str, BuiltIn]:
        from crew_guard.adapters.native.hierarchical import delegation

        if self.work.crew.process != "hierarchical":
            return {}
        boss = self.seats[agent].agent
        manager = self.work.crew.manager
        # CrewAI gives delegation to its manager only: a member who was given work does it.
        return {} if given or boss is not manager else delegation(self.work, boss, ())


@dataclass(slots=True)
class Talk:
    """One agent at one task."""

    table: Table
    loop: AgentLoop
    given: bool
    """Another agent gave it: its answer goes there, and is no task's output."""
    _pending: tuple[ToolRequest, ...] = ()
    _answers: dict[str, str] = field(default_factory=dict[str, str])
    """What the host needn't execute: requests that can't be."""
    _begun: bool = False

    async def turn(self, said: Sequence[Mapping[str, Any]]) -> tuple[ToolRequest, ...] | str:
        """What the model asks the host to execute, else its answer as text.

        Args:
            said: the host's messages; what its tools answered is taken from them
        Raises:
            TaskEndedError: there is no output that can be used
        """
        try:
            return await self._turn(said)
        except TaskEndedError:
            if is_being_cancelled():  # by the table, which knows why: nobody would read it here
                raise asyncio.CancelledError from None
            raise

    async def _turn(self, said: Sequence[Mapping[str, Any]]) -> tuple[ToolRequest, ...] | str:
        agent, loop = self.loop.agent.name, self.loop
        with ending(agent, loop.so_far, loop.task.name):
            if not self._begun:
                self._begin()
            self._hear(said)
            while True:
                reply = await think(loop)
                loop.say(Message("assistant", reply.text, reply.tool_requests))
                if reply.tool_requests:
                    if asked := self._to_execute(reply.tool_requests):
                        return asked
                elif (output := await loop._finish(reply)) is not None:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
                    break
        loop.gate.moved(agent, loop.task.name, "finish")
        if not self.given:
            await self._finish(output)
        return _readable(output, reply.text) if isinstance(output, BaseModel) else str(output)

    async def _finish(self, output: Any) -> None:
        work, task = self.table.work, self.loop.task
        try:
            await work.finish(self.loop.agent.name, task, output)
        except TaskEndedError:
            if work.crew.process == "parallel":
                work.outputs.pop(task.name, None)  # a verifier said no to it: nothing may build on it
            raise

    def _begin(self) -> None:
        self._begun = True
        loop, work = self.loop, self.table.work
        if self.given:
            loop.brief(work.inputs, loop.task.description)  # written by a model: it holds no variables of ours
        else:
            meant = ""
            if work.crew.process == "hierarchical" and loop.task.agent != loop.agent.name:
                meant = f"\n\nIt is meant for {loop.task.agent}."
            loop.brief(work.inputs, wish_of(loop.task, work.inputs, work.earlier(loop.task)) + meant)
        loop.gate.moved(loop.agent.name, loop.task.name, "think")

    def _to_execute(self, requests: tuple[ToolRequest, ...]) -> tuple[ToolRequest, ...]:
        """Those that the host can execute; what is wrong with the others is told to the agent."""
        tools = {tool.name: tool for tool in self.loop.agent.tools}
        tools |= {name: one.tool for name, one in self.loop.built_in.items()}
        self._pending, self._answers = requests, {}
        for request in requests:
            if (wrong := _wrong_with(request, tools)) is not None:
                self._answers[request.id] = wrong
        asked = tuple(request for request in requests if request.id not in self._answers)
        if not asked:
            self._hear(())
        return asked

    def _hear(self, said: Sequence[Mapping[str, Any]]) -> None:
        told = {message.get("tool_call_id"): message.get("content") for message in said if message["role"] == "tool"}
        for request in self._pending:
            text = self._answers.get(request.id)
            self.loop.say(Message("tool", str(told.get(request.id, "")) if text is None else text, (), request.id))
        self._pending = ()


def _readable(output: BaseModel, said: str) -> str:
    """An output as CrewAI can read it again; in the model's words where its validators can't read what they made."""
    own = output.model_dump_json()
    return next((text for text in (own, json_in(said)) if _reads(text, output)), own)


def _reads(text: str, output: BaseModel) -> bool:
    try:
        return type(output).model_validate_json(text) == output
    except Exception:  # noqa: BLE001  a validator of a user's may raise what it likes
        return False


def _wrong_with(request: ToolRequest, tools: Mapping[str, Tool]) -> str | None:
    tool = tools.get(request.name)
    if tool is None:
        return f"there is no tool {request.name!r}; yours: {', '.join(tools) or 'none'}"
    try:
        tool.parse(request.arguments)
    except ValueError as error:
        return str(error)
    return None


async def think(loop: AgentLoop) -> ModelReply:
    """One turn of a loop of ours: what it is to be told, its transcript made shorter where it must be, its model."""
    name = loop.agent.name
    shape = loop._shape or loop._measure()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    for notice in loop.gate.notices(name):
        loop.say(Message("user", notice))
    tokens = loop.transcript.tokens + shape.overhead
    if shape.window is not None and tokens > shape.fits:
        tokens = await loop._compact(shape)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    schema = loop._schema  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    request = ModelRequest(loop.transcript.messages, shape.specs, schema, shape.output, tokens)
    return await loop.gate.call_model(name, loop.model, request, shape.terms)


def may_go_on(error: RefusedError) -> bool:
    """Whether only a tool, or a delegation, is closed: the agent may try otherwise."""
    return error.stop.scope.startswith("tool:") or error.stop.limit == "max_depth"


def ended_by(table: Table, error: BaseException) -> TaskEndedError | None:
    """What ended the crew's part as one kind of error; None where it must be raised as it is."""
    found = table.failed or error
    if isinstance(found, TaskEndedError):
        return found
    if isinstance(found, CancelledError | asyncio.CancelledError):
        return TaskEndedError("it was ended")
    if isinstance(found, RefusedError):
        return TaskEndedError(str(found.stop), None, found.stop)
    return None
