"""LlamaIndex Workflows under the gate: what their steps call is gated while they run, in this run's context only.

Importing this package imports neither `workflows` nor `llama_index`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from crew_guard.adapters.hosted import ModelFacts, come_from
from crew_guard.adapters.llama_index.by_hand import StepGate, step_gate
from crew_guard.adapters.llama_index.installed import CORE, WORKFLOWS
from crew_guard.core.roles import Agent, Crew
from crew_guard.ports import Model

if TYPE_CHECKING:
    from crew_guard.adapters.llama_index.crews import CompiledCrew
    from crew_guard.adapters.llama_index.runtime import LlamaIndexRuntime

__all__ = ["StepGate", "accepts", "compiled", "runtime_for", "step_gate"]


def accepts(obj: object) -> bool:
    """Whether this is a workflow, or one of LlamaIndex's agents, which are workflows."""
    return come_from(obj, "workflows", frozenset({"Workflow"}))


def runtime_for(host: Any, facts: ModelFacts) -> LlamaIndexRuntime:
    """A runtime for a Workflow, an AgentWorkflow or a single agent.

    Args:
        host: it is not changed
        facts: rates and token bounds by model name
    Raises:
        ConfigError: a part of it would go around the guard, or a version is not supported; the message names it
        MissingDependencyError: LlamaIndex Workflows is not installed
    """
    WORKFLOWS.check("guarding a workflow")
    from crew_guard.adapters.llama_index.runtime import LlamaIndexRuntime

    return LlamaIndexRuntime(host, facts)


def compiled(crew: Crew, model_for: Callable[[Agent], Model]) -> CompiledCrew:
    """A crew of ours as a Workflow with a step for each task, and agents of llama-index-core.

    Raises:
        ConfigError: a process that can't be expressed, or a version that is not supported
        MissingDependencyError: LlamaIndex is not installed
    """
    WORKFLOWS.check("the runtime llama-index")
    CORE.check("the runtime llama-index")
    from crew_guard.adapters.llama_index.crews import CompiledCrew

    return CompiledCrew(crew, model_for)
