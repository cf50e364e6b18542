"""One session with a server: a task of the server's own loop, from its start to its end.

What the server sends of its own accord is dropped, but for the news that its tools changed: it can
ask us for nothing, neither for our model nor for our user.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from pydantic import BaseModel, ValidationError

from crew_guard.tools.mcp.results import MCPError
from crew_guard.tools.mcp.wire import Wire

if TYPE_CHECKING:
    from mcp import ClientSession, types

R = TypeVar("R", bound=BaseModel)
_CHANGED = "notifications/tools/list_changed"
_CLOSING_SECONDS = 8.0
_ON_ITS_WAY = 1.0


class Link:
    """A session that is open, or was. Used on the server's own loop only."""

    def __init__(self, connect: Callable[[], AbstractAsyncContextManager[Wire]]) -> None:
        self._connect = connect
        self._closing = asyncio.Event()
        self._ready: asyncio.Future[ClientSession] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._live())
        self._notices: set[asyncio.Task[None]] = set()
        self._lost: dict[int, asyncio.Future[str]] = {}
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Why it ended, once it did."""
        self.changed = False
        """The server said that its tools are others now."""

    async def open(self, seconds: float) -> None:
        """Wait until the server has introduced itself.

        Raises:
            MCPError: it can't be reached, doesn't answer in time, or answers nonsense
        """
        try:
            async with asyncio.timeout(seconds):
                await asyncio.wait({self._ready, self.over}, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            await self.close()
            raise MCPError(f"it did not answer within {seconds:g} s") from None
        if not self._ready.done():
            raise MCPError(self.over.result())

    async def ask(self, request: Any, kind: type[R]) -> R:
        """Send a request and wait for its answer; where the caller goes away, the server is told to stop.

        Raises:
            MCPError: the server refused it, ended, or answered nonsense
        """
        from mcp import types
        from mcp.shared.exceptions import McpError

        if self.over.done():
            raise MCPError(self.over.result())
        try:
            return await self._answer(await self._ready, request, kind)
        except McpError as error:
            if error.error.code == types.CONNECTION_CLOSED:
                raise MCPError(await self._reason()) from None
            raise MCPError(error.error.message) from None
        except ValidationError as error:
            found = f"{error.error_count()} errors"
            raise MCPError(f"it answered with something that is no {kind.__name__}: {found}") from None
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise MCPError(await self._reason()) from None

    async def _answer(self, session: ClientSession, request: Any, kind: type[R]) -> R:
        from mcp import types

        lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        number = -1

        async def send() -> R:
            nonlocal number
            # Read where nothing can come between: send_request takes this number before it suspends.
            number = session._request_id  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  told to nobody
            self._lost[number] = lost
            return await session.send_request(request, kind)

        work = asyncio.create_task(send())
        try:
            await asyncio.wait({work, self.over, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and lost.done():
                # What ended may have been read, and be on its way through the library.
                await asyncio.wait({work, self.over}, timeout=_ON_ITS_WAY, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise MCPError(self.over.result() if self.over.done() else lost.result())
            return work.result()
        except asyncio.CancelledError:
            if number >= 0:
                told = types.CancelledNotification(params=types.CancelledNotificationParams(requestId=number))
                self._tell(session, types.ClientNotification(told))
            raise
        finally:
            self._lost.pop(number, None)
            work.cancel()

    async def close(self) -> None:
        """End the session and its server."""
        self._closing.set()
        for notice in self._notices:
            notice.cancel()
        done, _ = await asyncio.wait({self._task}, timeout=_CLOSING_SECONDS)
        if not done:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=_CLOSING_SECONDS)

    async def _reason(self) -> str:
        await asyncio.wait({self.over}, timeout=_CLOSING_SECONDS)
        return self.over.result() if self.over.done() else "it closed the connection"

    def _tell(self, session: ClientSession, notice: types.ClientNotification) -> None:
        task: asyncio.Task[None] = asyncio.create_task(_quietly(session, notice))
        self._notices.add(task)
        task.add_done_callback(self._notices.discard)

    async def _live(self) -> None:
        reason = "it was closed"
        try:
            async with self._connect() as wire:
                wire.lost = self._lost
                reason = await self._talk(wire)
                self._is_over(reason)  # now, and not after the seconds that its end may take
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  the task's end is told to whoever asks
            reason = _innermost(error)
        finally:
            self._is_over(reason)

    def _is_over(self, reason: str) -> None:
        if not self.over.done():
            self.over.set_result(reason)

    async def _talk(self, wire: Wire) -> str:
        from mcp import ClientSession, types

        into, heard = anyio.create_memory_object_stream[Any](0)
        info = types.Implementation(name="crew_guard", version=version("crew-guard"))
        async with ClientSession(heard, wire.sending, client_info=info) as session:
            passing = asyncio.create_task(self._pass_on(wire, into))
            closing = asyncio.create_task(self._closing.wait())
            greeting = asyncio.create_task(session.initialize())
            try:
                await asyncio.wait({greeting, wire.ended, closing}, return_when=asyncio.FIRST_COMPLETED)
                if greeting.done():
                    greeting.result()
                    self._ready.set_result(session)
                    await asyncio.wait({wire.ended, closing, passing}, return_when=asyncio.FIRST_COMPLETED)
                    if passing.done() and not closing.done() and not wire.ended.done():
                        await asyncio.wait({wire.ended}, timeout=_CLOSING_SECONDS)
                return wire.ended.result() if wire.ended.done() else "it was closed"
            finally:
                for task in (passing, closing, greeting):
                    task.cancel()
                into.close()

    async def _pass_on(self, wire: Wire, into: Any) -> None:
        """Hand over answers, pings and nothing else; the library would log the rest, or answer it."""
        from mcp import types

        with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            async for item in wire.received:
                if isinstance(item, Exception):
                    wire.end(f"its answer can't be read: {item}"[:300], broken=True)
                    break
                root = item.message.root
                method = getattr(root, "method", "")
                self.changed |= method == _CHANGED
                if isinstance(root, types.JSONRPCError) and root.error.code == types.CONNECTION_CLOSED:
                    # Any server error has this number; from here on it is the library's alone, for an end of the wire.
                    root.error.code = types.INTERNAL_ERROR
                if isinstance(root, types.JSONRPCResponse | types.JSONRPCError) or method == "ping":
                    await into.send(item)
        into.close()


async def _quietly(session: ClientSession, notice: types.ClientNotification) -> None:
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        await session.send_notification(notice)


def _innermost(error: BaseException) -> str:
    while inner := getattr(error, "exceptions", ()):
        error = inner[0]
    text = str(error).splitlines()[0][:300] if str(error) else ""
    return text if isinstance(error, MCPError) else f"{type(error).__name__}{': ' + text if text else ''}"
