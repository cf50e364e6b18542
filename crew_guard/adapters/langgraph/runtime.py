"""A compiled graph as a Runtime: run as it is, in a context that the patched base classes look at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

from anyio import CapacityLimiter, to_thread
from langchain_core.messages import BaseMessage
from langgraph.channels import EphemeralValue  # pyright: ignore[reportMissingTypeStubs]  it has types, and no stubs
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.pregel import Pregel  # pyright: ignore[reportMissingTypeStubs]  it has types, and no stubs

from crew_guard.adapters.defining import tried
from crew_guard.adapters.embedding import Embeds, embedding_by
from crew_guard.adapters.hosted import ModelFacts
from crew_guard.adapters.langgraph.defining import definition_of, name_of_host
from crew_guard.adapters.langgraph.inputs import Given, given_to
from crew_guard.adapters.langgraph.scope import Scope, current, in_graph, scope_here
from crew_guard.adapters.langgraph.seams import install
from crew_guard.adapters.langgraph.ways import must_block
from crew_guard.core.decisions import Stop
from crew_guard.errors import ConfigError, RefusedError
from crew_guard.ports import Gate, RuntimeResult

_OF_MESSAGES = frozenset({"messages", "structured_response"})
"""What a graph of messages shows of its state."""


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
    """By thread, by tool: until its end is told."""
    _awaited: dict[type, bool] = field(default_factory=dict[type, bool])
    """By class of checkpointer: whether it has coroutines that work."""
    _read: list[Any] = field(default_factory=list[Any])
    """What defines the graph, once it was asked for."""
    _blocks: bool = field(init=False)
    """Whether parts of it can't be awaited, so that it runs in a thread."""

    def __post_init__(self) -> None:
        graph = self.graph
        if not isinstance(self.graph, Pregel):
            kind = type(self.graph).__name__
            how = "compile() it first" if kind == "StateGraph" else "its models run in another process: guard it there"
            raise ConfigError(f"crew_guard guards a compiled graph of LangGraph, not a {kind}: {how}")
        object.__setattr__(self, "_blocks", must_block(graph))
        install()

    @property
    def name(self) -> str:
        return "langgraph"

    def members(self) -> Sequence[str]:
        """The agent, where the graph is one of create_agent with a name; what else takes part is seen as it runs."""
        name: Any = self._own("metadata").get("lc_agent_name")
        return [name] if name else []

    def called(self) -> str:
        """See Described."""
        return name_of_host(self.graph)

    def definition(self) -> Any:
        """See Described; read once, since a graph stays as it was compiled."""
        if not self._read:
            self._read.append(tried(definition_of, self.graph))
        return self._read[0]

    def job_of(self, inputs: Mapping[str, Any]) -> str | None:
        """The thread that a run goes on with; see Continuing."""
        return given_to(self.graph, inputs).thread if self.graph.checkpointer else None

    def executions(self, job: str) -> Mapping[str, int]:
        """Executions by tool in the latest run of a thread; see Continuing."""
        return self._executions.pop(job, {})

    async def run(self, inputs: Mapping[str, Any], gate: Gate) -> RuntimeResult:
        """Run the graph; what it answers, or its state, is the output.

        Args:
            inputs: the graph's input; besides it `config` (a RunnableConfig), `context` (of its context_schema), and
                `resume` (a value) or `command` (a Command) to go on after an interrupt
            gate: every call of a chat model and every execution of a tool goes through it
        Raises:
            ConfigError: the inputs don't fit the graph, or it is run inside of another guarded run
        """
        if scope_here() is not None:
            raise ConfigError("this graph is run inside of a guarded run, which guards it already: call it as it is")
        given = given_to(self.graph, inputs)
        scope, seen = Scope(gate, self.facts, self._crew()), _Seen()
        if self.graph.checkpointer and given.thread is not None:
            self._executions[given.thread] = scope.executions
        token = current.set(scope)
        try:
            with embedding_by(Embeds(gate, self.facts, scope.place, in_graph, is_over=lambda: scope.over)):
                await self._through(given, seen)
            scope.end()
        except RefusedError as error:
            so_far = _answer(self.graph, seen.state)
            return RuntimeResult(so_far, partial=True, reason=str(error.stop), stop=error.stop)
        except asyncio.CancelledError:
            await scope.threads.ended()  # so that whoever cancelled sees what goes on; cancelled again, it is left
            return RuntimeResult(_answer(self.graph, seen.state), partial=True, reason="it was ended")
        except Exception:
            scope.end()
            raise
        finally:
            current.reset(token)
        if waits := await self._waits(seen, given):
            stop = Stop("cancelled", "crew", detail=f"the graph waits: {waits}; go on with run({{'resume': …}})")
            return RuntimeResult(seen.state, partial=True, reason=str(stop), stop=stop)
        return RuntimeResult(_output(self.graph, seen.state))

    def _own(self, key: str) -> Mapping[str, Any]:
        """A part of the config that the graph was made with."""
        config: Any = self.graph.config or {}
        return config.get(key) or {}

    def _crew(self) -> str:
        name = (self.members() or [self.graph.get_name()])[0]
        return "agent" if name == "LangGraph" else name

    async def _through(self, given: Given, seen: _Seen) -> None:
        options: dict[str, Any] = {"stream_mode": ["updates", "values"]}
        if given.context is not None:
            options["context"] = given.context
        if await self._is_async(given):
            stream: AsyncIterator[Any] = self.graph.astream(given.input, given.config, **options)
            async with aclosing(cast(Any, stream)) as items:
                async for item in items:
                    seen.hear(item)
            return

        def through() -> None:
            for item in cast(Iterator[Any], self.graph.stream(given.input, given.config, **options)):
                seen.hear(item)

        scope = cast(Scope, current.get())

        def tracked() -> None:
            with scope.threads.busy():
                through()

        await to_thread.run_sync(tracked, abandon_on_cancel=True, limiter=CapacityLimiter(1))

    async def _is_async(self, given: Given) -> bool:
        """Whether the graph and its checkpointer, where it has one, can be awaited: some coroutines only refuse."""
        if self._blocks:
            return False
        saver: Any = self.graph.checkpointer
        if not isinstance(saver, BaseCheckpointSaver) or given.thread is None:
            return True
        kind: Any = cast(Any, type(cast(Any, saver)))
        known = self._awaited.get(kind)
        if known is None:
            if kind.aget_tuple is cast(Any, BaseCheckpointSaver).aget_tuple:
                known = False
            else:
                known = await _answers(saver, given.now)
            self._awaited[kind] = known
        return known

    async def _waits(self, seen: _Seen, given: Given) -> str:
        """What a graph that was interrupted waits for, in words; empty where it came to its end."""
        if seen.interrupts:
            return "; ".join(str(each.value) for each in seen.interrupts)
        if not self.graph.checkpointer or given.thread is None:
            return ""
        if await self._is_async(given):
            state = await self.graph.aget_state(given.now)
        else:
            state = await to_thread.run_sync(self.graph.get_state, given.now)
        return f"before {', '.join(state.next)}" if state.next else ""


