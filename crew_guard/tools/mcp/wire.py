"""What carries messages to a server and back, whichever way: two streams, and why it ended."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, eq=False)
class Wire:
    """An open connection. Made and used on the server's own loop."""

    received: Any
    """Messages from the server: a stream of the library's SessionMessage, or an exception."""
    sending: Any
    """Messages to it."""
    ended: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """Why it ended, as soon as it did."""
    lost: dict[int, asyncio.Future[str]] = field(default_factory=dict[int, "asyncio.Future[str]"])
    """Requests under way, by number: done, and why, where the connection that was to answer one is gone."""
    broken: bool = False
    """The server misbehaved: no need to be patient with it."""

    def lose(self, number: object, reason: str) -> None:
        """What was to answer this request is gone."""
        future = self.lost.get(number) if isinstance(number, int) else None
        if future is not None and not future.done():
            future.set_result(reason)

    def end(self, reason: str, *, broken: bool = False) -> None:
        """It ended, and why; only the first reason counts."""
        if not self.ended.done():
            self.broken = broken
            self.ended.set_result(reason)
