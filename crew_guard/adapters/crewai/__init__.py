"""CrewAI's agents and crews under the gate: their models and tools are stood in for while they run.

Importing this package does not import CrewAI, which takes seconds.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from crew_guard.adapters.hosted import ModelFacts, come_from
from crew_guard.errors import MissingDependencyError

if TYPE_CHECKING:
    from crew_guard.adapters.crewai.runtime import CrewAIRuntime

_HOSTED = frozenset({"BaseAgent", "Crew", "Flow", "LiteAgent"})


def accepts(obj: object) -> bool:
    """Whether this is an agent, a crew or a flow of CrewAI."""
    return come_from(obj, "crewai", _HOSTED)


def runtime_for(host: Any, facts: ModelFacts) -> CrewAIRuntime:
    """A runtime for an Agent or a sequential Crew.

    Args:
        host: it is not changed outside of a run
        facts: rates and token bounds by model name
    Raises:
        ConfigError: a part of it would go around the guard; the message names it
        MissingDependencyError: CrewAI is not installed
    """
    # CrewAI sends what runs, and its traces, to its makers unless told not to; a guard must not add to that.
    os.environ.setdefault("CREWAI_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("OTEL_SDK_DISABLED", "true")
    try:
        from crew_guard.adapters.crewai.runtime import CrewAIRuntime
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("crewai"):
            raise MissingDependencyError("guarding an agent of CrewAI", "crewai") from error
        raise
    return CrewAIRuntime(host, facts)
