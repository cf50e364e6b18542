"""What defines a Workflow: its steps, and of the agents and LLMs that it is made of their texts, models and tools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from workflows import Workflow

from crew_guard.adapters.defining import called, each, names, plain, read, tried
from crew_guard.adapters.llama_index.kinds import kind_of, model_name
from crew_guard.adapters.llama_index.whose import is_agent, is_team

_TEXTS = ("name", "description", "system_prompt", "state_prompt", "can_handoff_to", "early_stopping_method")
_OF_A_TEAM = ("root_agent", "handoff_prompt", "handoff_output_prompt", "state_prompt")
_HEADER = ("system_header", "context")
"""Of the formatter of a ReActAgent."""


def name_of_host(workflow: Workflow) -> str:
    """What a workflow is called: an agent by its name, another by a name of its own."""
    if is_agent(workflow):
        default = tried(lambda: cast(Any, type(workflow)).model_fields["name"].default)
        return called(tried(getattr, workflow, "name"), default, workflow)
    return called(tried(getattr, workflow, "_workflow_name"), None, workflow)


def parts_of(workflow: Workflow) -> list[str]:
    """Attributes of a workflow of one's own that hold agents, teams or LLMs; those that a run makes are none yet."""
    if is_agent(workflow) or is_team(workflow):
        return []
    return [name for name, value in vars(workflow).items() if _held(value)]


def definition_of(workflow: Workflow, agents: Sequence[Any], parts: Sequence[str] = ()) -> Any:
    """What can be read of a workflow. See Described.

    Args:
        agents: those that it consists of
        parts: attributes that are looked at
    """
    steps = sorted(tried(cast(Any, workflow)._get_steps) or ())  # noqa: SLF001  it has no other name
    held = {name: found for name in parts if (found := _held(vars(workflow).get(name)))}
    return [type(workflow).__qualname__, steps, read(workflow, *_OF_A_TEAM), each(_of_agent, agents), held]


def _held(value: Any) -> Any:
    """What defines an agent, agents of a team, or an LLM that a workflow keeps; None of anything else."""
    if is_agent(value):
        return tried(_of_agent, value)
    if is_team(value):
        return tried(definition_of, value, list(value.agents.values()))
    return tried(_model, value) if any(kind.__name__ == "BaseLLM" for kind in type(value).__mro__) else None


def _of_agent(agent: Any) -> Any:
    header = read(tried(getattr, agent, "formatter"), *_HEADER)
    texts = read(agent, *_TEXTS)
    tools = names(_tool, tried(getattr, agent, "tools"))
    return [type(agent).__qualname__, texts, header, tried(_model, agent.llm), tools]


def _model(llm: Any) -> str:
    return model_name(llm, kind_of(cast(type[Any], type(llm))))


def _tool(tool: Any) -> Any:
    return plain(tool.metadata.name if hasattr(tool, "metadata") else tool.__name__)
