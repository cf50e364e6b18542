"""The methods of AutoGen's classes that every act passes through, patched while a guarded run is under way.

A patch looks who acts: nobody, where the code is part of no guarded run, and then it is as if it weren't there.
Attributes are not enough: a client may hide in a closure, in a tool, in an agent of the user's own.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from autogen_agentchat.base import ChatAgent, Team
from autogen_core.code_executor import CodeExecutor
from autogen_core.models import ChatCompletionClient
from autogen_core.tools import BaseStreamTool, BaseTool, StaticStreamWorkbench, Workbench

from crew_guard.adapters.autogen.client import Exchange

Original = Callable[..., Any]
Act = Callable[[Original, Any, tuple[Any, ...], dict[str, Any]], Any]


@dataclass(slots=True)
class Frame:
    """A gated call under way: what it does on the way to its work is a part of it, and not gated again."""

    kind: Literal["model", "workbench", "tool", "code"]
    owner: object
    parts: int = 0
    """How many calls it has made that may be its own work."""
    exchange: Exchange | None = None
    """Of a model call."""


@dataclass(frozen=True, slots=True)
class Here:
    """Who acts, in which run, within which gated call."""

    run: Acts
    agent: str
    frame: Frame | None = None


class Acts(Protocol):
    """What a guarded run does at each seam, in place of the original."""

    def of(self, name: str) -> Act:
        """What takes a method's place: called with the original, the object, its arguments."""
        ...


here: ContextVar[Here | None] = ContextVar("crew_guard_autogen", default=None)


class acting:  # noqa: N801  it reads as the function it could be, at twice the cost
    """Run code as part of this."""

    __slots__ = ("_now", "_token")

    def __init__(self, now: Here) -> None:
        self._now = now

    def __enter__(self) -> None:
        self._token = here.set(self._now)

    def __exit__(self, *_: object) -> None:
        leave(self._token)


async def acted(now: Here, items: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
    """Items of a generator that runs as part of this. Its consumer doesn't: a generator has no context of its own."""
    try:
        while True:
            token = here.set(now)
            try:
                item = await anext(items)
            except StopAsyncIteration:
                return
            finally:
                leave(token)
            yield item
    finally:
        await closed(now, items)


async def closed(now: Here, items: AsyncIterator[Any]) -> None:
    """Close a generator as part of this, now and not when the collector finds it."""
    close = getattr(items, "aclose", None)
    if close is not None:
        with acting(now):
            await close()


def leave(token: Token[Here | None]) -> None:
    """Who acts is again who did before."""
    try:  # noqa: SIM105  contextlib.suppress costs more than the rest, at every item
        here.reset(token)
    except ValueError:
        pass  # closed from elsewhere, as the collector does: that context was never changed


_METHODS: tuple[tuple[type, str], ...] = (
    (ChatCompletionClient, "create"),
    (ChatCompletionClient, "create_stream"),
    (Workbench, "call_tool"),
    (StaticStreamWorkbench, "call_tool_stream"),
    (BaseTool, "run_json"),
    (BaseStreamTool, "run_json_stream"),
    (CodeExecutor, "execute_code_blocks"),
    (ChatAgent, "on_messages"),
    (ChatAgent, "on_messages_stream"),
    (Team, "run_stream"),
)
_NOT_OURS = object()
_SEAM = "_crew_guard_seam"
"""Where a method keeps its patch between runs."""


@dataclass(slots=True)
class _Patches:
    """What is patched at the moment, and for how many runs."""

    runs: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    before: list[tuple[type, str, object]] = field(default_factory=list[tuple[type, str, object]])
    seams: set[object] = field(default_factory=set[object])

    def patch(self, cls: type, name: str) -> None:
        original = vars(cls).get(name)
        if not callable(original) or original in self.seams or getattr(original, "__isabstractmethod__", False):
            return
        seam = _seam(name, original)
        self.before.append((cls, name, original))
        self.seams.add(seam)
        setattr(cls, name, seam)

    def apply(self) -> None:
        for base, name in _METHODS:
            for cls in _family(base):
                self.patch(cls, name)
        for base in dict.fromkeys(base for base, _ in _METHODS):
            self.before.append((base, "__init_subclass__", vars(base).get("__init_subclass__", _NOT_OURS)))
            setattr(base, "__init_subclass__", classmethod(_later(base)))  # noqa: B010  pyright knows it as fixed

    def undo(self) -> None:
        for cls, name, original in reversed(self.before):
            if original is _NOT_OURS:
                delattr(cls, name)
            else:
                setattr(cls, name, original)
        self.before.clear()
        self.seams.clear()


_patches = _Patches()


@contextmanager
def patched() -> Generator[None]:
    """Have the seams in place; the last run that leaves restores every class."""
    with _patches.lock:
        if _patches.runs == 0:
            _patches.apply()
        _patches.runs += 1
    try:
        yield
    finally:
        with _patches.lock:
            _patches.runs -= 1
            if _patches.runs == 0:
                _patches.undo()


def _seam(name: str, original: Original) -> Original:
    kept = f"{_SEAM}_{name}"  # one function may stand for two methods
    known = getattr(original, kept, None)
    if known is not None and known.__wrapped__ is original:
        return known

    # A plain function: what it hands back, a coroutine or a generator, is the caller's to await or to read.
    @functools.wraps(original)
    def seam(self: Any, *args: Any, **options: Any) -> Any:
        now = here.get()
        if now is None:
            return original(self, *args, **options)
        return now.run.of(name)(original, self, args, options)

    with suppress(AttributeError):  # a callable that takes none: made again next time
        setattr(original, kept, seam)
    return seam


def _later(base: type) -> Callable[..., None]:
    """What patches a class that is made while a run is under way: a tool may import its client late."""
    own: Any = vars(base).get("__init_subclass__")

    def init(cls: type, **options: Any) -> None:
        if own is None:
            super(base, cls).__init_subclass__(**options)
        else:
            own.__func__(cls, **options)
        # Without the lock: classes are made within a run, and so while nothing is restored.
        for seam_of, name in _METHODS:
            if issubclass(cls, seam_of):
                _patches.patch(cls, name)

    return init


def _family(base: type) -> Iterator[type]:
    seen: set[type] = set()
    left = [base]
    while left:
        cls = left.pop()
        if cls not in seen:
            seen.add(cls)
            yield cls
            left.extend(type.__subclasses__(cls))
