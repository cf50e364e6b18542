"""What is known of a chat model before it is called: its name, whether it keeps to a length, what can't be bounded."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, cast

from langchain_core.language_models.chat_models import BaseChatModel

from crew_guard.adapters.hosted import speaks_of_length
from crew_guard.adapters.langgraph.clients import CLIENTS, check_retries
from crew_guard.adapters.langgraph.lengths import LENGTHS, declared, integration
from crew_guard.errors import ConfigError

_PROVIDERS = {"google_genai": "gemini", "amazon_bedrock": "bedrock"}
"""What policies and prices call those that LangChain calls otherwise."""
_PACKAGES = frozenset({"langchain_core", "langchain", "langgraph", "pydantic", "builtins", "abc", "typing"})


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
    return f"{_PROVIDERS.get(provider, provider)}:{given or params.get('ls_model_name') or type(model).__name__}"


def check_model(model: Any, name: str) -> None:
    """Whether a model can be bounded.

    Raises:
        ConfigError: it sets its length where a clamp doesn't reach, wants several answers, or retries unseen
    """
    has = declared(cast(Any, type(model)))
    for part in ("extra_body", "model_kwargs"):
        given: Mapping[str, Any] = (getattr(model, part) if part in has else None) or {}
        _check(given, name, part)
        _check(given.get("extra_body"), name, "extra_body")
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
