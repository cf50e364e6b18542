"""Whose call is it? LangGraph says in a call's metadata which node runs, and create_agent which agent."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

_OF_AN_AGENT = frozenset({"model", "tools"})
"""The nodes of create_agent; those of its middlewares have a dot in their names."""


def agent_of(metadata: Mapping[str, Any] | None, otherwise: str) -> str:
    """The agent, by the name of create_agent or of the node, that a call with this metadata works for.

    Args:
        metadata: of the call: used where the context names no node, because tracing writes over some of it
        otherwise: the name where nothing says
    """
    known = _of_context()
    if metadata and not ("langgraph_node" in known or "lc_agent_name" in known):
        known = metadata
    node = str(known.get("langgraph_node") or "")
    agent = known.get("lc_agent_name")
    made = known.get("ls_integration") == "langchain_create_agent"
    if agent and (not node or _is_inner(node)):
        return str(agent)
    if node and not (made and _is_inner(node)):
        return node
    path = str(known.get("langgraph_checkpoint_ns") or "").split("|")
    outer = (part.partition(":")[0] for part in reversed(path))
    return next((name for name in outer if name and not _is_inner(name)), otherwise)


def _is_inner(node: str) -> bool:
    return node in _OF_AN_AGENT or "." in node


def _of_context() -> Mapping[str, Any]:
    config: Mapping[str, Any] = _config().get() or {}
    return config.get("metadata") or {}


@cache
def _config() -> Any:
    from langchain_core.runnables.config import var_child_runnable_config

    return var_child_runnable_config
