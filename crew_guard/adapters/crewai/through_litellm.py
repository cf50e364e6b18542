"""CrewAI's models that go through litellm under the gate.

litellm's functions and httpx's `send` are patched once, and are as ever but within a gated call of a model:
the first bounds a completion and reads what was reported, the second sees what really leaves.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import wraps
from importlib import import_module
from typing import Any, cast

import httpx
from crewai.llms.base_llm import BaseLLM

from crew_guard.adapters.crewai.litellm_bounds import bounded
from crew_guard.adapters.crewai.litellm_calls import LiteCall, completion_begun, under_way
from crew_guard.adapters.crewai.model import _call, _methods, _ModelSeam, model_name  # pyright: ignore[reportPrivateUsage]
from crew_guard.adapters.crewai.prompts import PromptBounds
from crew_guard.adapters.hosted import ModelFacts, PromptCounter, RunNotes, length_key
from crew_guard.adapters.stand_in import stand_in
from crew_guard.errors import ConfigError, RefusedError
from crew_guard.ports import Gate

_ADDED = 64
"""More tokens than CrewAI, litellm and instructor add to a prompt: words like "Please continue."."""
_lock = threading.Lock()
_installed: list[bool] = []


def model_through_litellm(llm: BaseLLM, agent: str, gate: Gate, facts: ModelFacts, notes: RunNotes) -> BaseLLM:
    """A model that CrewAI takes for the user's own."""
    _install()
    name = model_name(llm)
    known = facts(name)
    bounds = _Bounds(PromptCounter(known))
    watched = {0: LiteCall}  # every request is seen as it leaves, as with an SDK's client that is watched
    seam = _ModelSeam(
        agent, gate, notes, name, known.rates, bounds, True, length_key(name), quiet=watched, kind=LiteCall
    )
    return stand_in(llm, seam, _lite_methods)


class _Bounds(PromptBounds):
    def prompt(
        self, llm: BaseLLM, messages: str | Sequence[Any], tools: Sequence[Any] | None, output: Any
    ) -> tuple[int, bool]:
        tokens, text_only = PromptBounds.prompt(self, llm, messages, tools, output)
        return tokens + _ADDED, text_only


def _lite_methods(kind: type[BaseLLM]) -> dict[str, Any]:
    def _handle_tool_call(llm: Any, *args: Any, **kwargs: Any) -> Any:
        # A function that CrewAI executes within a call is no part of what the model sends.
        token = _call.set(None)
        try:
            return cast(Any, kind)._handle_tool_call(llm, *args, **kwargs)  # noqa: SLF001  what it stands for
        finally:
            _call.reset(token)

    return {**_methods(kind), "_handle_tool_call": _handle_tool_call}


def _install() -> None:
    with _lock:
        if _installed:
            return
        _installed.append(True)
        litellm: Any = import_module("litellm")
        litellm.completion = _gated_completion(litellm.completion)
        litellm.acompletion = _gated_acompletion(litellm.acompletion)
        httpx.Client.send = _seen_send(httpx.Client.send)
        httpx.AsyncClient.send = _seen_async_send(httpx.AsyncClient.send)


def _gated_completion(own: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(own)
    def completion(*args: Any, **kwargs: Any) -> Any:
        one = completion_begun()
        if one is None:
            return own(*args, **kwargs)
        if action := one.call.further(kwargs):
            one.call.follow(one.attempt.gate.admit_blocking(action))
        with one.asking():
            reply = own(*args, **bounded(kwargs, one.attempt.grant.max_tokens))
        return one.answered(reply)

    return completion


def _gated_acompletion(own: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(own)
    async def acompletion(*args: Any, **kwargs: Any) -> Any:
        one = completion_begun()
        if one is None:
            return await own(*args, **kwargs)
        if action := one.call.further(kwargs):
            one.call.follow(await one.attempt.gate.admit(action))
        with one.asking():
            reply = await own(*args, **bounded(kwargs, one.attempt.grant.max_tokens))
        return one.answered_async(reply)

    return acompletion


def _seen_send(own: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(own)
    def send(client: httpx.Client, request: httpx.Request, *args: Any, **kwargs: Any) -> Any:
        one = under_way.get()
        if one is None or not one.minds(request):
            return own(client, request, *args, **kwargs)
        try:
            if action := one.leaves(request):
                one.attempt.follow(one.attempt.gate.admit_blocking(action))
        except (RefusedError, ConfigError) as error:
            one.refused(error)
            raise
        try:
            response = own(client, request, *args, **kwargs)
        except BaseException as error:
            one.broke(error)
            raise
        one.came(response)
        return response

    return send


def _seen_async_send(own: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(own)
    async def send(client: httpx.AsyncClient, request: httpx.Request, *args: Any, **kwargs: Any) -> Any:
        one = under_way.get()
        if one is None or not one.minds(request):
            return await own(client, request, *args, **kwargs)
        try:
            if action := one.leaves(request):
                one.attempt.follow(await one.attempt.gate.admit(action))
        except (RefusedError, ConfigError) as error:
            one.refused(error)
            raise
        try:
            response = await own(client, request, *args, **kwargs)
        except BaseException as error:
            one.broke(error)
            raise
        one.came(response)
        return response

    return send
