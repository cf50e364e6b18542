"""The SDKs inside of AutoGen's clients: asked once a step, for no more than is granted, and heard out.

AutoGen's results leave out what a provider read from its cache or wrote to it, and some streams' tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from functools import cache
from operator import attrgetter
from typing import Any, Literal, TypeAlias, TypeVar, cast

from autogen_core.models import ChatCompletionClient

from crew_guard.adapters.autogen.seams import here
from crew_guard.adapters.connections import quiet_client
from crew_guard.adapters.hosted import come_from, length_key, reported, room_beside
from crew_guard.core.usage import NO_PARTS, Parts, Usage
from crew_guard.errors import ConfigError

Family: TypeAlias = Literal["openai", "anthropic", "ollama", "azure"]
Told: TypeAlias = tuple[Usage | None, Parts]
_FAMILIES: Mapping[str, Family] = {
    "BaseOpenAIChatCompletionClient": "openai",
    "BaseAnthropicChatCompletionClient": "anthropic",
    "BaseOllamaChatCompletionClient": "ollama",
    "AzureAIChatCompletionClient": "azure",
}
_OF_A_LOOP: frozenset[Family | None] = frozenset({"openai", "anthropic", "ollama"})
"""Whose SDKs' clients hold connections that can be opened anew."""
LENGTHS = ("max_completion_tokens", "max_tokens")
_SDK = "_crew_guard_sdk"
_NO_ARGS: Mapping[str, Any] = {}
T = TypeVar("T")


def family_of(client: ChatCompletionClient) -> Family | None:
    """Whose API a client of AutoGen's own speaks; None for the user's, and for what computes here."""
    return next(
        (family for name, family in _FAMILIES.items() if come_from(client, "autogen_ext", frozenset({name}))), None
    )


def create_args(client: object) -> Mapping[str, Any]:
    """What a client was made with, and sends with each request."""
    return getattr(client, "_create_args", None) or _NO_ARGS


def check_sdk(client: ChatCompletionClient, name: str) -> None:
    """Whether a client can be bounded at all.

    Raises:
        ConfigError: it retries unseen, or sets its length where a clamp doesn't reach
    """
    if come_from(client, "autogen_ext", frozenset({"SKChatCompletionAdapter"})):
        raise ConfigError(
            f"{name}: the retries of SKChatCompletionAdapter's own client can't be switched off; use AutoGen's client "
            "of that provider"
        )
    for part in ("extra_body", "model_extras"):
        body = create_args(client).get(part)
        if isinstance(body, Mapping) and (key := next((key for key in (*LENGTHS, "n") if key in body), None)):
            raise ConfigError(f"{name}: {part} sets {key}, which goes around the guard; give it to the client itself")


def wish_of(
    family: Family | None, declared: Mapping[str, Any], extra: Mapping[str, Any]
) -> tuple[int | None, int | None]:
    """The longest completion that the user asks for, and the shortest of use; None where nothing is said.

    Args:
        declared: by the client
        extra: given with the call, which outweighs it
    """
    if not declared and not extra:
        return None, None
    if family == "ollama":
        options: Any = extra.get("options", declared.get("options")) or _NO_ARGS
        length = _predicted(extra) or _predicted(declared) or options.get("num_predict")
        return (length if isinstance(length, int) and length > 0 else None), None  # below 0: as long as it likes
    lengths = (part[key] for part in (extra, declared) for key in _keys(family) if part.get(key) is not None)
    wish = next(map(int, lengths), None)
    if family != "anthropic":
        return wish, None
    thinking = cast(Mapping[str, Any], extra.get("thinking") or declared.get("thinking") or _NO_ARGS)
    return room_beside(int(thinking.get("budget_tokens") or 0), wish)


def shorten(client: object, family: Family | None, name: str, extra: dict[str, Any], length: int) -> None:
    """Have a call ask for no more than this.

    Args:
        name: the model's
        extra: the call's extra_create_args, which are changed
    """
    declared = create_args(client)
    if family == "ollama":
        for key in [key for key in extra if key.lower() == "num_predict"]:
            del extra[key]
        options: Any = extra.get("options", declared.get("options"))
        if hasattr(options, "model_dump"):  # AutoGen would drop it
            extra["options"] = options.model_dump(exclude_none=True)
        extra["num_predict"] = length
        return
    given = {**declared, **extra}
    chosen = length_key(name) if family in {None, "openai"} else "max_tokens"
    extra[next((key for key in _keys(family) if given.get(key) is not None), chosen)] = length


def _keys(family: Family | None) -> tuple[str, ...]:
    return LENGTHS if family in {None, "openai"} else ("max_tokens",)


def _predicted(given: Mapping[str, Any]) -> Any:
    return next((value for key, value in given.items() if key.lower() == "num_predict"), None)


def quiet(client: ChatCompletionClient) -> ChatCompletionClient:
    """The same client with the retries of its SDK off, and heard: each attempt is a step, and a step is admitted."""
    family, sdk = family_of(client), getattr(client, "_client", None)
    if family in _OF_A_LOOP and sdk is not None:
        sdk = quiet_client(sdk)
    elif getattr(sdk, "max_retries", 0) != 0 and hasattr(sdk, "with_options"):
        sdk = cast(Any, sdk).with_options(max_retries=0)
    listens = _LISTENERS.get(family or "")
    if listens is not None and sdk is not None:
        sdk = listens(sdk)
    return client if sdk is getattr(client, "_client", None) else variant(client, sdk)


