"""Work that an agent gives to another and waits for: one action, and all that is done inside of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from crew_guard.core.actions import Handoff, Outcome
from crew_guard.core.events import Side
from crew_guard.supervisor.gate import Gatekeeper, inside


async def delegate(keeper: Gatekeeper, side: Side, action: Handoff, work: Callable[[], Awaitable[str]]) -> str:
    """Admit the handoff, do the work inside of it, settle. What the work does is charged to the one who asked, too."""
    grant = await keeper.admit(action, side)
    token = inside.set((keeper, grant.action_id))
    try:
        answer = await work()
    except BaseException as error:
        ended = isinstance(error, asyncio.CancelledError)
        keeper.settle(grant, Outcome("cancelled") if ended else Outcome("failed", text=str(error)))
        raise
    finally:
        inside.reset(token)
    keeper.settle(grant, Outcome("ok", text=answer))
    return answer
