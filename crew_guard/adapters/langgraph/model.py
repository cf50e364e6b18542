"""A chat model's attempt under the gate: a stand-in takes the model's place for one call, and shares its state.

What a subclass implements (_generate, _stream and their like) is the lowest seam that LangChain has: an answer from
its cache doesn't come here, each retry of with_retry does.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache, wraps
from typing import Any, cast

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import BaseMessage

from crew_guard.adapters.crewai.stand_in import is_stand_in, seam_of, stand_in
from crew_guard.adapters.hosted import Attempt, PromptCounter, come_from, speaks_of_length
from crew_guard.adapters.langgraph.clients import CLIENTS, check_retries, quiet
from crew_guard.adapters.langgraph.prompts import asked_for, bound_prompt, holds_text_only, text_of
from crew_guard.adapters.langgraph.scope import Scope, in_graph, inside_tool
from crew_guard.core.actions import ModelCall, Outcome
from crew_guard.core.usage import NO_PARTS, Parts, Rates, Usage
from crew_guard.errors import ConfigError, RefusedError

_LENGTHS = ("max_completion_tokens", "max_tokens", "max_output_tokens", "max_new_tokens", "num_predict")
_PACKAGES = frozenset({"langchain_core", "langchain", "langgraph", "pydantic", "builtins", "abc", "typing"})
_WATCHED = CLIENTS.union(_LENGTHS, ("stream_usage",))
_SYNC = ("_generate", "_stream", "_stream_chat_model_events")
_ASYNC = ("_agenerate", "_astream", "_astream_chat_model_events")


@dataclass(slots=True)
class Call:
    """One call of a model under way: what its stand-in finds instead of the model's own attributes."""

    scope: Scope
    agent: str
    model: str
    rates: Rates | None
    count: PromptCounter
    clampable: bool
    overrides: dict[str, Any] = field(default_factory=dict[str, Any])
    attempt: Attempt | None = None
    sent: int = 0
    """How often the model's own code asked again within this call."""


_outer: ContextVar[Call | None] = ContextVar("crew_guard_graph_model_call", default=None)
"""The call whose own code runs now: a model that asks another one is not an attempt itself."""


def gated(model: BaseChatModel, scope: Scope, metadata: Mapping[str, Any] | None, bound: Mapping[str, Any]) -> Any:
    """A model that LangChain takes for the user's own, for one call.

    Args:
        metadata: of the call; None asks the context for it
        bound: what is given with the call
    Raises:
        ConfigError: the model can't be bounded
    """
    if is_stand_in(model):
        return model
    name = model_name(model, bound)
    check_model(model, name, bound)
    rates, count = scope.counter(name)
    clampable = type(model) not in scope.unbelieved and is_clampable(type(model))
    return stand_in(model, Call(scope, scope.actor(metadata), name, rates, count, clampable), _methods)


def model_name(model: BaseChatModel, bound: Mapping[str, Any]) -> str:
    """provider:name, as policies know it; a model of the user's own goes by custom."""
    given = bound.get("model") or bound.get("model_name")
    if _integration(type(model)) is None:
        own = given or getattr(model, "model", None) or getattr(model, "model_name", None)
        return f"custom:{own if isinstance(own, str) else type(model).__name__}"
    params = model._get_ls_params()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    provider = params.get("ls_provider") or "custom"
    return f"{provider}:{given or params.get('ls_model_name') or type(model).__name__}"


def check_model(model: Any, name: str, bound: Mapping[str, Any]) -> None:
    """Whether a model can be bounded.

    Raises:
        ConfigError: it sets its length where a clamp doesn't reach, wants several answers, or retries unseen
    """
    for body in (bound.get("extra_body"), getattr(model, "extra_body", None)):
        if isinstance(body, Mapping) and (key := next((key for key in (*_LENGTHS, "n") if key in body), None)):
            raise ConfigError(f"{name}: extra_body sets {key}, which goes around the guard; give it to the model itself")
    more: Mapping[str, Any] = getattr(model, "model_kwargs", None) or {}
    choices = bound.get("n") or more.get("n") or getattr(model, "n", None) or 1
    if isinstance(choices, int) and choices > 1:
        raise ConfigError(f"{name}: n={choices} asks for completions that LangGraph throws away; leave n out")
    check_retries(model, name)


