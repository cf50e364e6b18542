"""What a chat-completions server sends back, taken apart. Nothing in it is trusted to be there or well-formed.

A whole body is one `completion`; a stream is fed chunk by chunk to an Assembly, whose `reply` is the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from crew_guard.core.messages import ModelReply, ToolRequest
from crew_guard.core.usage import Usage
from crew_guard.errors import ModelError


def parse_usage(body: Any) -> tuple[Usage | None, int]:
    """Tokens as a chat-completions server reported them.

    A server whose total is more than its parts leaves hidden reasoning out of the completion; it is
    billed as output, so it is counted as output.

    Args:
        body: the value of `usage`
    Returns:
        (the usage, or None where it is absent or can't be true; tokens written to the provider's cache)
    """
    usage = _mapping(body)
    prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    if prompt is None or completion is None:
        return None, 0
    completion = max(completion, (_count(usage.get("total_tokens")) or 0) - prompt)
    details = _mapping(usage.get("prompt_tokens_details"))
    cached, written = _count(details.get("cached_tokens")) or 0, _count(details.get("cache_write_tokens")) or 0
    if cached + written > prompt:
        cached = written = 0
    return Usage(input_tokens=prompt, output_tokens=completion, cached_tokens=cached), written


def completion(body: bytes) -> ModelReply:
    """The reply in a whole body.

    Raises:
        ModelError: malformed, where it is not a completion; broken, where it holds the server's error
    """
    if not body.strip():
        raise ModelError("the server answered with an empty body", kind="malformed")
    assembly = Assembly()
    whole = assembly.parse(body)
    assembly.check_error(whole)
    choice = _first_choice(whole)
    if choice is None or not isinstance(choice.get("message"), dict):
        raise ModelError("the server's answer has no choices[0].message: it is no chat completion", kind="malformed")
    assembly.feed({**whole, "choices": [{**choice, "delta": choice["message"]}]})
    return assembly.done()


@dataclass(slots=True)
class _Call:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class Assembly:
    """A reply that grows as its chunks arrive."""

    pieces: list[str] = field(default_factory=list[str])
    finish: str = ""
    """The provider's finish_reason; empty until it came."""
    model: str = ""
    usage: Any = None
    calls: dict[object, _Call] = field(default_factory=dict[object, _Call])
    refused: bool = False
    begun: bool = False
    """Whether any chunk of a completion has arrived."""

    @property
    def text(self) -> str:
        """What has arrived so far."""
        return "".join(self.pieces)

    def feed_json(self, data: bytes) -> str:
        """Take in one event's data.

        Returns:
            the text that it adds; empty for reasoning, tool calls and usage
        Raises:
            ModelError: malformed or broken, with the text so far
        """
        chunk = self.parse(data)
        self.check_error(chunk)
        return self.feed(chunk)

    def parse(self, data: bytes) -> dict[str, Any]:
        """The JSON object in an event or a body. Raises as `feed_json` does."""
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            shown = data[:120].decode("utf-8", "replace")
            message = f"the server sent what is no JSON object: {shown!r}"
            raise ModelError(message, kind="malformed", text=self.text)
        return cast("dict[str, Any]", value)

    def check_error(self, chunk: Mapping[str, Any]) -> None:
        """Raise what the server reports inside an answer that began well."""
        error = chunk.get("error")
        if error:
            said = _mapping(error).get("message", error)
            raise ModelError(f"the server broke off with an error: {str(said)[:300]}", kind="broken", text=self.text)

    def feed(self, chunk: Mapping[str, Any]) -> str:
        """Take in one chunk; the text that it adds."""
        if isinstance(model := chunk.get("model"), str):
            self.model = model
        if chunk.get("usage") is not None:
            self.usage = chunk["usage"]
        choice = _first_choice(chunk)
        if choice is None:
            return ""
        self.begun = True
        if isinstance(finish := choice.get("finish_reason"), str) and finish:
            self.finish = finish
        delta = _mapping(choice.get("delta"))
        for position, call in enumerate(_list(delta.get("tool_calls"))):
            self._feed_call(position, _mapping(call))
        added = _text(delta.get("content"))
        if isinstance(refusal := delta.get("refusal"), str) and refusal:
            self.refused = True
            added += refusal
        if added:
            self.pieces.append(added)
        return added

    def _feed_call(self, position: int, part: Mapping[str, Any]) -> None:
        index = part.get("index")
        # servers that send each call whole leave out the index: the id tells them apart
        key = index if isinstance(index, int) else (part.get("id") or position)
        call = self.calls.setdefault(key, _Call())
        function = _mapping(part.get("function"))
        if isinstance(part.get("id"), str):
            call.id = call.id or part["id"]
        if isinstance(function.get("name"), str):
            call.name = call.name or function["name"]
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            call.arguments.append(arguments)
        elif isinstance(arguments, dict):
            call.arguments.append(json.dumps(arguments))

    def done(self) -> ModelReply:
        """The reply, where the server said that it is whole. Raises as `reply` does."""
        if self.begun:
            self.finish = self.finish or "stop"
        return self.reply()

    def reply(self) -> ModelReply:
        """The finished reply.

        Raises:
            ModelError: broken, where it ended before it was finished; malformed, where nothing came
        """
        if not self.finish:
            if not self.begun:
                raise ModelError("the server's stream held no completion", kind="malformed")
            raise ModelError("the server's stream ended before the answer did", kind="broken", text=self.text)
        if self.finish == "error":
            raise ModelError("the server broke the answer off", kind="broken", text=self.text)
        requests = tuple(
            ToolRequest(call.id or f"call_{number}", call.name, "".join(call.arguments) or "{}")
            for number, call in enumerate(self.calls.values(), 1)
            if call.name
        )
        usage, written = parse_usage(self.usage)
        return ModelReply(
            text=self.text,
            tool_requests=requests,
            usage=usage,
            cache_written=written,
            finish="content_filter" if self.refused else self.finish,
            model=self.model,
        )


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


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < _TOO_MANY else None


_TOO_MANY = 10**12


def _mapping(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _first_choice(chunk: Mapping[str, Any]) -> Mapping[str, Any] | None:
    choices = _list(chunk.get("choices"))
    return _mapping(choices[0]) if choices else None


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = (_mapping(part) for part in _list(content))
    return "".join(part["text"] for part in parts if part.get("type") == "text" and isinstance(part.get("text"), str))
