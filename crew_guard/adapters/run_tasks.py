"""The tasks that a run begins on an event loop: known, and ended with it.

Those of a run that was awaited, and came to its end, are left to whoever has that loop.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, TypeVar, cast
from weakref import ref

from crew_guard.core.plain import error_words

T = TypeVar("T")


class _Tasks(set["ref[asyncio.Task[Any]]"]):
    """The tasks that a run has begun, as long as somebody holds them. A WeakSet's own code would run for each."""

    def left(self) -> set[asyncio.Task[Any]]:
        """Those that are not done."""
        return {task for one in self.copy() if (task := one()) is not None and not task.done()}


_tasks_of_run: contextvars.ContextVar[_Tasks | None] = contextvars.ContextVar("crew_guard_tasks_of_run", default=None)


class Noted:
    """A task factory that notes which run a task was begun in."""

    def __init__(self, own: Callable[..., Any] | None = None) -> None:
        self.own, self.runs = own, 0

    def __call__(self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(work, loop=loop, **options) if self.own is None else self.own(loop, work, **options)
        tasks = _tasks_of_run.get()
        if tasks is not None:
            tasks.add(ref(task, tasks.discard))
        return task


@contextmanager
def noting(loop: asyncio.AbstractEventLoop) -> Generator[None]:
    """Have the tasks of a user's loop noted, by the factory that it has."""
    factory: Any = loop.get_task_factory()
    noted = factory if isinstance(factory, Noted) else Noted(factory)
    loop.set_task_factory(noted)
    noted.runs += 1
    try:
        yield
    finally:
        noted.runs -= 1
        if noted.runs == 0 and cast(Any, loop.get_task_factory()) is noted:
            loop.set_task_factory(noted.own)


@contextmanager
def contained(is_ended: Callable[[], bool] = lambda: True) -> Generator[None]:
    """What asyncio would let end the loop itself, a SystemExit say, is an error like any other.

    Args:
        is_ended: whether a CancelledError that comes out was meant for who waits for this; where not, it is an error
    Raises:
        RuntimeError: it was raised
    """
    try:
        yield
    except (Exception, GeneratorExit):
        raise
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError) and is_ended():
            raise
        raise RuntimeError(f"raised {error_words(error)}") from error


async def with_its_tasks(work: Callable[[], Coroutine[Any, Any, T]], *, at_home: bool = False) -> T:
    """Do work, and end the tasks that it has begun and left behind.

    Args:
        at_home: on a loop of the user's, where what was opened and left to be used again by work that came to its
            end is its user's
    """
    token, over = _tasks_of_run.set(_Tasks()), False
    try:
        with contained():
            result = await work()
        over = at_home
        return result
    finally:
        if not over:
            await _end_tasks()
        _tasks_of_run.reset(token)


async def _end_tasks() -> None:
    tasks = _tasks_of_run.get()
    me = {asyncio.current_task()}
    for _ in range(10):  # ending one may begin another
        left = tasks.left() - me if tasks is not None else None
        if not left:
            return
        for task in left:
            task.cancel()
        await asyncio.wait(left)
