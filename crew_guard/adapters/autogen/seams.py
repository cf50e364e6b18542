"""The methods of AutoGen's classes that every act passes through, patched from the first guarded run on.

A patch looks who acts: nobody, where the code is part of no guarded run, and then it is as if it weren't there.
Attributes are not enough: a client may hide in a closure, in a tool, in an agent of the user's own. The patches
stay: a class that changes forgets all that Python has learned of it, and the calls after that cost a multiple.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Literal, Protocol

from autogen_agentchat.agents import UserProxyAgent
from autogen_agentchat.base import ChatAgent, Team
from autogen_agentchat.teams._group_chat._base_group_chat_manager import BaseGroupChatManager
from autogen_agentchat.teams._group_chat._sequential_routed_agent import SequentialRoutedAgent
from autogen_core.code_executor import CodeExecutor
from autogen_core.models import ChatCompletionClient
from autogen_core.tools import BaseStreamTool, BaseTool, StaticStreamWorkbench, Workbench
from msgspec import Struct

if TYPE_CHECKING:
    from crew_guard.adapters.autogen.client import Exchange
    from crew_guard.adapters.way import Way
    from crew_guard.core.actions import Grant

Original = Callable[..., Any]
Act = Callable[[Original, Any, tuple[Any, ...], dict[str, Any]], Any]


class Frame(Struct, eq=False):
    """A gated call under way: what it does on the way to its work is a part of it, and not gated again."""

    kind: Literal["model", "workbench", "tool", "code"]
    owner: object
    way: Way | None = None
    """Of a tool's execution, or of what executes tools or code: the methods of its owner that led here."""
    parts: int = 0
    """Of a model call: how many others it has made that may be its own work."""
    exchange: Exchange | None = None
    """Of a model call."""
    grant: Grant | None = None
    """Of a tool's execution."""


class Here(Struct, frozen=True, eq=False):
    """Who acts, in which run, within which gated call. Made for each act, where a dataclass would take long."""

    run: Acts
    agent: str
    frame: Frame | None = None


class Acts(Protocol):
    """What a guarded run does at each seam, in place of the original."""

    refused: bool
    """Whether a refusal has ended something of it."""

    @property
    def acts(self) -> Mapping[str, Act]:
        """What takes each method's place: called with the original, the object, its arguments."""
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


_METHODS: Mapping[type, tuple[str, ...]] = {
    ChatCompletionClient: ("create", "create_stream"),
    Workbench: ("call_tool",),
    StaticStreamWorkbench: ("call_tool_stream",),
    BaseTool: ("run_json",),
    BaseStreamTool: ("run_json_stream",),
    CodeExecutor: ("execute_code_blocks",),
    ChatAgent: ("on_messages", "on_messages_stream"),
    Team: ("run_stream",),
    UserProxyAgent: ("_get_input",),
    SequentialRoutedAgent: ("on_message_impl",),
    BaseGroupChatManager: ("select_speaker",),
}
_SEAM = "_crew_guard_seam"
"""Marks what stands in a method's place, with itself: who wraps it copies the mark."""
_lock = threading.RLock()


def install() -> None:
    """Have the seams in place, of all classes that there are and of each that is made from now on."""
    with _lock:
        for base, names in _METHODS.items():
            for cls in _family(base):
                _place(cls, names)
            own: Any = vars(base).get("__init_subclass__")
            if not _is_seam(getattr(own, "__func__", None)):
                setattr(base, "__init_subclass__", classmethod(_later(base, own)))  # noqa: B010  pyright knows it as fixed


def _place(cls: type, names: tuple[str, ...]) -> None:
    own = vars(cls)
    for name in names:
        original = own.get(name)
        if original is None or _is_seam(original) or not callable(original):
            continue
        if not getattr(original, "__isabstractmethod__", False):
            setattr(cls, name, _seam(name, original))


def _is_seam(function: object) -> bool:
    return getattr(function, _SEAM, _SEAM) is function


def _seam(name: str, original: Original) -> Original:
    # A plain function: what it hands back, a coroutine or a generator, is the caller's to await or to read.
    @functools.wraps(original)
    def seam(self: Any, *args: Any, **options: Any) -> Any:
        now = here.get()
        if now is None:
            return original(self, *args, **options)
        return now.run.acts[name](original, self, args, options)

    setattr(seam, _SEAM, seam)
    return seam


def _later(base: type, own: Any) -> Callable[..., None]:
    """What patches a class that is made later: a tool may import its client while the run is under way."""

    def init(cls: type, **options: Any) -> None:
        if own is None:
            super(base, cls).__init_subclass__(**options)
        else:
            own.__func__(cls, **options)
        with _lock:
            for seam_of, names in _METHODS.items():
                if issubclass(cls, seam_of):
                    _place(cls, names)

    setattr(init, _SEAM, init)
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
