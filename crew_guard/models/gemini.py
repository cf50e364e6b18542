"""Gemini's generateContent, as a Wire.

Gemini 3 wants each call of a tool back with the signature of the thought that led to it. Signatures are kept
here by the call's id, a few thousand of them; where one is gone, Google's word for "don't check" stands in.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlsplit

from crew_guard.core.messages import JsonObject, Message, ModelReply, ModelRequest, ToolRequest, ToolSpec
from crew_guard.core.reported import mapping, parse_usage, sequence
from crew_guard.core.usage import Rates
from crew_guard.errors import ModelError
from crew_guard.models.http_model import HttpModel, Key, checked_url
from crew_guard.models.streams import check_error, json_object, unfinished
from crew_guard.models.wire import Known, escaped, schema_in_words

if TYPE_CHECKING:
    import httpx2

_FILTERED = frozenset(
    {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE", "IMAGE_SAFETY", "MODEL_ARMOR"}
)
_BROKEN_CALLS = frozenset({"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE"})
_SIGNED = re.compile(r"(models/)?gemini-([3-9]|\d\d)")
_UNCHECKED = "skip_thought_signature_validator"
_SIGNATURES = 4_096


class GeminiModel(HttpModel):
    """A model behind Gemini's API."""

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
            model: what the server calls it, with or without models/
            base_url: up to and without /v1beta/models
            key_source: where the user sets the key, to be named where the server refuses it
        Raises:
            ConfigError: the URL or the key can't be used
            MissingDependencyError: the HTTP client is not installed
        """
        self.model = model
        base = checked_url(base_url)
        if not re.search(r"/v1(beta|alpha)?$", urlsplit(base).path):
            base += "/v1beta"
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        url = f"{base}/models/{quote(model.removeprefix('models/'), safe='')}:{method}"
        key = Key(api_key, key_source) if api_key else None
        wire = GeminiWire(url, model)
        super().__init__(name, wire, key, rates=rates, window=window, timeout=timeout, stream=stream, client=client)


class GeminiWire:
    """generateContent, as a Wire."""

    key_header = ("x-goog-api-key", "")
    headers: Mapping[str, str] = {}

    def __init__(self, url: str, model: str) -> None:
        self.url = url
        self._signed = _SIGNED.match(model) is not None
        self._signatures: dict[str, str] = {}
        self._tools = Known(_tools_text)

    def schema_sent(self, schema: JsonObject) -> JsonObject:
        """See Wire.schema_sent."""
        return schema

    def write(self, request: ModelRequest, max_tokens: int) -> bytes:
        """See Wire.write."""
        system, contents = self._contents(request.messages)
        config: dict[str, Any] = {"maxOutputTokens": max_tokens}
        if request.output_schema is not None:
            # models before Gemini 3 refuse a schema beside tools
            if request.tools and not self._signed:
                system.append(schema_in_words(request.output_schema))
            else:
                config |= {"responseMimeType": "application/json", "responseJsonSchema": request.output_schema}
        parts = [f'{{"generationConfig":{escaped(config)}']
        if system:
            parts.append(f',"systemInstruction":{escaped({"parts": [{"text": text} for text in system]})}')
        if request.tools:
            parts.append(self._tools(request.tools))
        parts += [',"contents":', escaped(contents), "}"]
        return "".join(parts).encode("ascii")

    def growing(self) -> GeminiReply:
        """See Wire.growing."""
        return GeminiReply(self._signatures)

    def whole(self, body: bytes) -> ModelReply:
        """See Wire.whole."""
        reply = GeminiReply(self._signatures)
        reply.take(body)
        return reply.reply()

    def _contents(self, messages: Sequence[Message]) -> tuple[list[str], list[dict[str, Any]]]:
        """(the system instruction's parts, the turns)."""
        system: list[str] = []
        turns: list[dict[str, Any]] = []
        called: dict[str, str] = {}
        for message in messages:
            if message.speaker == "system" and not turns:
                system.append(message.text)
                continue
            role = "model" if message.speaker == "assistant" else "user"
            parts = self._parts(message, called)
            if turns and turns[-1]["role"] == role:
                turns[-1]["parts"] += parts
            elif parts:
                turns.append({"role": role, "parts": parts})
        if not turns and system:
            turns.append({"role": "user", "parts": [{"text": system.pop()}]})
        return system, turns

    def _parts(self, message: Message, called: dict[str, str]) -> list[dict[str, Any]]:
        if message.speaker == "tool":
            name = called.get(message.tool_request_id or "", "tool")
            return [{"functionResponse": {"name": name, "response": {"result": message.text}}}]
        parts: list[dict[str, Any]] = [{"text": message.text}] if message.text else []
        for position, request in enumerate(message.tool_requests):
            called[request.id] = request.name
            part: dict[str, Any] = {"functionCall": {"name": request.name, "args": _object(request.arguments)}}
            signature = self._signatures.get(request.id)
            if signature is None and self._signed and position == 0:
                signature = _UNCHECKED
            if signature is not None:
                part["thoughtSignature"] = signature
            parts.append(part)
        return parts


def _tools_text(tools: Sequence[ToolSpec]) -> str:
    shown = [
        {"name": tool.name, "description": tool.description, "parametersJsonSchema": tool.parameters} for tool in tools
    ]
    return f',"tools":{escaped([{"functionDeclarations": shown}])}'


def _object(arguments: str) -> dict[str, Any]:
    try:
        value = json.loads(arguments)
    except ValueError:
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


@dataclass(slots=True)
class GeminiReply:
    """A reply of generateContent that grows as its chunks arrive."""

    signatures: dict[str, str]
    """By the id of a tool call; shared by all replies of a model."""
    pieces: list[str] = field(default_factory=list[str])
    calls: list[ToolRequest] = field(default_factory=list[ToolRequest])
    usage: Any = None
    finish: str = ""
    """Gemini's finishReason; empty until it came."""
    model: str = ""
    begun: bool = False
    ended: bool = False
    """Never: Gemini's stream ends where its connection's answer does."""

    @property
    def text(self) -> str:
        """What has arrived so far."""
        return "".join(self.pieces)

    def take(self, data: bytes) -> str:
        """Take in one chunk; the text that it adds. Raises ModelError as Growing.take does."""
        chunk = json_object(data, self.text)
        check_error(chunk, self.text)
        if isinstance(model := chunk.get("modelVersion"), str):
            self.model = model
        if chunk.get("usageMetadata") is not None:
            self.usage = chunk["usageMetadata"]
        if mapping(chunk.get("promptFeedback")).get("blockReason"):
            self.begun, self.finish = True, "SAFETY"
        candidates = sequence(chunk.get("candidates"))
        if not candidates:
            return ""
        self.begun = True
        candidate = mapping(candidates[0])
        if isinstance(reason := candidate.get("finishReason"), str) and reason:
            self.finish = reason
        parts = (mapping(part) for part in sequence(mapping(candidate.get("content")).get("parts")))
        return "".join([self._part(part) for part in parts])

    def _part(self, part: Mapping[str, Any]) -> str:
        if isinstance(part.get("functionCall"), dict):
            call = mapping(part["functionCall"])
            request = ToolRequest(
                f"call_{secrets.token_hex(8)}", str(call.get("name") or ""), json.dumps(mapping(call.get("args")))
            )
            self.calls.append(request)
            if isinstance(signature := part.get("thoughtSignature"), str):
                self._keep(request.id, signature)
        text = part.get("text")
        if not isinstance(text, str) or not text or part.get("thought") is True:
            return ""
        self.pieces.append(text)
        return text

    def _keep(self, call: str, signature: str) -> None:
        self.signatures[call] = signature
        while len(self.signatures) > _SIGNATURES:
            self.signatures.pop(next(iter(self.signatures)), None)

    def reply(self) -> ModelReply:
        """The finished reply. Raises ModelError as Growing.reply does."""
        if not self.finish:
            raise unfinished(self.text, begun=self.begun)
        if self.finish in _BROKEN_CALLS:
            message = f"the model wrote a tool call that is none ({self.finish})"
            raise ModelError(message, kind="malformed", text=self.text)
        usage, parts = parse_usage(self.usage)
        return ModelReply(
            text=self.text,
            tool_requests=tuple(call for call in self.calls if call.name),
            usage=usage,
            parts=parts,
            finish=self._finish(),
            model=self.model,
        )

    def _finish(self) -> str:
        if self.finish == "STOP":
            return "tool_calls" if self.calls else "stop"
        if self.finish == "MAX_TOKENS":
            return "length"
        return "content_filter" if self.finish in _FILTERED else self.finish.lower()
