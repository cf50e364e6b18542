"""Async work that is given up: it is cancelled then, and left behind where it doesn't end soon."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")
GRACE = 0.5
"""Seconds that work may take to clean up after itself."""
_left: set[asyncio.Task[Any]] = set()
"""What was cancelled and goes on: the loop itself keeps no task alive."""


class OverdueError(Exception):
    """The work was not done in its time."""


async def within(seconds: float, work: Awaitable[T], name_left: Callable[[], Callable[[], object]]) -> T:
    """What the work gives.

    Args:
        seconds: how long it may take
        work: becomes a task of its own
        name_left: see `until`
    Raises:
        OverdueError: its time was over
    """
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()
    timer = loop.call_later(seconds, release, over)
    try:
        return await until(over, work, name_left)
    finally:
        timer.cancel()


async def until(
    over: asyncio.Future[None], work: Awaitable[T], name_left: Callable[[], Callable[[], object]] | None
) -> T:
    """What the work gives. Where this is cancelled, also what it gives instead of ending then: it has done it.

    Args:
        over: to be done when its time is over; it is, too, when the work has ended
        work: becomes a task of its own
        name_left: called when it is cancelled; what that returns is called at its end. None for work that leaves
            behind what holds it up: it is waited for
    Raises:
        OverdueError: its time was over
    """
    task = asyncio.ensure_future(_held(work))
    task.add_done_callback(lambda _: release(over))
    try:
        await over
    except asyncio.CancelledError:
        await _given_up(task, name_left)
        if not task.done() or task.cancelled() or task.result()[1] is not None:
            raise
    if not task.done():
        await _given_up(task, name_left)
        raise OverdueError
    made, error = task.result()
    if error is not None:
        raise error
    return made


async def ended(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks that leave behind what holds them up, again where one went on, and wait until all have ended."""
    for task in tasks:
        if not task.cancelling():
            task.cancel()
    going = {task for task in tasks if not task.done()}
    while going:
        try:
            _, going = await asyncio.wait(going, timeout=2 * GRACE)
        finally:
            for task in going:
                task.cancel()


def release(future: asyncio.Future[None]) -> None:
    """Have a future done, if it isn't."""
    if not future.done():
        future.set_result(None)


async def _held(work: Awaitable[T]) -> tuple[Any, BaseException | None]:
    """What the work gives, or raises: a SystemExit of a task would end the loop itself."""
    try:
        return await work, None
    except (asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001  it is handed to whoever waits
        return None, error


async def _given_up(task: asyncio.Task[Any], name_left: Callable[[], Callable[[], object]] | None) -> None:
    if name_left is None:
        await ended([task])
    elif task.cancel():
        _left.add(task)
        task.add_done_callback(partial(_gone, name_left()))
        await asyncio.wait({task}, timeout=GRACE)


def _gone(over: Callable[[], object], task: asyncio.Task[Any]) -> None:
    _left.discard(task)
    over()
