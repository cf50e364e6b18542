"""What is known of LlamaIndex's classes for providers other than OpenAI, as data: where their requests leave.

Such a class keeps a client of its provider's SDK, and sends by one method of it. There a request is clamped and its
counts are heard, in the provider's own words: see tapped.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

Path = tuple[str, ...]
"""Names, from the outside in."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Where an SDK's answer, or an event of its stream, says what it cost."""

    at: Path
    """Where the counts are; () where the answer has them itself."""
    prompt: tuple[str, ...]
    """Names of counts that make up the prompt."""
    completion: str
    begun: Path | None = None
    """Where a stream says as it begins what the prompt cost; what it says there of the completion is no account."""
    cached: str = ""
    """Of the prompt: read from the provider's cache."""
    written: str = ""
    """Of the prompt: written to it."""
    kept_an_hour: Path = ()
    """Of what was written."""


@dataclass(frozen=True, slots=True)
class Provider:
    """One class, and those derived from it."""

    kind: tuple[str, str]
    """Its module and its name."""
    clients: tuple[str, ...]
    """Its attributes that are clients of the SDK."""
    held: tuple[str, ...]
    """Where it holds them; None there is one that isn't made yet."""
    sdk: frozenset[str]
    """Classes of clients that are known, they and those derived from them."""
    sends: tuple[Path, ...]
    """The client's methods that send a request for tokens."""
    length: Path
    """Where the method's arguments say how long a completion may be."""
    counts: Counts | None
    """None where who watches its client reads its account."""
    by_call: bool = False
    """Whether a call may say that, too."""
    beside: frozenset[str] = frozenset()
    """Methods that send by the SDK themselves, and not by chat."""
    refused: tuple[str, ...] = ()
    """Options with which its servers do by themselves what makes tokens."""
    has_tools: bool = False
    """Whether the model itself may have tools, besides those of a call."""
    settings: tuple[str, str] | None = None
    """Where its settings are, if neither fields nor additional_kwargs have them: an attribute, an option of a call."""
    thinking: Path = ()
    """Of settings: how long the model may think within its answer."""


_STRUCTURED = frozenset(f"{prefix}structured_predict" for prefix in ("", "a", "stream_", "astream_"))

STRUCTURED_LENGTH = 8192
"""The longest structured answer that such a method asks for, where nothing is said."""

PROVIDERS = (
    Provider(
        kind=("llama_index.llms.anthropic.base", "Anthropic"),
        clients=("_client", "_aclient"),
        held=("_client", "_aclient"),
        sdk=frozenset({"Anthropic", "AsyncAnthropic"}),
        sends=(("messages", "create"), ("beta", "messages", "parse")),
        length=("max_tokens",),
        by_call=True,
        counts=Counts(
            at=("usage",),
            begun=("message", "usage"),
            prompt=("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
            completion="output_tokens",
            cached="cache_read_input_tokens",
            written="cache_creation_input_tokens",
            kept_an_hour=("cache_creation", "ephemeral_1h_input_tokens"),
        ),
        beside=_STRUCTURED,
        refused=("mcp_servers",),
        has_tools=True,
        thinking=("thinking", "budget_tokens"),
    ),
    Provider(
        kind=("llama_index.llms.google_genai.base", "GoogleGenAI"),
        clients=("_client",),
        held=("_client",),
        sdk=frozenset({"Client"}),
        sends=(),  # by chats, too, which are made of the client: all of it is watched, see google.py
        length=("max_output_tokens",),
        by_call=True,
        counts=None,
        beside=_STRUCTURED | {"structured_predict_without_function_calling"},
        settings=("_generation_config", "generation_config"),
        thinking=("thinking_config", "thinking_budget"),
    ),
    Provider(
        kind=("llama_index.llms.ollama.base", "Ollama"),
        clients=("client", "async_client"),
        held=("_client", "_async_client"),
        sdk=frozenset({"Client", "AsyncClient"}),
        sends=(("chat",),),
        length=("options", "num_predict"),
        counts=Counts(at=(), prompt=("prompt_eval_count",), completion="eval_count"),
    ),
)
_BY_KIND = {provider.kind: provider for provider in PROVIDERS}


def provider_of(kind: type) -> Provider | None:
    """What is known of a class, or of the base of it that asks a provider."""
    known = (_BY_KIND.get((base.__module__, base.__name__)) for base in kind.__mro__)
    return next((provider for provider in known if provider is not None), None)


def unknown_client(provider: Provider, llm: Any) -> str | None:
    """The name of a client's class that isn't known: it sends to somewhere else, or in other words."""
    for name in provider.held:
        client: Any = getattr(llm, name)
        kind = cast("type[Any]", type(client))
        if client is not None and provider.sdk.isdisjoint(base.__name__ for base in kind.__mro__):
            return kind.__name__
    return None


def tools_of(provider: Provider, llm: Any, given: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """All tools of a request: the model's own, and those that come with it.

    Args:
        given: options that may have some: of the model, and of the call
    """
    own: Sequence[Any] = getattr(llm, "tools", None) or () if provider.has_tools else ()
    more = [tool for options in given for tool in options.get("tools") or ()]
    return [*own, *more]


def not_bounded(provider: Provider, llm: Any, given: Sequence[Mapping[str, Any]]) -> str | None:
    """Why a request can't be bounded, as what follows its model's owner; None where it can."""
    if (client := unknown_client(provider, llm)) is not None:
        return (
            f"asks by a client {client}, which the guard doesn't know; use one of {', '.join(sorted(provider.sdk))}, "
            "or call it by hand, through step_gate()"
        )
    bodies = [options["extra_body"] for options in given if options.get("extra_body")]
    for name in provider.refused:
        if getattr(llm, name, None) or any(name in options for options in (*given, *bodies)):
            return (
                f"has {name}: what its provider's servers do with them makes tokens that nothing bounds; leave them out"
            )
    if not provider.has_tools:
        return None
    for tool in tools_of(provider, llm, [*given, *bodies]):
        kind = tool.get("type") or "custom"
        if kind != "custom":
            return (
                f"has the tool {kind}, which its provider's servers run by themselves: what it finds makes tokens that "
                "nothing bounds; give the agent a tool of your own instead"
            )
    return None


def keeps_long(control: Any) -> bool:
    """Whether a cache_control of Anthropic's has what it marks kept for an hour, which costs more."""
    ttl: Any = cast(Any, control).get("ttl") if isinstance(control, Mapping) else getattr(control, "ttl", None)
    return ttl == "1h"


def thinks(provider: Provider, llm: Any, given: Sequence[Mapping[str, Any]]) -> int:
    """The length of thought that a model is told, which an answer's must be above; 0 for none.

    Args:
        given: options of the call and of the model, the nearest first
    """
    if not provider.thinking:
        return 0
    place, name = provider.thinking
    told = next((options[place] for options in given if options.get(place)), None)
    told = told or getattr(llm, "thinking_dict", None)
    budget: Any = cast("Mapping[str, Any]", told).get(name) if isinstance(told, Mapping) else getattr(told, name, None)
    return budget if isinstance(budget, int) and budget > 0 else 0
