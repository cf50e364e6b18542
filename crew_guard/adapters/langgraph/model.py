"""A chat model's attempt under the gate: a stand-in takes the model's place for one call, and shares its state.

What a subclass implements (_generate, _stream and their like) is the lowest seam that LangChain has: an answer from
its cache doesn't come here, each retry of with_retry does.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import BaseMessage

from crew_guard.adapters.hearing import heard_claude, is_claudes
from crew_guard.adapters.hosted import Attempt, begins_with, failure
from crew_guard.adapters.langgraph.bounds import check_bound, check_model, is_clampable, model_name
from crew_guard.adapters.langgraph.calls import Call, under_way
from crew_guard.adapters.langgraph.clients import CLIENTS, calm, quiet
from crew_guard.adapters.langgraph.lengths import LENGTHS, declared, integration, shorten, wish_of
from crew_guard.adapters.langgraph.like import like
from crew_guard.adapters.langgraph.prompts import asked_for, text_of
from crew_guard.adapters.langgraph.scope import Scope, in_graph, inside_tool
from crew_guard.adapters.langgraph.usage import read, usage_of
from crew_guard.adapters.stand_in import ABSENT, is_stand_in, own_value, seam_of, shown, stand_in
from crew_guard.core.actions import ModelCall, Outcome
from crew_guard.core.plain import error_text
from crew_guard.errors import RefusedError

_WATCHED = CLIENTS.union(LENGTHS, ("stream_usage",))
_SYNC = ("_generate", "_stream", "_stream_chat_model_events")
_ASYNC = ("_agenerate", "_astream", "_astream_chat_model_events")


def gated(model: BaseChatModel, scope: Scope, metadata: Mapping[str, Any] | None, bound: Mapping[str, Any]) -> Any:
    """A model that LangChain takes for the user's own, for one call.

    Args:
        metadata: of the call, where there is one
        bound: what is given with the call
    Raises:
        ConfigError: the model can't be bounded
    """
    if is_stand_in(model):
        return model
    given = bound.get("model") or bound.get("model_name")
    known = scope.models.get((id(model), given))
    if known is None:
        name = model_name(model, given)
        check_model(model, name)
        known = scope.models[id(model), given] = (model, name)
    name = known[1]
    check_bound(bound, name)
    rates, count = scope.counter(name)
    clampable = type(model) not in scope.unbelieved and is_clampable(type(model))
    return stand_in(model, Call(scope, scope.actor(metadata), name, rates, count, clampable), _methods)


def _methods(kind: type[Any]) -> dict[str, Any]:
    made: dict[str, Any] = dict(shown(_WATCHED, _during_a_call))
    for name in (*_SYNC, *_ASYNC):
        own = getattr(kind, name, None)
        if own is None or own is getattr(BaseChatModel, name, None):
            continue  # what LangChain falls back on calls one of the others
        made[name] = _gate_of(name, own)
    return made


def _gate_of(name: str, own: Any) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(own):
        return _generating_async(own)
    if name in _ASYNC:
        return _streaming_async(own)
    return _generating(own) if name == "_generate" else _streaming(own)


def _during_a_call(model: Any, name: str) -> Any:
    call: Call = seam_of(model)
    if name not in CLIENTS:
        return call.overrides.get(name, ABSENT)
    value = own_value(model, name)
    if value is ABSENT:
        private: dict[str, Any] = model.__pydantic_private__ or {}
        value = private.get(name, ABSENT)
    if value is None or value is ABSENT:
        return value
    call.reach()
    client = quiet(call.scope.quiet, value)
    return heard_claude(client, call.listen) if is_claudes(client) else client


def _generating(own: Any) -> Any:
    @like(own)
    def generate(model: Any, messages: Any, *args: Any, **kwargs: Any) -> Any:
        call: Call = seam_of(model)
        if _goes_on(call, call.scope.gate.admit_blocking):
            return own(model, messages, *args, **kwargs)
        _take(call, model, _admitted(call, model, messages, kwargs), kwargs)
        with _UnderWay(call):
            result = own(model, messages, *args, **kwargs)
        _settle(call, model, [generation.message for generation in result.generations], result.llm_output)
        return result

    return generate


def _generating_async(own: Any) -> Any:
    @like(own)
    async def generate(model: Any, messages: Any, *args: Any, **kwargs: Any) -> Any:
        call: Call = seam_of(model)
        if await _goes_on_async(call):
            return await own(model, messages, *args, **kwargs)
        _take(call, model, await _admitted_async(call, model, messages, kwargs), kwargs)
        with _UnderWay(call):
            result = await own(model, messages, *args, **kwargs)
        _settle(call, model, [generation.message for generation in result.generations], result.llm_output)
        return result

    return generate


def _streaming(own: Any) -> Any:
    @like(own)
    def stream(model: Any, messages: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        call: Call = seam_of(model)
        if _goes_on(call, call.scope.gate.admit_blocking):
            yield from own(model, messages, *args, **kwargs)
            return
        _take(call, model, _admitted(call, model, messages, kwargs, streams=True), kwargs, streams=True)
        heard: list[Any] = []
        chunks = own(model, messages, *args, **kwargs)
        try:
            while True:
                with _UnderWay(call):
                    chunk = next(chunks, _END)
                if chunk is _END:
                    break
                _hear(call, chunk, heard)
                yield chunk
        except GeneratorExit as error:
            _left(call, error)
            chunks.close()
            raise
        _settle_stream(call, model, heard)

    return stream


def _streaming_async(own: Any) -> Any:
    @like(own)
    async def stream(model: Any, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        call: Call = seam_of(model)
        if await _goes_on_async(call):
            async for chunk in own(model, messages, *args, **kwargs):
                yield chunk
            return
        grant = await _admitted_async(call, model, messages, kwargs, streams=True)
        _take(call, model, grant, kwargs, streams=True)
        heard: list[Any] = []
        chunks = own(model, messages, *args, **kwargs)
        try:
            while True:
                with _UnderWay(call):
                    chunk = await anext(chunks, _END)
                if chunk is _END:
                    break
                _hear(call, chunk, heard)
                yield chunk
        except (GeneratorExit, asyncio.CancelledError) as error:
            _left(call, error)
            await chunks.aclose()
            raise
        _settle_stream(call, model, heard)

    return stream


_END = object()


def _goes_on(call: Call, admit: Callable[[ModelCall], Any]) -> bool:
    """Whether this is a part of the attempt under way. A second request within it is an attempt of its own."""
    if (action := _further(call)) is not None:
        try:
            cast(Attempt, call.attempt).follow(admit(action))
        except RefusedError as error:
            raise in_graph(error) from None
    return call.attempt is not None and not call.attempt.settled


async def _goes_on_async(call: Call) -> bool:
    if (action := _further(call)) is not None:
        try:
            cast(Attempt, call.attempt).follow(await call.scope.gate.admit(action))
        except RefusedError as error:
            raise in_graph(error) from None
    return call.attempt is not None and not call.attempt.settled


def _further(call: Call) -> ModelCall | None:
    attempt = call.attempt
    if attempt is None or attempt.settled:
        return None
    call.sent += 1
    if call.sent == 1:
        return None
    attempt.settle(Outcome("failed", text="the model's own code sent another request"))
    call.reached = False
    return attempt.following()


def _action(
    call: Call, model: Any, messages: Sequence[BaseMessage], kwargs: Mapping[str, Any], streams: bool
) -> ModelCall:
    outer = under_way.get()
    around = None if outer is None else outer.hand_over()
    kind: Any = cast(Any, type(model))
    more: Mapping[str, Any] = (model.model_kwargs if "model_kwargs" in declared(kind) else None) or {}
    wish, least = wish_of(model, kwargs, more)
    prompt, text_only = call.count.bound(messages, {**more, **kwargs} if more else kwargs)
    return ModelCall(
        call.agent,
        call.model,
        prompt,
        wish,
        least,
        rates=call.rates,
        clampable=call.clampable,
        streams=streams,
        parent=around or inside_tool.get(),
        text_only=text_only,
        conversation=partial(_conversation_of, messages),
    )


def _conversation_of(messages: Sequence[BaseMessage]) -> int:
    return begins_with(one.content for one in messages[:2] if one.type != "ai")


def _admitted(call: Call, model: Any, messages: Any, kwargs: Mapping[str, Any], *, streams: bool = False) -> Any:
    try:
        return call.scope.gate.admit_blocking(_action(call, model, messages, kwargs, streams))
    except RefusedError as error:
        call.scope.flights.landed_blocking()
        raise in_graph(error) from None


async def _admitted_async(
    call: Call, model: Any, messages: Any, kwargs: Mapping[str, Any], *, streams: bool = False
) -> Any:
    try:
        return await call.scope.gate.admit(_action(call, model, messages, kwargs, streams))
    except RefusedError as error:
        await call.scope.flights.landed()
        raise in_graph(error) from None


def _take(call: Call, model: Any, grant: Any, kwargs: dict[str, Any], *, streams: bool = False) -> None:
    """Go on under a grant: the request is clamped to it, and a stream asked for its usage."""
    call.begin(grant)
    kind: Any = cast(Any, type(model))
    fields = declared(kind)
    call.overrides = {"stream_usage": True} if streams and "stream_usage" in fields else {}
    if streams and kwargs.get("stream_options"):
        kwargs["stream_options"] = {**kwargs["stream_options"], "include_usage": True}
    calm(integration(kind), kwargs)
    if call.clampable:
        call.overrides |= shorten(model, kwargs, grant.max_tokens)


class _UnderWay:
    """The model's own code runs."""

    __slots__ = ("_busy", "_call", "_token")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._busy = call.scope.threads.busy()

    def __enter__(self) -> None:
        self._token = under_way.set(self._call)
        self._busy.__enter__()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._busy.__exit__(kind, error, trace)
        if error is not None:
            _left(self._call, error)
        under_way.reset(self._token)


