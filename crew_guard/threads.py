"""Blocking functions on daemon threads that are kept for the next call.

A thread that is stuck can't be killed: its caller is released, nobody waits for it, and as a
daemon it doesn't keep the interpreter from exiting, which an executor's threads would.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from crew_guard.core.plain import error_words

T = TypeVar("T")
_Job = tuple[Callable[[], Any], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]
_MAX_IDLE = 32
_idle: list[_Worker] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # a child has none of its parent's threads


class _Worker(threading.Thread):
    def __init__(self) -> None:
        super().__init__(name="crew_guard tool", daemon=True)
        self.jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()

    def run(self) -> None:
        while True:
            function, loop, future = self.jobs.get()
            try:
                value, error = function(), None
            except BaseException as raised:  # noqa: BLE001  it is handed to whoever awaits
                value, error = None, raised
            keep = len(_idle) < _MAX_IDLE
            if keep:
                _idle.append(self)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(_deliver, future, value, error)
            del function, future, value, error
            if not keep:
                return


def _deliver(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if isinstance(error, StopIteration) or not isinstance(error, Exception | None):
        future.set_exception(RuntimeError(f"raised {error_words(error)}"))
    elif error is not None:
        future.set_exception(error)
    else:
        future.set_result(value)


async def in_thread(function: Callable[..., T], /, **arguments: Any) -> T:
    """Call a blocking function on a thread. If the caller is cancelled, the thread is left behind."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()
    try:
        worker = _idle.pop()
    except IndexError:
        worker = _Worker()
        worker.start()
    worker.jobs.put((lambda: context.run(function, **arguments), loop, future))
    return await future
