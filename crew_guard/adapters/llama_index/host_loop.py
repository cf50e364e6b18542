"""Where guarded workflows run: where they are awaited, or on a loop of one thread, not the supervisor's own.

Steps may block: what holds up that loop holds up no deadline. All runs that nobody awaits share it, because a
client's connections belong to a loop. Every task that is begun in a run is known, and ended with it; those of a run
that was awaited, and came to its end, are left to whoever has that loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from crew_guard.adapters.run_tasks import Noted, noting, with_its_tasks
from crew_guard.loops import done_on, is_ours, make_ours

T = TypeVar("T")


async def carried(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Do work where it belongs; cancelling this ends it, and all tasks that it began."""
    here = asyncio.get_running_loop()
    if is_ours(here):
        return await host_loop().run(work)
    with noting(here):
        return await with_its_tasks(work, at_home=True)


class HostLoop:
    """A daemon thread that turns one event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        make_ours(self.loop)
        self.loop.set_task_factory(Noted())
        self.leaving = 0
        """Runs that were ended and have not answered: while there are some, others begin on a fresh loop."""
        threading.Thread(target=self._main, name="crew_guard llama-index", daemon=True).start()

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        ended = False
        while not ended:
            # A SystemExit in a task of a run is that run's own error: the other runs go on.
            with contextlib.suppress(SystemExit, KeyboardInterrupt):
                self.loop.run_forever()
                ended = True

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do work there, in a copy of this context."""
        return await done_on(self.loop, with_its_tasks(work), self._left)

    def _left(self, over: asyncio.Future[Any]) -> None:
        self.leaving += 1

        def answered(_: object) -> None:
            self.leaving -= 1

        over.add_done_callback(answered)


_lock = threading.Lock()
_current: HostLoop | None = None


def _forget() -> None:
    global _current, _lock
    _current, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)  # a child has none of its parent's threads


def host_loop() -> HostLoop:
    """The loop for a new run: the process's, or a fresh one where a run that was ended still holds it up."""
    global _current  # noqa: PLW0603  one loop for all runs is the point
    with _lock:
        if _current is None or _current.leaving:
            _current = HostLoop()
        return _current
