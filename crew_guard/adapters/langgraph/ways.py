"""Which parts of a graph can only be called, and which only awaited: LangChain says so when it is too late."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from types import FunctionType, MethodType
from typing import Any, cast

from langchain_core.tools import StructuredTool
from langgraph.pregel import Pregel  # pyright: ignore[reportMissingTypeStubs]  it has types, and no stubs

from crew_guard.errors import ConfigError

_HOOKS = ("wrap_model_call", "wrap_tool_call")
"""Of middleware, each with an `a` before its name where it is awaited; the other hooks run either way."""
_MOST = 10_000
"""Functions that are looked into: closures may lead anywhere."""


def must_block(graph: Any) -> bool:
    """Whether a graph has parts that can't be awaited, so that it has to run in a thread: middleware of create_agent.

    Raises:
        ConfigError: others of its parts can only be awaited, so that it can't run at all
    """
    blocking = [f"{name} (only {hook})" for name, hook in _one_way(graph, "", "a")]
    if not blocking:
        return False
    awaited = [f"{name} (only a{hook})" for name, hook in _one_way(graph, "a", "")]
    awaited += [f"{name} (async only)" for name in _async_only(graph)]
    if awaited:
        raise ConfigError(
            f"this graph can be run neither in async code, because of its {blocking[0]}, nor in a thread, because of "
            f"its {awaited[0]}: give one of them the other form"
        )
    return True


def _one_way(graph: Any, has: str, lacks: str) -> Iterator[tuple[str, str]]:
    """Middleware with one form of a hook and without the other, by name, and the hook."""
    types = sys.modules.get("langchain.agents.middleware.types")
    if types is None:  # then nobody has any
        return
    base: Any = types.AgentMiddleware
    for one in _middleware(graph, base):
        kind: Any = cast(Any, type(one))
        for hook in _HOOKS:
            own = getattr(kind, has + hook) is not getattr(base, has + hook)
            if own and getattr(kind, lacks + hook) is getattr(base, lacks + hook):
                yield one.name, hook


def _middleware(graph: Any, base: Any) -> Iterator[Any]:
    """That of a graph and of the graphs that are its nodes: create_agent keeps it in its nodes' closures."""
    seen: set[int] = set()
    todo = [part for _, node in _nodes(graph) for part in _functions(node)]
    while todo and len(seen) < _MOST:
        part = todo.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, MethodType):
            if isinstance(part.__self__, base):
                yield part.__self__
        elif isinstance(part, FunctionType):
            todo += [cell.cell_contents for cell in part.__closure__ or () if not _is_empty(cell)]
            todo.append(getattr(part, "__wrapped__", None))
        elif isinstance(part, partial):
            todo.append(cast(Any, part).func)
        elif isinstance(part, list | tuple):
            todo += cast(Any, part)


def _async_only(graph: Any) -> Iterator[str]:
    """Nodes, and tools of its nodes, that have coroutines alone."""
    for name, node in _nodes(graph):
        tools: dict[str, Any] = getattr(node, "tools_by_name", {})
        yield from (key for key, tool in tools.items() if isinstance(tool, StructuredTool) and tool.func is None)
        if getattr(node, "afunc", None) is not None and getattr(node, "func", None) is None:
            yield name


def _nodes(graph: Any) -> Iterator[tuple[str, Any]]:
    """What a graph, and each graph that is a node of it, runs, by the node's name."""
    for name, node in graph.nodes.items():
        bound: Any = node.bound
        if isinstance(node.bound, Pregel):
            yield from _nodes(bound)
        else:
            yield from ((name, step) for step in getattr(bound, "steps", [bound]))


def _functions(node: Any) -> list[Any]:
    names = ("func", "afunc", "_wrap_tool_call", "_awrap_tool_call")
    return [function for name in names if (function := getattr(node, name, None)) is not None]


def _is_empty(cell: Any) -> bool:
    try:
        return cell.cell_contents is None
    except ValueError:
        return True
