"""One way over HTTP to every provider: a Wire says what a server takes and sends, HttpModel does the rest.

A call is one attempt: it streams, reports each piece of text, and turns whatever goes wrong into a
ModelError. A stream that ends before its answer did is an error. A key shows itself as [key], and is
cut out of the server's words.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from crew_guard.core.messages import JsonObject, Message, ModelReply, ModelRequest, ToolSpec
from crew_guard.core.usage import Rates
from crew_guard.errors import ConfigError, MissingDependencyError, ModelError
from crew_guard.models.counting import PromptBound, counter_for
from crew_guard.models.failures import status_failure
from crew_guard.models.prices import rates_for
from crew_guard.models.streams import Events

if TYPE_CHECKING:
    import httpx2

MAX_RESPONSE_BYTES = 20_000_000
_MAX_ERROR_BYTES = 100_000
_CONNECT_SECONDS = 10.0


class Growing(Protocol):
    """A reply that grows as the events of a stream arrive."""

    @property
    def text(self) -> str:
        """What has arrived so far."""
        ...

    @property
    def ended(self) -> bool:
        """Whether the server said that nothing more follows."""
        ...

    def take(self, data: bytes) -> str:
        """Take in one event's data; the text that it adds. Raises ModelError where it reports one, or is none."""
        ...

    def reply(self) -> ModelReply:
        """The finished reply. Raises ModelError where the answer is not finished."""
        ...


class Wire(Protocol):
    """What one kind of server takes and sends."""

    @property
    def url(self) -> str: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Sent beside the content type."""
        ...

    @property
    def key_header(self) -> tuple[str, str]:
        """The header that carries the key, and what stands before the key in it."""
        ...

    def write(self, request: ModelRequest, max_tokens: int) -> bytes:
        """The body of one request."""
        ...

    def schema_sent(self, schema: JsonObject) -> JsonObject:
        """The form in which a schema goes over the wire; the same object each time."""
        ...

    def growing(self) -> Growing:
        """An empty reply, for a stream."""
        ...

    def whole(self, body: bytes) -> ModelReply:
        """The reply in a whole body. Raises ModelError where it is none."""
        ...


class HttpModel:
    """A model behind a server. Usable from any number of threads and event loops."""

    streams: bool

    def __init__(
        self,
        name: str,
        wire: Wire,
        key: Key | None,
        *,
        rates: Rates | None = None,
        window: int | None = None,
        timeout: float = 60.0,
        stream: bool = True,
        client: httpx2.AsyncClient | None = None,
    ) -> None:
        """Describe the server; nothing is sent yet.

        Args:
            name: what policies and prices know it as, provider:model
            rates: what it costs; by default what the price table says of its name
            window: the longest prompt plus completion, in tokens
            timeout: seconds without a byte from the server
            stream: whether the wire asks for tokens as they are made
            client: used as it is and never closed; by default one is made for each event loop
        Raises:
            MissingDependencyError: the HTTP client is not installed
        """
        if find_spec("httpx2") is None:
            raise MissingDependencyError(f"the model {name}", "providers")
        self.name = name
        self.window = window
        self.streams = stream
        self._wire = wire
        self._key = key
        self._rates = rates
        self._timeout = timeout
        self._given_client = client
        self._clients: dict[asyncio.AbstractEventLoop, httpx2.AsyncClient] = {}
        self._clients_lock = threading.Lock()
        self._prompt = PromptBound(counter_for(name))
        self._sign = None if key is None else key.signer(*wire.key_header)
        self._headers = {**_HEADERS, **wire.headers}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @property
    def url(self) -> str:
        """Where its requests go."""
        return self._wire.url

    @property
    def rates(self) -> Rates | None:
        """What it costs; None if nobody knows."""
        return rates_for(self.name) if self._rates is None else self._rates

    def bound(self, message: Message) -> int:
        """An upper bound of one message's tokens, its framing included."""
        return self._prompt.bound(message)

    def bound_request(self, tools: Sequence[ToolSpec], output_schema: JsonObject | None) -> int:
        """An upper bound of what tools, schema and priming add, in tokens."""
        schema = None if output_schema is None else self._wire.schema_sent(output_schema)
        return self._prompt.bound_request(tools, schema)

    async def complete(self, request: ModelRequest, max_tokens: int, on_text: Callable[[str], None]) -> ModelReply:
        """Answer in at most max_tokens: one attempt.

        Args:
            on_text: called with each piece of text; with an empty one as reasoning and tool calls arrive
        Raises:
            ModelError: the server failed
        """
        import httpx2

        body = self._wire.write(request, max_tokens)
        so_far = self._wire.growing()
        try:
            async with self._client().stream(
                "POST", self.url, content=body, headers=self._headers, auth=self._sign, timeout=self._limits()
            ) as response:
                if not response.is_success:
                    said = await _read(response, _MAX_ERROR_BYTES, cut=True)
                    raise status_failure(response.status_code, response.headers, said, self._advice())
                if not self.streams or "application/json" in response.headers.get("content-type", ""):
                    return _told(self._wire.whole(await _read(response, MAX_RESPONSE_BYTES)), on_text)
                return await _follow(response, so_far, on_text)
        except ModelError as error:
            if self._key is not None:
                error.args = (self._key.cut_out_of(str(error)),)
            raise
        except httpx2.HTTPError as error:
            raise self._transport_failure(error, so_far.text) from error

    async def aclose(self) -> None:
        """Close its connections. It can be used again afterwards."""
        with self._clients_lock:
            clients, self._clients = self._clients, {}
        for loop, client in clients.items():
            if loop is asyncio.get_running_loop():
                await client.aclose()
            elif loop.is_running():
                asyncio.run_coroutine_threadsafe(client.aclose(), loop)

    def _advice(self) -> str:
        source = "a key" if self._key is None else f"{self._key.source} to a key"
        return f"Set {source} that this server accepts"

    def _client(self) -> httpx2.AsyncClient:
        if self._given_client is not None:
            return self._given_client
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is not None:
            return client
        import httpx2

        client = httpx2.AsyncClient(limits=httpx2.Limits(max_connections=None, max_keepalive_connections=20))
        with self._clients_lock:
            # a client keeps its loop alive through its connections, so closed loops are dropped by hand
            self._clients = {known: one for known, one in self._clients.items() if not known.is_closed()}
            return self._clients.setdefault(loop, client)

    def _limits(self) -> httpx2.Timeout:
        import httpx2

        return httpx2.Timeout(self._timeout, connect=min(self._timeout, _CONNECT_SECONDS), pool=None)

    def _transport_failure(self, error: httpx2.HTTPError, text: str) -> ModelError:
        import httpx2

        host = urlsplit(self.url).netloc.rpartition("@")[2]
        unsent = (
            httpx2.ConnectError,
            httpx2.ConnectTimeout,
            httpx2.PoolTimeout,
            httpx2.ProxyError,
            httpx2.UnsupportedProtocol,
            httpx2.LocalProtocolError,
        )
        if isinstance(error, unsent):
            return ModelError(f"no connection to {host}: is the server running there?", kind="unreachable")
        if isinstance(error, httpx2.DecodingError):
            return ModelError(f"{host} sent a body that can't be decompressed", kind="malformed", text=text)
        if isinstance(error, httpx2.TimeoutException):
            message = f"{host} sent nothing for {self._timeout:g} seconds"
        else:
            message = f"{host} broke the connection off ({type(error).__name__})"
        return ModelError(message, kind="broken", text=text)


