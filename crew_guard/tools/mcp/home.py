"""A thread with an event loop, for one server: what it sends is read there, and holds up nobody else."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
_SECONDS_TO_STOP = 20.0


class Home:
    """Runs coroutines of one server, from any thread."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._main, name=f"crew_guard: {name}", daemon=True)
        self._thread.start()

    @property
    def is_here(self) -> bool:
        """Whether its thread is in this process, and not left in the one that this was forked from."""
        return self._process == os.getpid()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine; cancelling the future cancels it."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()  # the loop was closed meanwhile
            raise

    def stop(self, last: Coroutine[Any, Any, None]) -> None:
        """Run this, cancel everything else and end the thread; may be called from any other thread."""
        self.submit(self._finish(last))
        self._thread.join(_SECONDS_TO_STOP)

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    async def _finish(self, last: Coroutine[Any, Any, None]) -> None:
        try:
            async with asyncio.timeout(_SECONDS_TO_STOP):
                await last
        finally:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await self._loop.shutdown_asyncgens()
            self._loop.stop()
