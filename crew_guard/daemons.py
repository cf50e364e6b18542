"""An event loop's pool of threads that don't keep Python from exiting, as those of asyncio's own pool do.

A thread that is stuck in a host's blocking tool can't be ended: it is left behind, and ends with the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context, copy_context
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_MOST = 256
"""Threads of one pool: many more than asyncio's own has, because those that are stuck in it never come back."""


class DaemonExecutor(ThreadPoolExecutor):
    """Calls functions on daemon threads, each in the context of who submits it."""

    def __init__(self) -> None:
        super().__init__(_MOST)  # which begins no thread: asyncio takes no other class
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._free = threading.Semaphore(0)
        """Threads that wait for a call, less the calls that wait for them."""
        self._begun = 0
        self._beginning = threading.Lock()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queue a call; where no thread is free, and there are not too many, another one is begun."""
        future: Future[T] = Future()
        context = copy_context()
        self._calls.put((future, lambda: context.run(fn, *args, **kwargs)))
        if not self._free.acquire(blocking=False):
            self._begin()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002  the class's own
        """End its threads, each after the call that it is at; nothing is waited for."""
        with self._beginning:
            begun, self._begun = self._begun, _MOST  # no further ones
        for _ in range(begun):
            self._calls.put(None)

    def _begin(self) -> None:
        with self._beginning:
            if self._begun >= _MOST:
                return
            self._begun += 1
            name = f"crew_guard pool {self._begun}"
        # in no run's context: it serves other runs later
        Context().run(threading.Thread(target=self._serve, name=name, daemon=True).start)

    def _serve(self) -> None:
        while True:
            given = self._calls.get()
            if given is None:
                return
            future, call = given
            del given
            if future.set_running_or_notify_cancel():
                try:
                    result = call()
                except BaseException as error:  # noqa: BLE001  it is handed to whoever waits
                    future.set_exception(error)
                else:
                    future.set_result(result)
                    del result
            del future, call
            self._free.release()
