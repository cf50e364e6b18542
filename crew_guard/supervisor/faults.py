"""Infrastructure that failed: kept apart from what agents do, and nobody's failed trial."""

from __future__ import annotations

from crew_guard.errors import ModelError, RunFailedError, StoreError
from crew_guard.workflows.context import NodeFailedError, node_of

_KINDS = ("throttled", "unavailable", "unreachable")
_OUTAGES = frozenset({"TransportError", "APIConnectionError", "ConnectionError"})
"""Bases of what HTTP clients and SDKs raise where no connection stands; their packages need not be imported."""
_TOO_MANY, _SERVER_ERRORS = 429, 500


def is_fault(error: BaseException) -> bool:
    """Whether a provider that could not be used is behind an error, a host's client's own errors included."""
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if isinstance(link, ModelError):
            return link.kind in _KINDS
        status = getattr(link, "status_code", None)
        if isinstance(status, int):
            return status == _TOO_MANY or status >= _SERVER_ERRORS
        if any(base.__name__ in _OUTAGES for base in type(link).__mro__):
            return True
        link = link.__cause__
    return False


def words_of(error: BaseException) -> str:
    """What an exception says, its kind where it isn't ours, and the workflow's node that it comes from."""
    ours = isinstance(error, StoreError | ModelError | RunFailedError | NodeFailedError)
    told = (str(error) if ours else "") or f"{type(error).__name__}: {error}"
    node = "" if isinstance(error, StoreError) else node_of(error)
    return f"node {node!r}: {told}" if node else told
