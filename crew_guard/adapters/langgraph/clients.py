"""The SDK clients inside of LangChain's models, without retries: an attempt is a step, and a step is admitted.

A model is given other clients for the time of a call; its own keep their retries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from crew_guard.adapters.boto import has_endpoint, sent_once
from crew_guard.adapters.connections import quiet_client
from crew_guard.adapters.genai import QuietGemini, is_genai
from crew_guard.adapters.hosted import come_from
from crew_guard.adapters.versions import Supported
from crew_guard.errors import ConfigError

CLIENTS = frozenset({"client", "async_client", "root_client", "root_async_client", "_client", "_async_client"})
"""Names that LangChain's integrations have for them."""
_GEMINI = "langchain_google_genai"
_QUIET = (0, 1, None)
"""Values of max_retries with which integrations that retry by themselves send one request."""


def quiet(known: dict[int, tuple[Any, Any]], client: Any) -> Any:
    """The same client without retries, made once; what isn't an SDK's client comes back as it is.

    An async one is of the loop that asks.
    """
    sdk = client if hasattr(client, "with_options") else getattr(client, "_client", None)
    if hasattr(sdk, "with_options"):
        return quiet_client(client) if sdk is client else type(client)(quiet_client(sdk))
    if come_from(client, "ollama", frozenset({"AsyncClient"})):
        return quiet_client(client)
    found = known.get(id(client))
    if found is None:
        found = known[id(client)] = (client, _quietened(client))
    return found[1]


def calm(package: str | None, kwargs: dict[str, Any]) -> None:
    """Switch retries off for one call, where an integration takes them with it.

    Args:
        package: the integration's
        kwargs: what is given with the call, which is changed
    """
    if package == _GEMINI:
        kwargs["max_retries"] = 1  # requests in all; 0 would be the SDK's own number of them


def _quietened(client: Any) -> Any:
    if _is_boto(client):
        return sent_once(client, _never)
    if is_genai(client):
        return QuietGemini(client, _as_long, _as_long_async)
    return client


def _is_boto(client: object) -> bool:
    bases = ((base.__module__, base.__name__) for base in type(client).__mro__)
    return ("botocore.client", "BaseClient") in bases and has_endpoint(client)


def _as_long(_messages: Sequence[Any] = ()) -> None:
    """Its length is in the request already."""


async def _as_long_async(_messages: Sequence[Any] = ()) -> None:
    """The same."""


def _never(*_: object, **__: object) -> bool:
    return False


def check_retries(model: Any, name: str, package: str | None, clients: Sequence[Any]) -> None:
    """Whether a model's retries can be switched off, or are.

    Args:
        model: one with a field max_retries
        package: the integration's, where it is from one
        clients: those that it holds
    Raises:
        ConfigError: it retries by itself, where the guard can't see it
    """
    kind: Any = cast(Any, type(model))
    if any(map(_is_sdk, clients)) or hasattr(kind, "_client"):
        return
    if package == _GEMINI:
        Supported("langchain-google-genai", (4,), (5,), extra="langgraph").check(f"guarding {name}")
        return
    if model.max_retries not in _QUIET:
        raise ConfigError(
            f"{name}: the retries of {kind.__name__} can't be switched off for a run; give it max_retries=1"
        )


def _is_sdk(client: object) -> bool:
    return _is_boto(client) or any(hasattr(each, "with_options") for each in (client, getattr(client, "_client", None)))
