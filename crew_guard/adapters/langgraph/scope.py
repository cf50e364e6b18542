"""One guarded run as the patched classes see it: a context variable, which LangGraph's tasks and threads inherit."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crew_guard.adapters.hosted import Attempt, ModelFacts, PromptCounter, reported
from crew_guard.adapters.langgraph.names import agent_of
from crew_guard.core.actions import ModelCall, Outcome
from crew_guard.core.messages import Message
from crew_guard.core.usage import Rates
from crew_guard.errors import LimitExceededError, PolicyDeniedError, RefusedError
from crew_guard.ports import Gate

if TYPE_CHECKING:
    from crew_guard.adapters.langgraph.prompts import Prompts

_PATIENCE = 0.8
"""Seconds that a refusal waits for what is in flight beside it: less than a run that was stopped has to end."""


class LimitInGraphError(LimitExceededError, RuntimeError):
    """A cap left no room. A RuntimeError, which LangGraph's own RetryPolicy doesn't retry."""


class DeniedInGraphError(PolicyDeniedError, RuntimeError):
    """A rule of the policy forbids it. A RuntimeError, which LangGraph's own RetryPolicy doesn't retry."""


def in_graph(error: RefusedError) -> RefusedError:
    """The same refusal as LangGraph is to see it."""
    kind = LimitInGraphError if isinstance(error, LimitExceededError) else DeniedInGraphError
    return kind(error.stop)


class Threads:
    """The threads that work for a run at the moment: a run that is ended waits for them, and is told late."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy = 0
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def busy(self) -> Busy:
        """This thread works until the end of the block; one that runs an event loop doesn't count."""
        return Busy(self)

    def begin(self) -> None:
        """One more works."""
        with self._lock:
            self._busy += 1

    def end(self) -> None:
        """One has ended."""
        with self._lock:
            self._busy -= 1
            through = self._waiting if self._busy == 0 else []
            self._waiting = [] if through else self._waiting
        for loop, event in through:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

    async def ended(self) -> None:
        """Until no thread works any more."""
        event = asyncio.Event()
        with self._lock:
            if self._busy == 0:
                return
            self._waiting.append((asyncio.get_running_loop(), event))
        await event.wait()


class Busy:
    """A block in which a thread works. A class: it stands around each piece of a stream."""

    __slots__ = ("_counts", "_threads")

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    def __enter__(self) -> None:
        self._counts = not _runs_a_loop()
        if self._counts:
            self._threads.begin()

    def __exit__(self, *_: object) -> None:
        if self._counts:
            self._threads.end()


class Flights:
    """The model calls under way. A refusal ends its graph, and with it what runs beside it: those in flight land first.

    What a provider is writing is billed, whether somebody waits for it or not.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._up: set[int] = set()
        self._waiting: list[Callable[[], object]] = []

    def begin(self, call: object) -> None:
        """A call has left."""
        with self._lock:
            self._up.add(id(call))

    def end(self, call: object) -> None:
        """It was settled."""
        with self._lock:
            self._up.discard(id(call))
            waiting = [] if self._up else self._waiting
            self._waiting = [] if waiting else self._waiting
        for told in waiting:
            told()

    async def landed(self) -> None:
        """Until none is under way, or a moment has passed."""
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        if self._waits(lambda: None if loop.is_closed() else loop.call_soon_threadsafe(event.set)):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), _PATIENCE)

    def landed_blocking(self) -> None:
        """The same for a thread; one that runs an event loop can't wait, because it may be what they need to land."""
        event = threading.Event()
        if not _runs_a_loop() and self._waits(event.set):
            event.wait(_PATIENCE)

    def _waits(self, told: Callable[[], object]) -> bool:
        with self._lock:
            if self._up:
                self._waiting.append(told)
            return bool(self._up)


