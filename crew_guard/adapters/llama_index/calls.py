"""A call of an LLM through the gate: admitted before it leaves, clamped, settled with what the provider reported.

An LLM's methods call each other, and a class's its base's: only the outermost is gated, and its double hands
the others through. One that begins after another has ended is a further request, and admitted, too. An LLM
that asks another LLM before it has sent anything is no provider: its grant is given back, and the other's calls
are the attempts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeAlias, cast

from crew_guard.adapters.hosted import Attempt
from crew_guard.adapters.llama_index.double import LENGTHS, double_of
from crew_guard.adapters.llama_index.kinds import (
    keeps_plain,
    kind_of,
    least_of,
    model_name,
    shown_with,
    unbounded,
    wish_of,
)
from crew_guard.adapters.llama_index.messages import bound_prompt, conversation_of, said_in, usage_of
from crew_guard.adapters.llama_index.scope import HostRun
from crew_guard.adapters.llama_index.tapped import Heard
from crew_guard.adapters.llama_index.threads import named
from crew_guard.core.actions import Grant, ModelCall, Outcome
from crew_guard.core.plain import error_words
from crew_guard.core.usage import NO_PARTS, Parts, Usage
from crew_guard.errors import ConfigError

_Cost: TypeAlias = tuple[Usage | None, Parts]
_UNKNOWN: _Cost = None, NO_PARTS
_under_way: ContextVar[LLMCall | None] = ContextVar("crew_guard_llama_index_call", default=None)


class LLMCall:
    """One call of an LLM by the host, and the request of it that is under way."""

    def __init__(self, run: HostRun, llm: Any, prompt: Any, kwargs: Mapping[str, Any], *, streams: bool) -> None:
        self.agent = run.who()
        kind = self._kind = kind_of(cast("type[Any]", type(llm)))
        if (problem := unbounded(llm, kwargs, kind)) is not None:
            raise run.refuse(ConfigError(f"the model of {self.agent!r} {problem}"))
        self.run = run
        self.llm = llm
        self.model = model_name(llm, kind)
        self._known = run.known(self.model)
        self.clampable = kind.clampable and not self._known.breaks_its_word
        self._prompt, self._kwargs, self._streams = prompt, kwargs, streams
        self.heard = None if kind.known is None else Heard(kind.known.counts)
        """What a provider's SDK said of the request under way; None where the host's responses say it."""
        self._attempt: Attempt | None = None
        self._sent = False
        """Whether a request of this attempt has left: its provider's SDK is watched, or a piece of a stream came."""
        self._inner_ended = False
        self._last: Any = None
        self._counted: tuple[Any, _Cost] = None, _UNKNOWN
        """A response, and what usage it names: its methods hand the same one through."""
        self._streamed = _UNKNOWN
        """The last usage that a piece of a stream named."""
        around = _under_way.get()
        self._part_of = None if around is None else around.hand_over()

    @property
    def length(self) -> int | None:
        """The longest completion that may be asked for; None where the class can't be told."""
        told = self.clampable or self.heard is not None
        return self._attempt.grant.max_tokens if self._attempt is not None and told else None

    @property
    def action(self) -> ModelCall:
        """What is to be admitted."""
        known = self._known
        llm, kwargs, kind = self.llm, self._kwargs, self._kind
        tokens, text_only = bound_prompt(known, self._prompt, shown_with(llm, kwargs, kind))
        wish = wish_of(llm, kwargs, kind, clampable=self.clampable)
        return ModelCall(
            self.agent,
            self.model,
            tokens,
            wish,
            least_of(llm, kwargs, kind, wish),
            rates=known.rates,
            clampable=self.clampable,
            streams=self._streams,
            parent=self._part_of,
            text_only=text_only and keeps_plain(llm, kwargs, kind),
            conversation=partial(conversation_of, self._prompt),
        )

    def begin(self, grant: Grant) -> tuple[Any, dict[str, Any]]:
        """The request may leave: the object to call, and with which keyword arguments."""
        self._attempt = Attempt(self.run.gate, grant)
        kwargs, openai, known = dict(self._kwargs), self._kind.openai, self._kind.known
        if known is not None:
            return double_of(self.llm, self, openai=False, known=known), kwargs
        if self.clampable:
            for key in LENGTHS:
                kwargs.pop(key, None)
            if not openai:
                kwargs["max_tokens"] = grant.max_tokens  # OpenAI's are clamped as their requests are made
        return double_of(self.llm, self, openai=openai), kwargs

    # Requests that a provider's SDK sends

    @property
    def _is_watched(self) -> bool:
        return self.heard is not None or self._kind.openai

    def may_leave(self) -> None:
        """A client of OpenAI's SDK is at hand, or a request for one: it may send from now on."""
        self._sent = True

    def leaves(self) -> int | None:
        """A request leaves now; one after another is an attempt of its own.

        Returns:
            the longest completion that it may ask for
        Raises:
            RefusedError, StoreError: it must not be sent
        """
        if action := self._another:
            self.go_on(self.run.gate.admit_blocking(action))
        return self._leaving()

    async def leaves_async(self) -> int | None:
        """The same of an async client."""
        if action := self._another:
            self.go_on(await self.run.gate.admit(action))
        return self._leaving()

    def _leaving(self) -> int | None:
        self._sent = True
        if self.heard is not None:
            self.heard.begin()
        return self.length

    @property
    def _another(self) -> ModelCall | None:
        if self._attempt is None or not (self._sent or self._attempt.settled):
            return None
        usage, parts = self._cost_of(None)
        self._attempt.settle(Outcome("ok" if usage else "failed", usage, parts))
        return self._attempt.following()

    # Methods of the same LLM inside of this call

    @property
    def further(self) -> ModelCall | None:
        """The action of a further request, where one of this call's has ended already, or its grant was given back."""
        if self._attempt is None or not (self._inner_ended or self._attempt.settled):
            return None
        self._inner_ended = False
        if self._last is not None:
            self.done(self._last)
        self._attempt.settle(Outcome("failed"))
        return self._attempt.following()

    def go_on(self, grant: Grant) -> None:
        """Go on under another grant."""
        assert self._attempt is not None  # noqa: S101  there was a request before
        self._sent, self._last = False, None
        self._attempt.follow(grant)

    def inner_ended(self, response: Any = None, error: BaseException | None = None) -> None:
        """A method of the same LLM has ended. Its response counts if no other follows; a stream is told as it ends."""
        self._inner_ended = True
        if error is not None and self._attempt is not None:
            self._attempt.fail(error)
        elif response is not None and self._cost_of(response)[0] is not None:
            self._last = response

    # Its end

    def hand_over(self) -> str | None:
        """Another LLM is asked inside of this call: what was answered already is settled, and a grant that is unused.

        Returns:
            the action that the other one's is a part of: that of a request under way, whose end comes later
        """
        if self._attempt is None or self._attempt.settled:
            return None
        if self._last is not None:
            self.done(self._last)
        elif self._sent:
            return self._attempt.grant.action_id
        else:
            self._attempt.settle(Outcome("withdrawn", text="it asked another model"))
        return None

    def done(self, response: Any) -> None:
        """Settle with a whole response."""
        assert self._attempt is not None  # noqa: S101  it was begun
        self._settle(self._attempt, response, self._cost_of(response))

    def _cost_of(self, response: Any) -> _Cost:
        if self.heard is not None:
            return self.heard.usage
        if self._counted[0] is not response:
            self._counted = response, (usage_of(response), NO_PARTS)
        return self._counted[1]

    def _settle(self, attempt: Attempt, response: Any, cost: _Cost) -> None:
        usage, parts = cost
        if usage and self.clampable and usage.output_tokens > attempt.grant.max_tokens:
            self._known.breaks_its_word = True
        text, asked = said_in(response)
        attempt.settle(Outcome("ok", usage, parts, text, asked))

    def failed(self, error: BaseException) -> None:
        """Settle a call that raised: where its provider's SDK is watched, and sent nothing, it was never begun."""
        if self._attempt is None:
            return
        if self._sent or not self._is_watched:
            self._attempt.fail(error, self._cost_of(self._last)[0])
        else:
            self._attempt.settle(Outcome("withdrawn", text=error_words(error)))

    def piece(self, response: Any) -> None:
        """A piece of a stream arrived."""
        cost = self._cost_of(response)
        if cost[0] is not None:
            self._streamed = cost
        if self._attempt is not None:
            self._sent = self._sent or not self._attempt.settled
            self.run.gate.progress(self._attempt.grant, getattr(response, "delta", None) or "")

    def stream_ended(self, last: Any) -> None:
        """Settle a stream with its last piece, and the last usage that was named."""
        assert self._attempt is not None  # noqa: S101  it was begun
        if last is None:
            self._attempt.settle(Outcome("failed", text="the stream ended without a result"))
            return
        self._settle(self._attempt, last, self._streamed if self.heard is None else self.heard.usage)

    def __enter__(self) -> None:
        assert self._attempt is not None  # noqa: S101  it was begun
        self._token, self._over = _under_way.set(self), named(self.run.gate, self._attempt.grant)

    def __exit__(self, *_: object) -> None:
        _under_way.reset(self._token)
        if self._over is not None:
            self._over()


def watched(call: LLMCall, stream: Iterator[Any]) -> Iterator[Any]:
    """A stream, settled as it ends."""
    last = None
    try:
        while True:
            with call:
                try:
                    last = next(stream)
                except StopIteration:
                    break
            call.piece(last)
            yield last
    except BaseException as error:
        call.failed(error)
        raise
    call.stream_ended(last)


async def watched_async(call: LLMCall, stream: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The same for an async stream."""
    last = None
    try:
        while True:
            with call:
                try:
                    last = await anext(stream)
                except StopAsyncIteration:
                    break
            call.piece(last)
            yield last
    except BaseException as error:
        call.failed(error)
        await closed(stream)
        raise
    call.stream_ended(last)


async def closed(stream: AsyncIterator[Any]) -> None:
    """Close a stream that is read half, now and not when the collector finds it."""
    close = getattr(cast(Any, stream), "aclose", None)
    if close is not None:
        await close()
