"""An agent's max_execution_time, kept: CrewAI's own waits for the thread, and fires when the work is over.

The thread is left behind, and the run's result names it. Whatever it asks for later is refused, because its context
knows the clock.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

from crew_guard.adapters.crewai.busy import named
from crew_guard.adapters.crewai.inside import TimeUp, clocks
from crew_guard.adapters.crewai.scope import RunScope
from crew_guard.errors import RefusedError


def on_time(scope: RunScope, clock: TimeUp, at: str, work: Callable[[], Any]) -> Any:
    """Do the work on a thread of its own, and give it up when its time is over.

    Args:
        scope: of the run, whose parts are kept for the thread as long as it works
        clock: the agent's
        at: what the agent does, as the run's result names the thread: AGENT/at
    Raises:
        TimeoutError: it was over
        RuntimeError: the work raised, as CrewAI words it
    """
    context = contextvars.copy_context()
    context.run(clocks.set, (*clocks.get(), clock))
    future: Future[Any] = Future()

    def run() -> None:
        try:
            with scope.timed.busy(), named(scope.gate, f"{clock.agent}/{at}", around=True):
                made = context.run(work)
        except BaseException as error:  # noqa: BLE001  it is handed to whoever waits
            future.set_exception(error)
        else:
            future.set_result(made)

    threading.Thread(target=run, name=f"crew_guard {clock.agent}", daemon=True).start()
    try:
        return future.result(clock.seconds)
    except TimeoutError as error:
        if future.done():
            raise
        raise _over(scope, clock) from error
    except RefusedError:
        raise
    except Exception as error:
        raise RuntimeError(f"Task execution failed: {error!s}") from error


async def aon_time(scope: RunScope, clock: TimeUp, work: Awaitable[Any]) -> Any:
    """The same for work on this loop, which is ended; the threads that it began are given up.

    Raises:
        TimeoutError: it was over, or the work raised one of its own
    """
    token, limit = clocks.set((*clocks.get(), clock)), asyncio.timeout(clock.seconds)
    try:
        async with limit:
            return await work
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise _over(scope, clock) from error
    finally:
        clocks.reset(token)


def _over(scope: RunScope, clock: TimeUp) -> TimeoutError:
    clock.over = True
    scope.over(clock)
    return TimeoutError(str(clock.stop))
