"""LangGraph and LangChain under the gate: models and tools hide in closures, so their base classes are patched.

The patch does nothing but in the context of a guarded run. Importing this package does not import LangGraph.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from crew_guard.adapters.hosted import ModelFacts, come_from
from crew_guard.adapters.langgraph.scope import ByHand, by_hand
from crew_guard.adapters.versions import Supported
from crew_guard.core.roles import Agent, Crew
from crew_guard.ports import Model

if TYPE_CHECKING:
    from crew_guard.adapters.langgraph.crew import CrewGraphRuntime
    from crew_guard.adapters.langgraph.runtime import LangGraphRuntime

__all__ = ["accepts", "compiled", "model_call", "runtime_for"]

_HOSTED = frozenset({"Pregel", "StateGraph", "RemoteGraph"})
_PACKAGES = (
    Supported("langgraph", (1, 2), (2,), extra="langgraph"),
    Supported("langchain-core", (1, 7), (2,), extra="langgraph"),
)


def accepts(obj: object) -> bool:
    """Whether this is a graph of LangGraph; create_agent of LangChain makes one, too."""
    return come_from(obj, "langgraph", _HOSTED)


def runtime_for(host: Any, facts: ModelFacts) -> LangGraphRuntime:
    """A runtime for a compiled graph.

    Args:
        host: the graph; it is never changed
        facts: rates and token bounds by model name
    Raises:
        ConfigError: it is not compiled, runs elsewhere, or is of a version that is not known
        MissingDependencyError: LangGraph is not installed
    """
    _check("guarding a graph of LangGraph")
    from crew_guard.adapters.langgraph.runtime import LangGraphRuntime

    return LangGraphRuntime(host, facts)


def compiled(crew: Crew, model_for: Callable[[Agent], Model]) -> CrewGraphRuntime:
    """A crew of ours as a StateGraph.

    Raises:
        ConfigError: LangGraph is of a version that is not known
        MissingDependencyError: it is not installed
    """
    _check("running a crew on LangGraph")
    from crew_guard.adapters.langgraph.crew import CrewGraphRuntime

    return CrewGraphRuntime(crew, model_for)


@contextmanager
def model_call(model: str, prompt: str, max_tokens: int | None = None) -> Generator[ByHand]:
    """Gate a request that a node sends by hand, with an SDK that the guard can't see.

    Outside of a guarded run it does nothing. Send at most `max_tokens` of what it yields, and tell it what the
    provider reported.

    Args:
        model: provider:name, as policies and prices know it
        prompt: all that is sent, as one text
        max_tokens: the longest completion wished for
    Raises:
        RefusedError: the guard said no
    """
    with by_hand(model, prompt, max_tokens) as call:
        yield call


def _check(what: str) -> None:
    for one in _PACKAGES:
        one.check(what)
