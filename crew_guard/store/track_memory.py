"""The track record in this process's memory."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from threading import RLock

from crew_guard.core.reliability.counts import NO_TRIALS, Counts
from crew_guard.core.reliability.trials import RunReport, Subject
from crew_guard.store.reports import IN_MEMORY
from crew_guard.store.rows import Began, CrewRow, RunRow, VerdictRow
from crew_guard.store.track import Track


class MemoryTrack(Track):
    """Keeps it as long as the process lives. Whoever writes has computed everything before the first row."""

    def __init__(self, answered_by: Callable[[str], str | None]) -> None:
        """Begin an empty one.

        Args:
            answered_by: who gave a run's answer, as its journal has it
        """
        super().__init__(IN_MEMORY)
        self._lock = RLock()
        self._rows = _MemoryRows(answered_by)

    @contextmanager
    def reading(self) -> Generator[_MemoryRows]:
        """The rows, while nobody writes."""
        with self._lock:
            yield self._rows

    writing = reading


class _MemoryRows:
    def __init__(self, answered_by: Callable[[str], str | None]) -> None:
        self._answered_by = answered_by
        self._runs: list[RunReport] = []
        self._numbers: dict[str, int] = {}
        self._verdicts: dict[int, list[VerdictRow]] = {}
        self._run_of: list[int] = []
        """By a verdict's number, less one: whose it is."""
        self._crews: dict[tuple[str, str], CrewRow] = {}
        self._subjects: dict[Subject, Counts] = {}
        self._confidences: dict[Subject, float] = {}
        self._probes: dict[str, tuple[str, float]] = {}

    def run(self, run_id: str) -> RunRow | None:
        number = self._numbers.get(run_id)
        return None if number is None else self._row(number)

    def answered_by(self, run_id: str) -> str | None:
        return self._answered_by(run_id)

    def _row(self, number: int) -> RunRow:
        return RunRow(number, self._runs[number - 1], tuple(self._verdicts.get(number, ())))

    def history(self, crew: str) -> Sequence[RunRow]:
        return [self._row(number) for number, report in enumerate(self._runs, 1) if report.crew == crew]

    def crew(self, name: str, version: str | None) -> CrewRow | None:
        if version is not None:
            return self._crews.get((name, version))
        return max(
            (row for row in self._crews.values() if row.crew == name), key=lambda row: row.last_run, default=None
        )

    def lineage(self, crew: str) -> Sequence[Began]:
        found: dict[str, Began] = {}
        last: str | None = None
        for number, report in enumerate(self._runs, 1):
            if report.crew == crew:
                found.setdefault(report.version, Began(report.version, number, last))
                last = report.version
        return list(found.values())

    def crew_names(self) -> Sequence[str]:
        return sorted({name for name, _ in self._crews})

    def subject(self, subject: Subject) -> Counts:
        return self._subjects.get(subject, NO_TRIALS)

    def subjects(self) -> Mapping[Subject, Counts]:
        return dict(self._subjects)

    def confidences(self) -> Mapping[Subject, float]:
        return dict(self._confidences)

    def newest_run(self) -> int:
        return len(self._runs)

    def insert_run(self, report: RunReport) -> int:
        self._runs.append(report)
        self._numbers[report.run_id] = len(self._runs)
        return len(self._runs)

    def insert_verdict(self, run: int, row: VerdictRow) -> int:
        self._run_of.append(run)
        self._verdicts.setdefault(run, []).append(row._replace(number=len(self._run_of)))
        return len(self._run_of)

    def replace_verdict(self, number: int, by: int) -> None:
        verdicts = self._verdicts[self._run_of[number - 1]]
        verdicts[:] = [row._replace(replaced_by=by) if row.number == number else row for row in verdicts]

    def save_crew(self, row: CrewRow, at: float) -> None:
        del at
        self._crews[row.crew, row.version] = row

    def save_subject(self, subject: Subject, counts: Counts, confidence: float, at: float) -> None:
        del at
        self._subjects[subject], self._confidences[subject] = counts, confidence

    def begin_probe(self, crew: str, run_id: str, until: float, now: float) -> bool:
        holder, expires = self._probes.get(crew, (run_id, until))
        if holder != run_id and expires > now:
            return False
        self._probes[crew] = (run_id, until)
        return True

    def end_probe(self, crew: str, run_id: str) -> None:
        if self._probes.get(crew, ("", 0.0))[0] == run_id:
            del self._probes[crew]
