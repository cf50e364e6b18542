"""What is known of LLM classes: who makes them, whether they can be clamped, and which are refused."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, cast

from crew_guard.adapters.hosted import speaks_of_length
from crew_guard.adapters.llama_index.double import LENGTHS
from crew_guard.errors import ConfigError

_PROVIDERS = "llama_index.llms."
_PACKAGES = frozenset({"llama_index", "llama_index_instrumentation", "pydantic", "builtins", "abc", "typing"})
_NAMES = {"openai_like": "openai-compatible", "azure_openai": "azure"}


def _kind(llm: Any) -> type[Any]:
    return cast("type[Any]", type(llm))


def is_openai(llm: Any) -> bool:
    """Whether it speaks to OpenAI's chat completions through LlamaIndex's OpenAI class, or one derived from it."""
    return _is_openai(_kind(llm))


@cache
def _is_openai(kind: type[Any]) -> bool:
    return any(base.__name__ == "OpenAI" and base.__module__ == "llama_index.llms.openai.base" for base in kind.__mro__)


@cache
def _provider(kind: type[Any]) -> str | None:
    """The package of LlamaIndex's that a class, or a base of it, comes from; None for a class of the user's own."""
    for base in kind.__mro__:
        if base.__module__.startswith(_PROVIDERS):
            return base.__module__.removeprefix(_PROVIDERS).partition(".")[0]
    return None


def declared(llm: Any, name: str) -> Any:
    """An attribute of a model, or None: asking pydantic for what is not there takes microseconds."""
    fields = cast("dict[str, Any]", object.__getattribute__(llm, "__dict__"))
    if name in fields:
        return fields[name]
    return getattr(llm, name, None) if _class_has(_kind(llm), name) else None


@cache
def _class_has(kind: type[Any], name: str) -> bool:
    return hasattr(kind, name)


def model_name(llm: Any) -> str:
    """provider:name, as policies know it; a class of the user's own goes by custom."""
    provider = _provider(_kind(llm))
    named = declared(llm, "model")
    name = named if isinstance(named, str) else type(llm).__name__
    return f"{_NAMES.get(provider, provider.replace('_', '-')) if provider else 'custom'}:{name}"


def is_clampable(llm: Any) -> bool:
    """Whether it keeps to a max_tokens: OpenAI's do, a class of the user's own if its code speaks of it."""
    return _is_openai(_kind(llm)) or _speaks_of_length(_kind(llm))


@cache
def _speaks_of_length(kind: type[Any]) -> bool:
    return speaks_of_length(kind, _PACKAGES)


def wish_of(llm: Any, kwargs: Mapping[str, Any], *, clampable: bool) -> int | None:
    """The longest completion that a call asks for; of a class that can't be clamped the longest that it declares."""
    extra = _extra(llm)
    own = declared(llm, "max_tokens")
    wishes = [extra.get(key) for key in LENGTHS] + [own] + [kwargs.get(key) for key in LENGTHS]
    wish = next((int(value) for value in wishes if isinstance(value, int) and value > 0), None)
    if wish is None and not clampable and llm.metadata.num_output > 0:
        return llm.metadata.num_output
    return wish


def check_llm(llm: Any, whose: str) -> None:
    """Whether calls of a model can be bounded.

    Raises:
        ConfigError: they can't; the message says what to do
    """
    if (problem := unbounded(llm, {})) is not None:
        raise ConfigError(f"{whose} {problem}")


def unbounded(llm: Any, kwargs: Mapping[str, Any]) -> str | None:
    """Why a call of a model can't be bounded, as what follows its owner's name; None where it can.

    Args:
        llm: the model
        kwargs: what a single call adds to what the model says
    """
    kind = _kind(llm)
    if _provider(kind) is not None and not _is_openai(kind):
        return (
            f"is a {kind.__module__}.{kind.__name__}, whose own retries and lengths can't be bounded yet; use OpenAI "
            "or OpenAILike (any OpenAI-compatible server), or a CustomLLM of your own"
        )
    for given in (_extra(llm), kwargs):
        if (choices := given.get("n") or 1) != 1:
            return f"has n={choices}: completions that LlamaIndex throws away; leave n out"
        body = given.get("extra_body")
        if body and (key := next((key for key in (*LENGTHS, "n") if key in body), None)):
            return f"has an extra_body that sets {key}, which goes around the guard; give it to the model itself"
    return None


def _extra(llm: Any) -> Mapping[str, Any]:
    given = declared(llm, "additional_kwargs")
    return cast("Mapping[str, Any]", given) if isinstance(given, dict) else {}
