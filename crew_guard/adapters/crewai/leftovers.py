"""What CrewAI keeps in a context for good: each later run in that context would add to it, and be kept as well."""

from __future__ import annotations

from contextvars import Context, ContextVar
from typing import Any, cast

from crewai.events import event_bus

_bus: Any = event_bus.crewai_event_bus
_open_scopes = cast("ContextVar[int]", vars(event_bus)["_runtime_scope_depth"])


def forget_earlier_runs(host: object) -> None:
    """Have a run in this context add to no record of runs that are over.

    An agent's own kickoff leaves its record in its caller's context, and whatever is run there later is appended.
    What a crew or flow is resumed from, and what one that is under way here keeps, stays.

    Args:
        host: what is to be run
    """
    record = _bus.runtime_state
    if record is not None and not _open_scopes.get() and not any(one is host for one in record.root):
        _bus.reset_runtime_state()


def start_bus() -> None:
    """Start the loop of CrewAI's events, which it would start in a run's context, and keep that for good."""
    Context().run(_bus._ensure_executor_initialized)  # noqa: SLF001  CrewAI starts it nowhere else
