"""An agent's max_execution_time, kept: CrewAI's own waits for the thread, and fires when the work is over.

The thread is left behind. Whatever it asks for later is refused, because its context knows the clock.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

from crew_guard.adapters.crewai.inside import TimeUp, clocks
from crew_guard.adapters.crewai.scope import scope_of_run
from crew_guard.errors import RefusedError


def on_time(agent: str, seconds: float, work: Callable[[], Any]) -> Any:
    """Do the work on a thread of its own, and give it up when its time is over.

    Raises:
        TimeoutError: it was over
        RuntimeError: the work raised, as CrewAI words it
    """
    clock = TimeUp(agent, seconds)
    context = contextvars.copy_context()
    context.run(clocks.set, (*clocks.get(), clock))
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(context.run(work))
        except BaseException as error:  # noqa: BLE001  it is handed to whoever waits
            future.set_exception(error)

    threading.Thread(target=run, name=f"crew_guard {agent}", daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError as error:
        if future.done():
            raise
        raise _over(clock) from error
    except RefusedError:
        raise
    except Exception as error:
        raise RuntimeError(f"Task execution failed: {error!s}") from error


async def aon_time(agent: str, seconds: float, work: Awaitable[Any]) -> Any:
    """The same for work on this loop, which ends it by itself; the threads that it began are given up.

    Raises:
        TimeoutError: it was over
    """
    clock = TimeUp(agent, seconds)
    token = clocks.set((*clocks.get(), clock))
    try:
        return await asyncio.ensure_future(work)
    except TimeoutError as error:
        raise _over(clock) from error
    finally:
        clocks.reset(token)


def _over(clock: TimeUp) -> TimeoutError:
    clock.over = True
    scope = scope_of_run.get()
    if scope is not None:
        scope.over(clock)
    return TimeoutError(str(clock.stop))
