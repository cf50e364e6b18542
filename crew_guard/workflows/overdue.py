"""Async work that has so much time: it is cancelled when that is over, and left behind where it doesn't end then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")
GRACE = 0.5
"""Seconds that work may take to clean up after itself."""
_left: set[asyncio.Task[Any]] = set()
"""What was left behind: the loop itself keeps no task alive."""


class OverdueError(Exception):
    """The work was not done in its time."""


async def within(seconds: float, work: Awaitable[T], name_left: Callable[[], Callable[[], object]]) -> T:
    """What the work gives.

    Args:
        seconds: how long it may take
        work: becomes a task of its own
        name_left: called where the work doesn't end when it is cancelled; what it returns is called at its end
    Raises:
        OverdueError: its time was over
    """
    task = asyncio.ensure_future(_held(work))
    try:
        await asyncio.wait({task}, timeout=seconds)
        if task.done():
            made, error = task.result()
            if error is not None:
                raise error
            return made
    finally:
        if not task.done():
            task.cancel()
            try:
                await asyncio.wait({task}, timeout=GRACE)
            finally:
                if not task.done():
                    _leave(task, name_left())
    raise OverdueError


async def _held(work: Awaitable[T]) -> tuple[Any, BaseException | None]:
    """What the work gives, or raises: a SystemExit of a task would end the loop itself."""
    try:
        return await work, None
    except (asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001  it is handed to whoever waits
        return None, error


def _leave(task: asyncio.Task[Any], over: Callable[[], object]) -> None:
    _left.add(task)
    task.add_done_callback(partial(_gone, over))


def _gone(over: Callable[[], object], task: asyncio.Task[Any]) -> None:
    _left.discard(task)
    over()
