"""LlamaIndex's messages, tools and replies in our words, for counting and for the journal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, TextBlock, ThinkingBlock, ToolCallBlock
from pydantic import BaseModel

from crew_guard.adapters.hosted import IMAGE_TOKENS, reported
from crew_guard.adapters.llama_index.scope import Known
from crew_guard.core.messages import JsonObject, Message, Speaker, ToolRequest, ToolSpec
from crew_guard.core.usage import Usage

_SPEAKERS: dict[str, Speaker] = {"system": "system", "developer": "system", "assistant": "assistant", "tool": "tool"}
_UNCOUNTED = ("tool_call_id",)


def bound_prompt(known: Known, prompt: str | Sequence[ChatMessage], kwargs: Mapping[str, Any]) -> int:
    """An upper bound of a prompt's tokens, tools and schema included."""
    tools, schema = kwargs.get("tools"), kwargs.get("response_format")
    total = known.count.request(_specs(tools), _schema(schema)) if tools or schema else known.framing
    if isinstance(prompt, str):
        return total + known.count.message((prompt,), lambda: [Message("user", prompt)])
    return total + sum(_bound(known, message) for message in prompt)


def holds_text_only(prompt: str | Sequence[ChatMessage]) -> bool:
    """Whether a prompt has no images, sounds or other files."""
    return isinstance(prompt, str) or not any(map(_files_in, prompt))


def _bound(known: Known, message: ChatMessage) -> int:
    ours = translate(message)
    # The texts stand for the message: LlamaIndex changes its messages in place.
    parts = (ours.speaker, ours.text, *(part for one in ours.tool_requests for part in (one.name, one.arguments)))
    return known.count.message(_kept(known, parts), lambda: [ours]) + IMAGE_TOKENS * _files_in(message)


def _kept(known: Known, parts: tuple[str, ...]) -> tuple[object, ...]:
    return (known.texts.setdefault(parts, parts),)


def _files_in(message: ChatMessage) -> int:
    return sum(not isinstance(block, TextBlock | ThinkingBlock | ToolCallBlock) for block in message.blocks)


def translate(message: ChatMessage) -> Message:
    """A message of LlamaIndex as one of ours, with all that a client may send of it."""
    text: list[str] = []
    asked: list[ToolRequest] = []
    for block in message.blocks:
        if isinstance(block, TextBlock):
            text.append(block.text)
        elif isinstance(block, ToolCallBlock):
            asked.append(ToolRequest(block.tool_call_id or "", block.tool_name, _json(block.tool_kwargs)))
        elif isinstance(block, ThinkingBlock):
            text.append(block.content or "")
    more = {key: value for key, value in message.additional_kwargs.items() if key not in _UNCOUNTED}
    if asked:
        more.pop("tool_calls", None)  # the same once more, in the client's own words
    if more:
        text.append(_json(more))
    speaker = _SPEAKERS.get(str(getattr(message.role, "value", message.role)), "user")
    return Message(speaker, "\n".join(text), tuple(asked), message.additional_kwargs.get("tool_call_id"))


def _json(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=_plain, ensure_ascii=False)


def _plain(value: object) -> object:
    return value.model_dump() if isinstance(value, BaseModel) else str(value)


def _specs(tools: Any) -> list[ToolSpec]:
    specs: list[ToolSpec] = []
    for tool in cast("Sequence[Any]", tools or ()):
        entry = cast("Mapping[str, Any]", tool) if isinstance(tool, Mapping) else {"name": str(tool)}
        shown = cast("Mapping[str, Any]", entry.get("function") or entry)
        specs.append(ToolSpec(str(shown.get("name")), str(shown.get("description") or ""), _parameters(shown)))
    return specs


def _parameters(shown: Mapping[str, Any]) -> JsonObject:
    return shown.get("parameters") or {key: value for key, value in shown.items() if key != "name"}


def _schema(wanted: Any) -> JsonObject | None:
    if isinstance(wanted, type) and issubclass(wanted, BaseModel):
        return wanted.model_json_schema()
    return cast("JsonObject", wanted) if isinstance(wanted, Mapping) else None


def usage_of(response: Any) -> Usage | None:
    """What a ChatResponse or CompletionResponse says that the provider reported."""
    counts = _get(_get(response, "raw"), "usage")
    if counts is None:
        # A completion that became a chat's response has its counts in the message.
        counts = _get(response, "additional_kwargs")
        if not counts and isinstance(response, ChatResponse):
            counts = response.message.additional_kwargs
    if not counts:
        return None
    prompt = _number(counts, "prompt_tokens", "input_tokens")
    completion = _number(counts, "completion_tokens", "output_tokens")
    cached = _number(_get(counts, "prompt_tokens_details"), "cached_tokens")
    return reported(prompt, completion, cached)


def _number(source: Any, *names: str) -> int:
    found = (_get(source, name) for name in names)
    return next((value for value in found if isinstance(value, int)), 0)


def _get(source: Any, name: str) -> Any:
    if isinstance(source, dict):
        return cast("dict[str, Any]", source).get(name)
    return getattr(source, name, None)


def said_in(response: Any) -> tuple[str, tuple[tuple[str, str, str], ...]]:
    """A response's text, and the tools that it asks for as (id, tool, arguments)."""
    if not isinstance(response, ChatResponse):
        return str(getattr(response, "text", "") or ""), ()
    message = response.message
    asked = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    texts = [block.text for block in message.blocks if isinstance(block, TextBlock)]
    return "\n".join(texts), tuple((one.tool_call_id or "", one.tool_name, _json(one.tool_kwargs)) for one in asked)
