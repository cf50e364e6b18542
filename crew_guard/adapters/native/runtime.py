"""The Runtime for crews of our own: it picks the process."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from crew_guard.adapters.compiling import CrewRuntime
from crew_guard.adapters.native.conversation import conversation
from crew_guard.adapters.native.handoff import handoff
from crew_guard.adapters.native.hierarchical import hierarchical
from crew_guard.adapters.native.parallel import parallel
from crew_guard.adapters.native.sequential import sequential
from crew_guard.adapters.native.work import Work
from crew_guard.core.processes import Process
from crew_guard.core.roles import Crew
from crew_guard.errors import ConfigError
from crew_guard.ports import Gate, RuntimeResult

_PROCESSES: dict[Process, Callable[[Work], Coroutine[Any, Any, RuntimeResult]]] = {
    "sequential": sequential,
    "parallel": parallel,
    "hierarchical": hierarchical,
    "handoff": handoff,
    "conversation": conversation,
}


@dataclass(frozen=True, slots=True)
class NativeRuntime(CrewRuntime):
    """Runs a Crew. A Runtime of ports."""

    @property
    def name(self) -> str:
        return "native"

    def run(self, inputs: Mapping[str, Any], gate: Gate) -> Coroutine[Any, Any, RuntimeResult]:
        """Do the tasks as the crew's process goes about them.

        Raises:
            ConfigError: a {variable} of a task or a role is not among the inputs
            ModelError: a provider failed for good
        """
        return _PROCESSES[self.crew.process](Work(self.crew, self.model_for, inputs, gate))


def check_inputs(crew: Crew, inputs: Mapping[str, Any]) -> None:
    """Whether every {variable} of the crew is given.

    Raises:
        ConfigError: names those that are not
    """
    if missing := sorted(crew.variables() - inputs.keys()):
        given = ", ".join(sorted(inputs)) or "none"
        needs = ", ".join(f"{{{name}}}" for name in missing)
        raise ConfigError(f"crew {crew.name!r} needs the input {needs}; given: {given}")
