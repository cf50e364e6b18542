"""How long a tool of AutoGen's may take by the policy, where it is a stream or runs a team, too.

Only what a limit holds for passes here. A tool works from one item of its stream to the next: what its reader does
in between is not the tool's time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import Any, TypeVar

from autogen_agentchat.teams import BaseGroupChat

from crew_guard.adapters.autogen.cast import Cast
from crew_guard.adapters.autogen.ending import ended_after
from crew_guard.adapters.tool_time import in_time
from crew_guard.core.actions import Grant
from crew_guard.ports import Gate

T = TypeVar("T")
_OVER = object()


def timed(gate: Gate, grant: Grant, tool: object, work: Awaitable[T]) -> Awaitable[T]:
    """What a tool does, in its time.

    Args:
        gate: where it is named, if it doesn't end then
        tool: what does it; the teams below it are ended with it
    Raises:
        ToolOverdueError: when awaited: it was ended, because its time was over
    """
    return work if grant.max_seconds is None else _timed((gate, grant), grant.max_seconds, _teams_of(tool), work)


def timed_items(gate: Gate, grant: Grant, tool: object, items: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
    """The same for a tool that is read as a stream."""
    return (
        items if grant.max_seconds is None else _timed_items((gate, grant), grant.max_seconds, _teams_of(tool), items)
    )


async def _timed(act: tuple[Gate, Grant], seconds: float, teams: Sequence[BaseGroupChat], work: Awaitable[T]) -> T:
    async with ended_after(teams, seconds):
        return await in_time(act[1], work, seconds, gate=act[0])


async def _timed_items(
    act: tuple[Gate, Grant], left: float, teams: Sequence[BaseGroupChat], items: AsyncGenerator[Any, None]
) -> AsyncGenerator[Any, None]:
    now = asyncio.get_running_loop().time
    try:
        while True:
            began = now()
            item = await _timed(act, left, teams, anext(items, _OVER))
            if item is _OVER:
                return
            left -= now() - began
            yield item
    finally:
        await items.aclose()


def _teams_of(tool: object) -> Sequence[BaseGroupChat]:
    found = Cast()
    found.look(tool, "the tool")
    return found.teams