def _runs_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@dataclass(slots=True)
class Scope:
    """What a patched class needs to know of the guarded run that it is called in."""

    gate: Gate
    facts: ModelFacts
    crew: str
    """Who acts where no node and no agent has a name."""
    threads: Threads = field(default_factory=Threads)
    flights: Flights = field(default_factory=Flights)
    over: bool = False
    """Whether the run came to its end: what was begun in it and goes on is no part of it any more."""
    executions: Counter[str] = field(default_factory=Counter[str])
    """By tool."""
    unbelieved: set[type] = field(default_factory=set[type])
    """Classes of models that didn't keep to a length."""
    quiet: dict[int, tuple[Any, Any]] = field(default_factory=dict[int, tuple[Any, Any]])
    """By the id of a model's client: itself, and the same without retries."""
    written: dict[tuple[Any, ...], tuple[Any, frozenset[str]]] = field(default_factory=dict[tuple[Any, ...], Any])
    """By a tool's id and the names of its arguments: itself, and the names that a model has written."""
    models: dict[tuple[int, Any], tuple[Any, str]] = field(default_factory=dict[tuple[int, Any], Any])
    """By a model's id, and the name that was given with a call: itself, and how policies know it."""
    _asked: dict[str, str | None] = field(default_factory=dict[str, "str | None"])
    _counters: dict[str, tuple[Rates | None, Prompts]] = field(default_factory=dict[str, Any])

    def counter(self, model: str) -> tuple[Rates | None, Prompts]:
        """A model's rates, and what counts its prompts."""
        found = self._counters.get(model)
        if found is None:
            from crew_guard.adapters.langgraph.prompts import Prompts

            known = self.facts(model)
            found = self._counters[model] = (known.rates, Prompts(PromptCounter(known)))
        return found

    def end(self) -> None:
        """The run came to its end. One that was stopped doesn't: what it left behind is refused what it asks for."""
        self.over = True
        for known in (self.quiet, self.written, self.models, self._counters):
            known.clear()

    def asked(self, agent: str, request_id: str) -> None:
        """An agent's model asked for a tool. Ids that two agents' models use name nobody."""
        known = self._asked.setdefault(request_id, agent)
        if known != agent:
            self._asked[request_id] = None

    def asker(self, request_id: str | None) -> str | None:
        """Whose model asked for a tool, where that is known."""
        return None if request_id is None else self._asked.get(request_id)

    def actor(self, metadata: Mapping[str, Any] | None) -> str:
        """The agent that the current code works for.

        Args:
            metadata: of the call, where there is one
        """
        return agent_of(metadata, self.crew)

    def place(self) -> tuple[str, str | None]:
        """The same, and the tool execution that the current code is a part of."""
        return self.actor(None), inside_tool.get()


current: ContextVar[Scope | None] = ContextVar("crew_guard_graph_run", default=None)
"""The guarded run that the current code was begun in."""
inside_tool: ContextVar[str | None] = ContextVar("crew_guard_graph_tool", default=None)
"""The tool execution that the current code is a part of: what it does is charged there too."""


def scope_here() -> Scope | None:
    """The guarded run that the current code is a part of; None where there is none, or it came to its end."""
    scope = current.get()
    return None if scope is None or scope.over else scope


@dataclass(slots=True)
class ByHand:
    """A request that is sent by hand."""

    max_tokens: int | None
    """The longest completion that it may ask for; None where it wished for none and no run is guarded."""
    _attempt: Attempt | None = None

    def used(self, input_tokens: int, output_tokens: int, *, cached_tokens: int = 0, text: str = "") -> None:
        """Tell what the provider reported. Without it the call is charged as reserved."""
        if self._attempt is not None:
            self._attempt.settle(Outcome("ok", reported(input_tokens, output_tokens, cached_tokens), text=text))


@contextmanager
def by_hand(model: str, prompt: str, max_tokens: int | None) -> Generator[ByHand]:
    """See crew_guard.adapters.langgraph.model_call."""
    scope = scope_here()
    if scope is None:
        yield ByHand(max_tokens)
        return
    rates, prompts = scope.counter(model)
    tokens = prompts.count.facts.bound(Message("user", prompt)) + prompts.count.request((), None)
    action = ModelCall(scope.actor(None), model, tokens, max_tokens, rates=rates, parent=inside_tool.get())
    try:
        grant = scope.gate.admit_blocking(action)
    except RefusedError as error:
        raise in_graph(error) from None
    attempt = Attempt(scope.gate, grant)
    try:
        yield ByHand(grant.max_tokens, attempt)
    except BaseException as error:
        attempt.fail(error)
        raise
    attempt.settle(Outcome("ok"))
