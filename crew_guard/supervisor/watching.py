"""Waiting for work that may be stopped: until it ends, or there is news."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from crew_guard.errors import RuntimeFailedError
from crew_guard.ports import RuntimeResult
from crew_guard.supervisor.wakeups import release


async def contained(work: Coroutine[Any, Any, RuntimeResult]) -> RuntimeResult:
    """What asyncio would let end the loop itself, a SystemExit say, ends this work only."""
    try:
        return await work
    except (Exception, asyncio.CancelledError):
        raise
    except BaseException as error:
        raise RuntimeFailedError(f"raised {type(error).__name__}: {error}") from error


async def either(task: asyncio.Future[RuntimeResult], news: asyncio.Future[None], seconds: float | None) -> None:
    """Until the task ends, there is news, or the time is over: asyncio.wait at a fraction of its cost."""

    def over(_task: Any = None) -> None:
        release(news)

    task.add_done_callback(over)
    timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, over)
    try:
        await news
    finally:
        task.remove_done_callback(over)
        if timer is not None:
            timer.cancel()
