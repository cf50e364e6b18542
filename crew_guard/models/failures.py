"""A server's failures as ModelErrors: what kind it is, how long to wait, and never the key."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, cast

from crew_guard.errors import ModelError, ModelFailure

_SHOWN = 300


def status_failure(status: int, headers: Mapping[str, str], body: bytes, advice: str) -> ModelError:
    """The error for an answer whose status is not 2xx.

    Args:
        headers: case-insensitive
        advice: what to do about a key that was refused
    """
    kind = status_kind(status)
    said = _said(body)
    message = f"the server answered with status {status}" + (f": {said}" if said else "")
    if status in _KEY_REFUSED:
        message += f". {advice}"
    elif status == _NOT_FOUND:
        message += ". Check the model's name and the base URL"
    elif kind == "rejected" and status < _CLIENT_ERRORS:
        message += ". It points elsewhere: check the base URL"
    return ModelError(message, kind=kind, status=status, retry_after=retry_after(headers, time.time()))


_KEY_REFUSED = (401, 403)
_NOT_FOUND = 404
_TRY_AGAIN = (408, 409, 425, 429)
"""Too late, in conflict, too early, too many: nothing was made, and another try may succeed."""
_CLIENT_ERRORS = 400
_SERVER_ERRORS = 500


def status_kind(status: int) -> ModelFailure:
    """The kind of failure that a status other than 2xx is."""
    if status in _TRY_AGAIN:
        return "throttled"
    return "unavailable" if status >= _SERVER_ERRORS else "rejected"


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that the server asks us to wait, at least 0; None where it doesn't say, or not so that it makes sense.

    Args:
        headers: case-insensitive; retry-after-ms, or Retry-After in seconds or as an HTTP date
        now: Unix seconds
    """
    milliseconds = _seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    given = headers.get("retry-after")
    seconds = _seconds(given)
    if seconds is not None or given is None:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(given).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _seconds(value: str | None) -> float | None:
    try:
        seconds = float(value or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _said(body: bytes) -> str:
    """The server's own words, on one line."""
    text = body.decode("utf-8", "replace")
    try:
        parsed: Any = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None
    if isinstance(parsed, dict):
        whole = cast("dict[str, Any]", parsed)
        error: Any = whole.get("error") or whole.get("message") or whole.get("detail") or whole
        words = cast("dict[str, Any]", error).get("message", error) if isinstance(error, dict) else error
        text = words if isinstance(words, str) else json.dumps(words)
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
