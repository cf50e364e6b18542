"""CrewAI's bedrock provider: boto3's client and aiobotocore's, each request sent once, and no longer than it may be.

The user's client is copied together with what sends for it, whose retries are left out. CrewAI makes the async
client itself, without options, and keeps it for good: a guarded call has one of its own, which ends with it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, cast

from crewai.llms.base_llm import BaseLLM

from crew_guard.adapters.boto import has_endpoint, sent_once
from crew_guard.adapters.hosted import room_beside
from crew_guard.errors import ConfigError

PROVIDER = "crewai.llms.providers.bedrock"
_LENGTHS = frozenset(
    {"max_tokens", "maxTokens", "max_tokens_to_sample", "max_gen_len", "maxTokenCount", "max_new_tokens"}
    | {"max_completion_tokens", "max_output_tokens", "n", "num_generations", "numResults", "best_of"}
)
"""What models call the longest completion, and the number of completions, in fields of their own."""
_WRITTEN = ("cacheWriteInputTokens", "cacheWriteInputTokenCount")
_READ = ("cacheReadInputTokens", "cacheReadInputTokenCount")


def is_bedrock(host: type[BaseLLM]) -> bool:
    """Whether CrewAI's class of a model is the bedrock provider's."""
    return host.__module__.startswith(PROVIDER)


def check_bedrock(llm: BaseLLM, whose: str) -> None:
    """Whether what a model is sent can be bounded.

    Raises:
        ConfigError: it can't
    """
    for name in _names(cast(Any, llm).additional_model_request_fields or {}):
        if name in _LENGTHS:
            raise ConfigError(
                f"the model of {whose} has {name} among its additional_model_request_fields, where it can't be "
                "bounded; give it max_tokens=… and leave that out"
            )


def _names(fields: Any) -> Iterator[str]:
    if isinstance(fields, Mapping):
        for name, value in cast("Mapping[str, Any]", fields).items():
            yield name
            yield from _names(value)


def room_to_think(llm: BaseLLM, wish: int | None) -> tuple[int | None, int | None]:
    """The longest completion asked for, and the shortest of use: what is thought is a part of it."""
    fields: Any = cast(Any, llm).additional_model_request_fields or {}
    thinking: Any = fields.get("thinking") or fields.get("reasoning_config") or {}
    return room_beside(thinking.get("budget_tokens") or 0, wish)


def beside_prompt(usage: Mapping[str, Any]) -> tuple[int, int]:
    """Tokens of the prompt that Bedrock reports beside it: (read from the cache, written to it)."""
    read, written = (next((usage[name] for name in names if usage.get(name)), 0) for names in (_READ, _WRITTEN))
    return read, written


class QuietBedrock:
    """The user's client, whose requests for completions are watched, and sent once."""

    def __init__(self, client: Any, before: Callable[[Sequence[Any]], int | None]) -> None:
        """Make one.

        Args:
            before: asked before each request, with its messages; gives its longest completion, None where nothing
                is clamped
        """
        self._client, self._before = _without_retries(client, lambda *_: False), before

    def converse(self, **request: Any) -> Any:
        """One request."""
        return self._client.converse(**_bounded(request, self._before(request["messages"])))

    def converse_stream(self, **request: Any) -> Any:
        """One request, whose usage comes before what CrewAI stops at."""
        response = self._client.converse_stream(**_bounded(request, self._before(request["messages"])))
        return {**response, "stream": _usage_first(response["stream"])}

    def __getattr__(self, name: str) -> Any:
        """All else is the user's."""
        return getattr(self._client, name)


class QuietAsyncBedrock:
    """The same for an async client."""

    def __init__(self, client: Any, before: Callable[[Sequence[Any]], Awaitable[int | None]]) -> None:
        self._client, self._before = _without_retries(client, _never), before

    async def converse(self, **request: Any) -> Any:
        """One request."""
        return await self._client.converse(**_bounded(request, await self._before(request["messages"])))

    async def converse_stream(self, **request: Any) -> Any:
        """One request, whose usage comes before what CrewAI stops at."""
        response = await self._client.converse_stream(**_bounded(request, await self._before(request["messages"])))
        return {**response, "stream": _usage_first_async(response["stream"])}


async def _never(*_: object) -> bool:
    return False


def _without_retries(client: Any, needs_retry: Callable[..., Any]) -> Any:
    if not has_endpoint(client):
        raise ConfigError(
            "this client of Bedrock's can't be watched: take the version of boto3 that CrewAI asks for, "
            "pip install 'crewai[bedrock]'"
        )
    return sent_once(client, needs_retry)


def _bounded(request: dict[str, Any], length: int | None) -> dict[str, Any]:
    if length is None:
        return request
    return {**request, "inferenceConfig": {**request.get("inferenceConfig", {}), "maxTokens": length}}


# CrewAI reads a stream no further than the end of a structured answer, or of the message: the usage comes last.


def _ends(event: Mapping[str, Any], in_tool: bool) -> bool:
    return "messageStop" in event or (in_tool and "contentBlockStop" in event)


def _starts_tool(event: Mapping[str, Any]) -> bool:
    return "toolUse" in event.get("contentBlockStart", {}).get("start", {})


def _with_usage_first(held: list[Any]) -> list[Any]:
    return sorted(held, key=lambda event: "metadata" not in event)


def _usage_first(stream: Any) -> Iterator[Any]:
    events, in_tool = iter(stream), False
    for event in events:
        in_tool = in_tool or _starts_tool(event)
        if _ends(event, in_tool):
            yield from _with_usage_first([event, *events])
            return
        yield event


async def _usage_first_async(stream: Any) -> AsyncIterator[Any]:
    in_tool, held = False, list[Any]()
    async for event in stream:
        in_tool = in_tool or _starts_tool(event)
        if held or _ends(event, in_tool):
            held.append(event)
        else:
            yield event
    for event in _with_usage_first(held):
        yield event


# Async clients


@dataclass(slots=True)
class _Opened:
    """The async client of one call."""

    until: AsyncExitStack
    clients: list[Any] = field(default_factory=list[Any])


_opened: ContextVar[_Opened | None] = ContextVar("crew_guard_bedrock_clients", default=None)


@asynccontextmanager
async def opening(host: type[BaseLLM]) -> AsyncGenerator[None]:
    """While a call of this class goes on: what it opens is closed behind it."""
    if not is_bedrock(host):
        yield
        return
    async with AsyncExitStack() as until:
        token = _opened.set(_Opened(until))
        try:
            yield
        finally:
            _opened.reset(token)


async def async_client(
    llm: Any, own: Any, kept: dict[int, Any], before: Callable[[Sequence[Any]], Awaitable[int | None]]
) -> QuietAsyncBedrock:
    """The async client of a guarded call.

    Args:
        own: the method of the model's class that gives the client
        kept: where a session is kept for the run's other calls: it has read the service's description
    """
    from crewai.llms.providers.bedrock.completion import BedrockCompletion

    opened = _opened.get()
    if opened is None or own is not BedrockCompletion._ensure_async_client:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        return QuietAsyncBedrock(await own(llm), before)
    if not opened.clients:
        session: Any = kept.setdefault(0, import_module("aiobotocore.session").get_session())
        keys = ("region_name", "aws_access_key_id", "aws_secret_access_key", "aws_session_token")
        client = session.create_client("bedrock-runtime", **{key: getattr(llm, key) for key in keys})
        opened.clients.append(QuietAsyncBedrock(await opened.until.enter_async_context(client), before))
    return opened.clients[0]
