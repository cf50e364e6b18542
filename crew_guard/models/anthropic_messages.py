"""Anthropic's Messages API, as a Wire.

System messages at the beginning are the system prompt; later ones are the user's. Messages of one side in a
row become one turn, because results must stand together behind the calls that they answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from crew_guard.core.messages import JsonObject, Message, ModelReply, ModelRequest, ToolRequest, ToolSpec
from crew_guard.core.reported import mapping, parse_usage, sequence
from crew_guard.core.usage import Rates
from crew_guard.models.http_model import HttpModel, Key, checked_url
from crew_guard.models.streams import check_error, json_object, unfinished
from crew_guard.models.wire import Known, escaped, schema_in_words, strict

if TYPE_CHECKING:
    import httpx2

_VERSION = "2023-06-01"
_FINISHES = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9_-]")


class AnthropicModel(HttpModel):
    """A model behind Anthropic's Messages API."""

    def __init__(
        self,
        name: str,
        model: str,
        base_url: str,
        api_key: str | None = None,
        *,
        rates: Rates | None = None,
        window: int | None = None,
        timeout: float = 60.0,
        stream: bool = True,
        key_source: str = "the api_key",
        client: httpx2.AsyncClient | None = None,
    ) -> None:
        """Describe the server; nothing is sent yet. The arguments are those of HttpModel.

        Args:
            model: what the server calls it
            base_url: up to and without /v1/messages
            key_source: where the user sets the key, to be named where the server refuses it
        Raises:
            ConfigError: the URL or the key can't be used
            MissingDependencyError: the HTTP client is not installed
        """
        self.model = model
        base = checked_url(base_url)
        url = base + ("/messages" if urlsplit(base).path.endswith("/v1") else "/v1/messages")
        key = Key(api_key, key_source) if api_key else None
        wire = MessagesWire(url, model, stream=stream)
        super().__init__(name, wire, key, rates=rates, window=window, timeout=timeout, stream=stream, client=client)


class MessagesWire:
    """The Messages API, as a Wire."""

    key_header = ("x-api-key", "")
    headers: Mapping[str, str] = {"anthropic-version": _VERSION}

    def __init__(self, url: str, model: str, *, stream: bool) -> None:
        self.url = url
        self._head = f'{{"model":{escaped(model)},' + ('"stream":true,' if stream else "") + '"max_tokens":'
        self._tools = Known(_tools_text)
        self._schemas = Known(_sent_schema)

    def schema_sent(self, schema: JsonObject) -> JsonObject:
        """See Wire.schema_sent."""
        return self._schemas(schema)[0]

    def write(self, request: ModelRequest, max_tokens: int) -> bytes:
        """See Wire.write."""
        system, turns = _turns(request.messages)
        parts = [self._head, str(max_tokens)]
        if request.tools:
            parts.append(self._tools(request.tools))
        if request.output_schema is not None:
            schema, is_strict = self._schemas(request.output_schema)
            if is_strict:
                parts.append(f',"output_config":{{"format":{{"type":"json_schema","schema":{escaped(schema)}}}}}')
            else:
                system.append(schema_in_words(schema))
        if system:
            parts += [',"system":', escaped("\n\n".join(system))]
        parts += [',"messages":', escaped(turns), "}"]
        return "".join(parts).encode("ascii")

    def growing(self) -> MessagesReply:
        """See Wire.growing."""
        return MessagesReply()

    def whole(self, body: bytes) -> ModelReply:
        """See Wire.whole."""
        message = json_object(body, "")
        check_error(message, "")
        reply = MessagesReply()
        reply.begin(message)
        for index, block in enumerate(sequence(message.get("content"))):
            reply.open(index, mapping(block))
        return reply.reply()


def _tools_text(tools: Sequence[ToolSpec]) -> str:
    shown = [{"name": tool.name, "description": tool.description, "input_schema": tool.parameters} for tool in tools]
    return f',"tools":{escaped(shown)}'


