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


def until(news: asyncio.Future[None], when: float | None) -> asyncio.Future[None]:
    """To be awaited: until there is news, or this time of the loop's clock has come."""
    if when is not None:
        timer = news.get_loop().call_at(when, release, news)
        news.add_done_callback(lambda _: timer.cancel())
    return news