@cache
def is_clampable(kind: type[BaseChatModel]) -> bool:
    """Whether a class keeps to a length: an integration with a field for it does, a user's if its code says so."""
    if _integration(kind) is not None and any(name in kind.model_fields for name in _LENGTHS):
        return True
    return speaks_of_length(kind, _PACKAGES)


@cache
def _takes_length(kind: type[BaseChatModel]) -> bool:
    """Whether a length may be given with a call."""
    parameters = inspect.signature(kind._generate).parameters.values()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return any(each.kind is each.VAR_KEYWORD or each.name == "max_tokens" for each in parameters)


@cache
def _integration(kind: type) -> str | None:
    """The package of LangChain's integration that a class is from, such as langchain_openai."""
    packages = (base.__module__.partition(".")[0] for base in kind.__mro__)
    return next((name for name in packages if name.startswith("langchain_") and name != "langchain_core"), None)


def _methods(kind: type[Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"__getattribute__": _during_a_call}
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
    value = object.__getattribute__(model, name)
    if name not in _WATCHED:
        return value
    call: Call = seam_of(model)
    if name in CLIENTS:
        return value if value is None else quiet(call.scope.quiet, value)
    return call.overrides.get(name, value)


def _generating(own: Any) -> Any:
    @wraps(own)
    def generate(model: Any, messages: Any, *args: Any, **kwargs: Any) -> Any:
        call: Call = seam_of(model)
        if _goes_on(call, call.scope.gate.admit_blocking):
            return own(model, messages, *args, **kwargs)
        _take(call, model, _admitted(call, model, messages, kwargs), kwargs)
        with _under_way(call):
            result = own(model, messages, *args, **kwargs)
        _settle(call, model, [generation.message for generation in result.generations], result.llm_output)
        return result

    return generate


def _generating_async(own: Any) -> Any:
    @wraps(own)
    async def generate(model: Any, messages: Any, *args: Any, **kwargs: Any) -> Any:
        call: Call = seam_of(model)
        if await _goes_on_async(call):
            return await own(model, messages, *args, **kwargs)
        _take(call, model, await _admitted_async(call, model, messages, kwargs), kwargs)
        with _under_way(call):
            result = await own(model, messages, *args, **kwargs)
        _settle(call, model, [generation.message for generation in result.generations], result.llm_output)
        return result

    return generate


def _streaming(own: Any) -> Any:
    @wraps(own)
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
                with _under_way(call):
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
    @wraps(own)
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
                with _under_way(call):
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
    return attempt.following()


def _action(call: Call, model: Any, messages: Sequence[BaseMessage], kwargs: Mapping[str, Any], streams: bool) -> ModelCall:
    _delegated()
    more: Mapping[str, Any] = getattr(model, "model_kwargs", None) or {}
    wishes = [given.get(key) for given in (kwargs, more) for key in _LENGTHS]
    wishes += [getattr(model, key, None) for key in _LENGTHS]
    wish = next((each for each in wishes if isinstance(each, int) and each > 0), None)
    return ModelCall(
        call.agent,
        call.model,
        bound_prompt(call.count, messages, {**more, **kwargs}),
        wish,
        rates=call.rates,
        clampable=call.clampable,
        streams=streams,
        parent=inside_tool.get(),
        text_only=holds_text_only(messages),
    )


def _delegated() -> None:
    """A model whose own code asks another model has sent nothing itself."""
    outer = _outer.get()
    if outer is not None and outer.attempt is not None:
        outer.attempt.settle(Outcome("withdrawn", text="it asks another model"))


def _admitted(call: Call, model: Any, messages: Any, kwargs: Mapping[str, Any], *, streams: bool = False) -> Any:
    try:
        return call.scope.gate.admit_blocking(_action(call, model, messages, kwargs, streams))
    except RefusedError as error:
        raise in_graph(error) from None


async def _admitted_async(call: Call, model: Any, messages: Any, kwargs: Mapping[str, Any], *, streams: bool = False) -> Any:
    try:
        return await call.scope.gate.admit(_action(call, model, messages, kwargs, streams))
    except RefusedError as error:
        raise in_graph(error) from None


def _take(call: Call, model: Any, grant: Any, kwargs: dict[str, Any], *, streams: bool = False) -> None:
    """Go on under a grant: the request is clamped to it, and a stream asked for its usage."""
    call.attempt, call.sent = Attempt(call.scope.gate, grant), 0
    fields = type(model).model_fields
    call.overrides = {"stream_usage": True} if streams and "stream_usage" in fields else {}
    if streams and kwargs.get("stream_options"):
        kwargs["stream_options"] = {**kwargs["stream_options"], "include_usage": True}
    if not call.clampable:
        return
    declared = [key for key in _LENGTHS if key in fields]
    call.overrides |= dict.fromkeys(declared, grant.max_tokens)
    for key in _LENGTHS:
        if kwargs.get(key) is not None:
            kwargs[key] = grant.max_tokens
    if come_from(model, "langchain_openai", frozenset({"BaseChatOpenAI"})):
        kwargs["max_tokens"] = grant.max_tokens  # outweighs model_kwargs, too
    elif not declared and _takes_length(type(model)):
        kwargs["max_tokens"] = grant.max_tokens


@contextmanager
def _under_way(call: Call) -> Iterator[None]:
    token = _outer.set(call)
    try:
        with call.scope.threads.busy():
            yield
    except BaseException as error:
        _left(call, error)
        raise
    finally:
        _outer.reset(token)


def _left(call: Call, error: BaseException) -> None:
    if call.attempt is None:
        return
    if isinstance(error, RefusedError):
        call.attempt.settle(Outcome("withdrawn", text=str(error)))  # of another model's attempt inside of this one
    call.attempt.fail(error)


def _hear(call: Call, chunk: Any, heard: list[Any]) -> None:
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
    usage = next((each["usage"] for each in reversed(heard) if isinstance(each, dict) and each.get("usage")), None)
    if call.attempt is not None:
        used, parts = _usage(usage)
        call.attempt.settle(Outcome("ok" if used or heard else "failed", used, parts))


def _settle(call: Call, model: Any, messages: Sequence[BaseMessage], output: Mapping[str, Any] | None) -> None:
    attempt = call.attempt
    if attempt is None or attempt.settled:
        return
    message = messages[0] if messages else None
    usage, parts = _usage(getattr(message, "usage_metadata", None))
    if usage is None and output:
        told: Mapping[str, Any] = output.get("token_usage") or output.get("usage") or {}
        usage, parts = _usage({key: told.get(alias) for key, alias in _ALIASES.items()})
    if usage and usage.output_tokens > attempt.grant.max_tokens:
        # It doesn't keep to a length: from now on all that it may make is reserved.
        call.scope.unbelieved.add(type(model).__bases__[0])
    asked = () if message is None else asked_for(message)
    for request_id, _, _ in asked:
        call.scope.asked(call.agent, request_id)
    attempt.settle(Outcome("ok", usage, parts, "" if message is None else text_of(message), asked))


_ALIASES = {"input_tokens": "prompt_tokens", "output_tokens": "completion_tokens"}


def _usage(told: Mapping[str, Any] | None) -> tuple[Usage | None, Parts]:
    if not told:
        return None, NO_PARTS
    prompt, completion = int(told.get("input_tokens") or 0), int(told.get("output_tokens") or 0)
    if prompt <= 0 and completion <= 0:
        return None, NO_PARTS
    sent: Mapping[str, Any] = told.get("input_token_details") or {}
    made: Mapping[str, Any] = told.get("output_token_details") or {}
    cached = min(int(sent.get("cache_read") or 0), prompt)
    parts = Parts(
        cache_written=int(sent.get("cache_creation") or 0),
        input_audio=int(sent.get("audio") or 0),
        output_audio=int(made.get("audio") or 0),
        reasoning=int(made.get("reasoning") or 0),
    )
    return Usage(input_tokens=prompt, output_tokens=completion, cached_tokens=cached), parts
