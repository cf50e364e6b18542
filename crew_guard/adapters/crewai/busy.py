"""The threads that work for one run at the moment. They can't be ended: whoever ends the run waits for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any

from crew_guard.ports import Gate


class Threads:
    """Those of one run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy = 0
        self._closed = False
        self._told: list[Callable[[], object]] = []

    @contextmanager
    def busy(self) -> Generator[None]:
        """This thread works until the end of the block.

        Raises:
            RuntimeError: the run has ended before it began
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("the guarded run that this is a part of has ended")
            self._busy += 1
        try:
            yield
        finally:
            self._end()

    def until(self, work: Future[Any], over: Callable[[], object]) -> None:
        """A thread that is not the run's own works for it until this is done.

        Args:
            over: called then, before whoever waits for the threads goes on
        """
        with self._lock:
            self._busy += 1

        def end(_: object) -> None:
            try:
                over()
            finally:
                self._end()

        work.add_done_callback(end)

    def _end(self) -> None:
        with self._lock:
            self._busy -= 1
            told, self._told = (self._told, []) if self._busy == 0 else ([], self._told)
            self._closed = self._closed or bool(told)
        for one in told:
            one()

    def when_ended(self, told: Callable[[], object]) -> None:
        """Have this called when the last one has ended, in its thread, or now; from then on none begins."""
        with self._lock:
            if self._busy:
                self._told.append(told)
                return
            self._closed = True
        told()

    async def ended(self) -> None:
        """Until the last one has ended; from then on none begins."""
        loop, event = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(event.set)

        self.when_ended(tell)
        await event.wait()

    def ended_blocking(self) -> None:
        """The same for a thread that is none of them."""
        event = threading.Event()
        self.when_ended(event.set)
        event.wait()


@contextmanager
def named(gate: Gate, name: str, *, around: bool = False) -> Generator[None]:
    """The run's result names what this thread does, where it goes on when the run has ended; see Gate.in_thread."""
    over = gate.in_thread(name, around=around)
    try:
        yield
    finally:
        over()
