"""One call of a model that asks litellm: each completion is an attempt, and so is each request more within it.

An attempt's end is read where it can be seen: what a provider reported from litellm's reply, whether anything
left, and how that was answered, from the requests themselves.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, cast

import httpx
from msgspec.structs import replace

from crew_guard.adapters.crewai.litellm_bounds import makes_tokens
from crew_guard.adapters.crewai.model import _Call, _call  # pyright: ignore[reportPrivateUsage]
from crew_guard.adapters.crewai.prompts import asked_for, text_of
from crew_guard.adapters.hosted import Attempt, failure, reported
from crew_guard.core.actions import ModelCall, Outcome
from crew_guard.core.plain import error_text
from crew_guard.core.usage import NO_PARTS, Parts, Usage
from crew_guard.errors import ConfigError, RefusedError

_ERRORS, _TOO_MANY, _FAULTS = 400, 429, 500


def _task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def asks_through_litellm(llm: object) -> bool:
    """Whether the code that runs now is a part of this model's own call, which asks litellm."""
    call = _call.get()
    return isinstance(call, LiteCall) and call.llm is llm


def structured(ask: Callable[[], Any]) -> Any:
    """What instructor makes of a completion; a refusal that it wrapped is raised as it was."""
    try:
        return ask()
    except Exception as error:
        if isinstance(error.__cause__, RefusedError | ConfigError):
            raise error.__cause__ from None
        raise


class LiteCall(_Call):
    """A call of a model: its completions one after the other, each under a grant of its own."""

    reported: Usage | None = None
    """What the provider said of the completion that the grant is for."""
    own_parts: Parts = NO_PARTS
    _begun: bool = False

    def __enter__(self) -> None:
        _Call.__enter__(self)
        self.overrides = {"_token_usage": self.counters}  # lengths are bounded where litellm is asked

    def usage(self) -> Usage | None:
        return self.reported

    def parts(self) -> Parts:
        return self.own_parts

    def settle(self, reply: Any) -> None:
        if self.reported and self.reported.output_tokens > self.attempt.grant.max_tokens:
            self.seam.clampable = False  # its provider doesn't keep to a length: all that it may make is reserved
        asked = asked_for(reply)
        self.seam.notes.unanswered = bool(asked)
        self.attempt.settle(Outcome("ok", self.reported, self.parts(), text_of(reply, asked), asked))

    def further(self, request: Mapping[str, Any]) -> ModelCall | None:
        """The action of a completion that begins now, if it isn't the first of its call."""
        if not self._begun:
            self._begun = True
            return None
        before = cast(ModelCall, self.attempt.grant.action)
        self.attempt.settle(Outcome("ok", self.reported, self.parts()))
        said, tools = request.get("messages") or (), request.get("tools")
        prompt, text_only = self.seam.bounds.prompt(self.llm, said, tools, None)
        streams, attempt = bool(request.get("stream")), before.attempt + 1
        return replace(before, prompt_tokens=prompt, text_only=text_only, streams=streams, attempt=attempt)

    def follow(self, grant: Any) -> None:
        """Go on under another grant."""
        self.attempt.follow(grant)
        self.attempt.sent, self.reported, self.own_parts = 0, None, NO_PARTS

    def note(self, usage: Any) -> None:
        """What litellm hands on of a provider's report."""
        details = getattr(usage, "prompt_tokens_details", None)
        cached = getattr(details, "cached_tokens", None) or getattr(usage, "cache_read_input_tokens", None) or 0
        self.reported = reported(usage.prompt_tokens or 0, usage.completion_tokens or 0, cached)
        written = getattr(usage, "cache_creation_input_tokens", None)
        self.own_parts = Parts(cache_written=written) if written else NO_PARTS


