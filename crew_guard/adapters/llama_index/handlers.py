"""Waiting for a workflow's handler, so that whoever stops waiting ends the workflow with all its workers.

Cancelling a handler's task outright leaves the workers behind that its control loop started last: it notes
them only after its first wait for them. Asked to cancel the run, it ends them all.
"""

from __future__ import annotations

import asyncio
from typing import Any


async def finished(handler: Any) -> Any:
    """What a WorkflowHandler comes to: what the StopEvent carries. Cancelling this ends the run first.

    Raises:
        Exception: what the workflow failed with
    """

    async def result() -> Any:
        return await handler

    waiting = asyncio.ensure_future(result())
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        if not waiting.done():
            await handler.cancel_run()
        waiting.cancel()
        await asyncio.wait({waiting})
        _ = waiting.cancelled() or waiting.exception()
        raise
