"""What is known of a chat model before it is called: its name, whether it keeps to a length, what can't be bounded."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any, cast

from langchain_core.language_models.chat_models import BaseChatModel
from pydantic import BaseModel

from crew_guard.adapters.hosted import speaks_of_length
from crew_guard.adapters.langgraph.clients import CLIENTS, check_retries
from crew_guard.errors import ConfigError

LENGTHS = ("max_completion_tokens", "max_tokens", "max_output_tokens", "max_new_tokens", "num_predict")
"""What integrations call the longest completion."""
_PACKAGES = frozenset({"langchain_core", "langchain", "langgraph", "pydantic", "builtins", "abc", "typing"})


@cache
def declared(kind: type[BaseModel]) -> frozenset[str]:
    """The names of a class's fields. Asked for at every call, and pydantic takes its time to say."""
    return frozenset(kind.model_fields)


@cache
def lengths_of(kind: type[BaseModel]) -> tuple[str, ...]:
    """The names under which a model holds its longest completion."""
    return tuple(name for name in LENGTHS if name in declared(kind) or hasattr(kind, name))


def model_name(model: BaseChatModel, given: str | None) -> str:
    """provider:name, as policies know it; a model of the user's own goes by custom.

    Args:
        given: the name that a call brings along, where it does
    """
    if integration(type(model)) is None:
        own = given or getattr(model, "model", None) or getattr(model, "model_name", None)
        return f"custom:{own if isinstance(own, str) else type(model).__name__}"
    params = model._get_ls_params()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    provider = params.get("ls_provider") or "custom"
    return f"{provider}:{given or params.get('ls_model_name') or type(model).__name__}"


def check_model(model: Any, name: str) -> None:
    """Whether a model can be bounded.

    Raises:
        ConfigError: it sets its length where a clamp doesn't reach, wants several answers, or retries unseen
    """
    has = declared(cast(Any, type(model)))
    for part in ("extra_body", "model_kwargs"):
        _check(getattr(model, part) if part in has else None, name, part)
    _check({"n": model.n} if "n" in has else None, name, "model")
    if "max_retries" in has:
        check_retries(model, name, [getattr(model, each) for each in CLIENTS if each in has])


def check_bound(bound: Mapping[str, Any], name: str) -> None:
    """The same for what is given with a call.

    Raises:
        ConfigError: as above
    """
    if "n" in bound or "extra_body" in bound:
        _check({"n": bound.get("n")}, name, "call")
        _check(bound.get("extra_body"), name, "extra_body")


def _check(given: Mapping[str, Any] | None, name: str, part: str) -> None:
    for key in given or ():
        if key in LENGTHS and part == "extra_body":
            raise ConfigError(
                f"{name}: extra_body sets {key}, which goes around the guard; give it to the model itself"
            )
        choices = (given or {})[key]
        if key == "n" and isinstance(choices, int) and choices > 1:
            raise ConfigError(f"{name}: n={choices} asks for completions that LangGraph throws away; leave n out")


@cache
def is_clampable(kind: type[BaseChatModel]) -> bool:
    """Whether a class keeps to a length: an integration with a field for it does, a user's if its code says so."""
    if integration(kind) is not None and any(name in declared(kind) for name in LENGTHS):
        return True
    return speaks_of_length(kind, _PACKAGES)


@cache
def takes_length(kind: type[BaseChatModel]) -> bool:
    """Whether a length may be given with a call."""
    parameters = inspect.signature(kind._generate).parameters.values()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return any(each.kind is each.VAR_KEYWORD or each.name == "max_tokens" for each in parameters)


@cache
def integration(kind: type) -> str | None:
    """The package of LangChain's integration that a class is from, such as langchain_openai."""
    packages = (base.__module__.partition(".")[0] for base in kind.__mro__)
    return next((name for name in packages if name.startswith("langchain_") and name != "langchain_core"), None)
