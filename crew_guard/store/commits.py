"""Groups of batches into one transaction. A batch that can't be written fails alone, and its run with it.

A run whose batch failed takes no more events, so that a journal has no holes. Where the file or its
disk fails, all who wait are told, and the next group begins with a new connection.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

from crew_guard.core.events import Event, RunEnded, RunStarted, encode
from crew_guard.errors import StoreError
from crew_guard.store.database import Place, connect, patiently, prepare
from crew_guard.store.faults import explain, is_busy, is_disk, is_taken
from crew_guard.store.flush import Flush
from crew_guard.store.journals import after_failure, already_begun, never_begun, number_taken, out_of_order, storable

_SIZES = (1024, 256, 64)
"""Rows in one statement, where there are that many: a busy interpreter is waited for at each of them."""
_RUN_COLUMNS, _EVENT_COLUMNS, _END_COLUMNS = 7, 5, 4
_LOOK_SECONDS = 1.0
"""How often to look whether the file is still where it was."""
_HEAD = "SELECT number, (SELECT coalesce(max(seq), 0) FROM events WHERE run = number) FROM runs WHERE run_id = ?"


class Batch(Flush):
    """What one call of `begin` or `append` asked for, and the future of it: one object for each event but few."""

    __slots__ = ("begins", "ended", "events", "head", "numbered", "run_id", "values")

    def __init__(self, run_id: str, events: tuple[Event, ...], begins: bool = False) -> None:
        self._done = False  # as Flush has it, without the call: one is made for each event
        self._error = self._value = None
        self._callbacks = []
        self.run_id = run_id
        self.events: Sequence[Event] = events
        self.begins = begins
        self.head: int | None = None
        """The last number of its run before it, as far as this process knew."""
        self.values: list[Any] = []
        """The events as rows of the table, one after the other, once they are encoded."""
        self.numbered = True
        """Whether they name their run's number; before its first batch is written nobody knows it."""
        self.ended: RunEnded | None = None

    def resolve(self, error: StoreError | None = None) -> None:
        """Tell the one who waits, who may keep this: each gets an exception of their own."""
        self.events, self.values = (), []
        self.finish(None if error is None else type(error)(*error.args))


