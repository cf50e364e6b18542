"""Any provider that any-llm knows and we have no row for, through its client of that provider.

The library is imported when a model is made. Its retries are off, so a call is one attempt; a provider whose
library can't leave them off is refused. What it streams has the form of chat completions, and is read as such.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from crew_guard.core.messages import JsonObject, Message, ModelReply, ModelRequest, ToolSpec
from crew_guard.core.usage import Rates
from crew_guard.errors import ConfigError, MissingDependencyError, ModelError
from crew_guard.models.counting import PromptBound, counter_for
from crew_guard.models.failures import retry_after, status_kind
from crew_guard.models.http_model import Key
from crew_guard.models.prices import rates_for
from crew_guard.models.replies import Assembly
from crew_guard.models.wire import message_json, response_format, strict, tool_json

if TYPE_CHECKING:
    from any_llm import AnyLLM

_UNSENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol"})
_UNREADABLE = frozenset({"JSONDecodeError", "ValidationError", "UnknownApiResponseError"})
_SHOWN = 300


class AnyLLMModel:
    """A model of a provider that any-llm knows. Usable from any number of threads and event loops."""

    streams = True

    def __init__(
        self,
        provider: str,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        env: Mapping[str, str] | None = None,
        rates: Rates | None = None,
        window: int | None = None,
    ) -> None:
        """Find the provider; nothing is sent yet.

        Args:
            provider: as any-llm names it, e.g. databricks
            model: what the provider calls it
            env: the environment's variables, for the provider's own key variable
            rates: what it costs; by default what the price table says of PROVIDER:MODEL
        Raises:
            ConfigError: any-llm doesn't know the provider, can't leave its retries off, or its key is missing
            MissingDependencyError: any-llm, or the provider's library, is not installed
        """
        self.name = f"any-llm:{provider}/{model}"
        self.model = model
        self.window = window
        self._provider = provider
        self._base_url = base_url
        self._rates = rates
        known = _provider_class(self.name, provider)
        variable = known.ENV_API_KEY_NAME
        key = api_key or (env or {}).get(variable, "")
        self._key = Key(key, variable) if key else None
        self._prompt = PromptBound(counter_for(f"{provider}:{model}"))
        self._clients: dict[asyncio.AbstractEventLoop, AnyLLM] = {}
        self._lock = threading.Lock()
        self._client_for(None)

    def __repr__(self) -> str:
        return f"AnyLLMModel({self.name!r})"

    @property
    def rates(self) -> Rates | None:
        """What it costs; None if nobody knows."""
        return rates_for(f"{self._provider}:{self.model}") if self._rates is None else self._rates

    def bound(self, message: Message) -> int:
        """An upper bound of one message's tokens, its framing included."""
        return self._prompt.bound(message)

    def bound_request(self, tools: Sequence[ToolSpec], output_schema: JsonObject | None) -> int:
        """An upper bound of what tools, schema and priming add, in tokens."""
        return self._prompt.bound_request(tools, output_schema)

    async def complete(self, request: ModelRequest, max_tokens: int, on_text: Callable[[str], None]) -> ModelReply:
        """Answer in at most max_tokens: one attempt.

        Raises:
            ModelError: the provider failed
        """
        so_far = Assembly()
        stream: AsyncIterator[Any] | None = None
        try:
            try:
                stream = await self._begin(request, max_tokens)
            except Exception as error:
                raise self._failure(error, "") from error
            while True:
                try:
                    chunk = await anext(stream, None)
                except Exception as error:
                    raise self._failure(error, so_far.text) from error
                if chunk is None:
                    return so_far.reply()
                on_text(so_far.feed(chunk.model_dump(mode="json", exclude_none=True)))
        finally:
            if (close := getattr(stream, "aclose", None)) is not None:
                await close()

    async def _begin(self, request: ModelRequest, max_tokens: int) -> AsyncIterator[Any]:
        extra: dict[str, Any] = {}
        if request.tools:
            extra |= {"tools": [tool_json(tool) for tool in request.tools], "tool_choice": "auto"}
        if request.output_schema is not None:
            closed = strict(request.output_schema)
            schema = request.output_schema if closed is None else closed
            extra["response_format"] = response_format(schema, request.output_name, closed is not None)
        found = await self._client_for(asyncio.get_running_loop()).acompletion(
            self.model,
            [message_json(message) for message in request.messages],
            max_tokens=max_tokens,
            stream=True,
            stream_options={"include_usage": True},
            **extra,
        )
        return cast("AsyncIterator[Any]", found)

    def _client_for(self, loop: asyncio.AbstractEventLoop | None) -> AnyLLM:
        """The library's client; one for each loop, because its connections belong to one."""
        if loop is not None and (known := self._clients.get(loop)) is not None:
            return known
        from any_llm import AnyLLM
        from any_llm.exceptions import AnyLLMError, MissingApiKeyError, UnsupportedParameterError

        try:
            made = AnyLLM.create(
                self._provider,
                api_key=None if self._key is None else self._key.plain(),
                api_base=self._base_url,
                unified_exceptions=True,
                max_retries=0,
            )
        except MissingApiKeyError:
            variable = _provider_class(self.name, self._provider).ENV_API_KEY_NAME
            raise ConfigError(f"the model {self.name!r} needs a key: set {variable}") from None
        except UnsupportedParameterError:
            raise ConfigError(
                f"the model {self.name!r} can't be used: any-llm can't leave off the retries of {self._provider}, "
                f"and each attempt has to be a step. Use openai-compatible:NAME where it has such an address"
            ) from None
        except ImportError as error:
            raise MissingDependencyError(
                f"the model {self.name}", "any-llm", f" 'any-llm-sdk[{self._provider}]'"
            ) from error
        except (AnyLLMError, ValueError) as error:
            raise ConfigError(f"the model {self.name!r} can't be made: {self._clean(error)}") from None
        if loop is not None:
            with self._lock:
                self._clients = {one: client for one, client in self._clients.items() if not one.is_closed()}
                return self._clients.setdefault(loop, made)
        return made

    def _failure(self, error: Exception, text: str) -> ModelError:
        if isinstance(error, ModelError):
            return error
        said = self._clean(error)
        status = getattr(error, "status_code", None)
        if isinstance(status, int) and status >= _ERRORS:
            seconds = next((retry_after(headers, time.time()) for headers in _headers(error)), None)
            message = f"{self._provider} answered with status {status}: {said}"
            return ModelError(message, kind=status_kind(status), status=status, retry_after=seconds, text=text)
        names = {type(link).__name__ for link in _chain(error)}
        if names & _UNSENT:
            return ModelError(f"no connection to {self._provider}: {said}", kind="unreachable")
        kind = "malformed" if names & _UNREADABLE else "broken"
        return ModelError(f"{self._provider} failed ({type(error).__name__}): {said}", kind=kind, text=text)

    def _clean(self, error: Exception) -> str:
        said = " ".join(str(error).split())[:_SHOWN]
        return said if self._key is None else self._key.cut_out_of(said)


_ERRORS = 400


def _provider_class(name: str, provider: str) -> type[AnyLLM]:
    try:
        from any_llm import AnyLLM
        from any_llm.exceptions import UnsupportedProviderError
    except ImportError:
        raise MissingDependencyError(f"the model {name}", "any-llm") from None
    try:
        return AnyLLM.get_provider_class(provider)
    except (UnsupportedProviderError, ValueError):
        raise ConfigError(f"the model {name!r} can't be made: any-llm knows no provider {provider!r}") from None
    except ImportError as error:
        raise MissingDependencyError(f"the model {name}", "any-llm", f" 'any-llm-sdk[{provider}]'") from error


def _chain(error: BaseException) -> list[BaseException]:
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = getattr(link, "original_exception", None) or link.__cause__ or link.__context__
    return links


def _headers(error: BaseException) -> Iterator[Mapping[str, str]]:
    """The headers of the response behind an error, where its library keeps it."""
    for link in _chain(error):
        headers = getattr(getattr(link, "response", None), "headers", None)
        if isinstance(headers, Mapping):
            yield cast("Mapping[str, str]", headers)
