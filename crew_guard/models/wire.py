"""What goes over the wire to a chat-completions server: messages, tools and schemas as JSON.

Counting uses the same JSON, so what is counted is what is sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from crew_guard.core.messages import JsonObject, Message, ModelRequest, ToolSpec

_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_escaped = json.JSONEncoder(separators=(",", ":")).encode
_indented = json.JSONEncoder(indent=4).encode


def compact(value: Any) -> str:
    """JSON without spaces, text as it is."""
    return _compact(value)


def indented(value: Any) -> str:
    """JSON in its longest usual form: indented, everything beyond ASCII escaped."""
    return _indented(value)


def escaped(value: Any) -> str:
    """JSON without spaces, everything beyond ASCII escaped: a lone surrogate can't make it invalid."""
    return _escaped(value)


def tool_json(tool: ToolSpec) -> dict[str, Any]:
    """A tool as chat-completions servers take it."""
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def message_json(message: Message) -> dict[str, Any]:
    """A message as chat-completions servers take it."""
    if message.speaker == "tool":
        return {"role": "tool", "content": message.text, "tool_call_id": message.tool_request_id or ""}
    if not message.tool_requests:
        return {"role": message.speaker, "content": message.text}
    calls = [
        {
            "id": request.id,
            "type": "function",
            "function": {"name": request.name, "arguments": _object_or_empty(request.arguments)},
        }
        for request in message.tool_requests
    ]
    return {"role": "assistant", "content": message.text or None, "tool_calls": calls}


def _object_or_empty(arguments: str) -> str:
    # servers that parse the history refuse all of it for one malformed call; the tool's message says what was wrong
    try:
        value = json.loads(arguments)
    except ValueError:
        return "{}"
    return arguments if isinstance(value, dict) else "{}"


class RequestWriter:
    """Writes request bodies for one model. Tools and schemas are turned into JSON once, and known again by identity."""

    def __init__(
        self, model: str, limit_key: str, *, stream: bool, asks_usage: bool = True, takes_schema: bool = True
    ) -> None:
        """Describe the server.

        Args:
            model: what the server calls the model
            limit_key: max_tokens or max_completion_tokens
            asks_usage: whether a stream's usage must, and may, be asked for
            takes_schema: whether it knows schemas; else they are told in words, and JSON is asked for
        """
        self._head = f'{{"model":{escaped(model)},"{limit_key}":'
        usage = ',"stream_options":{"include_usage":true}' if asks_usage else ""
        self._stream = ',"stream":true' + usage if stream else ""
        self._takes_schema = takes_schema
        self._tools = Known(_tools_text)
        self._schemas = Known(_sent_schema)

    def schema_sent(self, schema: JsonObject) -> JsonObject:
        """The form in which a schema goes over the wire; the same object each time."""
        return self._schemas(schema)[0]

    def write(self, request: ModelRequest, max_tokens: int) -> bytes:
        """The whole body of one request."""
        parts = [self._head, str(max_tokens), self._stream]
        if request.tools:
            parts.append(self._tools(request.tools))
        messages = [message_json(message) for message in request.messages]
        if request.output_schema is not None:
            schema, is_strict = self._schemas(request.output_schema)
            if self._takes_schema:
                parts += [',"response_format":', escaped(response_format(schema, request.output_name, is_strict))]
            else:
                parts.append(',"response_format":{"type":"json_object"}')
                messages.insert(0, {"role": "system", "content": schema_in_words(schema)})
        parts += [',"messages":', escaped(messages), "}"]
        return "".join(parts).encode("ascii")


def schema_in_words(schema: JsonObject) -> str:
    """What a model is told where its server can't be."""
    return f"Answer with JSON alone, which follows this JSON Schema: {compact(schema)}"


class Known:
    """A function whose results are kept by the identity of its argument, a few of them."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function
        self._results: dict[int, tuple[object, Any]] = {}

    def __call__(self, argument: Any) -> Any:
        known = self._results.get(id(argument))
        if known is not None and known[0] is argument:
            return known[1]
        result = self._function(argument)
        if len(self._results) >= _KNOWN:
            self._results = {}
        # the argument is kept with its result, so that its id can't be used again
        self._results[id(argument)] = (argument, result)
        return result


_KNOWN = 64


def _tools_text(tools: Sequence[ToolSpec]) -> str:
    return f',"tools":{escaped([tool_json(tool) for tool in tools])},"tool_choice":"auto"'


def _sent_schema(schema: JsonObject) -> tuple[JsonObject, bool]:
    bound = strict(schema)
    return (schema, False) if bound is None else (bound, True)


def response_format(schema: JsonObject, name: str, is_strict: bool) -> dict[str, Any]:
    """A schema as chat-completions servers take it."""
    label = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64] or "output"
    return {"type": "json_schema", "json_schema": {"name": label, "schema": schema, "strict": is_strict}}


def strict(schema: JsonObject) -> dict[str, Any] | None:
    """The schema in the strict form: every object closed, every property required.

    Returns:
        None where it can't be: an object of unknown keys, or a schema that allows anything
    """
    try:
        return _strict(schema)
    except _OpenSchemaError:
        return None


class _OpenSchemaError(Exception):
    """A part of the schema has no strict form."""


_SCHEMA_MAPS = ("properties", "$defs")
_SCHEMA_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")


def _strict(schema: Any) -> dict[str, Any]:
    if not isinstance(schema, Mapping) or not schema:
        raise _OpenSchemaError
    found = {key: value for key, value in cast("Mapping[str, Any]", schema).items() if key != "default"}
    if "$ref" in found:
        return {"$ref": found["$ref"]}
    for key in _SCHEMA_MAPS:
        if key in found:
            found[key] = {name: _strict(part) for name, part in found[key].items()}
    for key in _SCHEMA_LISTS:
        if key in found:
            found[key] = [_strict(part) for part in found[key]]
    if "oneOf" in found:
        found["anyOf"] = found.pop("oneOf")
        found.pop("discriminator", None)
    if found.get("type") == "array":
        found["items"] = _strict(found.get("items"))
    return _closed(found) if found.get("type") == "object" else found


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    if not schema.get("properties") or schema.get("additionalProperties"):
        raise _OpenSchemaError
    return {**schema, "additionalProperties": False, "required": list(schema["properties"])}
