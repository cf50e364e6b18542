"""LangChain's messages and tools as ours, for counting: everything that may reach the provider is in it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from pydantic import BaseModel

from crew_guard.adapters.hosted import IMAGE_TOKENS, PromptCounter, json_of
from crew_guard.adapters.tally import Tally, Weighed, state_of
from crew_guard.core.messages import JsonObject, Message, Speaker, ToolRequest, ToolSpec

_SPEAKERS: dict[str, Speaker] = {"system": "system", "ai": "assistant", "tool": "tool"}
_TEXTS = frozenset({"text", "thinking", "reasoning", "tool_use", "tool_call", "non_standard", "input_text"})
_TOOLS = ("tools", "functions")
_SCHEMAS = ("response_format", "text_format", "output_config", "format")


@dataclass(slots=True)
class Prompts:
    """Bounds of one model's prompts in one run: each message is counted when it is first seen."""

    count: PromptCounter
    _talks: Tally = field(init=False)

    def __post_init__(self) -> None:
        self._talks = Tally(self._weighed)

    def bound(self, messages: Sequence[BaseMessage], kwargs: Mapping[str, Any]) -> tuple[int, bool]:
        """An upper bound of a request's prompt in tokens, and whether it is text only.

        Args:
            messages: the conversation
            kwargs: what was bound to the model: tools, a schema of the answer
        """
        given: list[Any] = [tool for key in _TOOLS for tool in kwargs.get(key) or ()]
        schemas = {key: _schema(kwargs[key]) for key in _SCHEMAS if kwargs.get(key)}
        if schemas or not all(map(_is_plain, given)):
            prompt = self.count.request([_spec(tool) for tool in given], schemas or None)
        else:
            prompt = self.count.shown(given, _spec)
        tokens, media = self._talks.of(messages)
        return prompt + tokens, media == 0

    def _weighed(self, message: BaseMessage) -> Weighed:
        state = state_of(message)
        content = state["content"]
        media = 0 if isinstance(content, str) else _media(content)
        # By its parts, too: LangChain copies messages on their way from one node to another.
        parts = (content, state.get("tool_calls"), state["additional_kwargs"] or None, state["name"])
        tokens = self.count.message(parts, lambda: _translated(message)) + IMAGE_TOKENS * media
        kept = state.copy()
        if isinstance(content, list):
            kept["content"] = content[:]
        return Weighed(message, tokens, media, state, kept)


def _is_plain(tool: object) -> bool:
    return type(tool) is dict


def asked_for(message: BaseMessage) -> tuple[tuple[str, str, str], ...]:
    """The tools that a reply asks for, as (id, tool, arguments)."""
    if not isinstance(message, AIMessage):
        return ()
    calls = [(call["id"], call["name"], json_of(call["args"])) for call in message.tool_calls]
    calls += [(call["id"], call["name"] or "", call["args"] or "") for call in message.invalid_tool_calls]
    return tuple((id_ or "", name, arguments) for id_, name, arguments in calls)


def text_of(message: BaseMessage) -> str:
    """The text of a message."""
    return str(message.text)


def _translated(message: BaseMessage) -> Iterable[Message]:
    texts = [message.name or "", *_texts(message.content)]
    if message.additional_kwargs:
        texts.append(json.dumps(message.additional_kwargs, default=str, ensure_ascii=False))
    asked = tuple(ToolRequest(*request) for request in asked_for(message))
    answers = message.tool_call_id if isinstance(message, ToolMessage) else None
    yield Message(_SPEAKERS.get(message.type, "user"), "".join(texts), asked, answers)


def _texts(content: Any) -> Iterable[str]:
    if isinstance(content, str):
        yield content
        return
    for block in cast(list[Any], content):
        if isinstance(block, str):
            yield block
        elif _is_text(block):
            yield json.dumps(block, default=str, ensure_ascii=False)


def _media(content: Sequence[Any]) -> int:
    return sum(not isinstance(block, str) and not _is_text(block) for block in content)


def _is_text(block: Mapping[str, Any]) -> bool:
    return block.get("type", "text") in _TEXTS


def _spec(tool: Any) -> ToolSpec:
    if not isinstance(tool, Mapping):
        schema = tool.model_json_schema() if _is_model(tool) else repr(tool)
        return ToolSpec(getattr(tool, "name", None) or getattr(tool, "__name__", ""), "", {"schema": schema})
    given = cast(Mapping[str, Any], tool)
    function: Mapping[str, Any] = given.get("function") or given
    rest = {key: value for key, value in function.items() if key not in ("name", "description", "parameters")}
    parameters: JsonObject = function.get("parameters") or {}
    return ToolSpec(
        str(function.get("name") or ""),
        str(function.get("description") or ""),
        {**parameters, **rest} if rest else parameters,
    )


def _schema(given: Any) -> Any:
    if _is_model(given):
        return given.model_json_schema()
    return cast(Any, given) if isinstance(given, Mapping | str) else repr(given)


def _is_model(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)
