"""A compiled graph as a Runtime: run as it is, in a context that the patched base classes look at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

from anyio import CapacityLimiter, to_thread
from langchain_core.messages import BaseMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.pregel import Pregel  # pyright: ignore[reportMissingTypeStubs]  it has types, and no stubs
from langgraph.types import Command

from crew_guard.adapters.embedding import Embeds, embedding_by
from crew_guard.adapters.hosted import ModelFacts
from crew_guard.adapters.langgraph.scope import Scope, current, in_graph
from crew_guard.adapters.langgraph.seams import install
from crew_guard.core.decisions import Stop
from crew_guard.errors import ConfigError, RefusedError
from crew_guard.ports import Gate, RuntimeResult

_OURS = ("config", "resume", "command")
"""Keys of the inputs that are for LangGraph itself, where the graph has no channel of that name."""


@dataclass(slots=True)
class _Seen:
    """What a graph has told so far."""

    state: Any = None
    interrupts: list[Any] = field(default_factory=list[Any])

    def hear(self, item: Any) -> None:
        """Take up one item of the stream of updates and values."""
        mode, payload = item[-2:]
        if mode == "values":
            # The interrupt is told as what the run waits for.
            if isinstance(payload, dict) and "__interrupt__" in payload:
                known = cast(dict[str, Any], payload)
                self.state = {key: known[key] for key in known if key != "__interrupt__"}
            else:
                self.state = payload
        elif isinstance(payload, dict) and "__interrupt__" in payload:
            self.interrupts.extend(cast(Any, payload)["__interrupt__"])


@dataclass(frozen=True, slots=True)
class LangGraphRuntime:
    """Runs one graph. A Runtime of ports, and a Continuing one where the graph has a checkpointer."""

    graph: Any
    """A Pregel: a compiled StateGraph, or an entrypoint."""
    facts: ModelFacts
    _executions: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    """By thread, by tool."""

    def __post_init__(self) -> None:
        if not isinstance(self.graph, Pregel):
            kind = type(self.graph).__name__
            how = "compile() it first" if kind == "StateGraph" else "its models run in another process: guard it there"
            raise ConfigError(f"crew_guard guards a compiled graph of LangGraph, not a {kind}: {how}")
        install()

    @property
    def name(self) -> str:
        return "langgraph"

    def members(self) -> Sequence[str]:
        """The agent, where the graph is one of create_agent with a name; what else takes part is seen as it runs."""
        name: Any = self._own("metadata").get("lc_agent_name")
        return [name] if name else []

    def job_of(self, inputs: Mapping[str, Any]) -> str | None:
        """The thread that a run goes on with; see Continuing."""
        if not self.graph.checkpointer:
            return None
        given: Any = self._given(inputs)[1].get("configurable") or {}
        thread = {**self._own("configurable"), **given}.get("thread_id")
        return None if thread is None else str(thread)

    def executions(self, job: str) -> Mapping[str, int]:
        """Executions by tool in the latest run of a thread; see Continuing."""
        return self._executions.get(job, {})

    async def run(self, inputs: Mapping[str, Any], gate: Gate) -> RuntimeResult:
        """Run the graph; what it answers, or its state, is the output.

        Args:
            inputs: the graph's input; besides it `config` (a RunnableConfig), and `resume` (a value) or `command`
                (a Command) to go on after an interrupt
            gate: every call of a chat model and every execution of a tool goes through it
        Raises:
            ConfigError: the inputs don't fit the graph, or it is run inside of another guarded run
        """
        if current.get() is not None:
            raise ConfigError("this graph is run inside of a guarded run, which guards it already: call it as it is")
        given, config = self._given(inputs)
        scope, seen = Scope(gate, self.facts, self._crew()), _Seen()
        if (job := self.job_of(inputs)) is not None:
            self._executions[job] = scope.executions
        token = current.set(scope)
        try:
            with embedding_by(Embeds(gate, self.facts, scope.place, in_graph)):
                await self._through(given, config, seen)
        except RefusedError as error:
            return RuntimeResult(_answer(seen.state), partial=True, reason=str(error.stop), stop=error.stop)
        except asyncio.CancelledError:
            await scope.threads.ended()  # so that whoever cancelled sees what goes on; cancelled again, it is left
            return RuntimeResult(_answer(seen.state), partial=True, reason="it was ended")
        finally:
            current.reset(token)
        if waits := await self._waits(seen, config):
            stop = Stop("cancelled", "crew", detail=f"the graph waits: {waits}; go on with run({{'resume': …}})")
            return RuntimeResult(_answer(seen.state), partial=True, reason=str(stop), stop=stop)
        return RuntimeResult(_answer(seen.state))

    def _own(self, key: str) -> Mapping[str, Any]:
        """A part of the config that the graph was made with."""
        config: Any = self.graph.config or {}
        return config.get(key) or {}

    def _crew(self) -> str:
        name = (self.members() or [self.graph.get_name()])[0]
        return "agent" if name == "LangGraph" else name

    async def _through(self, given: Any, config: Any, seen: _Seen) -> None:
        modes: Any = ["updates", "values"]
        if self._is_async():
            stream: AsyncIterator[Any] = self.graph.astream(given, config, stream_mode=modes)
            async with aclosing(cast(Any, stream)) as items:
                async for item in items:
                    seen.hear(item)
            return

        def through() -> None:
            for item in cast(Iterator[Any], self.graph.stream(given, config, stream_mode=modes)):
                seen.hear(item)

        scope = cast(Scope, current.get())

        def tracked() -> None:
            with scope.threads.busy():
                through()

        await to_thread.run_sync(tracked, abandon_on_cancel=True, limiter=CapacityLimiter(1))

    def _is_async(self) -> bool:
        """Whether the graph's checkpointer, where it has one, can be awaited."""
        saver: Any = self.graph.checkpointer
        if not isinstance(saver, BaseCheckpointSaver):
            return True
        return cast(Any, type(cast(Any, saver))).aget_tuple is not cast(Any, BaseCheckpointSaver).aget_tuple

    async def _waits(self, seen: _Seen, config: Any) -> str:
        """What a graph that was interrupted waits for, in words; empty where it came to its end."""
        if seen.interrupts:
            return "; ".join(str(each.value) for each in seen.interrupts)
        if not self.graph.checkpointer:
            return ""
        merged: Any = config or None
        if self._is_async():
            state = await self.graph.aget_state(merged)
        else:
            state = await to_thread.run_sync(self.graph.get_state, merged)
        return f"before {', '.join(state.next)}" if state.next else ""

    def _given(self, inputs: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The graph's input, and LangGraph's config."""
        ours = {key: inputs[key] for key in _OURS if key in inputs and key not in self.graph.channels}
        rest = {key: value for key, value in inputs.items() if key not in ours}
        config: Any = ours.get("config") or {}
        if not isinstance(config, Mapping):
            raise ConfigError(f"config must be a RunnableConfig, such as {{'configurable': {{…}}}}, not {config!r}")
        given = dict(cast(Mapping[str, Any], config))
        if "command" in ours:
            if not isinstance(ours["command"], Command):
                raise ConfigError(f"command must be a Command of LangGraph, not {ours['command']!r}")
            return cast(Any, ours["command"]), given
        if "resume" in ours:
            return Command(resume=ours["resume"]), given
        return self._input(rest), given

    def _input(self, given: Mapping[str, Any]) -> Any:
        if not given:
            return None  # goes on where a thread stopped
        channels: Mapping[str, Any] = self.graph.channels
        if set(given) == {"task"} and "task" not in channels:
            if "messages" in channels:
                return {"messages": [("user", str(given["task"]))]}
            if names := ", ".join(name for name in channels if not _is_internal(name)):
                raise ConfigError(f"the graph takes no task as a text; give it a mapping of its channels: {names}")
        return dict(given)


def _is_internal(channel: str) -> bool:
    return channel.startswith(("__", "branch:"))


def _answer(state: Any) -> Any:
    """What a graph of messages has answered: its structured response, or its last message's text; else the state."""
    if not isinstance(state, dict):
        return state
    known = cast(dict[str, Any], state)
    if known.get("structured_response") is not None:
        return known["structured_response"]
    messages: Any = known.get("messages")
    if set(known) <= {"messages", "structured_response"} and isinstance(messages, list) and messages:
        last = cast(list[Any], messages)[-1]
        return str(last.text) if isinstance(last, BaseMessage) else last
    return cast(Any, state)
