"""A server behind a URL (streamable HTTP), with a bound on what one answer may hold."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from crew_guard.tools.mcp.wire import Wire

_CONNECT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server is."""

    url: str
    headers: Mapping[str, str]
    """Sent with every request, e.g. an Authorization; redirects beyond the URL's own origin are not followed."""
    max_bytes: int


@dataclass(slots=True)
class _Loss:
    """Who is told that an answer broke off: the library keeps it to itself, and waits for ever."""

    wire: Wire | None = None

    def __call__(self, number: object, reason: str) -> None:
        if self.wire is not None:
            self.wire.lose(number, reason)


@asynccontextmanager
async def over_http(address: Address) -> AsyncGenerator[Wire]:
    """Open a session; the library keeps to the URL's origin."""
    import httpx
    from mcp.client.streamable_http import streamable_http_client

    from crew_guard.tools.mcp.bounded import BoundedTransport

    loss = _Loss()
    transport = BoundedTransport(address.max_bytes, loss)
    # How long an answer may take is for each call's own bound to say.
    patience = httpx.Timeout(_CONNECT_SECONDS, read=None)
    headers = {**address.headers, "Accept-Encoding": "identity"}
    async with (
        httpx.AsyncClient(transport=transport, headers=headers, timeout=patience) as client,
        streamable_http_client(address.url, http_client=client) as (received, sending, _),
    ):
        loss.wire = Wire(received, sending)
        with received:
            yield loss.wire
