"""CrewAI's agents and crews under the gate: their models and tools are stood in for while they run.

Importing this package does not import CrewAI, which takes seconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from crew_guard.adapters.hosted import ModelFacts, come_from
from crew_guard.adapters.versions import Supported
from crew_guard.core.roles import Agent, Crew
from crew_guard.ports import Model

if TYPE_CHECKING:
    from crew_guard.adapters.crewai.host_crew import CompiledRuntime
    from crew_guard.adapters.crewai.runtime import CrewAIRuntime

_CREWAI = Supported("crewai", (1, 15), (1, 16), extra="crewai")
_HOSTED = frozenset({"BaseAgent", "Crew", "Flow", "LiteAgent"})


def accepts(obj: object) -> bool:
    """Whether this is an agent, a crew or a flow of CrewAI."""
    return come_from(obj, "crewai", _HOSTED)


def runtime_for(host: Any, facts: ModelFacts) -> CrewAIRuntime:
    """A runtime for an Agent, a Crew or a Flow.

    Args:
        host: it is not changed outside of a run
        facts: rates and token bounds by model name
    Raises:
        ConfigError: a part of it would go around the guard; the message names it
        MissingDependencyError: CrewAI is not installed
    """
    _prepare("guarding an agent of CrewAI")
    from crew_guard.adapters.crewai.runtime import CrewAIRuntime

    return CrewAIRuntime(host, facts)


def compiled(crew: Crew, model_for: Callable[[Agent], Model]) -> CompiledRuntime:
    """A runtime that makes a crew of ours CrewAI's own agents, tasks and crew.

    Raises:
        ConfigError: CrewAI has no such process, or its version is not supported
        MissingDependencyError: CrewAI is not installed
    """
    _prepare("running a crew on CrewAI")
    from crew_guard.adapters.crewai.host_crew import CompiledRuntime

    return CompiledRuntime(crew, model_for)


def _prepare(what: str) -> None:
    # CrewAI sends what runs, and its traces, to its makers unless told not to; a guard must not add to that.
    os.environ.setdefault("CREWAI_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("OTEL_SDK_DISABLED", "true")
    # CrewAI imports litellm when a model needs it, and litellm then looks for newer prices on the network.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    _CREWAI.check(what)
