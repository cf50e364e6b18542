"""Multi-agent crews inside a supervisor that bounds them, measures them and falls back.

    result = Supervisor(policy="policies/research.yaml").run(crew, {"topic": "gzip"})

Names are loaded when they are first used: importing crew_guard costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crew_guard.api import DEFAULT_POLICY, Guarded, Supervisor, guard, load_crew_files, load_policy, load_role
    from crew_guard.core.limits import Limits, Reserve
    from crew_guard.core.policy import Policy
    from crew_guard.core.result import Result
    from crew_guard.core.roles import Agent, Crew, Role, Task, TaskContext, Verdict
    from crew_guard.core.tools import Tool, tool
    from crew_guard.core.usage import Usage
    from crew_guard.errors import CrewGuardError
    from crew_guard.workflows.graph import NodeContext, Workflow, chain, node
    from crew_guard.workflows.patterns import agent_node, orchestrate, parallel, refine, retry, route, vote

__version__ = "0.1.0"

__all__ = [
    "DEFAULT_POLICY",
    "Agent",
    "Crew",
    "CrewGuardError",
    "Guarded",
    "Limits",
    "NodeContext",
    "Policy",
    "Reserve",
    "Result",
    "Role",
    "Supervisor",
    "Task",
    "TaskContext",
    "Tool",
    "Usage",
    "Verdict",
    "Workflow",
    "agent_node",
    "chain",
    "guard",
    "load_crew_files",
    "load_policy",
    "load_role",
    "node",
    "orchestrate",
    "parallel",
    "refine",
    "retry",
    "route",
    "tool",
    "vote",
]

_HOMES = {
    "api": ("DEFAULT_POLICY", "Guarded", "Supervisor", "guard", "load_crew_files", "load_policy", "load_role"),
    "core.limits": ("Limits", "Reserve"),
    "core.policy": ("Policy",),
    "core.result": ("Result",),
    "core.roles": ("Agent", "Crew", "Role", "Task", "TaskContext", "Verdict"),
    "core.tools": ("Tool", "tool"),
    "core.usage": ("Usage",),
    "errors": ("CrewGuardError",),
    "workflows.graph": ("NodeContext", "Workflow", "chain", "node"),
    "workflows.patterns": ("agent_node", "orchestrate", "parallel", "refine", "retry", "route", "vote"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(f"crew_guard.{module}"), name)
            return value
    raise AttributeError(f"module 'crew_guard' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
