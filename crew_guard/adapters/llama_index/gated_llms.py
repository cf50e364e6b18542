"""The patches of an LLM's eight methods: chat and complete, streamed or not, sync and async."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from functools import wraps
from typing import Any, TypeAlias

from crew_guard.adapters.llama_index.calls import LLMCall, closed, watched, watched_async
from crew_guard.adapters.llama_index.double import call_of, is_double
from crew_guard.adapters.llama_index.providers import STRUCTURED_LENGTH
from crew_guard.adapters.llama_index.scope import current
from crew_guard.errors import RefusedError

_Put: TypeAlias = Callable[[dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]]
"""The arguments that a method is called with, given the options that came of its gating."""


def gated(name: str, method: Any) -> Any:
    """A patch of one method: outside of a guarded run it hands through."""
    return _gated_async(name, method) if name.startswith("a") else _gated_sync(name, method)


def _gated_sync(name: str, method: Any) -> Any:
    streams = name.startswith("stream_")
    taken_apart = _structured if "structured_predict" in name else _taken_apart

    @wraps(method)
    def call_llm(self: Any, *args: Any, **kwargs: Any) -> Any:
        run = current.get()
        if run is None:
            return method.__get__(self, type(self))(*args, **kwargs)
        if is_double(self):
            return _inside(self, method, args, kwargs, streams=streams)
        prompt, options, put = taken_apart(args, kwargs)
        call = LLMCall(run, self, prompt, options, streams=streams)
        double, given = call.begin(_without_context(run.gate.admit_blocking, call))
        try:
            with call:
                args, kwargs = put(given)
                response = method.__get__(double, type(double))(*args, **kwargs)
        except BaseException as error:
            call.failed(error)
            raise
        if streams:
            return watched(call, iter(response))
        call.done(response)
        return response

    return call_llm


def _without_context(admit: Any, call: LLMCall) -> Any:
    try:
        return admit(call.action)
    except RefusedError as error:
        error.__context__ = None  # what a host looks for in it is not our refusal's reason
        raise


def _inside(double: Any, method: Any, args: Any, kwargs: Any, *, streams: bool) -> Any:
    """A method of the same LLM, inside of a call that is gated."""
    call: LLMCall = call_of(double)
    if action := call.further:
        call.go_on(call.run.gate.admit_blocking(action))
    try:
        response = method.__get__(double, type(double))(*args, **kwargs)
    except BaseException as error:
        call.inner_ended(error=error)
        raise
    if streams:
        return _until_it_ends(call, iter(response))
    call.inner_ended(response)
    return response


def _until_it_ends(call: LLMCall, stream: Iterator[Any]) -> Iterator[Any]:
    last = None
    try:
        for last in stream:
            yield last
    except BaseException as error:
        call.inner_ended(error=error)
        raise
    call.inner_ended(last)


def _gated_async(name: str, method: Any) -> Any:
    streams = name.startswith("astream_")
    taken_apart = _structured if "structured_predict" in name else _taken_apart

    @wraps(method)
    async def call_llm(self: Any, *args: Any, **kwargs: Any) -> Any:
        run = current.get()
        if run is None:
            return await _whole(method.__get__(self, type(self))(*args, **kwargs))
        if is_double(self):
            return await _inside_async(self, method, args, kwargs, streams=streams)
        prompt, options, put = taken_apart(args, kwargs)
        call = LLMCall(run, self, prompt, options, streams=streams)
        double, given = call.begin(await run.gate.admit(call.action))
        try:
            with call:
                args, kwargs = put(given)
                response = await _whole(method.__get__(double, type(double))(*args, **kwargs))
        except BaseException as error:
            call.failed(error)
            raise
        if streams:
            return watched_async(call, aiter(response))
        call.done(response)
        return response

    return call_llm


async def _inside_async(double: Any, method: Any, args: Any, kwargs: Any, *, streams: bool) -> Any:
    call: LLMCall = call_of(double)
    if action := call.further:
        call.go_on(await call.run.gate.admit(action))
    try:
        response = await _whole(method.__get__(double, type(double))(*args, **kwargs))
    except BaseException as error:
        call.inner_ended(error=error)
        raise
    if streams:
        return _until_it_ends_async(call, aiter(response))
    call.inner_ended(response)
    return response


async def _until_it_ends_async(call: LLMCall, stream: AsyncIterator[Any]) -> AsyncIterator[Any]:
    last = None
    try:
        async for last in stream:
            yield last
    except BaseException as error:
        call.inner_ended(error=error)
        await closed(stream)
        raise
    call.inner_ended(last)


async def _whole(made: Any) -> Any:
    """What an async method gives: some classes write a stream as an async generator, without a coroutine around."""
    return await made if inspect.isawaitable(made) else made


def _taken_apart(args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any], _Put]:
    """The prompt or the messages, what else was given by name, and how to call the method."""
    if args:
        return args[0], kwargs, lambda given: (args, given)
    options = dict(kwargs)
    prompt = next((options.pop(name) for name in ("messages", "prompt") if name in kwargs), "")
    return prompt, options, lambda given: ((prompt,), given)


def _structured(args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any], _Put]:
    """The same of a request for a structured answer, which is written from a template."""
    named: dict[str, Any] = {**dict(zip(("output_cls", "prompt", "llm_kwargs"), args, strict=False)), **kwargs}
    schema, template, options = (named.pop(name, None) for name in ("output_cls", "prompt", "llm_kwargs"))
    more: dict[str, Any] = {"max_tokens": STRUCTURED_LENGTH, **(options or {}), "response_format": schema}
    return template.format_messages(**named), more, lambda _: (args, kwargs)
