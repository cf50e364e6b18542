"""What a chat-completions server sends back, taken apart. Nothing in it is trusted to be there or well-formed.

A whole body is one `completion`; a stream is fed chunk by chunk to an Assembly, whose `reply` is the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from crew_guard.core.messages import ModelReply, ToolRequest
from crew_guard.core.reported import mapping, parse_usage, sequence
from crew_guard.errors import ModelError
from crew_guard.models.streams import check_error, json_object, unfinished

_DONE = b"[DONE]"


def completion(body: bytes) -> ModelReply:
    """The reply in a whole body.

    Raises:
        ModelError: malformed, where it is not a completion; broken, where it holds the server's error
    """
    assembly = Assembly()
    whole = json_object(body, "")
    check_error(whole, "")
    choice = _first_choice(whole)
    if choice is None or not isinstance(choice.get("message"), dict):
        raise ModelError("the server's answer has no choices[0].message: it is no chat completion", kind="malformed")
    assembly.feed({**whole, "choices": [{**choice, "delta": choice["message"]}]})
    # a body is whole by its length, so a server that names no finish_reason there has not broken off
    assembly.finish = assembly.finish or "stop"
    return assembly.reply()


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
    ended: bool = False
    """Whether the server's [DONE] came. It finishes no answer: only a finish_reason does."""
    begun: bool = False
    """Whether any chunk of a completion has arrived."""

    @property
    def text(self) -> str:
        """What has arrived so far."""
        return "".join(self.pieces)

    def take(self, data: bytes) -> str:
        """Take in one event's data.

        Returns:
            the text that it adds; empty for reasoning, tool calls and usage
        Raises:
            ModelError: malformed or broken, with the text so far
        """
        if data == _DONE:
            self.ended = True
            return ""
        chunk = json_object(data, self.text)
        check_error(chunk, self.text)
        return self.feed(chunk)

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
        delta = mapping(choice.get("delta"))
        for position, call in enumerate(sequence(delta.get("tool_calls"))):
            self._feed_call(position, mapping(call))
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
        function = mapping(part.get("function"))
        if isinstance(part.get("id"), str):
            call.id = call.id or part["id"]
        if isinstance(function.get("name"), str):
            call.name = call.name or function["name"]
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            call.arguments.append(arguments)
        elif isinstance(arguments, dict):
            call.arguments.append(json.dumps(arguments))

    def reply(self) -> ModelReply:
        """The finished reply.

        Raises:
            ModelError: broken, where it ended before it was finished; malformed, where nothing came
        """
        if not self.finish:
            raise unfinished(self.text, begun=self.begun)
        if self.finish == "error":
            raise ModelError("the server broke the answer off", kind="broken", text=self.text)
        requests = tuple(
            ToolRequest(call.id or f"call_{number}", call.name, "".join(call.arguments) or "{}")
            for number, call in enumerate(self.calls.values(), 1)
            if call.name
        )
        usage, parts = parse_usage(self.usage)
        return ModelReply(
            text=self.text,
            tool_requests=requests,
            usage=usage,
            parts=parts,
            finish="content_filter" if self.refused else self.finish,
            model=self.model,
        )


def _first_choice(chunk: Mapping[str, Any]) -> Mapping[str, Any] | None:
    choices = sequence(chunk.get("choices"))
    return mapping(choices[0]) if choices else None


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = (mapping(part) for part in sequence(content))
    return "".join(part["text"] for part in parts if part.get("type") == "text" and isinstance(part.get("text"), str))
