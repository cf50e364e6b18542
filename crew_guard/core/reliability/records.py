"""A crew's record: the fold of its RunReports. `add` is a pure step; a store keeps what comes of it."""

from __future__ import annotations

from msgspec import Struct

from crew_guard.core.reliability.breaker import Breaker
from crew_guard.core.reliability.counts import NO_TRIALS, Counts, Sums
from crew_guard.core.reliability.detector import ALARM_AFTER, EDetector
from crew_guard.core.reliability.trials import RunReport, Subject, Trial

FORMAT = 1
"""Version of the record's format."""


class Settings(Struct, frozen=True, omit_defaults=True):
    """What a policy says about counting."""

    threshold: float | None = None
    """The least end-to-end success; None: nothing is decided by reliability, and no detector runs."""
    confidence: float = 0.95
    alarm_after: float = ALARM_AFTER
    """Mean number of trials to a false alarm, at the least."""
    agent_target: float | None = None
    """What each agent is held to; None: threshold ** (1 / parts) once it has a baseline."""
    parts: int = 1
    """How many agents must succeed."""
    probes: float = 0.2
    """The share of the workflow's runs that have a shadow probe of the crew beside them."""

    @property
    def target(self) -> float | None:
        """What each agent is held to."""
        if self.agent_target is not None or self.threshold is None:
            return self.agent_target
        return self.threshold ** (1 / max(1, self.parts))


class Stream(Struct, frozen=True, omit_defaults=True):
    """What is known of one agent of the crew, or of its outcomes, since its version began."""

    subject: Subject | None = None
    """None for the outcomes."""
    counts: Counts = NO_TRIALS
    detector: EDetector | None = None
    """None where nothing is decided by reliability."""
    baseline: Counts | None = None
    """The first runs, fixed when there were enough of them."""


class CrewRecord(Struct, frozen=True, omit_defaults=True):
    """Everything that decides about one crew."""

    crew: str
    version: str = ""
    streams: dict[str, Stream] = {}
    """By agent, and END_TO_END for the outcomes of the crew's own runs, probes included."""
    faults: Counts = NO_TRIALS
    """Runs, and how many of them met no infrastructure failure."""
    crew_runs: Sums = Sums()
    workflow_runs: Sums = Sums()
    breaker: Breaker = Breaker()
    versions: int = 0
    """How many versions there were before this one."""
    updated: float = 0.0
    """Unix seconds of the last report."""
    format: int = FORMAT

    @property
    def end_to_end(self) -> Counts:
        """The crew's own outcomes since its version began."""
        raise NotImplementedError


def add(record: CrewRecord | None, report: RunReport, settings: Settings) -> CrewRecord:
    """The record with one run more; None begins one."""
    raise NotImplementedError


def revise(record: CrewRecord, before: Trial | None, after: Trial, settings: Settings) -> CrewRecord:
    """The record after a later verdict on a trial of one of its runs.

    Args:
        before: the verdict that it corrects; None where there was none
        after: of the same agent and subject; where the subject has a newer version since, nothing changes here
    """
    raise NotImplementedError


def revise_outcome(record: CrewRecord, report: RunReport, grade: float, settings: Settings) -> CrewRecord:
    """The record after a later verdict on the outcome of one of its runs.

    Args:
        report: of that run, as it was counted: its outcome is what is corrected
        grade: in [0, 1]
    """
    raise NotImplementedError
