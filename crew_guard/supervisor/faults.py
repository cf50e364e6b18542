"""Infrastructure that failed: kept apart from what agents do, and nobody's failed trial."""

from __future__ import annotations

from crew_guard.errors import ModelError

_KINDS = ("throttled", "unavailable", "unreachable")
_OUTAGES = frozenset({"ConnectError", "ConnectTimeout", "ReadTimeout", "APIConnectionError", "APITimeoutError"})
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
        if type(link).__name__ in _OUTAGES:
            return True
        link = link.__cause__
    return False
