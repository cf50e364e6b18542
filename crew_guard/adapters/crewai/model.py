"""CrewAI's models under the gate: each call is admitted, clamped, and settled from counters of its own.

`call()` takes no length and returns no usage: for the time of a call the stand-in shows the
grant as its max_tokens and a fresh dictionary as its counters, to this thread or task alone.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from crewai.llms.base_llm import BaseLLM
from msgspec import Struct
from msgspec.structs import replace

from crew_guard.adapters.connections import quiet_client
from crew_guard.adapters.crewai import bedrock, gemini
from crew_guard.adapters.crewai.azure import LENGTH, is_azure
from crew_guard.adapters.crewai.checks import host_class
from crew_guard.adapters.crewai.clients import sent_once, sent_once_async, usage_of, watched, watched_async
from crew_guard.adapters.crewai.inside import part_of, refuse_late_work
from crew_guard.adapters.crewai.lengths import LENGTHS, declared, lengths_of, wish
from crew_guard.adapters.crewai.prompts import PromptBounds, asked_for, conversation_of, text_of
from crew_guard.adapters.hosted import (
    Attempt,
    ModelFacts,
    PromptCounter,
    RunNotes,
    length_key,
    reported,
    speaks_of_length,
)
from crew_guard.adapters.stand_in import ABSENT, seam_of, shown, stand_in
from crew_guard.core.actions import ModelCall, Outcome
from crew_guard.core.plain import error_text
from crew_guard.core.usage import NO_PARTS, Parts, Rates, Usage
from crew_guard.errors import RefusedError
from crew_guard.ports import Gate

_PACKAGES = frozenset({"crewai", "pydantic", "builtins", "abc", "typing"})
_merging = threading.Lock()


def gated_model(llm: BaseLLM, agent: str, gate: Gate, facts: ModelFacts, notes: RunNotes) -> BaseLLM:
    """A model that CrewAI takes for the user's own."""
    name = model_name(llm)
    known = facts(name)
    bounds = PromptBounds(PromptCounter(known))
    length = LENGTH if is_azure(host_class(llm)) else length_key(name)
    seam = _ModelSeam(agent, gate, notes, name, known.rates, bounds, is_clampable(llm), length)
    return stand_in(llm, seam, _methods)


def is_clampable(llm: BaseLLM) -> bool:
    """Whether a model keeps to its max_tokens: CrewAI's own do, a user's if its code speaks of it."""
    return host_class(llm) is not BaseLLM or speaks_of_length(type(llm), _PACKAGES)


def model_name(llm: BaseLLM) -> str:
    """provider:name, as policies know it."""
    provider = llm.provider or "custom"
    return f"{provider}:{llm.model.removeprefix(f'{provider}/')}"


@dataclass(slots=True)
class _ModelSeam:
    agent: str
    gate: Gate
    notes: RunNotes
    model: str
    rates: Rates | None
    bounds: PromptBounds
    clampable: bool
    length: str
    """What its provider calls the longest completion."""
    quiet: dict[Any, Any] = field(default_factory=dict[Any, Any])
    """SDK clients without retries, by the id of the user's; of async ones by that of the loop, too."""
    held: list[tuple[Any, Any]] = field(default_factory=list[tuple[Any, Any]])
    """Whose ids those are."""
    kind: type[_Call] | None = None
    """How a call of it goes, where that is not as of most."""

    def before(self, messages: Sequence[Any] = ()) -> int | None:
        """Asked when a request leaves; see `sent_once`."""
        if action := _further_request(messages):
            _go_on(self.gate.admit_blocking(action))
        return _length_now(self)

    async def before_async(self, messages: Sequence[Any] = ()) -> int | None:
        """The same for an async client."""
        if action := _further_request(messages):
            _go_on(await self.gate.admit(action))
        return _length_now(self)


