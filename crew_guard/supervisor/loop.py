"""The supervisor's own event loop, on a thread of its own, never the caller's.

So `run()` works where a loop is running already, and a host's blocking call can't deadlock it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any, TypeVar

from crew_guard.loops import make_ours
from crew_guard.ports import Handle
from crew_guard.promises import Promise
from crew_guard.supervisor.wakeups import rung_together

T = TypeVar("T")
_LOOK = 1.0
"""Seconds between looks whether a loop that nobody needs any more has anything left to do."""


class EngineLoop:
    """A daemon thread that runs one event loop for all runs of the process."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        make_ours(self.loop)
        self.clock = LoopClock(self.loop)
        self._arrivals: deque[tuple[Coroutine[Any, Any, Any], Promise[Any], Context]] = deque()
        """Each in the context of who handed it over: several may come before the loop looks."""
        self._called = False
        """Whether the loop was told of arrivals and has not looked yet: each call costs a wake-up."""
        self._tasks: set[asyncio.Task[None]] = set()
        """Held here, because a loop holds its tasks weakly."""
        self._let_go = self._tasks.discard
        self._ended: deque[tuple[Promise[Any], Any, BaseException | None]] = deque()
        """What came of work, on its way out: together, because each wake-up of who waits costs a call of the system."""
        self._thread = threading.Thread(target=self._main, name="crew_guard", daemon=True)
        self._thread.start()

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        ended = False
        while not ended:
            # A SystemExit in a task that a host made is that task's own error: the other runs go on.
            with contextlib.suppress(SystemExit, KeyboardInterrupt):
                self.loop.run_forever()
                ended = True
        self.loop.close()

    def retire(self) -> None:
        """End it, on its own thread, as soon as nothing is under way on it: later runs have another one."""
        if self._arrivals or asyncio.all_tasks(self.loop):
            self.loop.call_later(_LOOK, self.retire)
        else:
            self.loop.stop()

    def submit(self, work: Coroutine[Any, Any, T]) -> Promise[T]:
        """Start a coroutine on the loop, from any other thread."""
        future: Promise[T] = Promise()
        self._arrivals.append((work, future, copy_context()))
        if not self._called:
            self._called = True
            self.loop.call_soon_threadsafe(self._let_in)
        return future

    def _let_in(self) -> None:
        self._called = False  # before looking: what comes from here on calls again
        while self._arrivals:
            work, future, context = self._arrivals.popleft()
            task = self.loop.create_task(self._carried(work, future), context=context)
            self._tasks.add(task)
            task.add_done_callback(self._let_go, context=context)

    async def _carried(self, work: Coroutine[Any, Any, Any], future: Promise[Any]) -> None:
        """Run the coroutine, and put what comes of it into the future."""
        try:
            result = await work
        except Exception as error:  # noqa: BLE001  whatever it is, it belongs to who waits
            self._hand_over(future, None, error)
        except BaseException as error:
            future.set_exception(error)  # now: it may end the loop
            raise
        else:
            self._hand_over(future, result, None)

    def _hand_over(self, future: Promise[Any], result: Any, error: BaseException | None) -> None:
        if not self._ended:
            self.loop.call_soon(self._let_out)
        self._ended.append((future, result, error))

    def _let_out(self) -> None:
        with rung_together():
            while self._ended:
                future, result, error = self._ended.popleft()
                if error is None:
                    future.set_result(result)
                else:
                    future.set_exception(error)

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
        if _current is not stuck:
            return
        _current = None
    stuck.loop.call_soon_threadsafe(stuck.loop.call_later, _LOOK, stuck.retire)  # where it turns again


class LoopClock:
    """Real time, its timers on an event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    now = staticmethod(time.time)
    """Unix seconds."""
    monotonic = staticmethod(time.monotonic)
    """Seconds that never go back."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Handle:
        """Call on the loop's thread; from there, or from any other."""
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is self._loop:
            return self._loop.call_later(seconds, callback)
        return _Sent(self._loop, seconds, callback)


class _Sent:
    """A call that was asked for on another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._cancelled = False
        loop.call_soon_threadsafe(self._begin, seconds, callback)

    def cancel(self) -> None:
        self._cancelled = True
        self._loop.call_soon_threadsafe(self._end)

    def _begin(self, seconds: float, callback: Callable[[], None]) -> None:
        if not self._cancelled:
            self._timer = self._loop.call_later(seconds, callback)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
