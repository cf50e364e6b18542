"""The patch of LangChain's base classes: installed once, and without effect outside of a guarded run.

Each patched method exchanges the object that it is called on for a stand-in, and goes on as before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.language_models.llms import BaseLLM
from langchain_core.tools import BaseTool

from crew_guard.adapters.langgraph import carrying, embeddings, model, tools
from crew_guard.adapters.langgraph.scope import scope_here
from crew_guard.errors import ConfigError, RefusedError

_ASKS = ("_generate_with_cache", "_agenerate_with_cache", "stream", "astream", "_iter_v2_events", "_aiter_v2_events")
_COMPLETES = ("_generate_helper", "_agenerate_helper", "stream", "astream")
_installing = threading.Lock()
_installed = False


def install() -> None:
    """Patch the base classes, once.

    Raises:
        ConfigError: a method that is to be patched is not there
    """
    global _installed  # noqa: PLW0603  the classes are global, too
    with _installing:
        if _installed:
            return
        wanted = [(BaseChatModel, _ASKS, _asking), (BaseLLM, _COMPLETES, _completing)]
        for kind, names, _ in wanted:
            for name in names:
                _check(kind, name)
        for kind, names, patch in wanted:
            for name in names:
                setattr(kind, name, patch(getattr(kind, name)))
        _check(BaseTool, "run")
        _check(BaseTool, "arun")
        BaseTool.run = _running(BaseTool.run)
        BaseTool.arun = _running_async(BaseTool.arun)
        carrying.install()
        embeddings.install()
        _installed = True


def _check(kind: type, name: str) -> None:
    if name not in vars(kind):
        raise ConfigError(
            f"langchain-core has no {kind.__name__}.{name}, where the guard stands: its version is not known"
        )


def _asking(own: Any) -> Callable[..., Any]:
    @wraps(own)
    def ask(asked: BaseChatModel, *args: Any, **kwargs: Any) -> Any:
        scope = scope_here()
        if scope is None:
            return own(asked, *args, **kwargs)
        manager = kwargs.get("run_manager")
        config: Any = args[1] if len(args) > 1 else kwargs.get("config")
        given: Any = cast(Any, config).get("metadata") if isinstance(config, dict) else None
        metadata: Any = given if manager is None else manager.metadata
        return own(model.gated(asked, scope, metadata or None, kwargs), *args, **kwargs)

    return ask


def _completing(own: Any) -> Callable[..., Any]:
    @wraps(own)
    def complete(asked: BaseLLM, *args: Any, **kwargs: Any) -> Any:
        if scope_here() is not None:
            raise ConfigError(
                f"{type(asked).__name__} completes text, which the guard can't bound: use its provider's chat model"
            )
        return own(asked, *args, **kwargs)

    return complete


def _running(own: Any) -> Any:
    @wraps(own)
    def run(tool: BaseTool, tool_input: Any, *args: Any, **kwargs: Any) -> Any:
        scope = scope_here()
        if scope is None:
            return own(tool, tool_input, *args, **kwargs)
        request = kwargs.get("tool_call_id")
        double = tools.gated(tool, scope, own, tool_input, config=kwargs.get("config"), request=request)
        try:
            return own(double, tool_input, *args, **kwargs)
        except tools.OverdueInGraphError as error:
            return tools.overdue(double, error, request)
        except RefusedError as error:
            if not tools.goes_on(error, request):
                scope.flights.landed_blocking()
            return tools.told(tool, error, request)

    return run


def _running_async(own: Any) -> Any:
    @wraps(own)
    async def arun(tool: BaseTool, tool_input: Any, *args: Any, **kwargs: Any) -> Any:
        scope = scope_here()
        if scope is None:
            return await own(tool, tool_input, *args, **kwargs)
        request = kwargs.get("tool_call_id")
        double = tools.gated(tool, scope, own, tool_input, config=kwargs.get("config"), request=request)
        try:
            return await own(double, tool_input, *args, **kwargs)
        except tools.OverdueInGraphError as error:
            return tools.overdue(double, error, request)
        except RefusedError as error:
            if not tools.goes_on(error, request):
                await scope.flights.landed()
            return tools.told(tool, error, request)

    return arun
