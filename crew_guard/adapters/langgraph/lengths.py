"""The longest completion: where a model or a call says it, and how a request is shortened to a grant.

An integration may hold it under several names at once, and what is given with a call outweighs the model's own.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, cast

from langchain_core.language_models.chat_models import BaseChatModel
from pydantic import BaseModel

from crew_guard.adapters.hosted import room_beside

LENGTHS = ("max_completion_tokens", "max_tokens", "max_output_tokens", "max_new_tokens", "num_predict", "maxTokens")
"""What integrations call the longest completion."""
_INSIDE = {
    "langchain_ollama": {"options": ("num_predict",)},
    "langchain_google_genai": {"generation_config": ("max_output_tokens", "maxOutputTokens")},
    "langchain_aws": {"inferenceConfig": ("maxTokens",), "inference_config": ("maxTokens", "max_tokens")},
}
"""What integrations take with a call in place of the model's own settings, and their names of the length in there."""
_THINK = frozenset({"langchain_anthropic", "langchain_aws"})
THINKS_IN = ("additional_model_request_fields", "additionalModelRequestFields")
"""Where ChatBedrockConverse has what it doesn't know itself, such as Claude's thinking."""
_OPENAI = ("langchain_openai", "BaseChatOpenAI")
_ANTHROPIC = ("langchain_anthropic", "ChatAnthropic")


@cache
def declared(kind: type[BaseModel]) -> frozenset[str]:
    """The names of a class's fields. Asked for at every call, and pydantic takes its time to say."""
    return frozenset(kind.model_fields)


@cache
def lengths_of(kind: type[BaseModel]) -> tuple[str, ...]:
    """The names under which a model holds its longest completion."""
    return tuple(name for name in LENGTHS if name in declared(kind) or hasattr(kind, name))


@cache
def takes_length(kind: type[BaseChatModel]) -> bool:
    """Whether a length may be given with a call."""
    parameters = inspect.signature(kind._generate).parameters.values()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return any(each.kind is each.VAR_KEYWORD or each.name == "max_tokens" for each in parameters)


def wish_of(model: Any, given: Mapping[str, Any], more: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """The longest completion that the user asks for, and the shortest of use; None where nothing is said.

    Args:
        given: with the call
        more: the model's model_kwargs
    """
    kind: Any = cast(Any, type(model))
    wish = _first(part.get(name) for _, part, names in _inside(kind, given) for name in names)
    if wish is None:
        wish = _first(part[key] for part in (given, more) for key in LENGTHS if key in part)
    if wish is None:
        wish = _first(getattr(model, key) for key in lengths_of(kind))
        if wish is not None and is_of(kind, *_ANTHROPIC) and wish == _filled_in(kind, model.model):
            wish = None  # the model's longest, which nobody asked for
    return room_beside(_thinks(model, given, more) or 0, wish)


def shorten(model: Any, kwargs: dict[str, Any], length: int) -> dict[str, Any]:
    """Have a request ask for no more than this.

    Args:
        kwargs: what is given with the call, which is changed
    Returns:
        what the model's own attributes are to be, by name
    """
    kind: Any = cast(Any, type(model))
    own = lengths_of(kind)
    for key in LENGTHS:
        if kwargs.get(key) is not None:
            kwargs[key] = length
    for key, part, names in _inside(kind, kwargs):
        kwargs[key] = {**{own: value for own, value in part.items() if own not in names}, names[0]: length}
    outweighs = is_of(kind, *_OPENAI) or is_of(kind, *_ANTHROPIC)  # model_kwargs, too
    if outweighs or (not own and takes_length(kind)):
        kwargs["max_tokens"] = length
    return dict.fromkeys(own, length)


@cache
def is_of(kind: type, package: str, name: str) -> bool:
    """Whether a class is this one of an integration's, or made of it."""
    return any((base.__module__.partition(".")[0], base.__name__) == (package, name) for base in kind.__mro__)


@cache
def integration(kind: type) -> str | None:
    """The package of LangChain's integration that a class is from, such as langchain_openai."""
    packages = (base.__module__.partition(".")[0] for base in kind.__mro__)
    return next((name for name in packages if name.startswith("langchain_") and name != "langchain_core"), None)


def _inside(kind: type, given: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any], tuple[str, ...]]]:
    names = _INSIDE.get(integration(kind) or "") or {}
    return [(key, given[key], name) for key, name in names.items() if isinstance(given.get(key), Mapping)]


def _first(lengths: Iterable[Any]) -> int | None:
    return next((each for each in lengths if isinstance(each, int) and each > 0), None)


@cache
def _filled_in(kind: Any, model: str) -> int | None:
    # What LangChain gives a model that is made without a length.
    return kind.set_default_max_tokens({"model": model}).get("max_tokens")


def _thinks(model: Any, given: Mapping[str, Any], more: Mapping[str, Any]) -> int | None:
    """The tokens that Claude may think with, which its longest completion has to exceed."""
    kind: Any = cast(Any, type(model))
    if integration(kind) not in _THINK:
        return None
    places: list[Mapping[str, Any]] = [{"thinking": model.thinking}] if "thinking" in declared(kind) else []
    places += [given, more]
    places += [given[key] for key in THINKS_IN if given.get(key)]
    places += [getattr(model, key) for key in THINKS_IN if key in declared(kind) and getattr(model, key)]
    found: Any = next((thinking for place in places if (thinking := place.get("thinking"))), None)
    return _first([cast(Mapping[str, Any], found).get("budget_tokens")]) if isinstance(found, Mapping) else None
