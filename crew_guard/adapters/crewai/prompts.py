"""CrewAI's messages, tools and replies in our words, for counting and for the journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import is_
from typing import Any, cast

from crewai.llms.base_llm import BaseLLM
from pydantic import BaseModel

from crew_guard.adapters.hosted import IMAGE_TOKENS, PromptCounter, begins_with, json_of
from crew_guard.adapters.tally import State, Tally, Weighed
from crew_guard.core.messages import Message, Speaker, ToolRequest, ToolSpec

_SPEAKERS: dict[str, Speaker] = {"system": "system", "developer": "system", "assistant": "assistant", "tool": "tool"}


@dataclass(slots=True)
class PromptBounds:
    """Upper bounds of one model's prompts: tools and a schema are looked at when they change."""

    count: PromptCounter
    _shown: tuple[tuple[Any, ...], Any, int] | None = None
    """The tools and the output asked for last, and the bound of both."""
    _talks: Tally = field(init=False)

    def __post_init__(self) -> None:
        self._talks = Tally(self._weighed)

    def prompt(
        self, llm: BaseLLM, messages: str | Sequence[Any], tools: Sequence[Any] | None, output: Any
    ) -> tuple[int, bool]:
        """An upper bound of a prompt's tokens, and whether it has no images, sounds or other files."""
        request = self._request(llm, tools, output)
        if isinstance(messages, str):
            return request + self.count.message((messages,), lambda: [Message("user", messages)]), True
        tokens, files = self._talks.of(messages)
        return request + tokens, files == 0

    def texts(self, messages: Sequence[Any]) -> int:
        """An upper bound of messages as a provider's client is given them."""
        return sum(self.count.message((one,), lambda one=one: [Message("user", json_of(one))]) for one in messages)

    def _weighed(self, message: dict[str, Any]) -> Weighed:
        files = _files_in(message)
        parts = (message.get("content"), message.get("tool_calls"), message.get("role"), message.get("name"))
        tokens = self.count.message(parts, lambda: [_message(message)]) + IMAGE_TOKENS * files
        return Weighed(message, tokens, files, message, _kept(message))

    def _request(self, llm: BaseLLM, tools: Sequence[Any] | None, output: Any) -> int:
        asked, known = tuple(tools or ()), self._shown
        same = known is not None and known[1] is output and len(known[0]) == len(asked)
        if known is not None and same and all(map(is_, known[0], asked)):
            return known[2]
        schema = output.model_json_schema() if isinstance(output, type) and issubclass(output, BaseModel) else None
        tokens = self.count.request(_specs(llm, tools), schema)
        self._shown = asked, output, tokens
        return tokens


def conversation_of(messages: Any) -> int:
    """See ModelCall.conversation."""
    if not isinstance(messages, list):
        return begins_with([messages])
    first = [cast("State", one) for one in cast("list[Any]", messages)[:2] if isinstance(one, dict)]
    return begins_with(one.get("content") for one in first if one.get("role") != "assistant")


def _kept(message: State) -> State:
    kept = dict(message)
    if list in map(type, kept.values()):
        for name, value in message.items():
            if isinstance(value, list):
                kept[name] = cast("list[Any]", value)[:]
    return kept


def _files_in(message: Mapping[str, Any]) -> int:
    content = message.get("content")
    blocks = cast(list[Any], content) if isinstance(content, list) else []
    return len(message.get("files") or ()) + sum(not _is_text(block) for block in blocks)


def _message(message: Mapping[str, Any]) -> Message:
    content = message.get("content") or ""
    text = content if isinstance(content, str) else json_of(content)
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
        several: Any = _get(tool, "function_declarations") or (_get(tool, "function") or tool,)
        for function in several:
            schema: Any = _get(function, "parameters") or _get(function, "parameters_json_schema") or {}
            specs.append(ToolSpec(str(_get(function, "name") or tool), str(_get(function, "description")), schema))
    return specs


def asked_for(reply: Any) -> tuple[tuple[str, str, str], ...]:
    """What a reply asks for, as (id, tool, arguments); nothing where it is an answer."""
    if not isinstance(reply, list):
        return ()
    return tuple(_request(item) for item in cast(list[Any], reply) if not isinstance(item, str))


def _request(item: Any) -> tuple[str, str, str]:
    function: Any = _get(item, "function") or _get(item, "function_call") or item
    if type(item) is dict and type(function) is dict:
        one, own = cast("State", item), cast("State", function)
        id_, name, arguments = one.get("id"), own.get("name"), own.get("arguments")
        if "toolUseId" in one:
            id_, arguments = one["toolUseId"], one.get("input")
    else:
        id_, name = _get(item, "id") or _get(function, "id"), _get(function, "name")
        arguments = _get(function, "arguments") or _get(function, "args")
    text = arguments if isinstance(arguments, str) else json_of(arguments or {})
    return str(id_ or ""), str(name or ""), text


def _get(item: Any, name: str) -> Any:
    if type(item) is dict or isinstance(item, Mapping):  # in this order: the second is slow to say
        return cast("Mapping[str, Any]", item).get(name)
    return getattr(item, name, None)


def text_of(reply: Any, asked: tuple[tuple[str, str, str], ...]) -> str:
    """A reply's text."""
    if asked:
        return ""
    return reply.model_dump_json() if isinstance(reply, BaseModel) else str(reply)
