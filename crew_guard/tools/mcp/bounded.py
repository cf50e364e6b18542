"""An HTTP transport whose answers have a bound, and that says when one broke off. Imported lazily: it needs httpx."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx

Lost = Callable[[object, str], None]
"""Told of a request by its number, and why nothing will answer it."""
_EVENT_ID = re.compile(rb"(^|[\r\n])id:")


class BoundedTransport(httpx.AsyncHTTPTransport):
    """Ends an answer beyond max_bytes, and refuses compressed ones, whose size nobody knows."""

    def __init__(self, max_bytes: int, lost: Lost) -> None:
        super().__init__()
        self._max_bytes = max_bytes
        self._lost = lost

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; its answer is read as the library asks for it."""
        number = _number(request)
        try:
            response = await super().handle_async_request(request)
        except httpx.TransportError as error:
            self._lost(number, f"it can't be reached: {type(error).__name__}: {error}")
            raise
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            await response.aclose()
            raise httpx.DecodingError("it compressed its answer, though it was asked not to")
        response.stream = _Answer(response.stream, self._max_bytes, lambda reason: self._lost(number, reason))
        return response


class _Answer(httpx.AsyncByteStream):
    def __init__(self, inner: Any, max_bytes: int, lost: Callable[[str], None]) -> None:
        self._inner = inner
        self._max_bytes = max_bytes
        self._lost = lost

    async def __aiter__(self) -> AsyncIterator[bytes]:
        seen, last, can_go_on = 0, b"", False
        reason = "it ended its answer without one"
        try:
            async for chunk in self._inner:
                seen += len(chunk)
                if seen > self._max_bytes:
                    reason = f"its answer is longer than {self._max_bytes:,} bytes"
                    raise httpx.ReadError(reason)
                can_go_on = can_go_on or _EVENT_ID.search(last + chunk) is not None
                last = chunk[-4:]
                yield chunk
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
            raise
        finally:
            # An event with an id is where the library takes up a broken stream again.
            if not can_go_on or seen > self._max_bytes:
                self._lost(reason)

    async def aclose(self) -> None:
        await self._inner.aclose()


def _number(request: httpx.Request) -> object:
    """Which request of ours the body holds; None where it is none that is answered."""
    if request.method != "POST":
        return None
    try:
        return json.loads(request.content).get("id")
    except ValueError:
        return None
