"""What a line on a server's pipe says: a message, nothing, or an answer that can't be read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pydantic import ValidationError

if TYPE_CHECKING:
    from mcp import types

_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
"""One escape of JSON, two where they make one character; a group where it is half of one."""
_PART = re.compile(
    rb'([{\[]+)|([}\]]+)|("[^"\\]*+(?:\\.[^"\\]*+)*+")(?:(\s*:)(?:(?=\s*"?([0-9]{1,18})["\s,}]))?)?', re.DOTALL
)
"""Brackets that open, or close; or a text, the colon that makes it a key, and the whole number behind that."""


def message_of(line: bytes) -> types.JSONRPCMessage | None:
    """What the server says; None where the line is no message, a print say.

    Half a character becomes U+FFFD: JavaScript writes one where it cuts a text in the middle of an emoji. An answer
    that can't be read is an error that says so, for else its call would wait for ever.
    """
    from mcp import types

    try:
        return types.JSONRPCMessage.model_validate_json(line)
    except ValueError:
        pass
    try:
        return types.JSONRPCMessage.model_validate_json(_whole(line))
    except ValueError as error:
        number = _answered(line)
        if number is None:
            return None
        told = types.ErrorData(code=types.PARSE_ERROR, message=f"its answer can't be read: {_reason(error)}")
        return types.JSONRPCMessage(types.JSONRPCError(jsonrpc="2.0", id=number, error=told))


def _whole(line: bytes) -> str:
    text = line.decode(errors="replace")
    return _ESCAPE.sub(lambda found: r"\ufffd" if found[1] else found[0], text)


def _answered(line: bytes) -> int | None:
    """The request that a message answers, as far as its own keys tell, however deep the rest of it is."""
    if not line.lstrip().startswith(b"{"):
        return None
    depth, keys = 0, dict[bytes, bytes | None]()
    for part in _PART.finditer(line):
        opened, closed, text, colon, number = part.groups()
        depth += len(opened or b"") - len(closed or b"")
        if depth == 1 and colon:
            keys[text] = number
    number = keys.get(b'"id"')
    return int(number) if number and b'"jsonrpc"' in keys and b'"method"' not in keys else None


def _reason(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] != "json_invalid":
            return "expected an object as its result, or an error with a code and a message"
        return first["msg"]
    return str(error)[:300]