def _left(call: Call, error: BaseException) -> None:
    if isinstance(error, RefusedError) and not call.reached:
        call.settle(Outcome("withdrawn", text=error_text(error)))  # of another model's attempt inside of this one
    call.settle(failure(error))


def _hear(call: Call, chunk: Any, heard: list[Any]) -> None:
    call.reached = True
    message = getattr(chunk, "message", None)
    heard.append(chunk if message is None else message)
    text = text_of(message) if message is not None else ""
    call.scope.gate.progress(call.attempt.grant if call.attempt else None, text)


def _settle_stream(call: Call, model: Any, heard: list[Any]) -> None:
    messages = [each for each in heard if isinstance(each, BaseMessage)]
    if messages:
        whole: Any = messages[0]
        for each in messages[1:]:
            whole = whole + each
        _settle(call, model, [whole], None)
        return
    events: list[Any] = [each for each in reversed(heard) if isinstance(each, dict)]
    usage = next((each["usage"] for each in events if each.get("usage")), None)
    used, parts = call.tokens(lambda: read(usage))
    call.settle(Outcome("ok" if used or heard else "failed", used, parts))


def _settle(call: Call, model: Any, messages: Sequence[BaseMessage], output: Mapping[str, Any] | None) -> None:
    attempt = call.attempt
    if attempt is None or attempt.settled:
        return
    message = messages[0] if messages else None
    usage, parts = call.tokens(lambda: usage_of(message, output))
    if usage and usage.output_tokens > attempt.grant.max_tokens:
        # It doesn't keep to a length: from now on all that it may make is reserved.
        call.scope.unbelieved.add(type(model).__bases__[0])
    asked = () if message is None else asked_for(message)
    for request_id, _, _ in asked:
        call.scope.asked(call.agent, request_id)
    call.settle(Outcome("ok", usage, parts, "" if message is None else text_of(message), asked))
