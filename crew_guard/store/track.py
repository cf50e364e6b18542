"""The track record's rules, whatever keeps its rows: one transaction reads, folds and writes.

A backend gives Rows inside a transaction. The rows of runs and of verdicts are the truth; a crew's record
is their fold, kept so that nobody folds twice, and folded again where an older crew_guard wrote it.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager

from msgspec.structs import replace

from crew_guard.core.reliability import records
from crew_guard.core.reliability.counts import Counts
from crew_guard.core.reliability.records import CrewRecord, Settings
from crew_guard.core.reliability.structure import Structure
from crew_guard.core.reliability.trials import RunReport, Subject, alone_version, is_alone
from crew_guard.errors import ConfigError
from crew_guard.ports import CrewTerms, KeptRun, KeptVerdict
from crew_guard.store.journals import storable
from crew_guard.store.reports import (
    checked_grade,
    checked_report,
    ended_by_fault,
    judged_before,
    not_reported,
    of_a_shadow,
    of_the_workflow,
    storable_subject,
)
from crew_guard.store.rows import NOBODY, Began, CrewRow, Rows, RunRow, VerdictRow


class Track(ABC):
    """A TrackRecord of ports over Rows."""

    def __init__(self, place: str) -> None:
        self.place = place
        """Where it is, for messages."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[Rows]:
        """One consistent view of the rows."""

    @abstractmethod
    def writing(self) -> AbstractContextManager[Rows]:
        """The same for one writer at a time; kept if the block ends without an exception."""

    def crew(self, name: str, version: str | None = None, *, like: str | None = None) -> CrewRecord | None:
        """What is known of a crew, in this version or the latest, or the latest of this kind; None where nothing is."""
        with self.reading() as rows:
            row = _crew(rows, name, version) if version is not None or like is None else _latest(rows, name, like)
        return row.record if row else None

    def crews(self) -> Sequence[CrewRecord]:
        """Each crew's latest record, by name; after it that of a workflow of this name that runs by itself."""
        with self.reading() as rows:
            found = [_latest(rows, name, kind) for name in rows.crew_names() for kind in ("", alone_version(""))]
        return [row.record for row in found if row and row.record]

    def terms(self, name: str, version: str | None = None) -> CrewTerms | None:
        """How that record is kept and read; None where there is none."""
        with self.reading() as rows:
            row = _crew(rows, name, version)
        return CrewTerms(row.settings, row.structure) if row else None

    def counts(self, subjects: Collection[Subject]) -> Mapping[Subject, Counts]:
        """The trials of these subjects in all crews and runs; those without trials have zero counts."""
        with self.reading() as rows:
            return {subject: rows.subject(storable_subject(subject)) for subject in subjects}

    def subjects(self) -> Mapping[Subject, Counts]:
        """Every subject that has trials, and these."""
        with self.reading() as rows:
            return rows.subjects()

    def confidences(self) -> Mapping[Subject, float]:
        """With what confidence each subject's bounds are told: that of the policy whose run added to it last."""
        with self.reading() as rows:
            return rows.confidences()

    def run(self, run_id: str) -> KeptRun | None:
        """What a run reported and how it was judged; None where it reported nothing."""
        with self.reading() as rows:
            row = rows.run(storable(run_id))
        return None if row is None else KeptRun(row.report, tuple(_public(verdict) for verdict in row.verdicts))

    def add(self, report: RunReport, settings: Settings, structure: Structure | None = None) -> CrewRecord:
        """Count one run and hand back its crew's record; a run that is counted isn't again.

        Raises:
            StoreError: a figure of the report is out of range, or it can't be written
        """
        report = checked_report(report)
        with self.writing() as rows:
            known = rows.run(report.run_id)
            if known is not None:
                row = _crew(rows, known.report.crew, known.report.version)
                return row.record if row and row.record else records.add(None, known.report, settings)
            own = _crew(rows, report.crew, report.version)
            before = own or _latest(rows, report.crew, report.version)
            record = records.add(before.record if before else None, report, settings)
            structure = structure or (own.structure if own else None)
            _write(rows, report, CrewRow(report.crew, report.version, record, settings, structure, 0))
        return record

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

        Raises:
            ConfigError: the grade is not from 0 to 1, or a task is named and no agent
            StoreError: the run is unknown or has no trial of this agent, a person has judged the same before, or
                its outcome is not the crew's: the infrastructure ended the run, its workflow gave the answer, or the
                crew worked in a shadow and isn't named
        """
        grade = checked_grade(grade)
        if task is not None and agent is None:
            raise ConfigError(f"the task {task!r} needs the agent who did it: name it with --agent")
        with self.writing() as rows:
            run = rows.run(storable(run_id))
            if run is None:
                raise not_reported(run_id, self.place)
            named = agent is not None and _is_its_shadow(run, agent)
            if named:
                agent = task = None
            if agent is None:
                self._refuse_outcome(rows, run.report, named=named)
            before = judged_before(run_id, run.verdicts, agent, task, self.place)
            about = before or VerdictRow(None, "", NOBODY, grade, "person", 0.0, "")
            after = about._replace(
                grade=grade,
                source="person",
                at=time.time() if at is None else at,
                because=storable(because),
                after=rows.newest_run(),
            )
            return _rewrite(rows, run, before, after)

    def _refuse_outcome(self, rows: Rows, report: RunReport, *, named: bool) -> None:
        """Raise where an outcome of this run would count as another's; a shadow's is the crew's if it is named."""
        if report.ended_by_fault:
            raise ended_by_fault(report.run_id, self.place)
        if report.shadow and not named:
            raise of_a_shadow(report, self.place)
        if report.via == "crew" and not named and rows.answered_by(report.run_id) == "workflow":
            raise of_the_workflow(report.run_id, self.place)

    def begin_probe(self, crew: str, run_id: str, until: float, *, now: float | None = None) -> bool:
        """Whether this run may be the one that probes a half-open crew now, across all processes."""
        with self.writing() as rows:
            return rows.begin_probe(storable(crew), storable(run_id), until, time.time() if now is None else now)

    def end_probe(self, crew: str, run_id: str) -> None:
        """Let the next probe through; nothing where another run has the probe, or none."""
        with self.writing() as rows:
            rows.end_probe(storable(crew), storable(run_id))


