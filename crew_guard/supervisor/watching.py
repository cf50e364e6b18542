"""Waiting for work that may be stopped: until it ends, or there is news."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from inspect import CORO_CREATED, getcoroutinestate
from typing import Any

from crew_guard.core.plain import error_words
from crew_guard.errors import RuntimeFailedError
from crew_guard.ports import RuntimeResult
from crew_guard.supervisor.wakeups import release


async def contained(work: Coroutine[Any, Any, RuntimeResult]) -> RuntimeResult:
    """What asyncio would let end the loop itself, a SystemExit say, ends this work only."""
    try:
        return await work
    except (Exception, asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException as error:
        raise RuntimeFailedError(f"raised {error_words(error)}") from error


def close_unbegun(*works: Coroutine[Any, Any, Any]) -> None:
    """Close what was cancelled before it began: nobody will await it."""
    for work in works:
        if getcoroutinestate(work) == CORO_CREATED:
            work.close()


def until(news: asyncio.Future[None], when: float | None) -> asyncio.Future[None]:
    """To be awaited: until there is news, or this time of the loop's clock has come."""
    if when is not None:
        timer = news.get_loop().call_at(when, release, news)
        news.add_done_callback(lambda _: timer.cancel())
    return news