class JournalFile:
    """The writing side of a journal's file. Used by one thread at a time."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._name = str(place.path)
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._look_again = 0.0
        self._patience = place.busy_seconds
        self._heads: dict[str, int] = {}
        """The last number, written or about to be, of each run that is being written."""
        self._numbers: dict[str, int] = {}
        """What the file calls each of them."""
        self._failed: dict[str, StoreError] = {}
        self._connected()

    @property
    def crowded(self) -> bool:
        """Whether several runs are being written."""
        return len(self._heads) > 1

    def write(self, group: Sequence[Batch], *, patience: float) -> bool:
        """Write a group and resolve its futures, whatever happens.

        Args:
            group: in the order of their calls
            patience: seconds to wait for another process's lock; with none, False where it is in the way:
                those batches that are not done are as they were
        """
        self._patience = patience
        staged: Sequence[Batch] = group
        try:
            connection = self._connected()
            staged = [batch for batch in group if self._stage(connection, batch)]
            if staged:
                staged = self._commit(connection, staged)
        except (sqlite3.Error, OSError, StoreError) as error:
            if not patience and is_busy(error):
                self._unstage(staged)
                return False
            self.fail(staged, explain(error, self._place.path, self._place.busy_seconds))
            if not is_busy(error):
                self.close()
            return True
        for batch in staged:
            if batch.ended is not None:
                self._forget(batch.run_id)
            batch.resolve()
        return True

    def _unstage(self, staged: Sequence[Batch]) -> None:
        for batch in reversed(staged):
            batch.values.clear()
            batch.ended = None
            if batch.head is None:
                self._forget(batch.run_id)
            else:
                self._heads[batch.run_id] = batch.head

    def fail(self, batches: Iterable[Batch], error: StoreError) -> None:
        """Fail those of these batches that are not resolved yet, and their runs for good."""
        for batch in batches:
            if not batch.done():
                self._fail_run(batch.run_id, error)
                batch.resolve(error)

    def close(self) -> None:
        """Let go of the file; the next group opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None:
            if time.monotonic() < self._look_again or self._is_in_place():
                return self._connection
            for run_id in tuple(self._heads):
                self._fail_run(run_id, StoreError(f"{self._name} was moved or deleted while runs were written to it"))
            self.close()
        if not self._is_in_place():
            prepare(self._place)
        self._connection = connect(self._place, patient=False)
        self._inode = self._place.path.stat().st_ino
        return self._connection

    def _is_in_place(self) -> bool:
        self._look_again = time.monotonic() + _LOOK_SECONDS
        try:
            return self._place.path.stat().st_ino == self._inode
        except OSError:
            return False

    def _stage(self, connection: sqlite3.Connection, batch: Batch) -> bool:
        """Encode a batch's events; whether they may follow what their run has. If not, the run fails."""
        if batch.begins and batch.run_id in self._heads:
            # Its owner is at work in this very process, and goes on.
            batch.resolve(already_begun(batch.run_id, self._name))
            return False
        try:
            last = self._encode(connection, batch)
            if batch.values:
                self._heads[batch.run_id] = last
            elif batch.run_id not in self._heads:
                self._forget(batch.run_id)  # an empty batch makes no run a live one
        except Exception as error:
            if is_disk(error):
                raise
            self.fail([batch], self._reason(batch, error))
            return False
        return True

    def _encode(self, connection: sqlite3.Connection, batch: Batch) -> int:
        """Make the events rows; the last one's number."""
        run_id = batch.run_id
        last = batch.head = self._heads.get(run_id)
        if last is None:
            last = self._first_head(connection, batch)
        number, values = self._numbers.get(run_id), batch.values
        batch.numbered = number is not None
        for event in batch.events:
            if event.seq <= last:
                raise out_of_order(run_id, event.seq, last, self._name)
            last = event.seq
            name, body = encode(event)
            values += (number, last, event.at, name, body.decode())
            if isinstance(event, RunEnded):
                batch.ended = event
        return last

    def _first_head(self, connection: sqlite3.Connection, batch: Batch) -> int:
        """The last number that is stored of a run that this process has not written yet."""
        run_id = batch.run_id
        if cause := self._failed.get(run_id):
            raise after_failure(run_id, cause)
        if batch.begins:
            return 0
        row = patiently(self._place.busy_seconds, lambda: connection.execute(_HEAD, (run_id,))).fetchone()
        if row is None:
            raise never_begun(run_id, self._name)
        self._numbers[run_id], last = row
        return last

    def _commit(self, connection: sqlite3.Connection, batches: Sequence[Batch]) -> Sequence[Batch]:
        """Write batches in one transaction; those that were written, the others have failed."""
        try:
            if statement := self._single_statement(batches):
                # One statement is a transaction by itself, and a busy interpreter is waited for once.
                self._patiently(connection, *statement)
                return batches
            self._patiently(connection, "BEGIN IMMEDIATE")
            self._insert(connection, batches)
            connection.execute("COMMIT")
        except Exception as error:
            connection.rollback()
            if is_disk(error):
                raise
        else:
            return batches
        self._patiently(connection, "BEGIN IMMEDIATE")
        try:
            written = [batch for batch in batches if self._try_alone(connection, batch)]
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise
        return written

    def _try_alone(self, connection: sqlite3.Connection, batch: Batch) -> bool:
        if cause := self._failed.get(batch.run_id):
            self.fail([batch], after_failure(batch.run_id, cause))
            return False
        connection.execute("SAVEPOINT batch")
        try:
            self._insert(connection, [batch])
        except Exception as error:
            if is_disk(error):
                raise
            connection.execute("ROLLBACK TO batch")
            connection.execute("RELEASE batch")
            self.fail([batch], self._reason(batch, error))
            return False
        connection.execute("RELEASE batch")
        return True

    def _reason(self, batch: Batch, error: Exception) -> StoreError:
        if isinstance(error, StoreError):
            return error
        if isinstance(error, sqlite3.IntegrityError) and is_taken(error):
            return already_begun(batch.run_id, self._name) if batch.begins else number_taken(batch.run_id, self._name)
        return StoreError(f"run {batch.run_id!r} could not be written to {self._name}: {type(error).__name__}: {error}")

    def _patiently(self, connection: sqlite3.Connection, statement: str, values: Sequence[Any] = ()) -> None:
        """Execute what takes the write lock, once the processes that have it let go."""
        patiently(self._patience, lambda: connection.execute(statement, values))

    def _fail_run(self, run_id: str, error: StoreError) -> None:
        self._forget(run_id)
        self._failed.setdefault(run_id, error)

    def _forget(self, run_id: str) -> None:
        self._heads.pop(run_id, None)
        self._numbers.pop(run_id, None)

    def _insert(self, connection: sqlite3.Connection, batches: Sequence[Batch]) -> None:
        begun = [_run_row(batch.run_id, batch.events[0]) for batch in batches if batch.begins]
        for part in _parts([value for row in begun for value in row], _RUN_COLUMNS):
            self._numbers.update(connection.execute(_begin_runs(len(part) // _RUN_COLUMNS), part))
        values = self._values(batches)
        for part in _parts(values, _EVENT_COLUMNS):
            connection.execute(_insert_events(len(part) // _EVENT_COLUMNS), part)
        ends = [(self._numbers[batch.run_id], batch.ended) for batch in batches if batch.ended is not None]
        ended = [value for number, end in ends for value in (number, end.at, end.status, end.via)]
        for part in _parts(ended, _END_COLUMNS):
            connection.execute(_end_runs(len(part) // _END_COLUMNS), part)

    def _values(self, batches: Sequence[Batch]) -> list[Any]:
        """All their rows, one after the other."""
        found: list[Any] = []
        for batch in batches:
            if not batch.numbered:
                batch.values[::_EVENT_COLUMNS] = [self._numbers[batch.run_id]] * len(batch.events)
            found += batch.values
        return found

    def _single_statement(self, batches: Sequence[Batch]) -> tuple[str, Sequence[Any]] | None:
        """The one statement that writes these batches, where one is enough."""
        if len(batches) > _SIZES[-1] or any(batch.begins or batch.ended is not None for batch in batches):
            return None
        values = self._values(batches)
        rows = len(values) // _EVENT_COLUMNS
        return (_insert_events(rows), values) if 0 < rows <= _SIZES[-1] else None


@cache
def _begin_runs(rows: int) -> str:
    columns = "run_id, crew, runtime, policy, format, started, status"
    return f"INSERT INTO runs ({columns}) VALUES {_places(_RUN_COLUMNS, rows)} RETURNING run_id, number"  # noqa: S608 - made of constants


@cache
def _insert_events(rows: int) -> str:
    return f"INSERT INTO events (run, seq, at, type, body) VALUES {_places(_EVENT_COLUMNS, rows)}"  # noqa: S608 - see above


@cache
def _end_runs(rows: int) -> str:
    return (
        f"WITH ends (id, at, state, way) AS (VALUES {_places(_END_COLUMNS, rows)}) "  # noqa: S608 - see above
        "UPDATE runs SET ended = at, status = state, via = way FROM ends WHERE number = id"
    )


def _places(columns: int, rows: int) -> str:
    return ", ".join([f"({', '.join('?' * columns)})"] * rows)


def _parts(values: list[Any], columns: int) -> Iterator[list[Any]]:
    """The rows in as few parts as there can be of a few sizes, so that their statements stay prepared."""
    start, rows = 0, len(values) // columns
    while left := rows - start:
        size = next((size for size in _SIZES if size <= left), left)
        yield values[start * columns : (start + size) * columns]
        start += size


def _run_row(run_id: str, first: Event) -> tuple[Any, ...]:
    if not isinstance(first, RunStarted):
        return run_id, "", "", "", 0, first.at, "running"
    texts = (storable(text) for text in (first.crew, first.runtime, first.policy))
    return run_id, *texts, first.format, first.at, "running"