def _write(rows: Rows, report: RunReport, row: CrewRow) -> None:
    """Keep a run, its verdicts, and what they make of its crew's record and of its subjects' counts."""
    number = rows.insert_run(report)
    counts: dict[Subject, Counts] = {}
    for trial in report.trials:
        subject = trial.subject
        named = (trial.agent, trial.task, subject)
        verdict = VerdictRow(*named, trial.grade, trial.source, report.at, trial.reason, trial.side)
        rows.insert_verdict(number, verdict)
        counts[subject] = (counts.get(subject) or rows.subject(subject)).plus(trial.grade)
    if report.outcome is not None:
        rows.insert_verdict(number, VerdictRow(None, "", NOBODY, report.outcome, "outcome", report.at, ""))
    for subject, counted in counts.items():
        rows.save_subject(subject, counted, row.settings.confidence, report.at)
    rows.save_crew(row._replace(last_run=number), report.at)


def _rewrite(rows: Rows, run: RunRow, before: VerdictRow | None, after: VerdictRow) -> CrewRecord:
    """Keep a later verdict, and what it changes; the record of the run's version with it."""
    found = (_crew(rows, run.report.crew, version) for version in _holders(_lineage(rows, run.report.crew), run))
    revised = {
        row.version: (row, _revised(row.record, run, before, after, row.settings))
        for row in found
        if row is not None and row.record is not None
    }
    _, record = revised[run.report.version]
    number = rows.insert_verdict(run.number, after)
    if before is not None:
        rows.replace_verdict(before.number, number)
        if after.agent is not None:
            counts = rows.subject(after.subject).revised(before.grade, after.grade)
            rows.save_subject(after.subject, counts, rows.confidences()[after.subject], after.at)
    for row, made in revised.values():
        rows.save_crew(row._replace(record=made), after.at)
    return record