def variant(of: T, sdk: object) -> T:
    """A client with another client of its SDK, all else shared: its counters stay the user's."""
    other: Any = object.__new__(_variants_of(type(of)))
    other.__dict__ = vars(of)
    setattr(other, _SDK, sdk)
    return cast(T, other)


@cache
def _variants_of(kind: type[Any]) -> type[Any]:
    # One for each class, not for each run: much in here and in Python keeps what it learns of a class for ever.
    names = {"__slots__": (_SDK,), "_client": property(attrgetter(_SDK))}
    metaclass: Any = type(kind)
    return metaclass(kind.__name__, (kind,), names)


class _Part:
    """An SDK's client, or a part of it, one attribute of which is another."""

    def __init__(self, own: Any, name: str, instead: Any) -> None:
        self._own = own
        setattr(self, name, instead)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)


def _claude(sdk: Any) -> Any:
    messages = sdk.messages
    return _Part(sdk, "messages", _Part(messages, "create", _heard(messages.create, _of_claude)))


def _ollama(sdk: Any) -> Any:
    return _Part(sdk, "chat", _heard(sdk.chat, _of_ollama))


def _azure(sdk: Any) -> Any:
    _check_loop(sdk)

    async def complete(**request: Any) -> Any:
        if request.get("stream"):
            extras: Mapping[str, Any] = request.get("model_extras") or _NO_ARGS
            declared: Mapping[str, Any] = extras.get("stream_options") or _NO_ARGS
            asked = {**declared, "include_usage": True}
            request["model_extras"] = {**extras, "stream_options": asked}
        return await sdk.complete(**request, retry_total=0)

    return _Part(sdk, "complete", _heard(complete, _of_azure))


def _check_loop(sdk: Any) -> None:
    pipeline: Any = getattr(getattr(sdk, "_client", None), "_pipeline", None)
    session: Any = getattr(getattr(pipeline, "_transport", None), "session", None)
    loop = getattr(session, "_loop", None)
    if loop is not None and loop is not asyncio.get_running_loop():
        raise ConfigError(
            "this client of Azure AI was used on another event loop, where its connections belong, and can't open new "
            "ones: await arun() on that loop, or make a client for each"
        )


_LISTENERS: Mapping[str, Callable[[Any], Any]] = {"anthropic": _claude, "ollama": _ollama, "azure": _azure}


def _heard(ask: Callable[..., Any], read: Callable[[Any, dict[str, int]], None]) -> Callable[..., Any]:
    """A method that sends a request, whose usage is told to the call that it is sent for.

    Args:
        read: adds to what is known what an answer, or a piece of one, says
    """

    async def create(**request: Any) -> Any:
        now = here.get()
        exchange = now.frame.exchange if now is not None and now.frame is not None else None
        answer = await ask(**request)
        if exchange is None:
            return answer
        known: dict[str, int] = {}
        if request.get("stream"):
            return _listening(answer, lambda piece: _tell(exchange, read, piece, known))
        _tell(exchange, read, answer, known)
        return answer

    return create


def _tell(exchange: Any, read: Callable[[Any, dict[str, int]], None], said: Any, known: dict[str, int]) -> None:
    read(said, known)
    if known:
        usage = reported(known.get("input", 0), known.get("output", 0), known.get("cached", 0))
        hour, written = known.get("hour", 0), known.get("written", 0)
        exchange.told = usage, Parts(cache_written=written, kept_an_hour=hour) if written else NO_PARTS


async def _listening(pieces: Any, hear: Callable[[Any], None]) -> AsyncIterator[Any]:
    try:
        async for piece in pieces:
            hear(piece)
            yield piece
    finally:
        close = getattr(pieces, "close", None) or getattr(pieces, "aclose", None)
        if close is not None:
            await close()


def _of_claude(said: Any, known: dict[str, int]) -> None:
    usage = getattr(said, "usage", None) or getattr(getattr(said, "message", None), "usage", None)
    if usage is None:
        return
    apart = getattr(usage, "cache_creation", None)
    named = {
        "plain": getattr(usage, "input_tokens", None),
        "output": getattr(usage, "output_tokens", None),
        "cached": getattr(usage, "cache_read_input_tokens", None),
        "written": getattr(usage, "cache_creation_input_tokens", None),
        "hour": getattr(apart, "ephemeral_1h_input_tokens", None),
    }
    known.update({name: tokens for name, tokens in named.items() if tokens is not None})
    known["input"] = sum(known.get(part, 0) for part in ("plain", "cached", "written"))


def _of_ollama(said: Any, known: dict[str, int]) -> None:
    if getattr(said, "prompt_eval_count", None) or getattr(said, "eval_count", None):
        known.update(input=said.prompt_eval_count or 0, output=said.eval_count or 0)


def _of_azure(said: Any, known: dict[str, int]) -> None:
    usage = getattr(said, "usage", None)
    if usage is not None:
        known.update(input=usage.prompt_tokens or 0, output=usage.completion_tokens or 0)
