"""Waiting for a workflow's handler, so that whoever stops waiting ends the workflow with all its workers.

Cancelling a handler's task outright leaves the workers behind that its control loop started last: it notes
them only after its first wait for them. Asked to cancel the run, it ends them all.
"""

from __future__ import annotations

import asyncio
from typing import Any

_endings: set[asyncio.Task[None]] = set()
"""Runs that are ended behind their results: tasks that nobody holds may be collected."""


async def finished(handler: Any, *, at_once: bool = False) -> Any:
    """What a WorkflowHandler comes to: what the StopEvent carries. Cancelling this ends the run first.

    Args:
        at_once: cancelling this doesn't wait for that end, which takes the host some thirty turns of the loop:
            what there is so far must not come too late for the result
    Raises:
        Exception: what the workflow failed with
    """

    async def result() -> Any:
        return await handler

    waiting = asyncio.ensure_future(result())
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        ending = asyncio.ensure_future(_end(handler, waiting))
        if at_once:
            _endings.add(ending)
            ending.add_done_callback(_endings.discard)
        else:
            await ending
        raise


async def _end(handler: Any, waiting: asyncio.Future[Any]) -> None:
    if not waiting.done():
        await handler.cancel_run()
    waiting.cancel()
    await asyncio.wait({waiting})
    _ = waiting.cancelled() or waiting.exception()
