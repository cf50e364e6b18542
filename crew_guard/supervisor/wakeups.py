"""Waiting on a loop for what another thread finishes, many at a time.

Each wake-up of a loop lets go of the interpreter, and a busy loop keeps it for milliseconds: so what is
finished together wakes a loop once.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager, suppress
from contextvars import Context
from typing import Any
from weakref import WeakKeyDictionary

from crew_guard.ports import Flushed, Store
from crew_guard.promises import Promise

_by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _Bell] = WeakKeyDictionary()


class _Bell:
    """One loop's: who is to be woken, and whether that is on its way."""

    def __init__(self) -> None:
        self._ready: deque[asyncio.Future[None]] = deque()
        self._rung = False
        self.context = Context()
        """Of the timers that only wake somebody: each would copy one."""

    def ring(self, waiter: asyncio.Future[None]) -> None:
        self._ready.append(waiter)
        if not self._rung:
            self._rung = True
            if _together.bells is None:
                self.send(waiter.get_loop())
            else:
                _together.bells.append((self, waiter.get_loop()))

    def send(self, loop: asyncio.AbstractEventLoop) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._rung = False  # before looking: what comes from here on rings again
        while self._ready:
            release(self._ready.popleft())


class _Wakes:
    """Rings for one who waits."""

    __slots__ = ("_bell", "_waiter")

    def __init__(self, bell: _Bell, waiter: asyncio.Future[None]) -> None:
        self._bell, self._waiter = bell, waiter

    def __call__(self, _done: object) -> None:
        self._bell.ring(self._waiter)


class _Together(threading.local):
    """One thread's bells that are rung at the end of a `rung_together`; None outside of one."""

    bells: list[tuple[_Bell, asyncio.AbstractEventLoop]] | None = None


_together = _Together()


@contextmanager
def rung_together() -> Generator[None]:
    """Whatever this thread finishes inside wakes each loop that waits once, at the end."""
    if _together.bells is not None:
        yield  # within another one, which rings
        return
    _together.bells = []
    try:
        yield
    finally:
        bells, _together.bells = _together.bells, None
        for bell, loop in bells:
            bell.send(loop)


async def written(store: Store, flushed: Flushed) -> None:
    """Wait until something is on disk, or known not to be: in one commit with what others are about to write."""
    if not flushed.done() and store.crowded:
        await asyncio.sleep(0)
    if not flushed.done():
        store.push()
        await done(flushed)


async def done(future: Promise[Any] | Flushed, seconds: float | None = None) -> None:
    """Wait until a future of another thread is done, however it ended. Cancelling leaves it as it is.

    Args:
        seconds: the longest to wait; None for as long as it takes
    """
    if future.done():
        return
    loop = asyncio.get_running_loop()
    bell = _by_loop.get(loop)
    if bell is None:
        bell = _by_loop[loop] = _Bell()
    waiter = loop.create_future()
    future.add_done_callback(_Wakes(bell, waiter))
    if seconds is None:
        await waiter
        return
    timer = loop.call_later(seconds, release, waiter, context=bell.context)
    try:
        await waiter
    finally:
        timer.cancel()


def release(waiter: asyncio.Future[None]) -> None:
    """Wake who waits for this future, unless it was woken before."""
    if not waiter.done():
        waiter.set_result(None)


async def on_disk(store: Store, flushed: Flushed) -> None:
    """Wait until something is on disk.

    Raises:
        StoreError: it could not be written
    """
    await written(store, flushed)
    flushed.result()
