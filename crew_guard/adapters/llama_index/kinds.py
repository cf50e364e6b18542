"""What is known of LLM classes: who makes them, whether they can be clamped, and which are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, cast

from crew_guard.adapters.hosted import room_beside, speaks_of_length
from crew_guard.adapters.llama_index.double import LENGTHS
from crew_guard.adapters.llama_index.google import (
    beside_messages,
    not_bounded_of_gemini,
    says_more_than_text,
    tools_in,
)
from crew_guard.adapters.llama_index.providers import Provider, keeps_long, not_bounded, provider_of, thinks, tools_of
from crew_guard.errors import ConfigError

_PROVIDERS = "llama_index.llms."
_PACKAGES = frozenset({"llama_index", "llama_index_instrumentation", "pydantic", "builtins", "abc", "typing"})
_NONE: Mapping[str, Any] = {}
_NAMES = {"openai_like": "openai-compatible", "azure_openai": "azure", "google_genai": "gemini"}


@dataclass(frozen=True, slots=True)
class Kind:
    """A class of LLMs, looked at once."""

    provider: str | None
    """The package of LlamaIndex's that it, or a base of it, comes from; None for a class of the user's own."""
    openai: bool
    """Whether it speaks to OpenAI's chat completions through LlamaIndex's OpenAI class, or one derived from it."""
    known: Provider | None
    """What is known of another provider's class."""
    clampable: bool
    """Whether it keeps to a length: those of providers do, a class of the user's own if its code speaks of it."""
    has: frozenset[str]
    """Which of the names that we ask for are attributes of the class itself."""


@cache
def kind_of(kind: type[Any]) -> Kind:
    """What is known of a class."""
    names = ((base.__module__, base.__name__) for base in kind.__mro__)
    openai = any(name == ("llama_index.llms.openai.base", "OpenAI") for name in names)
    has = frozenset(name for name in ("model", "max_tokens", "additional_kwargs") if hasattr(kind, name))
    known = provider_of(kind)
    clampable = openai or known is not None or speaks_of_length(kind, _PACKAGES)
    return Kind(_provider(kind), openai, known, clampable, has)


def _provider(kind: type[Any]) -> str | None:
    for base in kind.__mro__:
        if base.__module__.startswith(_PROVIDERS):
            return base.__module__.removeprefix(_PROVIDERS).partition(".")[0]
    return None


def _declared(llm: Any, name: str, kind: Kind) -> Any:
    """An attribute of a model, or None: asking pydantic for what is not there takes microseconds."""
    fields = object.__getattribute__(llm, "__dict__")
    if name in fields:
        return fields[name]
    return getattr(llm, name, None) if name in kind.has else None


def model_name(llm: Any, kind: Kind) -> str:
    """provider:name, as policies know it; a class of the user's own goes by custom."""
    named = _declared(llm, "model", kind)
    name = named if isinstance(named, str) else type(llm).__name__
    provider = kind.provider
    return f"{_NAMES.get(provider, provider.replace('_', '-')) if provider else 'custom'}:{name}"


def wish_of(llm: Any, kwargs: Mapping[str, Any], kind: Kind, *, clampable: bool) -> int | None:
    """The longest completion that a call asks for; of a class that can't be clamped the longest that it declares."""
    if (known := kind.known) is not None:
        name, given = known.length[-1], _given(llm, kwargs, kind)
        said = (_positive(options.get(name)) for options in given[0 if known.by_call else 1 :])
        wish = next(filter(None, said), None) or _positive(_declared(llm, name, kind))
        return room_beside(thinks(known, llm, given), wish)[0]
    extra = _extra(llm, kind)
    wish = _length(extra) if extra else None
    if wish is None:
        wish = _positive(_declared(llm, "max_tokens", kind)) or _length(kwargs)
    if wish is not None:
        return wish
    if not clampable and llm.metadata.num_output > 0:
        return llm.metadata.num_output
    return None