_HEADERS = {"content-type": "application/json", "accept-encoding": "identity"}


class Key:
    """An API key. Shows itself as [key]."""

    __slots__ = ("_value", "source")

    def __init__(self, value: str, source: str = "the api_key") -> None:
        """Take a key.

        Args:
            source: where the user sets it, to be named where the server refuses it
        Raises:
            ConfigError: it can't be sent
        """
        value = value.strip()
        if not (value.isascii() and value.isprintable()) or " " in value:
            raise ConfigError("the API key holds spaces or characters that can't be sent: copy it again")
        self._value = value
        self.source = source

    def __repr__(self) -> str:
        return "[key]"

    def signer(self, header: str, before: str) -> Callable[[httpx2.Request], httpx2.Request]:
        """What puts the key into a request's header."""

        def sign(request: httpx2.Request) -> httpx2.Request:
            request.headers[header] = before + self._value
            return request

        return sign

    def plain(self) -> str:
        """The key itself, for a library that signs its own requests."""
        return self._value

    def cut_out_of(self, text: str) -> str:
        """The text with [key] in its place."""
        return text.replace(self._value, "[key]")


def checked_url(base_url: str) -> str:
    """The base URL without a slash at its end.

    Raises:
        ConfigError: it is no URL
    """
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        shown = "(not shown: it holds a password)" if "@" in base_url else repr(base_url)
        raise ConfigError(f"base_url {shown} must be a URL such as http://127.0.0.1:8000/v1")
    return base_url.rstrip("/")


async def _follow(response: httpx2.Response, reply: Growing, on_text: Callable[[str], None]) -> ModelReply:
    """Read a stream to its end."""
    events = Events()
    async with aclosing(_pieces(response, MAX_RESPONSE_BYTES, reply)) as pieces:
        async for piece in pieces:
            for data in events.feed(piece):
                added = reply.take(data)
                if reply.ended:
                    await _drain(pieces)
                    return reply.reply()
                on_text(added)
    for data in events.end():
        added = reply.take(data)
        if not reply.ended:
            on_text(added)
    return reply.reply()


_DRAIN_SECONDS = 0.25


async def _drain(pieces: AsyncIterator[bytes]) -> None:
    """Read the last bytes after an answer's end, so that its connection can be used again."""
    import httpx2

    with suppress(TimeoutError, httpx2.HTTPError, ModelError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in pieces:
                pass


def _told(reply: ModelReply, on_text: Callable[[str], None]) -> ModelReply:
    on_text(reply.text)
    return reply


async def _read(response: httpx2.Response, most: int, *, cut: bool = False) -> bytes:
    found = bytearray()
    async for piece in _pieces(response, most, None, cut=cut):
        found += piece
    return bytes(found)


async def _pieces(
    response: httpx2.Response, most: int, reply: Growing | None, *, cut: bool = False
) -> AsyncGenerator[bytes, None]:
    size = 0
    async for piece in response.aiter_bytes():
        size += len(piece)
        if size > most:
            if cut:
                return
            text = reply.text if reply else ""
            raise ModelError(f"the server sent more than {most:,} bytes", kind="malformed", text=text)
        yield piece
