"""The loop that guarded workflows run on: one thread for all of them, not the supervisor's own.

Steps may block: what holds up this loop holds up no deadline. All of them share it, because a client's
connections belong to a loop. Every task that is begun in a run is known, and ended with it.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar
from weakref import ref

T = TypeVar("T")


class _Tasks(list["ref[asyncio.Task[Any]]"]):
    """The tasks that a run has begun, held weakly. A WeakSet would tidy up after each: there are a dozen a step."""

    many = 256

    def tidy(self) -> None:
        """Let go of those that are done."""
        self[:] = [one for one in self if not ((task := one()) is None or task.done())]
        self.many = 2 * len(self) + 256

    def left(self) -> set[asyncio.Task[Any]]:
        """Those that are not done."""
        return {task for one in self if (task := one()) is not None and not task.done()}


_tasks_of_run: contextvars.ContextVar[_Tasks | None] = contextvars.ContextVar(
    "crew_guard_llama_index_tasks", default=None
)


class HostLoop:
    """A daemon thread that turns one event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_task_factory(_noted)
        self.leaving = 0
        """Runs that were ended and have not answered: while there are some, others begin on a fresh loop."""
        threading.Thread(target=self._main, name="crew_guard llama-index", daemon=True).start()

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do work there, in a copy of this context; cancelling this ends the work, and all tasks that it began."""
        here = asyncio.get_running_loop()
        over: asyncio.Future[T] = here.create_future()
        context = contextvars.copy_context()
        begun: list[asyncio.Task[None]] = []

        async def carry() -> None:
            result, error = None, None
            try:
                result = await work()
            except BaseException as raised:  # noqa: BLE001  it is handed to whoever awaits
                error = raised
            await _end_tasks()
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                here.call_soon_threadsafe(_deliver, over, result, error)

        def begin() -> None:
            _tasks_of_run.set(_Tasks())
            begun.append(self.loop.create_task(carry()))

        self.loop.call_soon_threadsafe(begin, context=context)
        try:
            return await asyncio.shield(over)
        except asyncio.CancelledError:
            if over.cancelled():
                raise
            await self._end(begun, over)
            raise

    async def _end(self, begun: list[asyncio.Task[None]], over: asyncio.Future[Any]) -> None:
        self.leaving += 1

        def answered(_: object) -> None:
            self.leaving -= 1

        over.add_done_callback(answered)
        self.loop.call_soon_threadsafe(lambda: [task.cancel() for task in begun])
        await asyncio.wait({over})  # so that whoever cancelled sees whether the work goes on
        _ = over.cancelled() or over.exception()


def _noted(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
    tasks = _tasks_of_run.get()
    if tasks is not None:
        tasks.append(ref(task))
        if len(tasks) > tasks.many:
            tasks.tidy()
    return task


async def _end_tasks() -> None:
    """End what the run has begun and left behind."""
    tasks = _tasks_of_run.get()
    me = {asyncio.current_task()}
    for _ in range(10):  # ending one may begin another
        left = tasks.left() - me if tasks is not None else None
        if not left:
            return
        for task in left:
            task.cancel()
        await asyncio.wait(left)


def _deliver(over: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if over.cancelled():
        return
    if error is None:
        over.set_result(result)
    elif isinstance(error, asyncio.CancelledError):
        over.cancel()
    elif isinstance(error, StopIteration) or not isinstance(error, Exception):
        over.set_exception(RuntimeError(f"raised {type(error).__name__}: {error}"))
    else:
        over.set_exception(error)


_lock = threading.Lock()
_current: HostLoop | None = None


def host_loop() -> HostLoop:
    """The loop for a new run: the process's, or a fresh one where a run that was ended still holds it up."""
    global _current  # noqa: PLW0603  one loop for all runs is the point
    with _lock:
        if _current is None or _current.leaving:
            _current = HostLoop()
        return _current