def least_of(llm: Any, kwargs: Mapping[str, Any], kind: Kind, wish: int | None) -> int | None:
    """The shortest completion of use: one that ends above the thought that comes before it; None where none is said."""
    if kind.known is None or not (budget := thinks(kind.known, llm, _given(llm, kwargs, kind))):
        return None
    return budget + 1 if wish is None else min(wish, budget + 1)


def shown_with(llm: Any, kwargs: Mapping[str, Any], kind: Kind) -> Mapping[str, Any]:
    """What a call gives, with the tools that its model has itself: all of them are in the prompt."""
    if kind.known is None:
        return kwargs
    if kind.known.settings is not None:
        more = beside_messages(_given(llm, kwargs, kind)[:2])
        return {**kwargs, "tools": [*tools_in(kwargs), more]} if more else kwargs
    tools = tools_of(kind.known, llm, (_extra(llm, kind), kwargs))
    return {**kwargs, "tools": tools} if tools else kwargs


def keeps_plain(llm: Any, kwargs: Mapping[str, Any], kind: Kind) -> bool:
    """Whether nothing makes a call dearer than text: not what is kept for an hour, nor an answer in images."""
    if kind.known is None:
        return True
    given = _given(llm, kwargs, kind)
    if kind.known.settings is not None:
        return not says_more_than_text(given)
    controls = [options.get("cache_control") for options in (*given, *tools_of(kind.known, llm, given))]
    return not any(map(keeps_long, controls))


def check_llm(llm: Any, whose: str) -> None:
    """Whether calls of a model can be bounded.

    Raises:
        ConfigError: they can't; the message says what to do
    """
    if (problem := unbounded(llm, _NONE, kind_of(cast(type[Any], type(llm))))) is not None:
        raise ConfigError(f"{whose} {problem}")


def unbounded(llm: Any, kwargs: Mapping[str, Any], kind: Kind) -> str | None:
    """Why a call of a model can't be bounded, as what follows its owner's name; None where it can.

    Args:
        llm: the model
        kwargs: what a single call adds to what the model says
        kind: its class
    """
    given = _given(llm, kwargs, kind)
    if kind.known is not None:
        refuses = not_bounded_of_gemini if kind.known.settings else partial(not_bounded, kind.known)
        if (problem := refuses(llm, given)) is not None:
            return problem
    elif kind.provider is not None and not kind.openai:
        return (
            f"is a {type(llm).__module__}.{type(llm).__name__}, whose own retries and lengths can't be bounded yet; "
            "use OpenAI or OpenAILike (any OpenAI-compatible server), Anthropic, GoogleGenAI, Ollama, or a CustomLLM "
            "of your own"
        )
    for options in given:
        if not options:
            continue
        if (choices := options.get("n") or 1) != 1:
            return f"has n={choices}: completions that LlamaIndex throws away; leave n out"
        body = options.get("extra_body")
        if body and (key := next((key for key in (*LENGTHS, "n") if key in body), None)):
            return f"has an extra_body that sets {key}, which goes around the guard; give it to the model itself"
    return None


def _given(llm: Any, kwargs: Mapping[str, Any], kind: Kind) -> Sequence[Mapping[str, Any]]:
    """The options of a request, the nearest first."""
    if kind.known is None or kind.known.settings is None:
        return kwargs, _extra(llm, kind)
    own, of_call = kind.known.settings
    return kwargs.get(of_call) or _NONE, getattr(llm, own) or _NONE, kwargs


def _extra(llm: Any, kind: Kind) -> Mapping[str, Any]:
    given = _declared(llm, "additional_kwargs", kind)
    return given if isinstance(given, dict) else _NONE  # pyright: ignore[reportUnknownVariableType]


def _length(given: Mapping[str, Any]) -> int | None:
    return _positive(given.get(LENGTHS[0])) or _positive(given.get(LENGTHS[1]))


def _positive(value: object) -> int | None:
    return int(value) if isinstance(value, int) and value > 0 else None