async def _answers(saver: Any, config: dict[str, Any]) -> bool:
    try:
        await saver.aget_tuple(config)
    except NotImplementedError:
        return False
    except Exception:  # noqa: BLE001  of its database, say: the graph will meet it, too
        return True
    return True


def _output(graph: Any, state: Any) -> Any:
    """What a graph of messages has answered, else what it shows of its state: as its invoke would."""
    answer = _answer(graph, state)
    if answer is not state or not isinstance(state, dict):
        return answer
    known = cast(dict[str, Any], state)
    return {name: known[name] for name in _shown(graph, known) if name in known}


def _shown(graph: Any, state: dict[str, Any]) -> list[str]:
    """The names of what a graph gives of its state; an entrypoint gives all that it returns."""
    names: Any = graph.output_channels
    if isinstance(names, str):
        return list(state)
    return [name for name in names if not isinstance(graph.channels.get(name), EphemeralValue)]


def _answer(graph: Any, state: Any) -> Any:
    """The structured response, or the last text of a graph that shows nothing but messages; else the state."""
    if not isinstance(state, dict):
        return state
    known = cast(dict[str, Any], state)
    if known.get("structured_response") is not None:
        return known["structured_response"]
    messages: Any = known.get("messages")
    if _OF_MESSAGES.issuperset(_shown(graph, known)) and isinstance(messages, list) and messages:
        last = cast(list[Any], messages)[-1]
        return str(last.text) if isinstance(last, BaseMessage) else last
    return cast(Any, state)
