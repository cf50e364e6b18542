"""Every server that speaks chat completions: OpenAI, OpenRouter, Ollama, vLLM, llama.cpp, Mistral, Groq and others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from crew_guard.core.messages import JsonObject, ModelReply, ModelRequest
from crew_guard.core.usage import Rates
from crew_guard.models.http_model import HttpModel, Key, checked_url
from crew_guard.models.replies import Assembly, completion
from crew_guard.models.wire import RequestWriter

if TYPE_CHECKING:
    import httpx2

_REASONING = re.compile(r"(ft:)?(o\d|gpt-5|gpt-[6-9])")
_OPENAI_HOSTS = ("api.openai.com", ".openai.azure.com")


class OpenAICompatibleModel(HttpModel):
    """A model behind a chat-completions server."""

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
        asks_usage: bool = True,
        takes_schema: bool = True,
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
            asks_usage: whether to ask for usage in a stream; False for servers that refuse the wish
            takes_schema: False for servers that know JSON, but no schema of it
            client: used as it is and never closed; by default one is made for each event loop
        Raises:
            ConfigError: the URL or the key can't be used
            MissingDependencyError: the HTTP client is not installed
        """
        self.model = model
        writer = RequestWriter(
            model, _limit_key(base_url, model), stream=stream, asks_usage=asks_usage, takes_schema=takes_schema
        )
        wire = ChatWire(checked_url(base_url) + "/chat/completions", writer)
        key = Key(api_key, key_source) if api_key else None
        super().__init__(name, wire, key, rates=rates, window=window, timeout=timeout, stream=stream, client=client)


@dataclass(frozen=True, slots=True)
class ChatWire:
    """Chat completions, as a Wire."""

    url: str
    writer: RequestWriter

    @property
    def headers(self) -> Mapping[str, str]:
        """See Wire.headers."""
        return {}

    @property
    def key_header(self) -> tuple[str, str]:
        """See Wire.key_header."""
        return "authorization", "Bearer "

    def write(self, request: ModelRequest, max_tokens: int) -> bytes:
        """See Wire.write."""
        return self.writer.write(request, max_tokens)

    def schema_sent(self, schema: JsonObject) -> JsonObject:
        """See Wire.schema_sent."""
        return self.writer.schema_sent(schema)

    def growing(self) -> Assembly:
        """See Wire.growing."""
        return Assembly()

    def whole(self, body: bytes) -> ModelReply:
        """See Wire.whole."""
        return completion(body)


def _limit_key(base_url: str, model: str) -> str:
    # OpenAI refuses max_tokens for its reasoning models; other servers don't know the newer name
    host = urlsplit(base_url).hostname or ""
    return "max_completion_tokens" if host.endswith(_OPENAI_HOSTS) and _REASONING.match(model) else "max_tokens"
