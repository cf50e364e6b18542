"""What is known of a chat model before it is called: its name, whether it keeps to a length, what can't be bounded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, cast

from langchain_core.language_models.chat_models import BaseChatModel

from crew_guard.adapters.hosted import speaks_of_length
from crew_guard.adapters.langgraph.clients import CLIENTS, check_retries
from crew_guard.adapters.langgraph.lengths import LENGTHS, THINKS_IN, declared, integration, is_of
from crew_guard.errors import ConfigError

_PROVIDERS = {"google_genai": "gemini", "amazon_bedrock": "bedrock"}
"""What policies and prices call those that LangChain calls otherwise."""
_AROUND = frozenset({"extra_body", "additional_model_request_fields"})
"""Parts of a request that an integration sends as they are."""
_ASKS_MORE = frozenset({"n", "candidate_count", "extra_body", "generation_config", "http_options", *THINKS_IN})
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
    package = integration(cast(Any, type(model)))
    clients = [getattr(model, each) for each in CLIENTS if each in has]
    if package == "langchain_aws":
        _check_aws(model, name, clients)
    if "max_retries" in has:
        check_retries(model, name, package, clients)


def _check_aws(model: Any, name: str, clients: Sequence[Any]) -> None:
    """Of what is behind botocore, Converse has one length for all models, and InvokeModel one of each model's own."""
    kind: Any = cast(Any, type(model))
    if is_of(kind, "langchain_aws", "ChatBedrockConverse"):
        _check_fields(model.additional_model_request_fields, name)
    elif any(type(client).__module__.startswith("botocore") for client in clients):
        raise ConfigError(f"{name}: {kind.__name__} can't be clamped or kept from retrying; use ChatBedrockConverse")


def _check_fields(fields: Mapping[str, Any] | None, name: str) -> None:
    _check(fields, name, "additional_model_request_fields")
    thinks: Mapping[str, Any] = (fields or {}).get("reasoningConfig") or {}
    if thinks.get("maxReasoningEffort") == "high":
        raise ConfigError(f"{name}: maxReasoningEffort 'high' takes no length, so that nothing bounds it; use 'medium'")


def check_bound(bound: Mapping[str, Any], name: str) -> None:
    """The same for what is given with a call.

    Raises:
        ConfigError: as above
    """
    if not _ASKS_MORE.isdisjoint(bound):
        _check({"n": bound.get("n") or bound.get("candidate_count")}, name, "call")
        _check(bound.get("extra_body"), name, "extra_body")
        config: Mapping[str, Any] = bound.get("generation_config") or {}
        _check({"n": config.get("candidate_count")}, name, "generation_config")
        for key in THINKS_IN:
            _check_fields(bound.get(key), name)
        options: Any = bound.get("http_options")
        if options is not None:
            _check_http(cast(Mapping[str, Any], options if isinstance(options, dict) else vars(options)), name)


def _check_http(options: Mapping[str, Any], name: str) -> None:
    for key in ("retry_options", "extra_body"):
        if options.get(key) is not None:
            raise ConfigError(f"{name}: http_options sets {key}, which goes around the guard; leave it out")


def _check(given: Mapping[str, Any] | None, name: str, part: str) -> None:
    for key in given or ():
        if key in LENGTHS and part in _AROUND:
            raise ConfigError(f"{name}: {part} sets {key}, which goes around the guard; give it to the model itself")
        choices = (given or {})[key]
        if key == "n" and isinstance(choices, int) and choices > 1:
            raise ConfigError(f"{name}: n={choices} asks for completions that LangGraph throws away; leave n out")


@cache
def is_clampable(kind: type[BaseChatModel]) -> bool:
    """Whether a class keeps to a length: an integration with a field for it does, a user's if its code says so."""
    if integration(kind) is not None and any(name in declared(kind) for name in LENGTHS):
        return True
    return speaks_of_length(kind, _PACKAGES)
