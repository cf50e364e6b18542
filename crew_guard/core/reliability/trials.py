"""What is counted: one verdict on one agent's task or one workflow node, and what a run reports of itself."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

Source: TypeAlias = Literal["schema", "check", "judge", "person", "later", "outcome"]
"""Who gave a verdict: an output schema, a check in Python, a judge role, a person, a later node, the whole run."""

END_TO_END = "end to end"
"""The stream of a crew's outcomes, beside those of its agents."""
NOBODYS = ""
"""The key of what a run cost beside its parts: a judge's calls, a manager's."""
_ALONE = "workflow-"


def alone_version(behaviour: str) -> str:
    """The version of a workflow that runs by itself: a record of it is no older version of a crew of its name.

    Args:
        behaviour: a digest of what defines it
    """
    return _ALONE + behaviour


def is_alone(version: str) -> bool:
    """Whether a version is that of a workflow that runs by itself."""
    return version.startswith(_ALONE)


class Subject(Struct, frozen=True, omit_defaults=True, gc=False):
    """Whose record a trial belongs to. Hashable: a change of any field begins a record of its own."""

    role: str
    model: str = ""
    kind: str = ""
    """The kind of task, e.g. summarize; empty where tasks aren't told apart."""
    version: str = ""
    """A digest of what defines the behaviour: prompt, tools, settings."""


class Trial(Struct, frozen=True, omit_defaults=True):
    """One verdict."""

    subject: Subject
    agent: str
    """The agent, or the node, as its crew calls it."""
    task: str
    grade: float
    """In [0, 1]; 1 is good, 0 is bad."""
    source: Source
    reason: str = ""
    side: Literal["crew", "fallback", "alone"] = "crew"
    """Whether an agent of the crew is judged, a node of its fallback, which doesn't open the crew's breaker, or a node
    of a workflow that runs by itself."""

    @property
    def stream(self) -> str:
        """The stream of its crew's record that it belongs to: agent, or agent/kind; of a node its kind."""
        if self.side == "alone":
            return self.subject.kind
        return f"{self.agent}/{self.subject.kind}" if self.subject.kind else self.agent


class RunReport(Struct, frozen=True, omit_defaults=True):
    """What one run adds to its crew's record."""

    run_id: str
    crew: str
    version: str
    """A digest of the whole crew: another one begins its record afresh."""
    at: float
    """Unix seconds."""
    trials: tuple[Trial, ...] = ()
    outcome: float | None = None
    """The end-to-end grade in [0, 1]; None where nobody judged."""
    usd: float = 0.0
    seconds: float = 0.0
    cost_adherence: float = 1.0
    """min(1, target / actual)"""
    latency_adherence: float = 1.0
    via: Literal["crew", "workflow"] = "crew"
    shadow: bool = False
    """Whether the crew only ran beside the workflow, as a probe: its trials are the crew's, its answer was not used."""
    faults: int = 0
    """Infrastructure failures: outages, refusals of a busy provider. Never a failed trial."""
    ended_by_fault: bool = False
    """Whether such a failure ended the run: then it has no outcome."""
    crew_grade: float | None = None
    """Where the workflow finished what the crew began: the crew's own end-to-end grade, 0 where it failed.

    None where the crew didn't work at all, or was not to blame.
    """

    costs: dict[str, float] = {}
    """US dollars by part of the crew, named like the record's streams, where it finished the job; under NOBODYS what
    no part of its own used. Empty where that isn't known."""

    @property
    def own(self) -> bool:
        """Whether the answer was that of whose record it is: the crew's, or of a workflow that runs by itself."""
        return self.via == "crew" or is_alone(self.version)


def adherence(target: float | None, actual: float) -> float:
    """How well a cost or a latency kept to its target: min(1, target / actual); 1 without a target."""
    if target is None or actual <= target:
        return 1.0
    return max(0.0, target / actual)
