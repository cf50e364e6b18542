"""What all streams of providers share: events cut out of bytes, JSON out of events, and errors inside an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from crew_guard.core.reported import mapping
from crew_guard.errors import ModelError

_SHOWN = 300


class Events:
    """Server-sent events, cut out of a stream of bytes."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of each event that this piece completes, in order."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        found: list[bytes] = []
        for raw in lines:
            line = raw.rstrip(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].lstrip(b" "))
            elif not line and self._data:
                found.append(b"\n".join(self._data))
                self._data = []
        return found

    def end(self) -> list[bytes]:
        """The data of an event that the end of the stream completes."""
        return self.feed(b"\n\n")


def json_object(data: bytes, so_far: str) -> dict[str, Any]:
    """The JSON object in an event or a body.

    Args:
        so_far: the text that had arrived, for the error
    Raises:
        ModelError: malformed, where it is none
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        if not data.strip():
            raise ModelError("the server answered with an empty body", kind="malformed", text=so_far)
        shown = data[:120].decode("utf-8", "replace")
        raise ModelError(f"the server sent what is no JSON object: {shown!r}", kind="malformed", text=so_far)
    return cast("dict[str, Any]", value)


def check_error(chunk: Mapping[str, Any], so_far: str) -> None:
    """Raise what the server reports inside an answer that began well."""
    error = chunk.get("error")
    if error:
        said = mapping(error).get("message", error)
        raise ModelError(f"the server broke off with an error: {str(said)[:_SHOWN]}", kind="broken", text=so_far)


def unfinished(so_far: str, *, begun: bool) -> ModelError:
    """The error for a stream that ended before its answer did."""
    if not begun:
        return ModelError("the server's stream held no completion", kind="malformed")
    return ModelError("the server's stream ended before the answer did", kind="broken", text=so_far)
