"""One client for every server that speaks chat completions: OpenAI, Ollama, OpenRouter, vLLM and others.

A call is one attempt: it streams, reports each piece of text, and turns whatever goes wrong into a
ModelError. Its key stays in one object that shows itself as [key], and is cut out of the server's words.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from crew_guard.core.messages import JsonObject, Message, ModelReply, ModelRequest, ToolSpec
from crew_guard.core.usage import Rates
from crew_guard.errors import ConfigError, MissingDependencyError, ModelError
from crew_guard.models.counting import PromptBound, counter_for
from crew_guard.models.failures import status_failure
from crew_guard.models.prices import rates_for
from crew_guard.models.replies import Assembly, Events, completion
from crew_guard.models.wire import RequestWriter

if TYPE_CHECKING:
    import httpx2

MAX_RESPONSE_BYTES = 20_000_000
_MAX_ERROR_BYTES = 100_000
_CONNECT_SECONDS = 10.0
_REASONING = re.compile(r"(ft:)?(o\d|gpt-5|gpt-[6-9])")
_OPENAI_HOSTS = ("api.openai.com", ".openai.azure.com")


class OpenAICompatibleModel:
    """A model behind a chat-completions server. Usable from any number of threads and event loops."""

    streams: bool

    def __init__(
        self,
        name: str,
        model: str,
        base_url: str,
        api_key: str | None = None,
        *,
        rates: Rates | None = None,
        window: int | None = None,
        timeout: float = 60.0,
        stream: bool = True,
        key_source: str = "the api_key",
        client: httpx2.AsyncClient | None = None,
    ) -> None:
        """Describe the server; nothing is sent yet.

        Args:
            name: what policies and prices know it as, provider:model
            model: what the server calls it
            base_url: up to and without /chat/completions
            rates: what it costs; by default what the price table says of its name
            window: the longest prompt plus completion, in tokens
            timeout: seconds without a byte from the server
            stream: whether to ask for tokens as they are made
            key_source: where the user sets the key, to be named where the server refuses it
            client: used as it is and never closed; by default one is made for each event loop
        Raises:
            ConfigError: the URL or the key can't be used
            MissingDependencyError: the HTTP client is not installed
        """
        if find_spec("httpx2") is None:
            raise MissingDependencyError(f"the model {name}", "providers")
        self.name = name
        self.model = model
        self.window = window
        self.streams = stream
        self._url = _endpoint(base_url)
        self._key = _Key(api_key) if api_key else None
        self._key_source = key_source
        self._rates = rates
        self._timeout = timeout
        self._given_client = client
        self._clients: dict[asyncio.AbstractEventLoop, httpx2.AsyncClient] = {}
        self._clients_lock = threading.Lock()
        self._prompt = PromptBound(counter_for(name))
        self._writer = RequestWriter(model, _limit_key(base_url, model), stream=stream)

    def __repr__(self) -> str:
        return f"OpenAICompatibleModel({self.name!r})"

    @property
    def rates(self) -> Rates | None:
        """What it costs; None if nobody knows."""
        return rates_for(self.name) if self._rates is None else self._rates

    def bound(self, message: Message) -> int:
        """An upper bound of one message's tokens, its framing included."""
        return self._prompt.bound(message)

    def bound_request(self, tools: Sequence[ToolSpec], output_schema: JsonObject | None) -> int:
        """An upper bound of what tools, schema and priming add, in tokens."""
        schema = None if output_schema is None else self._writer.schema_sent(output_schema)
        return self._prompt.bound_request(tools, schema)

    async def complete(self, request: ModelRequest, max_tokens: int, on_text: Callable[[str], None]) -> ModelReply:
        """Answer in at most max_tokens: one attempt.

        Args:
            on_text: called with each piece of text; with an empty one as reasoning and tool calls arrive
        Raises:
            ModelError: the server failed
        """
        import httpx2

        body = self._writer.write(request, max_tokens)
        so_far = Assembly()
        try:
            async with self._client().stream(
                "POST", self._url, content=body, headers=_HEADERS, auth=self._key, timeout=self._limits()
            ) as response:
                if not response.is_success:
                    said = await _read(response, _MAX_ERROR_BYTES, cut=True)
                    advice = f"Set {self._key_source} to a key that this server accepts"
                    raise status_failure(response.status_code, response.headers, said, advice)
                if not self.streams or "application/json" in response.headers.get("content-type", ""):
                    return _told(completion(await _read(response, MAX_RESPONSE_BYTES)), on_text)
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

        host = urlsplit(self._url).netloc.rpartition("@")[2]
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


class _Key:
    """The key, as what httpx2 calls to sign a request. Shows itself as [key]."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        value = value.strip()
        if not (value.isascii() and value.isprintable()) or " " in value:
            raise ConfigError("the API key holds spaces or characters that can't be sent: copy it again")
        self._value = value

    def __call__(self, request: httpx2.Request) -> httpx2.Request:
        request.headers["authorization"] = f"Bearer {self._value}"
        return request

    def __repr__(self) -> str:
        return "[key]"

    def cut_out_of(self, text: str) -> str:
        return text.replace(self._value, "[key]")


def _endpoint(base_url: str) -> str:
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        shown = "(not shown: it holds a password)" if "@" in base_url else repr(base_url)
        raise ConfigError(f"base_url {shown} must be a URL such as http://127.0.0.1:8000/v1")
    return base_url.rstrip("/") + "/chat/completions"


def _limit_key(base_url: str, model: str) -> str:
    # OpenAI refuses max_tokens for its reasoning models; other servers don't know the newer name
    host = urlsplit(base_url).hostname or ""
    return "max_completion_tokens" if host.endswith(_OPENAI_HOSTS) and _REASONING.match(model) else "max_tokens"


async def _follow(response: httpx2.Response, assembly: Assembly, on_text: Callable[[str], None]) -> ModelReply:
    """Read a stream to its end."""
    events = Events()
    async with aclosing(_pieces(response, MAX_RESPONSE_BYTES, assembly)) as pieces:
        async for piece in pieces:
            for data in events.feed(piece):
                if data == _DONE:
                    await _drain(pieces)
                    return assembly.done()
                on_text(assembly.feed_json(data))
    for data in events.end():
        if data == _DONE:
            return assembly.done()
        on_text(assembly.feed_json(data))
    return assembly.reply()


_DONE = b"[DONE]"
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
    response: httpx2.Response, most: int, assembly: Assembly | None, *, cut: bool = False
) -> AsyncGenerator[bytes, None]:
    size = 0
    async for piece in response.aiter_bytes():
        size += len(piece)
        if size > most:
            if cut:
                return
            text = assembly.text if assembly else ""
            raise ModelError(f"the server sent more than {most:,} bytes", kind="malformed", text=text)
        yield piece
