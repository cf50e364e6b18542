"""JSON Schemas for a decoder that can only follow them: made to end, and small enough for llama.cpp's grammars.

A small model that may write a string of any length writes one for ever, so each string and list gets
a limit. References are put in place, and what a grammar can't express is dropped: a validator
checks the answer afterwards anyway.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from crew_guard.core.messages import JsonObject, ToolSpec

MAX_STRING = 400
"""Characters of a string whose schema sets no limit, or a longer one."""
MAX_ARGUMENT = 120
"""Characters of a string that a tool is called with."""
MAX_ITEMS = 8
MAX_ANSWER = 1_000
"""Characters of a plain answer beside tools."""
_MAX_DEPTH = 8

_ANYTHING: dict[str, Any] = {"anyOf": [{"type": "string", "maxLength": MAX_STRING}, {"type": "number"}]}


def bounded(schema: JsonObject) -> dict[str, Any]:
    """The schema with every string and list limited and no references."""
    return _bounded(schema, cast("Mapping[str, Any]", schema.get("$defs", {})), 0)


def tool_choice(tools: Sequence[ToolSpec], output_schema: JsonObject | None) -> dict[str, Any]:
    """A schema for one tool call, {"tool", "arguments"}, or the answer, {"answer"}."""
    calls = [
        _object(
            {
                "tool": {"const": tool.name},
                "arguments": _shortened(bounded({**tool.parameters, "properties": _taken(tool.parameters)})),
            },
            ["tool", "arguments"],
        )
        for tool in tools
    ]
    answer = {"type": "string", "maxLength": MAX_ANSWER} if output_schema is None else bounded(output_schema)
    return {"anyOf": [*calls, _object({"answer": answer}, ["answer"])]}


def _shortened(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments with their plain texts limited further: a query is short."""
    for part in arguments["properties"].values():
        if part.get("type") == "string":
            part["maxLength"] = max(part["minLength"], min(part["maxLength"], MAX_ARGUMENT))
    return arguments


def instructions(tools: Sequence[ToolSpec], output_schema: JsonObject | None) -> str:
    """What the model is told of its tools and of the form of its answer, in few words."""
    lines: list[str] = []
    form = "JSON" if output_schema is None else f"JSON with the fields {_fields(output_schema)}"
    if tools:
        lines.append("You can use these tools:")
        lines += [f"- {_signature(tool)}: {tool.description.strip().partition(chr(10))[0]}" for tool in tools]
        example = {"tool": tools[0].name, "arguments": dict.fromkeys(_taken(tools[0].parameters), "...")}
        lines.append(f"To use a tool, write {json.dumps(example)}.")
        lines.append('When you know enough, write {"answer": "..."}.')
    if not tools or output_schema is not None:
        lines.append(f"Your answer is {form}.")
    return "\n".join(lines)


def _bounded(schema: Any, defs: Mapping[str, Any], depth: int) -> dict[str, Any]:
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return _ANYTHING
    given = cast("Mapping[str, Any]", schema)
    if isinstance(reference := given.get("$ref"), str):
        return _bounded(defs.get(reference.rpartition("/")[2]), defs, depth + 1)
    if "const" in given:
        return {"const": given["const"]}
    if "enum" in given:
        return {"enum": given["enum"]}
    choices = given.get("anyOf") or given.get("oneOf")
    if choices:
        return {"anyOf": [_bounded(choice, defs, depth + 1) for choice in choices]}
    merged = given.get("allOf")
    if merged and len(merged) == 1:
        return _bounded(merged[0], defs, depth + 1)
    kind = given.get("type")
    if isinstance(kind, list):
        return {"anyOf": [_bounded({**given, "type": one}, defs, depth) for one in cast("list[Any]", kind)]}
    return _typed(str(kind), given, defs, depth)


def _typed(kind: str, given: Mapping[str, Any], defs: Mapping[str, Any], depth: int) -> dict[str, Any]:
    if kind == "string":
        least = min(int(given.get("minLength", 0)), MAX_STRING)
        most = min(int(given.get("maxLength", MAX_STRING)), MAX_STRING)
        return {"type": "string", "minLength": least, "maxLength": most}
    if kind == "array":
        least = min(int(given.get("minItems", 0)), MAX_ITEMS)
        most = min(int(given.get("maxItems", MAX_ITEMS)), MAX_ITEMS)
        items = _bounded(given.get("items"), defs, depth + 1)
        return {"type": "array", "items": items, "minItems": least, "maxItems": most}
    if kind == "object":
        properties = {name: _bounded(part, defs, depth + 1) for name, part in _properties(given).items()}
        return _object(properties, [name for name in given.get("required", ()) if name in properties])
    if kind == "integer":
        limits = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
        return {"type": kind, **{key: given[key] for key in limits if key in given}}
    return {"type": kind} if kind in ("number", "boolean", "null") else _ANYTHING


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _properties(schema: JsonObject) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", schema.get("properties", {}))


def _signature(tool: ToolSpec) -> str:
    return f"{tool.name}({_fields({'properties': _taken(tool.parameters)})})"


def _taken(schema: JsonObject) -> dict[str, Any]:
    """The properties that a call may hold: those required, or all where none is. Optional ones it fills with noise."""
    properties, required = _properties(schema), schema.get("required", ())
    return {name: part for name, part in properties.items() if not required or name in required}


def _fields(schema: JsonObject) -> str:
    named: list[str] = []
    for name, part in _properties(schema).items():
        kind = cast("Mapping[str, Any]", part).get("type") if isinstance(part, Mapping) else None
        named.append(f"{name}: {kind}" if isinstance(kind, str) else name)
    return ", ".join(named)
