"""An SDK's client for one call: its methods that send are clamped, and what they answer is heard.

All else of the client is handed through: what a model is, how many tokens a text has.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol, Self

from crew_guard.adapters.hosted import reported
from crew_guard.adapters.llama_index.providers import Counts, Path, Provider
from crew_guard.core.usage import NO_PARTS, Parts, Usage


class Call(Protocol):
    """What a tap asks of the call that it belongs to."""

    heard: Heard

    @property
    def length(self) -> int | None:
        """The longest completion that may be asked for."""
        ...


class Heard:
    """What a provider has said of one request's cost so far."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._said: dict[str, int] = {}
        self._ended = False

    def begin(self) -> None:
        """Another request leaves."""
        self._said, self._ended = {}, False

    def hear(self, said: Any) -> None:
        """An answer, or an event of a stream."""
        counts = self._counts
        if counts.begun is not None:
            self._note(_at(said, counts.begun))
        told = _at(said, counts.at)
        if told is not None:
            self._note(told)
            self._ended = self._ended or isinstance(_get(told, counts.completion), int)

    def _note(self, told: Any) -> None:
        counts = self._counts
        for name in (*counts.prompt, counts.completion):
            if isinstance(value := _get(told, name), int):
                self._said[name] = value
        if counts.kept_an_hour and isinstance(hour := _at(told, counts.kept_an_hour), int):
            self._said["kept_an_hour"] = hour

    @property
    def usage(self) -> tuple[Usage | None, Parts]:
        """What it comes to; None until the provider has said it of the whole answer."""
        counts, said = self._counts, self._said
        if not self._ended or not any(name in said for name in counts.prompt):
            return None, NO_PARTS
        prompt = sum(said.get(name, 0) for name in counts.prompt)
        parts = Parts(cache_written=said.get(counts.written, 0), kept_an_hour=said.get("kept_an_hour", 0))
        return reported(prompt, said.get(counts.completion, 0), said.get(counts.cached, 0)), parts


class Tap:
    """A client, or a part of one, as an LLM's double has it."""

    def __init__(self, inner: Any, provider: Provider, call: Call, paths: Sequence[Path]) -> None:
        self._inner, self._provider, self._call, self._paths = inner, provider, call, paths

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        rest = [path[1:] for path in self._paths if path[0] == name]
        if not rest:
            return value
        return Tap(value, self._provider, self._call, rest) if rest[0] else self._sending(value)

    def _sending(self, method: Any) -> Any:
        call = self._call

        def send(*args: Any, **kwargs: Any) -> Any:
            call.heard.begin()
            made = method(*args, **_clamped(kwargs, self._provider.length, call.length))
            streams = bool(kwargs.get("stream"))
            return _awaited(made, call, streams=streams) if inspect.isawaitable(made) else _heard(made, call, streams)

        return send


def tapped(client: Any, provider: Provider, call: Call) -> Tap:
    """A client whose requests for tokens are clamped to the call's length, and heard by it."""
    return Tap(client, provider, call, provider.sends)


def _clamped(kwargs: Mapping[str, Any], path: Path, length: int | None) -> dict[str, Any]:
    if length is None:
        return dict(kwargs)
    name, rest = path[0], path[1:]
    given: Any = kwargs.get(name)
    if rest:
        return {**kwargs, name: _clamped(given or {}, rest, length)}
    return {**kwargs, name: min(given, length) if isinstance(given, int) and given > 0 else length}


async def _awaited(made: Awaitable[Any], call: Call, *, streams: bool) -> Any:
    return _heard(await made, call, streams)


def _heard(made: Any, call: Call, streams: bool) -> Any:
    if streams:
        return _Stream(made, call.heard)
    call.heard.hear(made)
    return made


class _Stream:
    """A stream of the SDK, heard. No generator: letting go of it closes the SDK's own, as ever."""

    def __init__(self, stream: Any, heard: Heard) -> None:
        self._stream, self._heard = stream, heard

    def __iter__(self) -> Self:
        return self

    def __aiter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return self._told(next(self._stream))

    async def __anext__(self) -> Any:
        return self._told(await anext(self._stream))

    def _told(self, event: Any) -> Any:
        self._heard.hear(event)
        return event

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _at(said: Any, path: Path) -> Any:
    for name in path:
        if said is None:
            return None
        said = _get(said, name)
    return said


def _get(source: Any, name: str) -> Any:
    return source.get(name) if isinstance(source, dict) else getattr(source, name, None)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
