"""What is said between an agent, its model and its tools.

Structs where one is made at every step: they cost a tenth of a frozen dataclass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from crew_guard.core.usage import NO_PARTS, Parts, Usage

Speaker: TypeAlias = Literal["system", "user", "assistant", "tool"]
JsonObject: TypeAlias = Mapping[str, Any]
_OPENING = 2
"""Messages that stay as they are however long a conversation grows."""


class ToolRequest(Struct, frozen=True, gc=False):
    """A model asks for one tool execution."""

    id: str
    name: str
    arguments: str
    """A JSON object, as the model wrote it: it may be malformed."""


class Message(Struct, frozen=True, gc=False):
    """One entry of a conversation. Immutable, so that it is counted once."""

    speaker: Speaker
    text: str
    tool_requests: tuple[ToolRequest, ...] = ()
    tool_request_id: str | None = None
    """For a tool's message: which request it answers."""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """What a model is told of a tool."""

    name: str
    description: str
    parameters: JsonObject
    """JSON Schema of the arguments, an object."""


class ModelRequest(Struct, frozen=True, gc=False):
    """Everything a model is asked in one call, except how long its answer may be."""

    messages: tuple[Message, ...] | list[Message]
    tools: tuple[ToolSpec, ...] = ()
    output_schema: JsonObject | None = None
    """JSON Schema that the answer's text must follow."""
    output_name: str = "output"
    prompt_tokens: int = 0
    """An upper bound of the whole prompt's tokens, schemas and overhead included."""


def opening(messages: Sequence[Message]) -> int:
    """A hash of how a conversation begins: its brief and its task, before the agent has said anything."""
    first = messages[:_OPENING]
    return hash(tuple([one.text for one in first if one.speaker != "assistant"]))


class ModelReply(Struct, frozen=True, gc=False):
    """What a model answered."""

    text: str
    tool_requests: tuple[ToolRequest, ...] = ()
    usage: Usage | None = None
    """Tokens as the provider reported them (steps and money are ours to fill), or None."""
    parts: Parts = NO_PARTS
    """Those of its tokens that may have a price of their own."""
    finish: str = "stop"
    """The provider's own word: stop, length, tool_calls, content_filter."""
    model: str = ""
    """The model that answered, as the provider names it."""


class Transcript(Struct, gc=False):
    """An append-only conversation with the bound of its tokens kept beside it."""

    messages: list[Message] = []
    tokens: int = 0
    bounds: list[int] = []
    """Of each message, so that none is counted twice."""

    def append(self, message: Message, bound: int) -> None:
        """Add a message whose tokens are at most `bound`."""
        self.messages.append(message)
        self.bounds.append(bound)
        self.tokens += bound