class _Call(Struct, eq=False):
    """One host call under way, as long as its block lasts."""

    llm: BaseLLM
    seam: _ModelSeam
    attempt: Attempt
    method: str
    """call or acall"""
    lengths: dict[str, int]
    """Those that the model declares, by name."""
    overrides: dict[str, Any] = {}
    """What the stand-in shows instead of the user's own attributes."""
    counters: dict[str, int] = {}
    messages: int = 0
    """Those of the request before, where its client tells."""
    beside: int = 0
    written: int = 0
    """Tokens of the prompt that the provider reported beside it, and those of them that it put into its cache."""
    answer: Any = None
    """The HTTP response of the request under way, where its client tells."""
    _counted: tuple[int, int, int] = (0, 0, 0)
    """Prompt, completion and cached tokens that earlier requests of this call were settled with."""
    _tokens: tuple[Any, Any] = None, None

    def __enter__(self) -> None:
        llm, seam, grant = self.llm, self.seam, self.attempt.grant
        self.counters = dict.fromkeys(_shared(llm), 0)
        self.overrides["_token_usage"] = self.counters
        if seam.clampable:
            extra = llm.additional_params
            if not extra.keys().isdisjoint(LENGTHS):
                extra = {key: value for key, value in extra.items() if key not in LENGTHS}
            self.overrides["additional_params"] = extra
            self.overrides |= dict.fromkeys(self.lengths or (seam.length,), grant.max_tokens)
        self._tokens = _call.set(self), part_of.set(grant.action_id)

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None:
            attempt = self.attempt
            if attempt.sent == 0 and _is_watched(self.llm):
                attempt.settle(Outcome("withdrawn", text=error_text(error)))  # its client is watched, and sent nothing
            attempt.fail(error, self.usage())
        _call.reset(self._tokens[0])
        part_of.reset(self._tokens[1])
        with _merging:
            shared = _shared(self.llm)
            for name, count in self.counters.items():
                if count:
                    shared[name] = shared.get(name, 0) + count

    def usage(self) -> Usage | None:
        """What the provider reported for the request under way."""
        counters, before = self.counters, self._counted
        now = counters["prompt_tokens"], counters["completion_tokens"], counters["cached_prompt_tokens"]
        prompt, self.beside = now[0] - before[0] + self.beside, 0
        usage = reported(prompt, now[1] - before[1], now[2] - before[2])
        if usage is not None:
            self._counted = now
        elif self.answer is not None:
            usage = usage_of(self.answer)  # CrewAI counts what its client could read
        self.answer = None
        return usage

    def settle(self, reply: Any) -> None:
        """Settle a call that was answered."""
        seam, usage = self.seam, self.usage()
        if usage and usage.output_tokens > self.attempt.grant.max_tokens:
            seam.clampable = False  # it doesn't keep to a length: from now on all that it may make is reserved
        asked = asked_for(reply)
        seam.notes.unanswered = bool(asked)
        self.attempt.settle(Outcome("ok", usage, self.parts(), text_of(reply, asked), asked))

    def parts(self) -> Parts:
        """Those of the usage that have a price of their own."""
        written, self.written = self.counters["cache_creation_tokens"] or self.written, 0
        return Parts(cache_written=written) if written else NO_PARTS


_call: ContextVar[_Call | None] = ContextVar("crew_guard_model_call", default=None)


def _shared(llm: BaseLLM) -> dict[str, int]:
    """The user's own counters, and not those of a call around this one."""
    return (llm.__pydantic_private__ or {})["_token_usage"]


def _methods(kind: type[BaseLLM]) -> dict[str, Any]:
    # `call` stands in the class itself, so that CrewAI puts its retries around the gate and not inside of it.
    methods: dict[str, Any] = {
        **shown((*LENGTHS, "additional_params", "_token_usage", *gemini.kept_per_call(kind)), _during_a_call),
        "call": _gated_call,
        "acall": _gated_acall,
        "_emit_stream_chunk_event": _progress,
    }
    watched = {"_get_sync_client": _quiet_client, "_get_async_client": _quiet_async_client}
    if any(map(bedrock.is_bedrock, kind.__mro__)):
        own = {"_ensure_async_client": _bedrock_client, "_track_token_usage_internal": _bedrock_usage}
        watched = {"_get_sync_client": _quiet_client, **own}
    return methods | {name: method for name, method in watched.items() if hasattr(kind, name)}


