"""The Runtime that runs a crew of ours as AutoGen's own agents and teams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from crew_guard.adapters.autogen.looping import HostWork, identifier
from crew_guard.adapters.autogen.talking import conversation
from crew_guard.adapters.compiling import CrewRuntime
from crew_guard.adapters.native.handoff import handoff
from crew_guard.adapters.native.hierarchical import hierarchical
from crew_guard.adapters.native.parallel import parallel
from crew_guard.adapters.native.sequential import sequential
from crew_guard.core.processes import Process
from crew_guard.errors import ConfigError
from crew_guard.ports import Gate, RuntimeResult

_PROCESSES: dict[Process, Callable[[HostWork], Awaitable[RuntimeResult]]] = {
    "sequential": sequential,
    "parallel": parallel,
    "hierarchical": hierarchical,
    "handoff": handoff,
    "conversation": conversation,
}


@dataclass(frozen=True, slots=True)
class CompiledRuntime(CrewRuntime):
    """Runs a Crew on AutoGen. A Runtime of ports."""

    def __post_init__(self) -> None:
        used = Counter(identifier(agent.name) for agent in self.crew.everyone())
        if twice := next((name for name, times in used.items() if times > 1), None):
            raise ConfigError(
                f"crew {self.crew.name!r}: AutoGen takes letters, digits and _ in names only, and two of its agents "
                f"would be {twice!r}; give one of them another name"
            )

    @property
    def name(self) -> str:
        return "autogen"

    async def run(self, inputs: Mapping[str, Any], gate: Gate) -> RuntimeResult:
        """Do the tasks as the crew's process goes about them.

        Raises:
            ModelError: a provider failed for good
        """
        return await _PROCESSES[self.crew.process](HostWork(self.crew, self.model_for, inputs, gate))
