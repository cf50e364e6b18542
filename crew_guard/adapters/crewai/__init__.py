"""CrewAI's agents and crews under the gate: their models and tools are stood in for while they run.

Importing this package does not import CrewAI, which takes seconds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from crew_guard.adapters.hosted import ModelFacts, come_from
from crew_guard.core.roles import Agent, Crew
from crew_guard.errors import ConfigError, MissingDependencyError
from crew_guard.ports import Model

if TYPE_CHECKING:
    from crew_guard.adapters.crewai.host_crew import CompiledRuntime
    from crew_guard.adapters.crewai.runtime import CrewAIRuntime

_SUPPORTED = (1, 15)
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
    try:
        _quiet()
        from crew_guard.adapters.crewai.runtime import CrewAIRuntime
    except ModuleNotFoundError as error:
        raise _missing(error, "guarding an agent of CrewAI") from error
    return CrewAIRuntime(host, facts)


def compiled(crew: Crew, model_for: Callable[[Agent], Model]) -> CompiledRuntime:
    """A runtime that makes a crew of ours CrewAI's own agents, tasks and crew.

    Raises:
        ConfigError: CrewAI has no such process, or its version is not supported
        MissingDependencyError: CrewAI is not installed
    """
    try:
        _quiet()
        from crew_guard.adapters.crewai.host_crew import CompiledRuntime
    except ModuleNotFoundError as error:
        raise _missing(error, "running a crew on CrewAI") from error
    return CompiledRuntime(crew, model_for)


def _quiet() -> None:
    # CrewAI sends what runs, and its traces, to its makers unless told not to; a guard must not add to that.
    os.environ.setdefault("CREWAI_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("OTEL_SDK_DISABLED", "true")
    _check_version()


def _check_version() -> None:
    try:
        installed = version("crewai")
    except PackageNotFoundError:
        return  # importing it says so
    if tuple(map(int, re.findall(r"\d+", installed)[:2])) != _SUPPORTED:
        known = "crewai>=1.15,<1.16"
        raise ConfigError(f"crewai {installed} is installed; crew_guard works with {known}: pip install '{known}'")


def _missing(error: ModuleNotFoundError, what: str) -> Exception:
    if error.name and error.name.startswith("crewai"):
        return MissingDependencyError(what, "crewai")
    return error