_KEPT = frozenset(
    {"type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "allOf"}
    | {"$ref", "$defs", "title", "description", "format"}
)


def _sent_schema(schema: JsonObject) -> tuple[JsonObject, bool]:
    bound = strict(schema)
    return (schema, False) if bound is None else (_plain(bound), True)


def _plain(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema without what Anthropic's decoder refuses; those limits are told in the description instead."""
    found = {key: value for key, value in schema.items() if key in _KEPT}
    for key in ("properties", "$defs"):
        if key in found:
            found[key] = {name: _plain(part) for name, part in found[key].items()}
    for key in ("anyOf", "allOf"):
        if key in found:
            found[key] = [_plain(part) for part in found[key]]
    if "items" in found:
        found["items"] = _plain(found["items"])
    limits = ", ".join(f"{key} {value}" for key, value in schema.items() if key not in _KEPT)
    if limits:
        found["description"] = f"{found.get('description', '')} ({limits})".strip()
    return found


def _turns(messages: Sequence[Message]) -> tuple[list[str], list[dict[str, Any]]]:
    """(the system prompt's parts, the turns)."""
    system: list[str] = []
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.speaker == "system" and not turns:
            system.append(message.text)
            continue
        role = "assistant" if message.speaker == "assistant" else "user"
        blocks = _blocks(message)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    if not turns and system:
        turns.append({"role": "user", "content": [{"type": "text", "text": system.pop()}]})
    return system, turns


def _blocks(message: Message) -> list[dict[str, Any]]:
    if message.speaker == "tool":
        answered = _id(message.tool_request_id or "")
        return [{"type": "tool_result", "tool_use_id": answered, "content": message.text}]
    # the API refuses a block of empty text
    blocks: list[dict[str, Any]] = [{"type": "text", "text": message.text}] if message.text.strip() else []
    for request in message.tool_requests:
        arguments = _object(request.arguments)
        blocks.append({"type": "tool_use", "id": _id(request.id), "name": request.name, "input": arguments})
    return blocks


def _id(given: str) -> str:
    return _NOT_IN_AN_ID.sub("_", given) or "call"


def _object(arguments: str) -> dict[str, Any]:
    try:
        value = json.loads(arguments)
    except ValueError:
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


@dataclass(slots=True)
class _Block:
    """A tool call under way."""

    id: str
    name: str
    arguments: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class MessagesReply:
    """A reply of the Messages API that grows as its events arrive."""

    pieces: list[str] = field(default_factory=list[str])
    calls: dict[object, _Block] = field(default_factory=dict[object, _Block])
    usage: dict[str, Any] = field(default_factory=dict[str, Any])
    finish: str = ""
    """The API's stop_reason; empty until it came."""
    model: str = ""
    begun: bool = False
    ended: bool = False

    @property
    def text(self) -> str:
        """What has arrived so far."""
        return "".join(self.pieces)

    def take(self, data: bytes) -> str:
        """Take in one event's data; the text that it adds. Raises ModelError as Growing.take does."""
        event = json_object(data, self.text)
        check_error(event, self.text)
        kind = event.get("type")
        if kind == "message_start":
            self.begin(mapping(event.get("message")))
        elif kind == "content_block_start":
            return self.open(event.get("index"), mapping(event.get("content_block")))
        elif kind == "content_block_delta":
            return self._grow(event.get("index"), mapping(event.get("delta")))
        elif kind == "message_delta":
            self._stopped(mapping(event.get("delta")))
            self._count(event.get("usage"))
        elif kind == "message_stop":
            self.ended = True
        return ""

    def begin(self, message: Mapping[str, Any]) -> None:
        """Take in the message itself, without its blocks."""
        self.begun = message.get("type") == "message"
        if isinstance(model := message.get("model"), str):
            self.model = model
        self._stopped(message)
        self._count(message.get("usage"))

    def open(self, index: object, block: Mapping[str, Any]) -> str:
        """Take in a block's beginning, or a whole block; the text that it adds."""
        if block.get("type") == "tool_use":
            call = self.calls[index] = _Block(str(block.get("id") or ""), str(block.get("name") or ""))
            if given := mapping(block.get("input")):
                call.arguments.append(json.dumps(given))
        return self._said(block.get("text")) if block.get("type") == "text" else ""

    def _grow(self, index: object, delta: Mapping[str, Any]) -> str:
        call, part = self.calls.get(index), delta.get("partial_json")
        if call is not None and isinstance(part, str):
            call.arguments.append(part)
        return self._said(delta.get("text"))

    def _said(self, text: object) -> str:
        if not isinstance(text, str) or not text:
            return ""
        self.pieces.append(text)
        return text

    def _stopped(self, delta: Mapping[str, Any]) -> None:
        if isinstance(reason := delta.get("stop_reason"), str):
            self.finish = reason

    def _count(self, usage: Any) -> None:
        # later counts are of the whole message, and leave out what they don't repeat
        self.usage.update({key: value for key, value in mapping(usage).items() if value is not None})

    def reply(self) -> ModelReply:
        """The finished reply. Raises ModelError as Growing.reply does."""
        if not self.finish or not self.begun:
            raise unfinished(self.text, begun=self.begun)
        usage, parts = parse_usage(self.usage)
        return ModelReply(
            text=self.text,
            tool_requests=tuple(
                ToolRequest(call.id or f"call_{number}", call.name, "".join(call.arguments) or "{}")
                for number, call in enumerate(self.calls.values(), 1)
                if call.name
            ),
            usage=usage,
            parts=parts,
            finish=_FINISHES.get(self.finish, self.finish),
            model=self.model,
        )
