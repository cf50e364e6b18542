"""What is patched in llama-index-core, once in a process: every LLM class, every tool class, embeddings.

A patch looks for the guarded run in its context, and hands through where there is none. Classes that are made
later are patched as they are made.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

from llama_index.core.agent.workflow import AgentWorkflow
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.tools import FunctionTool
from llama_index.core.tools.types import AsyncBaseTool, BaseTool, BaseToolAsyncAdapter

from crew_guard.adapters.llama_index import gated_embeddings, gated_llms, gated_tools
from crew_guard.adapters.llama_index.providers import provider_of
from crew_guard.adapters.llama_index.scope import acting, current

_Wrap = Callable[[str, Any], Any]
_LLM_METHODS = frozenset(
    f"{prefix}{name}" for prefix in ("", "stream_", "a", "astream_") for name in ("chat", "complete")
)
_TOOL_METHODS = frozenset({"__call__", "call", "acall"})
_EMBEDDING_METHODS = frozenset(
    f"_{prefix}get_{name}" for prefix in ("", "a") for name in ("query_embedding", "text_embedding", "text_embeddings")
)
_PATCHED = "_crew_guard_patched"
_lock = threading.Lock()
_installed = False


def install() -> None:
    """Patch llama-index-core; the second time nothing happens."""
    global _installed  # noqa: PLW0603  once in a process is the point
    with _lock:
        if _installed:
            return
        _patch_family(BaseLLM, _LLM_METHODS, gated_llms.gated, leave=(StructuredLLM,))
        for kind in _below(BaseLLM):
            _patch_beside(kind)
        _patch_family(BaseTool, _TOOL_METHODS, gated_tools.gated, leave=(BaseToolAsyncAdapter,))
        setattr(FunctionTool, gated_tools.AWAITED, gated_tools.AsyncOfBlocking())
        _patch_family(BaseEmbedding, _EMBEDDING_METHODS, gated_embeddings.gated, leave=())
        _note_the_agent()
        _installed = True


def _patch_family(root: Any, names: frozenset[str], wrap: _Wrap, leave: tuple[type, ...]) -> None:
    """Patch the methods of these names in all classes below a root, wherever one is defined.

    Args:
        root: the abstract class
        names: of methods
        wrap: makes the patch of one
        leave: classes that only hand on to another object of the family, which is patched itself
    """
    for kind in _below(root):
        if kind not in leave:
            _patch(kind, names, wrap)
    before = root.__init_subclass__

    def patched_when_made(cls: type, **kwargs: Any) -> None:
        before.__func__(cls, **kwargs)
        _patch(cls, names, wrap)
        _patch_beside(cls)

    root.__init_subclass__ = classmethod(patched_when_made)


def _below(root: Any) -> Iterator[type]:
    for kind in type.__subclasses__(root):
        yield kind
        yield from _below(kind)


def _patch(kind: type, names: frozenset[str], wrap: _Wrap) -> None:
    for name in names.intersection(vars(kind)):
        method = vars(kind)[name]
        abstract = getattr(method, "__isabstractmethod__", False)
        hands_on = name == "__call__" and issubclass(kind, AsyncBaseTool)  # to `call`, which is patched itself
        if callable(method) and not abstract and not hands_on and not hasattr(method, _PATCHED):
            patch = wrap(name, method)
            setattr(patch, _PATCHED, True)
            setattr(kind, name, patch)


def _patch_beside(kind: type) -> None:
    """Patch what a provider's class sends by, beside the methods of all."""
    known = provider_of(kind)
    if known is not None and known.kind == (kind.__module__, kind.__name__):
        _patch(kind, known.beside, gated_llms.gated)


def _note_the_agent() -> None:
    """An AgentWorkflow's step asks for the tools of the agent whose turn it is, before that agent does anything."""
    of_agent: Any = AgentWorkflow.get_tools

    @wraps(of_agent)
    async def get_tools(self: AgentWorkflow, agent_name: str, *args: Any, **kwargs: Any) -> Any:
        if current.get() is not None:
            acting.set(agent_name)
        return await of_agent(self, agent_name, *args, **kwargs)

    AgentWorkflow.get_tools = get_tools
