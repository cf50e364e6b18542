"""An SDK's client for one call: its methods that send are clamped, and what they answer is heard.

All else of the client is handed through: what a model is, how many tokens a text has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from crew_guard.adapters.hearing import HeardStream
from crew_guard.adapters.hosted import reported
from crew_guard.adapters.llama_index.providers import Counts, Path, Provider
from crew_guard.core.usage import NO_PARTS, Parts, Usage


class Call(Protocol):
    """What a tap asks of the call that it belongs to."""

    heard: Heard

    def leaves(self) -> int | None:
        """A request leaves now. Gives the longest completion that it may ask for."""
        ...

    async def leaves_async(self) -> int | None:
        """The same of an async client."""
        ...


class Heard:
    """What a provider has said of one request's cost so far."""

    def __init__(self, counts: Counts | None) -> None:
        """Nothing yet.

        Args:
            counts: where answers and events say it; None where who hears them tells the whole account
        """
        self._counts = counts
        self.begin()

    def begin(self) -> None:
        """Another request leaves."""
        self._said: dict[str, int] = {}
        self._ended = False
        self._account: tuple[Usage | None, Parts] = None, NO_PARTS

    def account(self, usage: Usage | None, parts: Parts) -> None:
        """What the whole answer cost."""
        self._account = usage, parts

    def hear(self, said: Any) -> None:
        """An answer, or an event of a stream."""
        counts = self._counts
        if counts is None:
            return
        if counts.begun is not None:
            self._note(counts, _at(said, counts.begun))
        told = _at(said, counts.at)
        if told is not None:
            self._note(counts, told)
            self._ended = self._ended or isinstance(_get(told, counts.completion), int)

    def _note(self, counts: Counts, told: Any) -> None:
        for name in (*counts.prompt, counts.completion):
            if isinstance(value := _get(told, name), int):
                self._said[name] = value
        if counts.kept_an_hour and isinstance(hour := _at(told, counts.kept_an_hour), int):
            self._said["kept_an_hour"] = hour

    @property
    def usage(self) -> tuple[Usage | None, Parts]:
        """What it comes to; None until the provider has said it of the whole answer."""
        counts, said = self._counts, self._said
        if counts is None or not self._ended or not any(name in said for name in counts.prompt):
            return self._account
        prompt = sum(said.get(name, 0) for name in counts.prompt)
        parts = Parts(cache_written=said.get(counts.written, 0), kept_an_hour=said.get("kept_an_hour", 0))
        return reported(prompt, said.get(counts.completion, 0), said.get(counts.cached, 0)), parts


class Tap:
    """A client, or a part of one, as an LLM's double has it."""

    def __init__(self, inner: Any, provider: Provider, call: Call, paths: Sequence[Path], *, is_async: bool) -> None:
        self._inner, self._provider, self._call, self._paths, self._is_async = inner, provider, call, paths, is_async

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        rest = [path[1:] for path in self._paths if path[0] == name]
        if not rest:
            return value
        if rest[0]:
            return Tap(value, self._provider, self._call, rest, is_async=self._is_async)
        return self._sending_async(value) if self._is_async else self._sending(value)

    def _sending(self, method: Any) -> Any:
        def send(*args: Any, **kwargs: Any) -> Any:
            length = self._call.leaves()
            made = method(*args, **_clamped(kwargs, self._provider.length, length))
            return self._heard(made, kwargs)

        return send

    def _sending_async(self, method: Any) -> Any:
        async def send(*args: Any, **kwargs: Any) -> Any:
            length = await self._call.leaves_async()
            made = await method(*args, **_clamped(kwargs, self._provider.length, length))
            return self._heard(made, kwargs)

        return send

    def _heard(self, made: Any, kwargs: Mapping[str, Any]) -> Any:
        if kwargs.get("stream"):
            return HeardStream(made, self._call.heard.hear)
        self._call.heard.hear(made)
        return made


def tapped(client: Any, provider: Provider, call: Call) -> Tap:
    """A client whose requests for tokens are clamped to the call's length, and heard by it."""
    is_async = any(base.__name__.startswith("Async") for base in type(client).__mro__)
    return Tap(client, provider, call, provider.sends, is_async=is_async)


def _clamped(kwargs: Mapping[str, Any], path: Path, length: int | None) -> dict[str, Any]:
    if length is None:
        return dict(kwargs)
    name, rest = path[0], path[1:]
    given: Any = kwargs.get(name)
    if rest:
        return {**kwargs, name: _clamped(given or {}, rest, length)}
    return {**kwargs, name: min(given, length) if isinstance(given, int) and given > 0 else length}


def _at(said: Any, path: Path) -> Any:
    for name in path:
        if said is None:
            return None
        said = _get(said, name)
    return said


def _get(source: Any, name: str) -> Any:
    return source.get(name) if isinstance(source, dict) else getattr(source, name, None)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
