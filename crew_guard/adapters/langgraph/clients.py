"""The SDK clients inside of LangChain's models, without retries: an attempt is a step, and a step is admitted.

A model is given other clients for the time of a call; its own keep their retries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from crew_guard.errors import ConfigError

CLIENTS = frozenset({"client", "async_client", "root_client", "root_async_client", "_client", "_async_client"})
"""Names that LangChain's integrations have for them."""
_QUIET = (0, 1, None)
"""Values of max_retries with which integrations that retry by themselves send one request."""


def quiet(known: dict[int, tuple[Any, Any]], client: Any) -> Any:
    """The same client without retries, made once; what isn't an SDK's client comes back as it is."""
    found = known.get(id(client))
    if found is None:
        found = known[id(client)] = (client, _quietened(client))
    return found[1]


def _quietened(client: Any) -> Any:
    if _retries(client) and hasattr(client, "with_options"):
        return client.with_options(max_retries=0)
    inner = getattr(client, "_client", None)  # of a part of the API, such as client.chat.completions
    if _retries(inner) and hasattr(inner, "with_options"):
        return type(client)(cast(Any, inner).with_options(max_retries=0))
    return client


def _retries(client: object) -> bool:
    most = getattr(client, "max_retries", 0)
    return isinstance(most, int) and most > 0


def check_retries(model: Any, name: str, clients: Sequence[Any]) -> None:
    """Whether a model's retries can be switched off, or are.

    Args:
        model: one with a field max_retries
        clients: those that it holds
    Raises:
        ConfigError: it retries by itself, where the guard can't see it
    """
    kind: Any = cast(Any, type(model))
    if any(map(_is_sdk, clients)) or hasattr(kind, "_client"):
        return
    if model.max_retries not in _QUIET:
        raise ConfigError(
            f"{name}: the retries of {kind.__name__} can't be switched off for a run; give it max_retries=1"
        )


def _is_sdk(client: object) -> bool:
    return any(hasattr(each, "with_options") for each in (client, getattr(client, "_client", None)))
