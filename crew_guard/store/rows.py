"""What a backend of the track record keeps, row by row, inside one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol, TypeAlias

from crew_guard.core.reliability.counts import Counts
from crew_guard.core.reliability.records import CrewRecord, Settings
from crew_guard.core.reliability.structure import Structure
from crew_guard.core.reliability.trials import RunReport, Source, Subject, Trial

Side: TypeAlias = Literal["crew", "fallback", "alone"]
NOBODY = Subject("")
"""Stands for a run as a whole, whose outcome is in no subject's record."""


class VerdictRow(NamedTuple):
    """One verdict."""

    agent: str | None
    """None: on the run as a whole."""
    task: str
    subject: Subject
    grade: float
    source: Source
    at: float
    because: str
    side: Side = "crew"
    after: int | None = None
    """The newest run when a later verdict came; None for what came with the run's report."""
    number: int = 0
    """Counts up over all runs; given when it is written."""
    replaced_by: int | None = None
    """The later verdict that counts in its place."""

    @property
    def trial(self) -> Trial:
        """A verdict on an agent's task, as it is folded."""
        return Trial(self.subject, self.agent or "", self.task, self.grade, self.source, self.because, self.side)


class RunRow(NamedTuple):
    """One run that reported."""

    number: int
    report: RunReport
    """As it was added."""
    verdicts: tuple[VerdictRow, ...]


class CrewRow(NamedTuple):
    """One version of a crew."""

    crew: str
    version: str
    record: CrewRecord | None
    """None where an older crew_guard wrote it, in a form that has to be made again."""
    settings: Settings
    structure: Structure | None
    last_run: int
    """The number of its latest report."""


class Began(NamedTuple):
    """How a version's record came about."""

    version: str
    run: int
    """The number of its first report."""
    base: str | None
    """The version whose record it went on from; None for a crew's first."""


class Rows(Protocol):
    """The rows, as one transaction sees them."""

    def run(self, run_id: str) -> RunRow | None: ...

    def answered_by(self, run_id: str) -> str | None:
        """Who gave the run's answer as its journal has it: crew, workflow, or None where it doesn't say."""
        ...

    def history(self, crew: str) -> Sequence[RunRow]:
        """All runs of a crew in the order in which they reported."""
        ...

    def crew(self, name: str, version: str | None) -> CrewRow | None:
        """One version of a crew, by default that of the latest report."""
        ...

    def lineage(self, crew: str) -> Sequence[Began]:
        """Every version of a crew, the first one first."""
        ...

    def crew_names(self) -> Sequence[str]: ...

    def subject(self, subject: Subject) -> Counts: ...

    def subjects(self) -> Mapping[Subject, Counts]: ...

    def confidences(self) -> Mapping[Subject, float]: ...

    def newest_run(self) -> int:
        """The number of the latest report of any crew."""
        ...

    def insert_run(self, report: RunReport) -> int:
        """Keep a run without its verdicts; its number."""
        ...

    def insert_verdict(self, run: int, row: VerdictRow) -> int:
        """Keep a verdict; its number."""
        ...

    def replace_verdict(self, number: int, by: int) -> None:
        """Mark a verdict as replaced."""
        ...

    def save_crew(self, row: CrewRow, at: float) -> None: ...

    def save_subject(self, subject: Subject, counts: Counts, confidence: float, at: float) -> None: ...

    def begin_probe(self, crew: str, run_id: str, until: float, now: float) -> bool: ...

    def end_probe(self, crew: str, run_id: str) -> None: ...