def _gated_call(llm: BaseLLM, messages: Any, *args: Any, **kwargs: Any) -> Any:
    seam: _ModelSeam = seam_of(llm)
    if around := _own_call_of(llm):
        if action := _asks_itself(around, seam, "call"):
            _go_on(seam.gate.admit_blocking(action))
        return _own(llm).call(llm, messages, *args, **kwargs)
    try:
        refuse_late_work()
        lengths = lengths_of(llm)
        grant = seam.gate.admit_blocking(_action(llm, lengths, messages, args, kwargs))
    except RefusedError as error:
        _plain(error)
        raise
    call = (seam.kind or _Call)(llm, seam, Attempt(seam.gate, grant), "call", lengths, {"tools": _tools(args, kwargs)})
    with call:
        reply = _own(llm).call(llm, messages, *args, **kwargs)
        call.settle(reply)
    return reply


async def _gated_acall(llm: BaseLLM, messages: Any, *args: Any, **kwargs: Any) -> Any:
    seam: _ModelSeam = seam_of(llm)
    if around := _own_call_of(llm):
        if action := _asks_itself(around, seam, "acall"):
            _go_on(await seam.gate.admit(action))
        return await _own(llm).acall(llm, messages, *args, **kwargs)
    try:
        refuse_late_work()
        lengths = lengths_of(llm)
        grant = await seam.gate.admit(_action(llm, lengths, messages, args, kwargs))
    except RefusedError as error:
        _plain(error)
        raise
    call = (seam.kind or _Call)(llm, seam, Attempt(seam.gate, grant), "acall", lengths, {"tools": _tools(args, kwargs)})
    with call:
        async with bedrock.opening(host_class(llm)):
            reply = await _own(llm).acall(llm, messages, *args, **kwargs)
        call.settle(reply)
    return reply


def _own_call_of(llm: BaseLLM) -> _Call | None:
    """The model's own call that this one is made in."""
    call = _call.get()
    return call if call is not None and call.llm is llm else None


def _asks_itself(around: _Call, seam: _ModelSeam, method: str) -> ModelCall | None:
    """The action of a model's call within its own call, where that is another request.

    The client of a provider is watched, and tells for itself. A user's acall may be its call in a
    thread, and the first is one request; a call that calls itself tries again.
    """
    if seam.quiet or bedrock.is_bedrock(host_class(around.llm)):
        return None
    if method == around.method:
        around.attempt.sent = max(1, around.attempt.sent)
    return _further_request()


def _own(llm: BaseLLM) -> type[BaseLLM]:
    return type(llm).__bases__[0]


def _is_watched(llm: BaseLLM) -> bool:
    """Whether all that a model sends is seen as it leaves: its class is a provider's of CrewAI's, and nobody's else."""
    own = _own(llm)
    return own is host_class(llm) and own is not BaseLLM


def _plain(error: RefusedError) -> None:
    """Have CrewAI take a refusal for what it is."""
    error.__context__ = None  # CrewAI looks for a provider's throttling in it, and would sleep and ask again
    cast(Any, error)._flow_listener_logged = True  # noqa: SLF001  the run's result tells it


