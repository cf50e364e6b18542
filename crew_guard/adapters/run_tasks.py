"""The tasks that a run begins on an event loop: known, and ended with it.

Those of a run that was awaited, and came to its end, are left to whoever has that loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

from crew_guard.core.plain import error_words

T = TypeVar("T")


_run: contextvars.ContextVar[object] = contextvars.ContextVar("crew_guard_run_of_tasks", default=None)
"""The run that the current code is a part of: each has an object of its own, and its tasks inherit it."""


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
    run, over = object(), False
    token = _run.set(run)
    try:
        with contained():
            result = await work()
        over = at_home
        return result
    finally:
        if not over:
            await _end_tasks_of(run)
        _run.reset(token)


async def _end_tasks_of(run: object) -> None:
    me = asyncio.current_task()
    for _ in range(10):  # ending one may begin another
        left = {task for task in asyncio.all_tasks() if task is not me and _is_part_of(run, task)}
        if not left:
            return
        for task in left:
            task.cancel()
        await asyncio.wait(left)


def _is_part_of(run: object, task: asyncio.Task[Any]) -> bool:
    context = _context_of(task)
    return context is not None and context.get(_run) is run


def _context_of(task: asyncio.Task[Any]) -> contextvars.Context | None:
    """The context that a task works in.

    A task factory could note the run of each as it begins, but it would be called a dozen times a step.
    """
    if sys.version_info >= (3, 12):
        return task.get_context()
    # Python 3.11 doesn't tell, but its collector does: a task's own comes before those of its callbacks.
    return next((held for held in gc.get_referents(task) if isinstance(held, contextvars.Context)), None)
