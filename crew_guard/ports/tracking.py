"""What keeps the track record: verdicts on what runs did, and what they say of crews and of agents.

A run adds one RunReport at its end. A person may give a verdict later, which counts in the record of the
subject and of the version that the run had.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from crew_guard.core.reliability.counts import Counts
from crew_guard.core.reliability.records import CrewRecord, Settings
from crew_guard.core.reliability.structure import Structure
from crew_guard.core.reliability.trials import RunReport, Source, Subject


@dataclass(frozen=True, slots=True)
class KeptVerdict:
    """One verdict as it is kept."""

    agent: str | None
    """Whose work was judged; None: the run's as a whole."""
    task: str
    subject: Subject | None
    """Whose record it is in; None for a run as a whole."""
    grade: float
    """In [0, 1]."""
    source: Source
    at: float
    """Unix seconds."""
    because: str
    counts: bool = True
    """False once a later verdict took its place."""


@dataclass(frozen=True, slots=True)
class KeptRun:
    """One run's report, and every verdict on it."""

    report: RunReport
    """As it was added."""
    verdicts: tuple[KeptVerdict, ...]
    """In the order in which they came."""

    @property
    def outcome(self) -> KeptVerdict | None:
        """The end-to-end verdict that counts; None where nobody judged."""
        return next((one for one in self.verdicts if one.agent is None and one.counts), None)

    @property
    def trials(self) -> tuple[KeptVerdict, ...]:
        """The verdicts on agents' tasks that count."""
        return tuple(one for one in self.verdicts if one.agent is not None and one.counts)


@dataclass(frozen=True, slots=True)
class CrewTerms:
    """How a crew's record is kept and read."""

    settings: Settings
    """Those of its latest report."""
    structure: Structure | None = None
    """How the crew's success follows from its agents'; None: each of them must succeed."""


class TrackRecord(Protocol):
    """Counts what was judged. Thread-safe, and several processes may add at once; every call may block.

    Every method raises StoreError where the record can't be read or written.
    """

    def crew(self, name: str, version: str | None = None, *, like: str | None = None) -> CrewRecord | None:
        """What is known of a crew, or of a workflow that runs by itself; None where nothing is.

        Args:
            name: the crew's
            version: one version's record; by default that of the latest report
            like: without a version: the latest that is a crew's, or a workflow's, as this version is
        """
        ...

    def crews(self) -> Sequence[CrewRecord]:
        """Each crew's latest record, by name; after it that of a workflow of this name that runs by itself."""
        ...

    def terms(self, name: str, version: str | None = None) -> CrewTerms | None:
        """How that record is kept and read; None where there is none."""
        ...

    def counts(self, subjects: Collection[Subject]) -> Mapping[Subject, Counts]:
        """The trials of these subjects in all crews and runs; those without trials have zero counts."""
        ...

    def subjects(self) -> Mapping[Subject, Counts]:
        """Every subject that has trials, and these."""
        ...

    def confidences(self) -> Mapping[Subject, float]:
        """With what confidence each subject's bounds are told: that of the policy whose run added to it last."""
        ...

    def run(self, run_id: str) -> KeptRun | None:
        """What a run reported and how it was judged; None where it reported nothing."""
        ...

    def add(self, report: RunReport, settings: Settings, structure: Structure | None = None) -> CrewRecord:
        """Count one run, in one transaction, and hand back its crew's record. A run that is counted isn't again.

        Args:
            report: of the run; another version of the crew than before begins a record beside the old one
            settings: what the policy says about counting
            structure: of the crew, its leaves named like the record's streams; None keeps the one that is known
        Raises:
            StoreError: a grade or another figure of the report is out of range, or it can't be written
        """
        ...

    def outcome(
        self,
        run_id: str,
        grade: float,
        *,
        agent: str | None = None,
        task: str | None = None,
        because: str = "",
        at: float | None = None,
    ) -> CrewRecord:
        """Count a person's later verdict, in place of a weaker one, where it belongs.

        Args:
            run_id: the run's whole id
            grade: 1 is good, 0 is bad
            agent: whose work is judged, as the crew or the record's streams call it; None: the run's outcome as a whole
            task: which of the agent's tasks, where there are several
            because: the reason, for whoever reads it later
            at: Unix seconds; now by default
        Raises:
            ConfigError: the grade is not from 0 to 1, or a task is named and no agent
            StoreError: the run is unknown or has no trial of this agent, a person has judged the same before, or
                its outcome is not the crew's: the infrastructure ended the run, its workflow gave the answer, or the
                crew worked in a shadow and isn't named
        """
        ...

    def begin_probe(self, crew: str, run_id: str, until: float, *, now: float | None = None) -> bool:
        """Whether this run may be the one that probes a half-open crew now, across all processes.

        Args:
            crew: which has one probe at a time
            run_id: asking again for the run that has it extends it
            until: Unix seconds, when a process that died no longer blocks the next probe
            now: Unix seconds by the caller's clock; the machine's by default
        """
        ...

    def end_probe(self, crew: str, run_id: str) -> None:
        """Let the next probe through; nothing where another run has the probe, or none."""
        ...