def _action(
    llm: BaseLLM, lengths: dict[str, int], messages: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> ModelCall:
    seam: _ModelSeam = seam_of(llm)
    tools = _tools(args, kwargs)
    output = kwargs.get("response_model") or declared(llm, "response_format")
    prompt, text_only = seam.bounds.prompt(llm, messages, tools, output)
    wanted, least = wish(llm, next(iter(lengths.values()), None))
    streams = bool(llm._effective_stream())  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return ModelCall(
        seam.agent,
        seam.model,
        prompt,
        wanted,
        least,
        rates=seam.rates,
        clampable=seam.clampable,
        streams=streams,
        parent=part_of.get(),
        text_only=text_only,
        conversation=partial(conversation_of, messages),
    )


def _tools(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    return kwargs.get("tools") or (args[0] if args else None)


def _during_a_call(llm: Any, name: str) -> Any:
    call = _call.get()
    return call.overrides.get(name, ABSENT) if call is not None and call.llm is llm else ABSENT


def _progress(llm: Any, chunk: str, *args: Any, **kwargs: Any) -> None:
    call = _call.get()
    # A piece of a tool request is no text of the answer.
    is_text = call is not None and call.llm is llm and kwargs.get("tool_call") is None
    seam_of(llm).gate.progress(call.attempt.grant if call and is_text else None, chunk if is_text else "")
    cast(Any, _own(llm))._emit_stream_chunk_event(llm, chunk, *args, **kwargs)  # noqa: SLF001


def _quiet_client(llm: Any) -> Any:
    """The user's SDK client with its retries off, and each of its requests watched."""
    seam: _ModelSeam = seam_of(llm)
    client = cast(Any, _own(llm))._get_sync_client(llm)  # noqa: SLF001
    quiet = seam.quiet.get(id(client))
    if quiet is None:
        seam.held.append((client, None))
        if not hasattr(client, "with_options"):
            quiet = seam.quiet[id(client)] = sent_once(host_class(llm), client, seam.before, seam.before_async)
            return quiet
        quiet = seam.quiet[id(client)] = watched(client.with_options(max_retries=0), seam.before, _arrived)
    return quiet


def _quiet_async_client(llm: Any) -> Any:
    seam: _ModelSeam = seam_of(llm)
    client = cast(Any, _own(llm))._get_async_client(llm)  # noqa: SLF001
    loop = asyncio.get_running_loop()
    key = id(client), id(loop)
    quiet = seam.quiet.get(key)
    if quiet is None:
        seam.held.append((client, loop))
        if not hasattr(client, "with_options"):
            quiet = seam.quiet[key] = sent_once_async(client, seam.before_async)
            return quiet
        copy = quiet_client(client).with_options()  # it is watched for this run only
        quiet = seam.quiet[key] = watched_async(copy, seam.before_async, _arrived)
    return quiet


def _arrived(response: Any) -> None:
    if call := _call.get():
        call.answer = response


async def _bedrock_client(llm: Any) -> Any:
    seam: _ModelSeam = seam_of(llm)
    own = cast(Any, _own(llm))._ensure_async_client  # noqa: SLF001
    return await bedrock.async_client(llm, own, seam.quiet, seam.before_async)


def _bedrock_usage(llm: Any, usage: Any) -> None:
    cast(Any, _own(llm))._track_token_usage_internal(llm, usage)  # noqa: SLF001
    if call := _own_call_of(llm):
        read, call.written = bedrock.beside_prompt(usage)
        call.beside = read + call.written


def _length_now(seam: _ModelSeam) -> int | None:
    call = _call.get()
    return call.attempt.grant.max_tokens if call is not None and seam.clampable else None


def _further_request(messages: Sequence[Any] = ()) -> ModelCall | None:
    """The action of a request that leaves now, if it isn't the first of its call.

    Args:
        messages: those of the request, where they may be more than those of the one before

    CrewAI asks again within a call where a model turns an option down, or answers a structured
    request with nothing: the request before is settled, and this one is an attempt like any other.
    """
    call = _call.get()
    if call is None:
        return None
    attempt = call.attempt
    attempt.sent += 1
    new, call.messages = messages[call.messages :], len(messages)
    if attempt.sent == 1:
        return None
    usage = call.usage()
    attempt.settle(Outcome("ok" if usage else "rejected", usage, call.parts()))
    action = attempt.following()
    return replace(action, prompt_tokens=action.prompt_tokens + call.seam.bounds.texts(new)) if new else action


def _go_on(grant: Any) -> None:
    call = _call.get()
    assert call is not None  # noqa: S101  only a call has further requests
    call.attempt.follow(grant)
