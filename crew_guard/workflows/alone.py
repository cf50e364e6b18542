"""A workflow that does a job by itself, as the engine of its run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crew_guard.core.roles import Crew
from crew_guard.ports import Delegating, Gate, RuntimeResult, Workflow


@dataclass(frozen=True, slots=True)
class Alone:
    """A Runtime of ports."""

    workflow: Workflow

    @property
    def name(self) -> str:
        """What the run's record calls its engine."""
        return "workflow"

    def members(self) -> Sequence[str]:
        """None: a node is counted when it calls a model."""
        return ()

    def crews(self) -> Mapping[str, Crew]:
        """See Delegating."""
        return self.workflow.crews() if isinstance(self.workflow, Delegating) else {}

    def insiders(self) -> Sequence[str]:
        """See Delegating."""
        return self.workflow.insiders() if isinstance(self.workflow, Delegating) else ()

    async def run(self, inputs: Mapping[str, Any], gate: Gate) -> RuntimeResult:
        """See Workflow.run."""
        return await self.workflow.run(inputs, gate)
