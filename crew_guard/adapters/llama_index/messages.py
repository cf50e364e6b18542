"""LlamaIndex's messages, tools and replies in our words, for counting and for the journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, cast

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse
from pydantic import BaseModel

from crew_guard.adapters.hosted import IMAGE_TOKENS, begins_with, reported, writer
from crew_guard.adapters.llama_index.providers import keeps_long
from crew_guard.adapters.llama_index.scope import Known
from crew_guard.adapters.tally import State, Tally, Weighed, state_of
from crew_guard.core.messages import JsonObject, Message, Speaker, ToolRequest, ToolSpec
from crew_guard.core.usage import Usage

_SPEAKERS: dict[str, Speaker] = {"system": "system", "developer": "system", "assistant": "assistant", "tool": "tool"}
_UNCOUNTED = ("tool_call_id",)


_SCALARS = frozenset({str, int, float, bool, type(None)})


def bound_prompt(known: Known, prompt: str | Sequence[ChatMessage], kwargs: Mapping[str, Any]) -> tuple[int, bool]:
    """An upper bound of a prompt's tokens, tools and schema included, and whether it is text only."""
    tools, schema = kwargs.get("tools"), kwargs.get("response_format")
    if schema:
        total = known.count.request([_spec(tool) for tool in tools or ()], _schema(schema))
    else:
        total = known.count.shown(tools, _spec) if tools else known.framing
    if isinstance(prompt, str):
        return total + known.count.message((prompt,), lambda: [Message("user", prompt)]), True
    tally = known.tally
    if tally is None:
        tally = known.tally = Tally(partial(_weighed, known))
    tokens, files = tally.of(prompt)
    return total + tokens, files == 0


def conversation_of(prompt: str | Sequence[ChatMessage]) -> int:
    """See ModelCall.conversation."""
    if isinstance(prompt, str):
        return begins_with([prompt])
    first = [state for one in prompt[:2] if (state := state_of(one))["role"] != "assistant"]
    return begins_with(state_of(block).get("text") for state in first for block in state["blocks"][:1])


def _weighed(known: Known, message: ChatMessage) -> Weighed:
    """A message counted, and kept as it is with its blocks: LlamaIndex changes its messages in place."""
    state = state_of(message)
    blocks = list(map(state_of, state["blocks"]))
    ours, files, kept_long = _read(state, blocks)
    parts = (ours.speaker, ours.text, *[part for one in ours.tool_requests for part in (one.name, one.arguments)])
    tokens = known.texts.get(parts)
    if tokens is None:
        tokens = known.texts[parts] = known.count.facts.bound(ours)
    kept = state.copy()
    kept["blocks"], kept["additional_kwargs"] = state["blocks"][:], _copied(state["additional_kwargs"])
    dearer = files + kept_long  # than text: what is kept an hour is as well, though it has no tokens of its own
    return Weighed(message, tokens + IMAGE_TOKENS * files, dearer, [state, *blocks], [kept, *map(_kept, blocks)])


def _kept(block: State) -> State:
    given = block.get("tool_kwargs")
    return {**block, "tool_kwargs": _copied(cast("State", given))} if isinstance(given, dict) else block.copy()


def _copied(value: State) -> State:
    if not value or _SCALARS.issuperset(map(type, value.values())):
        return value.copy()
    try:
        return deepcopy(value)
    except Exception:  # noqa: BLE001  a client or a lock, say: as it is
        return value.copy()


def translate(message: ChatMessage) -> Message:
    """A message of LlamaIndex as one of ours, with all that a client may send of it."""
    state = state_of(message)
    return _read(state, list(map(state_of, state["blocks"])))[0]