@dataclass(slots=True)
class Completion:
    """One completion of litellm's under way."""

    call: LiteCall
    thread: int = field(default_factory=threading.get_ident)
    task: asyncio.Task[Any] | None = field(default_factory=_task)
    refusal: RefusedError | ConfigError | None = None
    """Raised where a request would leave; litellm and the SDKs wrap it in errors of theirs."""
    _broken: BaseException | None = None
    _status: int | None = None

    @property
    def attempt(self) -> Attempt:
        return self.call.attempt

    @contextmanager
    def asking(self) -> Generator[None]:
        """While litellm works at it."""
        litellm: Any = import_module("litellm")
        retries, token = litellm.num_retries, under_way.set(self)
        try:
            yield
        except BaseException as error:
            self.attempt.settle(self._ended(error))
            if self.refusal is not None:
                self.refusal.__context__ = None
                raise self.refusal from None
            raise
        finally:
            under_way.reset(token)
            if retries is not None and litellm.num_retries is None:
                litellm.num_retries = retries  # litellm forgets it after an error; it is the user's

    def _ended(self, error: BaseException) -> Outcome:
        if self.attempt.sent == 0:
            return Outcome("withdrawn", text=error_text(error))
        cancelled = isinstance(error, asyncio.CancelledError)
        outcome = failure(error if self._broken is None or cancelled else self._broken, self.call.reported)
        if outcome.status == "rejected" and self._broken is None and (self._status or _ERRORS) < _ERRORS:
            return replace(outcome, status="failed")  # it was answered, and litellm can't use that
        return outcome

    def minds(self, request: httpx.Request) -> bool:
        """Whether a request is litellm's own: once it has its answer, its loggers send some of theirs elsewhere."""
        if request.method != "POST":
            return False
        return (
            self._status is None
            or self._status >= _ERRORS
            or (self.thread, self.task) == (threading.get_ident(), _task())
        )

    def leaves(self, request: httpx.Request) -> ModelCall | None:
        """The action of a request that leaves now, if it isn't the first of its completion.

        Raises:
            ConfigError: it is not bounded
        """
        if error := self.refusal or self._broken:
            raise error  # an SDK that tries again, past the 0 that litellm was told
        attempt = self.attempt
        if not makes_tokens(request.url.path, request.read(), attempt.grant.max_tokens):
            return None
        attempt.sent += 1
        if attempt.sent == 1:
            return None
        attempt.settle(self._before())
        return attempt.following()

    def _before(self) -> Outcome:
        """How the request before this one ended."""
        status = self._status or 0
        if status < _ERRORS:
            return Outcome("ok", self.call.reported)
        return Outcome("rejected" if status < _FAULTS else "failed", fault=status >= _FAULTS or status == _TOO_MANY)

    def refused(self, error: RefusedError | ConfigError) -> None:
        """Keep what litellm would wrap, and have the run fail of what can't be bounded."""
        self.refusal = error
        if isinstance(error, ConfigError):
            from crew_guard.adapters.crewai.scope import scope_of_run

            if scope := scope_of_run.get():
                scope.problem = scope.problem or error

    def came(self, response: httpx.Response) -> None:
        """A provider's answer has begun."""
        self._status = response.status_code
        response.headers["x-should-retry"] = "false"  # litellm doesn't tell every SDK its max_retries

    def broke(self, error: BaseException) -> None:
        """None came."""
        self._broken = error

    def answered(self, reply: Any) -> Any:
        """A reply of litellm's, its usage noted; what is streamed is read as it goes by."""
        return self._heard(reply) if hasattr(reply, "__next__") else self._whole(reply)

    def answered_async(self, reply: Any) -> Any:
        """The same of acompletion's."""
        return self._heard_async(reply) if hasattr(reply, "__anext__") else self._whole(reply)

    def _whole(self, reply: Any) -> Any:
        if usage := getattr(reply, "usage", None):
            self.call.note(usage)
        if self.attempt.sent == 0 and _is_from_cache(reply):
            self.attempt.settle(Outcome("withdrawn", text="from litellm's cache"))
        return reply

    def _heard(self, stream: Any) -> Iterator[Any]:
        usage = None
        while True:
            with self.asking():
                chunk = next(stream, None)
            if chunk is None:
                break
            usage = self._piece(chunk) or usage
            yield chunk
        self._end(stream, usage)

    async def _heard_async(self, stream: Any) -> AsyncIterator[Any]:
        usage = None
        while True:
            with self.asking():
                chunk = await anext(stream, None)
            if chunk is None:
                break
            usage = self._piece(chunk) or usage
            yield chunk
        self._end(stream, usage)

    def _piece(self, chunk: Any) -> Any:
        choices: Any = getattr(chunk, "choices", None)
        text = getattr(getattr(choices[0], "delta", None), "content", None) if choices else None
        self.call.seam.gate.progress(self.attempt.grant, text or "")
        return getattr(chunk, "usage", None)

    def _end(self, stream: Any, usage: Any) -> None:
        # Where the provider reports nothing litellm guesses, and a guess is no report.
        if usage and any(getattr(chunk, "usage", None) for chunk in getattr(stream, "chunks", ())):
            self.call.note(usage)


under_way: ContextVar[Completion | None] = ContextVar("crew_guard_completion", default=None)


def _is_from_cache(reply: Any) -> bool:
    hidden: Any = getattr(reply, "_hidden_params", None)
    return bool(hidden and hidden.get("cache_hit"))


def completion_begun() -> Completion | None:
    """A completion that a gated call of a model begins now."""
    call = _call.get()
    return Completion(call) if isinstance(call, LiteCall) and under_way.get() is None else None