def _latest(rows: Rows, name: str, like: str) -> CrewRow | None:
    """The latest version that is a crew's, or a workflow's that runs by itself, as the given one is."""
    row = _crew(rows, name, None)
    if row is None or is_alone(row.version) == is_alone(like):
        return row
    versions = (one.version for one in rows.lineage(storable(name)) if is_alone(one.version) == is_alone(like))
    found = [_crew(rows, name, version) for version in versions]
    return max((each for each in found if each is not None), key=lambda each: each.last_run, default=None)


def _lineage(rows: Rows, crew: str) -> Sequence[Began]:
    """Every version of a crew, the first one first; what has its name and is none goes on from its own kind."""
    known = rows.lineage(crew)
    if len({is_alone(one.version) for one in known}) == 1:
        return known
    found: dict[str, Began] = {}
    latest: dict[bool, str] = {}
    for run in rows.history(crew):
        version = run.report.version
        found.setdefault(version, Began(version, run.number, latest.get(is_alone(version))))
        latest[is_alone(version)] = version
    return list(found.values())


def _holders(lineage: Sequence[Began], run: RunRow) -> list[str]:
    """The versions in whose records a run is counted: its own, and those that went on from it afterwards."""
    found: list[str] = []
    for one in lineage:
        if one.version == run.report.version or (one.base in found and run.number < one.run):
            found.append(one.version)
    return found


def _is_its_shadow(run: RunRow, name: str) -> bool:
    """Whether the crew of this name worked in a shadow there, and no agent of it is called so."""
    named = storable(name) == run.report.crew and run.report.shadow
    return named and all(verdict.agent != name for verdict in run.verdicts)


def _crew(rows: Rows, name: str, version: str | None) -> CrewRow | None:
    row = rows.crew(storable(name), None if version is None else storable(version))
    if row is None or row.record is not None:
        return row
    return row._replace(record=_refolded(rows, row).get(row.version))


def _refolded(rows: Rows, row: CrewRow) -> Mapping[str, CrewRecord]:
    """Every version's record of a crew, folded again from the rows in the order in which they came."""
    runs = rows.history(row.crew)
    steps: list[tuple[tuple[int, int], RunRow, VerdictRow | None]] = [((run.number, 0), run, None) for run in runs]
    later = ((run, verdict) for run in runs for verdict in run.verdicts)
    steps += [((verdict.after, verdict.number), run, verdict) for run, verdict in later if verdict.after is not None]
    found: dict[str, CrewRecord] = {}
    lineage: list[Began] = []
    latest: dict[bool, str] = {}
    for _, run, verdict in sorted(steps, key=lambda step: step[0]):
        version = run.report.version
        if verdict is not None:
            before = next((one for one in run.verdicts if one.replaced_by == verdict.number), None)
            for holder in _holders(lineage, run):
                found[holder] = _revised(found[holder], run, before, verdict, row.settings)
            continue
        before = latest.get(is_alone(version))
        if version not in found:
            lineage.append(Began(version, run.number, before))
        base = found.get(version) or (found[before] if before is not None else None)
        found[version] = records.add(base, run.report, row.settings)
        latest[is_alone(version)] = version
    return found


def _revised(
    record: CrewRecord, run: RunRow, before: VerdictRow | None, after: VerdictRow, settings: Settings
) -> CrewRecord:
    if after.agent is None:
        counted = replace(run.report, outcome=before.grade if before else None)
        return records.revise_outcome(record, counted, after.grade, settings)
    return records.revise(record, before.trial if before else None, after.trial, settings, run.report.at)


def _public(row: VerdictRow) -> KeptVerdict:
    subject = None if row.agent is None else row.subject
    counts = row.replaced_by is None
    return KeptVerdict(row.agent, row.task, subject, row.grade, row.source, row.at, row.because, counts)
