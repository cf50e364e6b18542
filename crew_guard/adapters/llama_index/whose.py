"""Who acts: the agent, in workflows of LlamaIndex's agents; else the step, by its name.

The runtime of workflows keeps the step under way in context variables; threads of steps and tools inherit them.
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast

from workflows import Workflow
from workflows.runtime.types.results import (  # pyright: ignore[reportMissingTypeStubs]
    InternalContextVar,
    StepWorkerStateContextVar,
)

from crew_guard.adapters.llama_index.scope import acting

_AGENT = frozenset({"BaseWorkflowAgent"})
_TEAM = frozenset({"AgentWorkflow"})


def is_agent(workflow: object) -> bool:
    """Whether this is one of LlamaIndex's agents."""
    return _is_one_of(type(workflow), _AGENT)


def is_team(workflow: object) -> bool:
    """Whether this is an AgentWorkflow."""
    return _is_one_of(type(workflow), _TEAM)


@cache
def _is_one_of(kind: type, names: frozenset[str]) -> bool:
    return any(base.__name__ in names and base.__module__.startswith("llama_index.") for base in kind.__mro__)


def actor(outermost: Workflow) -> str:
    """The name of who acts now.

    Args:
        outermost: the guarded workflow; it acts where no step is under way
    """
    step = StepWorkerStateContextVar.get(None)
    if step is None:
        return name_of(outermost)
    workflow = _workflow_under_way() or outermost
    if is_agent(workflow):
        return cast(Any, workflow).name
    if is_team(workflow):
        named = getattr(step.event, "current_agent_name", None) or acting.get()
        return named if isinstance(named, str) else name_of(workflow)
    return step.state.step_name


def step_here() -> object:
    """The execution of a step that the current code belongs to; None outside of steps."""
    return StepWorkerStateContextVar.get(None)


def step_under_way() -> str:
    """The step that the current code belongs to, as WORKFLOW/STEP."""
    step, workflow = StepWorkerStateContextVar.get(None), _workflow_under_way()
    names = (None if workflow is None else name_of(workflow), None if step is None else step.state.step_name)
    return "/".join(filter(None, names)) or "a step"


def name_of(workflow: Workflow) -> str:
    """What a whole workflow is called."""
    return cast(Any, workflow).name if is_agent(workflow) else type(workflow).__name__


def _workflow_under_way() -> Workflow | None:
    reference = InternalContextVar.get(None)
    context = None if reference is None else reference()
    return getattr(context, "_workflow", None) or getattr(getattr(context, "_face", None), "_workflow", None)
