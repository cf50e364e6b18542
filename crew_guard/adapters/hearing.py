"""What SDKs answer, heard on its way: hosts pass on less of what a provider says of tokens than its SDK tells."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Self, TypeAlias

from crew_guard.adapters.hosted import come_from
from crew_guard.core.reported import mapping, parse_usage
from crew_guard.core.usage import Parts, Usage

Hear: TypeAlias = Callable[[Any], object]

_CLAUDES = frozenset({"SyncAPIClient", "AsyncAPIClient"})
_LEADS_THERE = frozenset({"beta", "messages", "with_raw_response"})


class HeardStream:
    """A stream of an SDK, heard. No generator: letting go of it closes the SDK's own, as ever."""

    def __init__(self, stream: Any, hear: Hear) -> None:
        self._stream, self._hear = stream, hear

    def __iter__(self) -> Self:
        return self

    def __aiter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return self._told(next(self._stream))

    async def __anext__(self) -> Any:
        return self._told(await anext(self._stream))

    def _told(self, event: Any) -> Any:
        self._hear(event)
        return event

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class ClaudeAccount:
    """What the events of a stream of Anthropic's say of its tokens: the prompt's at the start, the rest at the end."""

    __slots__ = ("_ended", "_said")

    def __init__(self) -> None:
        self._said: dict[str, Any] = {}
        self._ended = False

    def hear(self, event: Any) -> None:
        """Take in one event."""
        kind = getattr(event, "type", None)
        if kind == "message_start":
            self._note(getattr(event, "message", None))
        elif kind == "message_delta":
            self._note(event)
            self._ended = True

    def _note(self, said: Any) -> None:
        usage: Any = getattr(said, "usage", None)
        told: Mapping[str, Any] = mapping(usage.model_dump()) if hasattr(usage, "model_dump") else {}
        # Counts are of all so far: one that is 0 after it was more is not told again.
        self._said.update({name: n for name, n in told.items() if n or (n is not None and name not in self._said)})

    @property
    def tokens(self) -> tuple[Usage, Parts] | None:
        """What they come to; None until the whole answer's were named."""
        if not self._ended:
            return None
        usage, parts = parse_usage(self._said)
        return (usage, parts) if usage is not None and usage.input_tokens else None


def is_claudes(client: object) -> bool:
    """Whether this is a client of Anthropic's SDK, for whichever cloud."""
    return come_from(client, "anthropic", _CLAUDES)


def heard_claude(client: Any, begins: Callable[[], Hear]) -> Any:
    """A client of Anthropic's SDK whose streams of messages are heard.

    Args:
        begins: a request leaves now; gives what is told of each of its events
    """
    return _Listened(client, begins)


class _Listened:
    """A client, or a part of one on the way to the method that sends."""

    def __init__(self, own: Any, begins: Callable[[], Hear]) -> None:
        self._own, self._begins = own, begins

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._own, name)
        if name in _LEADS_THERE:
            return _Listened(value, self._begins)
        return self._sending(value) if name == "create" else value

    def _sending(self, create: Any) -> Any:
        def send(*args: Any, **kwargs: Any) -> Any:
            hear = self._begins()
            made = create(*args, **kwargs)
            if not kwargs.get("stream"):
                return made
            return _later(made, hear) if inspect.isawaitable(made) else _heard(made, hear)

        return send


class _Raw:
    """A response that is yet to be read."""

    def __init__(self, own: Any, hear: Hear) -> None:
        self._own, self._hear = own, hear

    def parse(self, *args: Any, **kwargs: Any) -> Any:
        """What it is; of some versions of the SDK to be awaited."""
        made = self._own.parse(*args, **kwargs)
        return _later(made, self._hear) if inspect.isawaitable(made) else _heard(made, self._hear)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)


async def _later(made: Awaitable[Any], hear: Hear) -> Any:
    return _heard(await made, hear)


def _heard(made: Any, hear: Hear) -> Any:
    if callable(getattr(made, "parse", None)):
        return _Raw(made, hear)
    return HeardStream(made, hear)
