"""What a guarded graph is given: its own input, and what is LangGraph's among a run's inputs."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any, Union, cast, get_args, get_origin, get_type_hints, is_typeddict

from langchain_core.runnables.config import CONFIG_KEYS
from langgraph.graph.state import CompiledStateGraph  # pyright: ignore[reportMissingTypeStubs]  types, and no stubs
from langgraph.types import Command

from crew_guard.errors import ConfigError

_OURS = ("config", "resume", "command", "context")
"""Keys of the inputs that are for LangGraph itself, where the graph has no channel of that name."""
_PLACE = ("checkpoint_id", "checkpoint_map", "checkpoint_ns")
"""Where in a thread's history a run sets out."""


@dataclass(frozen=True, slots=True)
class Given:
    """What one run of a graph is given, as LangGraph takes it."""

    input: Any
    config: dict[str, Any]
    """A RunnableConfig; what it doesn't know is in `configurable`, where LangGraph puts it, too."""
    configurable: Mapping[str, Any]
    """That of the config, and that of the graph's own."""
    context: Any = None

    @property
    def thread(self) -> str | None:
        """The thread that the run goes on with."""
        thread = self.configurable.get("thread_id")
        return None if thread is None else str(thread)

    @property
    def now(self) -> dict[str, Any]:
        """A config that asks for the thread as it is now, wherever the run set out."""
        return {"configurable": {key: value for key, value in self.configurable.items() if key not in _PLACE}}


def given_to(graph: Any, inputs: Mapping[str, Any]) -> Given:
    """What a run's inputs are to a graph.

    Args:
        graph: a Pregel
        inputs: the graph's own, and `config`, `resume` or `command`, and `context`, where they aren't channels of it
    Raises:
        ConfigError: they don't fit the graph, or one another
    """
    ours = {key: inputs[key] for key in _OURS if key in inputs and key not in graph.channels}
    if "context" in ours and graph.context_schema is None and _is_entrypoint(graph):
        del ours["context"]
    rest = {key: value for key, value in inputs.items() if key not in ours}
    config = _config(ours.get("config"))
    whole = {**_configurable(graph.config or {}), **config.get("configurable", {})}
    return Given(_input(graph, ours, rest), config, whole, _context(graph, ours))


def _config(given: Any) -> dict[str, Any]:
    known = cast(Mapping[str, Any], {} if given is None else given)
    fits = isinstance(known, Mapping)  # pyright: ignore[reportUnnecessaryIsInstance]  users' code
    if not fits or not isinstance(known.get("configurable"), Mapping | None):
        raise ConfigError(f"config must be a RunnableConfig, such as {{'configurable': {{…}}}}, not {given!r}")
    config = {key: value for key, value in known.items() if key in CONFIG_KEYS}
    if configurable := _configurable(known):
        config["configurable"] = configurable
    return config


def _configurable(config: Mapping[str, Any]) -> dict[str, Any]:
    beside = {key: value for key, value in config.items() if key not in CONFIG_KEYS and value is not None}
    return {**(config.get("configurable") or {}), **beside}


def _context(graph: Any, ours: Mapping[str, Any]) -> Any:
    if "context" in ours and graph.context_schema is None:
        raise ConfigError("this graph takes no context: it was made without a context_schema; leave `context` out")
    return ours.get("context")


def _input(graph: Any, ours: Mapping[str, Any], rest: Mapping[str, Any]) -> Any:
    goes_on = [key for key in ("resume", "command") if key in ours]
    if len(goes_on) + bool(rest) > 1:
        beside = ", ".join((*goes_on[1:], *rest))
        raise ConfigError(
            f"{goes_on[0]} goes on where the thread stopped and takes nothing beside it, but there is {beside}: give "
            "command=Command(resume=…, update=…) to do both, or run once for each"
        )
    if "command" in ours:
        if not isinstance(ours["command"], Command):
            raise ConfigError(f"command must be a Command of LangGraph, not {ours['command']!r}")
        return cast(Any, ours["command"])
    if "resume" in ours:
        return Command(resume=ours["resume"])
    if not rest:
        return None  # goes on where a thread stopped
    return _of_entrypoint(graph, rest) if _is_entrypoint(graph) else _of_graph(graph, rest)


def _of_graph(graph: Any, given: Mapping[str, Any]) -> Any:
    channels: Mapping[str, Any] = graph.channels
    if set(given) == {"task"} and "task" not in channels:
        if "messages" in channels:
            return {"messages": [("user", str(given["task"]))]}
        if names := ", ".join(name for name in channels if not _is_internal(name)):
            raise ConfigError(f"the graph takes no task as a text; give it a mapping of its channels: {names}")
    return dict(given)


def _is_internal(channel: str) -> bool:
    return channel.startswith(("__", "branch:"))


# The functional API


def _is_entrypoint(graph: Any) -> bool:
    return graph.input_channels == "__start__" and not isinstance(graph, CompiledStateGraph)


def _of_entrypoint(graph: Any, given: Mapping[str, Any]) -> Any:
    kind = _taken(graph)
    if kind is None or _is_mapping(kind):
        return dict(given)
    if set(given) == {"task"}:
        return given["task"]
    called = getattr(kind, "__name__", kind)
    raise ConfigError(f"the entrypoint takes one {called}: give it as {{'task': …}}, not {', '.join(given)}")


def _taken(graph: Any) -> Any:
    """The type of what an entrypoint takes; None where it doesn't say."""
    bound: Any = next(iter(graph.nodes.values())).bound
    function: Any = bound.func or bound.afunc
    try:
        kind = get_type_hints(function).get(next(iter(signature(function).parameters)))
    except Exception:  # noqa: BLE001  a hint that can't be resolved says nothing
        return None
    return None if kind is Any or kind is object else kind


def _is_mapping(kind: Any) -> bool:
    origin = get_origin(kind) or kind
    if origin is Union or origin is types.UnionType:
        return any(map(_is_mapping, get_args(kind)))
    return is_typeddict(origin) or (isinstance(origin, type) and issubclass(origin, Mapping))
