"""The track record in the journal's file: a connection for each call, one IMMEDIATE transaction for each change.

What the views show is computed here when it is written: SQL has no incomplete beta function.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from itertools import groupby
from typing import Any

import msgspec

from crew_guard.core.reliability.counts import NO_TRIALS, Counts, Sums, score, tier_of
from crew_guard.core.reliability.intervals import clopper_pearson
from crew_guard.core.reliability.records import FORMAT, CrewRecord, Settings
from crew_guard.core.reliability.structure import Structure
from crew_guard.core.reliability.trials import RunReport, Subject
from crew_guard.store.database import Place, connect, patiently
from crew_guard.store.faults import explain
from crew_guard.store.reports import newer_record
from crew_guard.store.rows import Began, CrewRow, RunRow, VerdictRow
from crew_guard.store.track import Track

_RUN_COLUMNS = (
    "run_id, crew, version, at, via, shadow, usd, seconds, cost_adherence, latency_adherence, faults, ended_by_fault, "
    "crew_grade, costs"
)
_VERDICT_COLUMNS = (
    "agent, task, role, model, kind, version, grade, source, at, because, side, after, number, replaced_by"
)
_VERDICTS = f"SELECT run, {_VERDICT_COLUMNS} FROM trials WHERE run = ? ORDER BY number"  # noqa: S608 - made of constants
_HISTORY = (
    f"SELECT trials.run, {', '.join('trials.' + name for name in _VERDICT_COLUMNS.split(', '))} "  # noqa: S608 - see above
    "FROM trials JOIN judged_runs ON judged_runs.number = trials.run WHERE crew = ? ORDER BY trials.run, trials.number"
)
_CREW = "SELECT crew, version, format, body, settings, structure, last_run FROM crew_records WHERE crew = ?"
_SUBJECT = "SELECT trials, good FROM subjects WHERE role = ? AND model = ? AND kind = ? AND version = ?"
_LINEAGE = (
    "SELECT version, began, (SELECT version FROM judged_runs WHERE crew = ?1 AND number < began "
    "ORDER BY number DESC LIMIT 1) FROM (SELECT version, min(number) AS began FROM judged_runs WHERE crew = ?1 "
    "GROUP BY version) ORDER BY began"
)
_BEGIN_PROBE = (
    "INSERT INTO probes VALUES (?, ?, ?) ON CONFLICT (crew) DO UPDATE SET run_id = excluded.run_id, "
    "until = excluded.until WHERE probes.until <= ? OR probes.run_id = excluded.run_id"
)


class SqliteTrack(Track):
    """Keeps it where the journals are. Several processes may add at once."""

    def __init__(self, place: Place) -> None:
        super().__init__(str(place.path))
        self._file = place

    @contextmanager
    def reading(self) -> Generator[SqliteRows]:
        """The rows as they are now, whatever is written meanwhile."""
        with self._connection() as connection:
            connection.execute("BEGIN")
            yield SqliteRows(connection, self.place)

    @contextmanager
    def writing(self) -> Generator[SqliteRows]:
        """The rows, with every other writer kept waiting."""
        with self._connection(patient=False) as connection:
            patiently(self._file.busy_seconds, lambda: connection.execute("BEGIN IMMEDIATE"))
            yield SqliteRows(connection, self.place)
            connection.execute("COMMIT")

    @contextmanager
    def _connection(self, *, patient: bool = True) -> Generator[sqlite3.Connection]:
        try:
            # Closing it takes back what was not committed.
            with closing(connect(self._file, patient=patient)) as connection:
                yield connection
        except sqlite3.Error as error:
            raise explain(error, self._file.path, self._file.busy_seconds) from error


class SqliteRows:
    """The rows within one transaction."""

    def __init__(self, connection: sqlite3.Connection, place: str) -> None:
        self._execute = connection.execute
        self._place = place

    def run(self, run_id: str) -> RunRow | None:
        """One run and its verdicts."""
        found = self._execute(
            f"SELECT number, {_RUN_COLUMNS} FROM judged_runs WHERE run_id = ?",  # noqa: S608 - made of constants
            (run_id,),
        ).fetchone()
        return None if found is None else _run_row(found, self._execute(_VERDICTS, (found[0],)))

    def answered_by(self, run_id: str) -> str | None:
        """Who gave the run's answer, as its journal has it."""
        found = self._execute("SELECT via FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        return None if found is None else found[0]

    def history(self, crew: str) -> Sequence[RunRow]:
        """All runs of a crew in the order in which they reported."""
        verdicts = {
            number: tuple(rows) for number, rows in groupby(self._execute(_HISTORY, (crew,)), key=lambda row: row[0])
        }
        runs = self._execute(
            f"SELECT number, {_RUN_COLUMNS} FROM judged_runs WHERE crew = ? ORDER BY number",  # noqa: S608 - see above
            (crew,),
        )
        return [_run_row(run, verdicts.get(run[0], ())) for run in runs]

    def crew(self, name: str, version: str | None) -> CrewRow | None:
        """One version of a crew, by default that of the latest report.

        Raises:
            StoreError: a newer crew_guard wrote its record
        """
        if version is None:
            found = self._execute(f"{_CREW} ORDER BY last_run DESC LIMIT 1", (name,)).fetchone()
        else:
            found = self._execute(f"{_CREW} AND version = ?", (name, version)).fetchone()
        if found is None:
            return None
        crew, found_version, written, body, settings, structure, last_run = found
        if written > FORMAT:
            raise newer_record(crew, written, FORMAT, self._place)
        record = _decoded(body, CrewRecord) if written == FORMAT else None
        shape = _decoded(structure, Structure) if structure else None
        return CrewRow(crew, found_version, record, _decoded(settings, Settings) or Settings(), shape, last_run)

    def lineage(self, crew: str) -> Sequence[Began]:
        """Every version of a crew, the first one first."""
        return [Began(*row) for row in self._execute(_LINEAGE, (crew,))]

    def crew_names(self) -> Sequence[str]:
        """By name."""
        return [name for (name,) in self._execute("SELECT DISTINCT crew FROM crew_records ORDER BY crew")]

    def subject(self, subject: Subject) -> Counts:
        """Its trials in all crews."""
        found = self._execute(_SUBJECT, msgspec.structs.astuple(subject)).fetchone()
        return NO_TRIALS if found is None else Counts(*found)

    def subjects(self) -> Mapping[Subject, Counts]:
        """Every subject that has trials."""
        rows = self._execute("SELECT role, model, kind, version, trials, good FROM subjects ORDER BY 1, 2, 3, updated")
        return {Subject(*row[:4]): Counts(*row[4:]) for row in rows}

    def confidences(self) -> Mapping[Subject, float]:
        """With what confidence the bounds of each are told."""
        rows = self._execute("SELECT role, model, kind, version, confidence FROM subjects")
        return {Subject(*row[:4]): row[4] for row in rows}

    def newest_run(self) -> int:
        """The number of the latest report of any crew."""
        return self._execute("SELECT coalesce(max(number), 0) FROM judged_runs").fetchone()[0]

    def insert_run(self, report: RunReport) -> int:
        """Keep a run without its verdicts; its number."""
        columns = _RUN_COLUMNS.split(", ")
        values = [_text(value) if isinstance(value := getattr(report, name), dict) else value for name in columns]
        marks = ", ".join("?" * len(columns))
        statement = f"INSERT INTO judged_runs ({_RUN_COLUMNS}) VALUES ({marks})"  # noqa: S608 - made of constants
        return self._inserted(statement, values)

    def insert_verdict(self, run: int, row: VerdictRow) -> int:
        """Keep a verdict; its number."""
        subject = msgspec.structs.astuple(row.subject)
        values = (run, row.agent, row.task, *subject, row.grade, row.source, row.at, row.because)
        values += (row.side, row.after)
        columns = "run, agent, task, role, model, kind, version, grade, source, at, because, side, after"
        marks = ", ".join("?" * len(values))
        statement = f"INSERT INTO trials ({columns}) VALUES ({marks})"  # noqa: S608 - made of constants
        return self._inserted(statement, values)

    def _inserted(self, statement: str, values: Sequence[Any]) -> int:
        return self._execute(f"{statement} RETURNING number", values).fetchone()[0]

    def replace_verdict(self, number: int, by: int) -> None:
        """Mark a verdict as replaced."""
        self._execute("UPDATE trials SET replaced_by = ? WHERE number = ?", (by, number))

    def save_crew(self, row: CrewRow, at: float) -> None:
        """Keep a record, and the figures that the views show of it."""
        record = row.record
        if record is None:
            raise ValueError(f"the crew {row.crew!r} has no record to keep")
        body, settings = _text(record), _text(row.settings)
        structure = None if row.structure is None else _text(row.structure)
        values = (row.crew, row.version, FORMAT, body, settings, structure, row.last_run, at, record.breaker.state)
        measured = record.end_to_end
        self._replaced("crew_records", (*values, *_bounded(measured, row.settings.confidence)))
        for path, sums in (("crew", record.crew_runs), ("workflow", record.workflow_runs), ("all", record.all_runs)):
            self._replaced("scores", (row.crew, row.version, path, *_figures(sums, row.settings.confidence)))

    def _replaced(self, table: str, values: Sequence[Any]) -> None:
        marks = ", ".join("?" * len(values))
        self._execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", values)  # noqa: S608 - a table of ours

    def save_subject(self, subject: Subject, counts: Counts, confidence: float, at: float) -> None:
        """Keep a subject's counts, and the figures that the views show of them."""
        values = (*msgspec.structs.astuple(subject), *_bounded(counts, confidence), at)
        self._replaced("subjects", values)

    def begin_probe(self, crew: str, run_id: str, until: float, now: float) -> bool:
        """Take the crew's probe where nobody has it, or its time is over."""
        return self._execute(_BEGIN_PROBE, (crew, run_id, until, now)).rowcount == 1

    def end_probe(self, crew: str, run_id: str) -> None:
        """Give it back."""
        self._execute("DELETE FROM probes WHERE crew = ? AND run_id = ?", (crew, run_id))


@lru_cache(maxsize=64)
def _figures(sums: Sums, confidence: float) -> tuple[Any, ...]:
    """What the views show of some runs; kept, because the runs of one path only are all runs, too."""
    judged, worth = sums.outcomes, score(sums, confidence)
    rated = (None, None, None) if worth is None else (worth.value, worth.lower, worth.upper)
    return (sums.runs, judged.trials, judged.good, sums.faults, sums.usd, sums.seconds, *rated)


@lru_cache(maxsize=64)
def _bounded(counts: Counts, confidence: float) -> tuple[Any, ...]:
    lower, upper = clopper_pearson(counts, confidence)
    return (counts.trials, counts.good, confidence, lower, upper, tier_of(lower))


def _run_row(run: Sequence[Any], verdicts: Iterable[Sequence[Any]]) -> RunRow:
    """A run as it reported: later verdicts are not in its report."""
    rows = tuple(_verdict_row(row) for row in verdicts)
    first = [row for row in rows if row.after is None]
    values: dict[str, Any] = dict(zip(_RUN_COLUMNS.split(", "), run[1:], strict=True))
    values |= {name: bool(values[name]) for name in ("shadow", "ended_by_fault")}
    values["costs"] = _decoded(values["costs"], dict[str, float]) or {}
    trials = tuple(row.trial for row in first if row.agent is not None)
    outcome = next((row.grade for row in first if row.agent is None), None)
    report = RunReport(trials=trials, outcome=outcome, **values)
    return RunRow(run[0], report, rows)


def _verdict_row(row: Sequence[Any]) -> VerdictRow:
    _, agent, task, role, model, kind, version, *rest = row
    return VerdictRow(agent, task, Subject(role, model, kind, version), *rest)


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _decoded(text: str, kind: Any) -> Any:
    """What was written; None where it can't be read, and has to be made again from the rows."""
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError:
        return None
