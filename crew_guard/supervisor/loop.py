"""The supervisor's own event loop, on a thread of its own, never the caller's.

So `run()` works where a loop is running already, and a host's blocking call can't deadlock it.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from crew_guard.ports import Handle

T = TypeVar("T")


class EngineLoop:
    """A daemon thread that runs one event loop for all runs of the process."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._main, name="crew_guard", daemon=True)
        self._thread.start()

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine on the loop, from any other thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    @property
    def alive(self) -> bool:
        """Whether its thread still turns it."""
        return self._thread.is_alive()

    def owns_this_thread(self) -> bool:
        """Whether the caller is on the loop's own thread, where waiting for it would never end."""
        return threading.current_thread() is self._thread


_lock = threading.Lock()
_current: EngineLoop | None = None


def engine_loop() -> EngineLoop:
    """The process's loop, started at first use."""
    global _current  # noqa: PLW0603  one loop a process is the point
    with _lock:
        if _current is None or not _current.alive:
            _current = EngineLoop()
        return _current


def _forget() -> None:
    global _current, _lock
    _current, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)  # a child has none of its parent's threads


def abandon(stuck: EngineLoop) -> None:
    """Let later runs have a fresh loop: something blocks this one."""
    global _current  # noqa: PLW0603  see above
    with _lock:
        if _current is stuck:
            _current = None


class LoopClock:
    """Real time, its timers on an event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    now = staticmethod(time.time)
    """Unix seconds."""
    monotonic = staticmethod(time.monotonic)
    """Seconds that never go back."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Handle:
        """Call on the loop's thread; only from there."""
        return self._loop.call_later(seconds, callback)
