"""What defines a graph: its nodes and edges, and the models, tools and prompts that its nodes hold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.prompts import BasePromptTemplate
from langchain_core.tools import BaseTool
from langgraph.pregel import Pregel  # pyright: ignore[reportMissingTypeStubs]  it has types, and no stubs

from crew_guard.adapters.defining import called, names, plain, tried
from crew_guard.adapters.langgraph.bounds import model_name
from crew_guard.adapters.langgraph.holding import Held, held_by

_UNNAMED = "LangGraph"
_DEEPEST = 8
"""Graphs in graphs that are read."""


def name_of_host(graph: Any) -> str:
    """What a graph is called; an entrypoint by its function."""
    named = tried(getattr, graph, "name")
    if named == _UNNAMED and getattr(graph, "builder", None) is None and len(graph.nodes) == 1:
        named = next(iter(graph.nodes))
    return called(named, _UNNAMED, graph)


def definition_of(graph: Any, depth: int = 0) -> Any:
    """What can be read of a graph. See Described."""
    nodes = {name: tried(_of_node, node, depth) for name, node in sorted(graph.nodes.items())}
    return [type(graph).__qualname__, nodes, tried(_paths, graph)]


def _of_node(node: Any, depth: int) -> Any:
    bound: Any = node.bound
    if isinstance(node.bound, Pregel) and depth < _DEEPEST:
        return definition_of(bound, depth + 1)
    held = list(held_by(bound))
    texts = {text for one in held for text in (tried(_texts, one) or ())}
    models = names(lambda one: model_name(one, None), _those(held, BaseChatModel))
    shown = {name for one in held for name in (tried(_bound, one) or ())}
    return [models, sorted(shown.union(names(lambda one: one.name, _those(held, BaseTool)))), sorted(texts)]


def _those(held: Iterable[Held], kind: type) -> list[Any]:
    return [one.part for one in held if isinstance(one.part, kind)]


def _texts(held: Held) -> list[str]:
    """What is told to a model: templates wherever they are, messages and texts where they stand alone."""
    part: Any = held.part
    if isinstance(held.part, BasePromptTemplate):
        return _of_template(part)
    if not held.alone:
        return []
    if isinstance(held.part, BaseMessage):
        return [str(plain(part.content))]
    return [part] if isinstance(held.part, str) else []


def _of_template(template: Any) -> list[str]:
    """The texts of a template, and of those that it is made of."""
    if isinstance(template, BaseMessage):
        return [str(plain(cast(Any, template).content))]
    own = [text for text in (getattr(template, "template", None),) if isinstance(text, str)]
    inner = getattr(template, "messages", None) or getattr(template, "prompt", None) or ()
    several = cast("list[Any]", inner) if isinstance(inner, list) else [inner] if inner else []
    return [*own, *(text for one in several for text in _of_template(one))]


def _bound(held: Held) -> list[str]:
    """Names of tools that a model is bound to: it has their schemas only."""
    kwargs = getattr(held.part, "kwargs", None)
    tools: Any = cast(Any, kwargs).get("tools") if isinstance(kwargs, dict) else None
    return names(lambda tool: (tool.get("function") or tool)["name"], tools)


def _paths(graph: Any) -> Any:
    """Which node may come after which; of an entrypoint, or another graph of no StateGraph, what wakes a node."""
    builder: Any = getattr(graph, "builder", None)
    if builder is None:
        return {name: sorted(map(str, node.triggers)) for name, node in graph.nodes.items()}
    branches = {start: {name: _ends(one) for name, one in ways.items()} for start, ways in builder.branches.items()}
    joins = sorted([sorted(starts), end] for starts, end in builder.waiting_edges)
    return [sorted(map(list, builder.edges)), joins, branches]


def _ends(branch: Any) -> list[str]:
    ends: dict[Any, str] = branch.ends or {}
    return sorted(set(ends.values()))
