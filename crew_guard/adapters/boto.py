"""Clients of botocore that send each request once: their retries are the endpoint's, and take no option of a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast


def has_endpoint(client: object) -> bool:
    """Whether a client's endpoint is where it is known to be, sync or async."""
    return hasattr(getattr(client, "_endpoint", None), "_needs_retry")


def sent_once(client: Any, needs_retry: Callable[..., Any]) -> Any:
    """The same client, whose endpoint doesn't try again; all that both hold is shared.

    Args:
        client: one that `has_endpoint`
        needs_retry: answers no, as a coroutine for an async client
    """
    other, endpoint = _shallow(client), _shallow(client._endpoint)  # noqa: SLF001  botocore hands it out nowhere
    endpoint._needs_retry = needs_retry  # noqa: SLF001  as above
    other._endpoint = endpoint  # noqa: SLF001  as above
    return other


def _shallow(of: Any) -> Any:
    other: Any = object.__new__(cast("type[Any]", type(of)))  # not copy(): a client without its state never ends
    other.__dict__.update(vars(of))
    return other
