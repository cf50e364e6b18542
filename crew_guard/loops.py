"""Work that one event loop waits for, and another one does.

A connection, a queue, a session belongs to the loop that it was opened on: what uses it has to be done there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import ContextVar, copy_context
from threading import Lock
from typing import Any, TypeAlias, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from crew_guard.daemons import DaemonExecutor

T = TypeVar("T")

_ours: WeakSet[asyncio.AbstractEventLoop] = WeakSet()


def make_ours(loop: asyncio.AbstractEventLoop) -> None:
    """Note that crew_guard turns this loop itself; what blocks in its threads keeps Python from nothing."""
    _ours.add(loop)
    loop.set_default_executor(DaemonExecutor())


def is_ours(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether this is a loop that crew_guard turns: nothing of the user's belongs there, and nothing may block it."""
    return loop in _ours


def works_here() -> bool:
    """Whether the caller is part of an errand, on the loop that does it: to block it would be to wait for oneself."""
    home = _home.get()
    if home is None:
        return False
    try:
        return asyncio.get_running_loop() is home
    except RuntimeError:
        return False


def is_being_cancelled() -> bool:
    """Whether a CancelledError that is caught here was meant for the task at work; else what it awaited gave up.

    In a thread without a loop nobody can mean one.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False
    return task is None or task.cancelling() > 0


async def done_on(
    loop: asyncio.AbstractEventLoop,
    work: Coroutine[Any, Any, T],
    left: Callable[[asyncio.Future[T]], None] | None = None,
) -> T:
    """Have work done on a loop of any thread, in a copy of this context; cancelling this cancels it there.

    Args:
        work: closed where it can't begin; raises nothing that would end a loop, as a SystemExit does
        left: told when this is cancelled while the work is under way, with the future that is done when it has ended
    Returns:
        what comes of it, also where it was cancelled and had something to hand over
    Raises:
        asyncio.CancelledError: the work was cancelled, or its loop is closed
    """
    here = asyncio.get_running_loop()
    if loop is here:
        return await work
    errand = _Errand(work, loop, here)
    context = copy_context()
    context.run(_home.set, loop)
    if not _send(loop, context.run, errand.begin):  # the loop is closed: who wanted this is gone
        work.close()
        raise asyncio.CancelledError
    try:
        return await errand.over
    except asyncio.CancelledError:
        if errand.ended:
            raise
        errand.over = here.create_future()  # the first was cancelled with who awaits it
        if not _send(loop, errand.cancel):
            errand.close_unbegun()
            raise
        if left is not None:
            left(errand.over)
        return await errand.over
    finally:
        errand.watch.cancel()


_home: ContextVar[asyncio.AbstractEventLoop | None] = ContextVar("crew_guard_home", default=None)
"""The loop of the errand that the current code is a part of."""

_LOOK = 0.5
"""Seconds between looks whether a loop that works for another one was closed."""
_Call: TypeAlias = tuple[Callable[..., object], tuple[Any, ...]]


class _Mailbox:
    """What is to be called on one loop, from other threads: many at a time, because each wake-up costs."""

    def __init__(self) -> None:
        self._calls: deque[_Call] = deque()
        self._rung = False

    def put(self, loop: asyncio.AbstractEventLoop, call: _Call) -> None:
        self._calls.append(call)
        if not self._rung:
            self._rung = True
            loop.call_soon_threadsafe(self._empty, loop)

    def _empty(self, loop: asyncio.AbstractEventLoop) -> None:
        self._rung = False  # before looking: what comes from here on rings again
        try:
            while self._calls:
                function, arguments = self._calls.popleft()
                function(*arguments)
        finally:
            if self._calls:  # an interrupt came: the others are no less due
                loop.call_soon(self._empty, loop)


_mailboxes: WeakKeyDictionary[asyncio.AbstractEventLoop, _Mailbox] = WeakKeyDictionary()
_mailboxes_lock = Lock()


def _send(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *arguments: object) -> bool:
    """Have a function called on the loop of another thread; False where it is closed, and nothing goes on there."""
    box = _mailboxes.get(loop)
    if box is None:
        with _mailboxes_lock:
            box = _mailboxes.setdefault(loop, _Mailbox())
    if loop.is_closed():
        return False
    with suppress(RuntimeError):  # closed just now
        box.put(loop, (function, arguments))
    return not loop.is_closed()


class _Errand:
    """Work on its way to another loop, and what comes of it on its way back."""

    __slots__ = ("_loop", "_task", "_work", "ended", "over", "watch")

    def __init__(
        self, work: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop, here: asyncio.AbstractEventLoop
    ) -> None:
        self.over: asyncio.Future[Any] = here.create_future()
        """Of the loop that waits. Done with what comes of the work."""
        self.ended = False
        """As far as the loop that waits knows."""
        self.watch = here.call_later(_LOOK, self._look)
        self._work = work
        self._loop = loop
        self._task: asyncio.Task[Any] | None = None

    # On the loop of the work

    def begin(self) -> None:
        try:
            self._task = asyncio.get_running_loop().create_task(self._work)
        except Exception as error:  # noqa: BLE001  a task factory of the user's: whatever it raises is told to who waits
            self._work.close()
            _send(self.over.get_loop(), self._deliver, None, error)
            return
        self._task.add_done_callback(self._bring)

    def cancel(self) -> None:
        """After `begin`."""
        if self._task is not None:
            self._task.cancel()

    def _bring(self, task: asyncio.Task[Any]) -> None:
        _send(self.over.get_loop(), self._deliver, task, None)

    # On the loop that waits

    def _look(self) -> None:
        if self.ended:
            return
        if not self._loop.is_closed():
            self.watch = self.over.get_loop().call_later(_LOOK, self._look)
            return
        self.ended = True
        self.close_unbegun()
        self.over.cancel()

    def close_unbegun(self) -> None:
        """Its loop is closed: what never began there is closed here."""
        if self._task is None:
            self._work.close()

    def _deliver(self, task: asyncio.Task[Any] | None, error: BaseException | None) -> None:
        self.ended, over = True, self.over
        cancelled = task is not None and task.cancelled()
        if task is not None and not cancelled:
            error = task.exception()
        if over.done():
            return  # it was cancelled just now: nobody waits
        if cancelled:
            over.cancel()
        elif error is not None:
            over.set_exception(error)
        elif task is not None:
            over.set_result(task.result())


def at_the_end(close: Callable[[], Awaitable[object]]) -> object:
    """Have this called before the running loop ends in good order, as asyncio.run ends it.

    Returns:
        to be held as long as it is to be called then; it is called when this is let go of, too
    """

    async def waits() -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await close()

    waiting = waits()
    with suppress(StopIteration):
        waiting.__anext__().send(None)  # from now on it is among the generators that the loop closes
    return waiting
