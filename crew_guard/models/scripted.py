"""A model that says what a test tells it to, and remembers what it was asked and what it would have billed.

No latency, no tasks, a few microseconds a call: what is measured beside it is the framework.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from crew_guard.core.messages import JsonObject, Message, ModelReply, ModelRequest, ToolRequest, ToolSpec
from crew_guard.core.usage import FREE, Rates, Usage
from crew_guard.errors import ModelError
from crew_guard.models.counting import utf8_length

_FRAMING = 4

Wait: TypeAlias = asyncio.Event | Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Reply:
    """One scripted answer."""

    text: str = ""
    tools: tuple[tuple[str, str], ...] = ()
    """Tool calls, as (tool, arguments as JSON)."""
    error: ModelError | None = None
    """Raised instead of an answer; where its kind is charged, its tokens are billed all the same."""
    tokens: int | None = None
    """How long the completion would be without a limit; by default a token a byte, at least 1."""
    prompt_tokens: int | None = None
    """What is billed as the prompt; by default the request's own bound."""
    cached_tokens: int = 0
    reported: bool = True
    """Whether the reply names its usage."""
    finish: str = ""
    """By default tool_calls or stop; length where a text is cut."""
    wait: Wait | None = None
    """Awaited before the answer: an event, or a function that makes an awaitable."""


Script: TypeAlias = Callable[[ModelRequest], "Reply | str | ModelError"]


@dataclass(frozen=True, slots=True)
class Call:
    """One request that the model was asked."""

    request: ModelRequest
    max_tokens: int
    length: int
    """How many messages the request held then; the conversation it belongs to may have grown since."""

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages as they were."""
        return tuple(self.request.messages[: self.length])


class ScriptedModel:
    """Plays replies in order, or asks a function for each. Usable from any thread and event loop."""

    def __init__(
        self,
        script: Sequence[Reply | str | ModelError] | Script,
        *,
        name: str = "test",
        rates: Rates | None = FREE,
        window: int | None = None,
        streams: bool = False,
        repeat: bool = False,
        obeys_limit: bool = True,
        wait: Wait | None = None,
    ) -> None:
        """Write the script.

        Args:
            script: replies, where a text or an error stands for itself; or a function of the request
            name: its name is scripted:NAME
            rates: what it costs; None plays a model whose price nobody knows
            streams: whether a text is also told through on_text
            repeat: begin again after the last reply, instead of failing
            obeys_limit: False makes it bill more than max_tokens where a reply is longer
            wait: awaited before each answer that names none of its own
        """
        self.name = f"scripted:{name}"
        self.rates = rates
        self.window = window
        self.streams = streams
        self.calls: list[Call] = []
        """Every request, in order."""
        self._obeys_limit = obeys_limit
        self._wait = wait
        self._input = self._output = self._cached = 0
        self._next = _player(script, self.name, repeat=repeat)

    @property
    def billed(self) -> Usage:
        """What a provider would have billed in all: attempts as steps, and tokens, reported or not."""
        return Usage(
            steps=len(self.calls),
            input_tokens=self._input,
            output_tokens=self._output,
            cached_tokens=self._cached,
        )

    def bound(self, message: Message) -> int:
        """A token a byte, and the framing."""
        total = _FRAMING + utf8_length(message.text)
        for request in message.tool_requests:
            total += _FRAMING + utf8_length(request.name) + utf8_length(request.arguments)
        return total

    def bound_request(self, tools: Sequence[ToolSpec], output_schema: JsonObject | None) -> int:
        """A fixed count for each tool and for a schema."""
        return _FRAMING + 32 * len(tools) + (32 if output_schema is not None else 0)

    async def complete(self, request: ModelRequest, max_tokens: int, on_text: Callable[[str], None]) -> ModelReply:
        """Play the next reply.

        Raises:
            ModelError: the script says so
            AssertionError: the script has no more replies
        """
        self.calls.append(Call(request, max_tokens, len(request.messages)))
        reply = self._next(request)
        wait = reply.wait or self._wait
        if wait is not None:
            await (wait.wait() if isinstance(wait, asyncio.Event) else wait())
        prompt = request.prompt_tokens if reply.prompt_tokens is None else reply.prompt_tokens
        wanted = (utf8_length(reply.text) or 1) if reply.tokens is None else reply.tokens
        tokens = min(wanted, max_tokens) if self._obeys_limit else wanted
        if reply.error is not None:
            if reply.error.charged:
                self._bill(prompt, tokens, reply.cached_tokens)
            raise reply.error
        self._bill(prompt, tokens, reply.cached_tokens)
        text, finish = reply.text, reply.finish or ("tool_calls" if reply.tools else "stop")
        if reply.tokens is None and tokens < wanted:
            text, finish = _cut(text, tokens), "length"
        if self.streams and text:
            on_text(text)
        return ModelReply(
            text=text,
            tool_requests=tuple(
                ToolRequest(f"call_{len(self.calls)}_{position}", tool, arguments)
                for position, (tool, arguments) in enumerate(reply.tools)
            )
            if reply.tools
            else (),
            usage=Usage(input_tokens=prompt, output_tokens=tokens, cached_tokens=reply.cached_tokens)
            if reply.reported
            else None,
            finish=finish,
            model=self.name,
        )

    def _bill(self, prompt: int, tokens: int, cached: int) -> None:
        self._input += prompt
        self._output += tokens
        self._cached += cached


def _player(
    script: Sequence[Reply | str | ModelError] | Script, name: str, *, repeat: bool
) -> Callable[[ModelRequest], Reply]:
    if callable(script):
        return lambda request: _as_reply(script(request))
    replies = [_as_reply(entry) for entry in script]
    # an iterator's step is atomic, so threads never play one reply twice
    rest = itertools.cycle(replies) if repeat else iter(replies)

    def play(request: ModelRequest) -> Reply:  # noqa: ARG001 - a written script doesn't look at the request
        reply = next(rest, None)
        if reply is None:
            raise AssertionError(f"{name} was asked more often than its script has replies: {len(replies)}")
        return reply

    return play


def _as_reply(entry: Reply | str | ModelError) -> Reply:
    if isinstance(entry, Reply):
        return entry
    return Reply(text=entry) if isinstance(entry, str) else Reply(error=entry)


def _cut(text: str, tokens: int) -> str:
    return text.encode("utf-8", "surrogatepass")[:tokens].decode("utf-8", "ignore")
