"""CrewAI's messages, tools and replies in our words, for counting and for the journal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from crewai.llms.base_llm import BaseLLM
from pydantic import BaseModel

from crew_guard.adapters.hosted import IMAGE_TOKENS, PromptCounter
from crew_guard.core.messages import JsonObject, Message, Speaker, ToolRequest, ToolSpec

_SPEAKERS: dict[str, Speaker] = {"system": "system", "developer": "system", "assistant": "assistant", "tool": "tool"}


def bound_prompt(
    count: PromptCounter, llm: BaseLLM, messages: str | Sequence[Any], tools: Sequence[Any] | None, output: Any
) -> int:
    """An upper bound of a prompt's tokens."""
    given: Sequence[Any] = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
    schema = output.model_json_schema() if isinstance(output, type) and issubclass(output, BaseModel) else None
    return count.request(_specs(llm, tools), schema) + sum(_bound(count, message) for message in given)


def _bound(count: PromptCounter, message: Mapping[str, Any]) -> int:
    content, calls = message.get("content"), message.get("tool_calls")
    tokens = count.message((content, calls, message.get("role"), message.get("name")), lambda: [_message(message)])
    return tokens + IMAGE_TOKENS * _files_in(message)


def holds_text_only(messages: str | Sequence[Any]) -> bool:
    """Whether a prompt has no images, sounds or other files."""
    return isinstance(messages, str) or not any(map(_files_in, messages))


def _files_in(message: Mapping[str, Any]) -> int:
    content = message.get("content")
    blocks = cast(list[Any], content) if isinstance(content, list) else []
    return len(message.get("files") or ()) + sum(not _is_text(block) for block in blocks)


def _message(message: Mapping[str, Any]) -> Message:
    content = message.get("content") or ""
    text = content if isinstance(content, str) else json.dumps(content, default=str)
    asked = tuple(ToolRequest(*request) for request in asked_for(message.get("tool_calls")))
    speaker = _SPEAKERS.get(message.get("role", "user"), "user")
    return Message(speaker, f"{message.get('name') or ''}{text}", asked, message.get("tool_call_id"))


def _is_text(block: Any) -> bool:
    return isinstance(block, str) or (isinstance(block, Mapping) and "text" in block)


def _specs(llm: BaseLLM, tools: Sequence[Any] | None) -> list[ToolSpec]:
    """The tools as the provider is shown them: CrewAI's strict schemas are longer than a tool's own."""
    if not tools:
        return []
    shown: Any = llm._convert_tools_for_interference(cast(Any, tools))  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    specs: list[ToolSpec] = []
    for tool in shown:
        function = _get(tool, "function") or tool
        parameters = cast(JsonObject, _get(function, "parameters") or {})
        specs.append(ToolSpec(str(_get(function, "name") or tool), str(_get(function, "description")), parameters))
    return specs


def asked_for(reply: Any) -> tuple[tuple[str, str, str], ...]:
    """What a reply asks for, as (id, tool, arguments); nothing where it is an answer."""
    if not isinstance(reply, list):
        return ()
    return tuple(_request(item) for item in cast(list[Any], reply) if not isinstance(item, str))


def _request(item: Any) -> tuple[str, str, str]:
    function = _get(item, "function") or item
    arguments = _get(function, "arguments")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, default=str)
    return str(_get(item, "id") or ""), str(_get(function, "name") or ""), text


def _get(item: Any, name: str) -> Any:
    return cast(Mapping[str, Any], item).get(name) if isinstance(item, Mapping) else getattr(item, name, None)


def text_of(reply: Any, asked: tuple[tuple[str, str, str], ...]) -> str:
    """A reply's text."""
    if asked:
        return ""
    return reply.model_dump_json() if isinstance(reply, BaseModel) else str(reply)