def _read(message: State, blocks: Sequence[State]) -> tuple[Message, int, bool]:
    """A message as one of ours, how many images, sounds and other files it has, and whether it is kept an hour.

    By the dictionaries of what it is made of: asking pydantic for an attribute costs ten times as much.
    """
    text: list[str] = []
    asked: list[ToolRequest] = []
    files, kept_long = 0, False
    for block in blocks:
        kind = block.get("block_type")
        if kind == "text":
            text.append(block["text"])
        elif kind == "tool_call":
            asked.append(ToolRequest(block["tool_call_id"] or "", block["tool_name"], _json(block["tool_kwargs"])))
        elif kind == "thinking":
            text.append(block["content"] or "")
        elif kind == "cache":
            kept_long = kept_long or keeps_long(block["cache_control"])
        else:
            files += 1
    given: State = message["additional_kwargs"]
    if given:
        kept_long = kept_long or keeps_long(given.get("cache_control"))
        more = {key: value for key, value in given.items() if key not in _UNCOUNTED}
        if asked:
            more.pop("tool_calls", None)  # the same once more, in the client's own words
        if more:
            text.append(_json(more))
    speaker = _SPEAKERS.get(message["role"], "user")  # a MessageRole is a text
    return Message(speaker, "\n".join(text), tuple(asked), given.get("tool_call_id")), files, kept_long


def _json(value: object) -> str:
    return value if isinstance(value, str) else _written(value)


def _plain(value: object) -> object:
    return value.model_dump() if isinstance(value, BaseModel) else str(value)


_written = writer(_plain, ascii_only=False)


def _spec(tool: Any) -> ToolSpec:
    entry = cast("Mapping[str, Any]", tool) if isinstance(tool, Mapping) else {"name": str(tool)}
    if "name" not in entry and "function" not in entry:
        return ToolSpec(_written(entry), "", {})  # all that it says
    shown = cast("Mapping[str, Any]", entry.get("function") or entry)
    return ToolSpec(str(shown.get("name")), str(shown.get("description") or ""), _parameters(shown))


def _parameters(shown: Mapping[str, Any]) -> JsonObject:
    return shown.get("parameters") or {key: value for key, value in shown.items() if key != "name"}


def _schema(wanted: Any) -> JsonObject | None:
    if isinstance(wanted, type) and issubclass(wanted, BaseModel):
        return wanted.model_json_schema()
    return cast("JsonObject", wanted) if isinstance(wanted, Mapping) else None


def usage_of(response: Any) -> Usage | None:
    """What a ChatResponse or CompletionResponse says that the provider reported."""
    counts = _get(getattr(response, "raw", None), "usage")
    if counts is None:
        # A completion that became a chat's response has its counts in the message.
        counts = getattr(response, "additional_kwargs", None)
        if not counts and isinstance(response, ChatResponse):
            counts = response.message.additional_kwargs
    if not counts:
        return None
    prompt = _number(counts, "prompt_tokens", "input_tokens")
    completion = _number(counts, "completion_tokens", "output_tokens")
    details = _get(counts, "prompt_tokens_details")
    return reported(prompt, completion, 0 if details is None else _number(details, "cached_tokens"))


def _number(source: Any, *names: str) -> int:
    for name in names:
        value = _get(source, name)
        if isinstance(value, int):
            return value
    return 0


def _get(source: Any, name: str) -> Any:
    return source.get(name) if isinstance(source, dict) else getattr(source, name, None)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def said_in(response: Any) -> tuple[str, tuple[tuple[str, str, str], ...]]:
    """A response's text, and the tools that it asks for as (id, tool, arguments)."""
    if not isinstance(response, ChatResponse):
        if isinstance(response, BaseModel) and not isinstance(response, CompletionResponse):
            return response.model_dump_json(), ()  # a structured answer
        return str(getattr(response, "text", "") or ""), ()
    texts: list[str] = []
    asked: list[tuple[str, str, str]] = []
    for block in map(state_of, state_of(response.message)["blocks"]):
        kind = block.get("block_type")
        if kind == "text":
            texts.append(block["text"])
        elif kind == "tool_call":
            asked.append((block["tool_call_id"] or "", block["tool_name"], _json(block["tool_kwargs"])))
    return "\n".join(texts), tuple(asked)
