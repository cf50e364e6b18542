"""The default store: one SQLite file in WAL mode, written by one thread with group commit.

A future is done when its events, and all before, are on disk. Readers have connections of their own
and never keep the writer waiting.
"""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from crew_guard.core.events import Event, decode
from crew_guard.errors import ConfigError, StoreError
from crew_guard.ports import RunSummary
from crew_guard.store.commits import Batch
from crew_guard.store.database import Place, Synchronous, connect
from crew_guard.store.faults import explain
from crew_guard.store.flush import Flush
from crew_guard.store.journals import one_of, storable
from crew_guard.store.track_sqlite import SqliteTrack
from crew_guard.store.writer import GroupWriter

_CHUNK = 256
"""Rows of a journal read at a time: a reader that dawdles must not hold up the log's reuse."""
_HIGHEST = "\U0010ffff"
# As bytes: a damaged text is then the decoder's to report, with its event.
_READ = "SELECT seq, CAST(type AS BLOB), CAST(body AS BLOB) FROM events WHERE run = ? AND seq > ? ORDER BY seq LIMIT ?"
_RUNS = "SELECT run_id, crew, started, ended, status FROM runs ORDER BY started DESC, number DESC LIMIT ?"
_FIND = "SELECT run_id FROM runs WHERE run_id BETWEEN ? AND ? ORDER BY run_id LIMIT 5"


class SqliteStore:
    """Keeps journals in one file. Several processes may write different runs to it at once.

    Callbacks of its futures run on the writing thread, so they must be quick.
    """

    def __init__(self, path: str | Path, *, synchronous: Synchronous = "FULL", busy_seconds: float = 10.0) -> None:
        """Open the file; make it, and the folders above it, where there is none.

        Args:
            path: the journal's file
            synchronous: FULL survives a power cut; NORMAL only the death of the process, and is quicker
            busy_seconds: how long to wait for another process's lock
        Raises:
            StoreError: it can't be opened, is no journal, or was written by a newer crew_guard
        """
        if synchronous not in ("FULL", "NORMAL"):
            raise ConfigError(f"synchronous is FULL or NORMAL, not {synchronous!r}")
        self._place = Place(Path(path).absolute(), synchronous, busy_seconds)
        try:
            self._writer = GroupWriter(self._place)
        except (sqlite3.Error, OSError) as error:
            raise explain(error, self._place.path, busy_seconds) from error
        self._track = SqliteTrack(self._place)
        # At exit too, but bounded: a process must not hang because of a disk that does.
        self._finalizer = weakref.finalize(self, self._writer.close, 2 * busy_seconds + 5)

    @property
    def path(self) -> Path:
        """The journal's file."""
        return self._place.path

    def begin(self, run_id: str, first: Event) -> Flush:
        """Create a run's journal with its first event; done when it is on disk.

        The future raises JournalConflictError where the run exists, StoreError where it can't be written.
        """
        return self._writer.submit(Batch(run_id, (first,), begins=True))

    def append(self, run_id: str, events: Sequence[Event]) -> Flush:
        """Append events in the order of calls; done when they, and all before, are on disk.

        The future raises JournalConflictError where an event's number is taken or not above the last one's,
        StoreError where it can't be written. After that every later append of this run fails too.
        """
        return self._writer.submit(Batch(run_id, tuple(events)))

    def later(self, run_id: str, events: Sequence[Event]) -> None:
        """Append events that nobody waits for; where they can't be written, the run's next append says so."""
        self._writer.line_up_quietly(Batch(run_id, tuple(events), awaited=False))

    def write(self, run_id: str, events: Sequence[Event]) -> Flush:
        """The same as `append`, except that it keeps for company until somebody calls `push`, or not for long."""
        return self._writer.line_up_quietly(Batch(run_id, tuple(events)))

    def push(self) -> None:
        """Write everything now: on this thread where that is quick, else on the writer's."""
        self._writer.push()

    @property
    def crowded(self) -> bool:
        """Whether several runs are being written."""
        return self._writer.crowded

    def read(self, run_id: str) -> Iterator[Event]:
        """A run's events in order, read in chunks as they are asked for.

        Raises:
            StoreError: there is no such run, at once; or, after all that could be read, an event is damaged
        """
        with self._reader() as connection:
            known = connection.execute("SELECT number FROM runs WHERE run_id = ?", (storable(run_id),)).fetchone()
        if known is None:
            raise StoreError(f"no run {run_id!r} in {self.path}; `crew-guard runs list` shows those there are")
        return self._events(run_id, known[0])

    def runs(self, limit: int = 50) -> Sequence[RunSummary]:
        """The latest runs, the newest first."""
        with self._reader() as connection:
            rows = connection.execute(_RUNS, (max(0, limit),)).fetchall()
        return [RunSummary(*row) for row in rows]

    def find(self, prefix: str) -> str:
        """The id of the one run that starts with this prefix, or is exactly it.

        Raises:
            StoreError: none does, or several do
        """
        prefix = storable(prefix)
        with self._reader() as connection:
            found = connection.execute(_FIND, (prefix, prefix + _HIGHEST)).fetchall()
        return one_of([run_id for (run_id,) in found], prefix, str(self.path))

    def track_record(self) -> SqliteTrack:
        """What runs have shown of crews and agents, in the same file. It goes on working after `close`."""
        return self._track

    def close(self) -> None:
        """Write what is lined up, end the thread and let go of the file. Reading goes on working."""
        self._writer.close()
        self._finalizer.detach()

    @contextmanager
    def _reader(self) -> Generator[sqlite3.Connection]:
        try:
            with closing(connect(self._place)) as connection:
                yield connection
        except sqlite3.Error as error:
            raise explain(error, self.path, self._place.busy_seconds) from error

    def _events(self, run_id: str, number: int) -> Iterator[Event]:
        last, more = -1, True
        with self._reader() as connection:
            while more:
                rows, failure = _fetch(connection, number, last)
                for seq, name, body in rows:
                    yield self._decoded(run_id, seq, name, body)
                    last = seq
                if failure:
                    raise failure
                more = len(rows) == _CHUNK

    def _decoded(self, run_id: str, seq: int, name: bytes, body: bytes) -> Event:
        try:
            return decode(name.decode(), body)
        except KeyError:
            why = f"is of a kind that this crew_guard doesn't know ({name.decode()}): upgrade crew_guard"
        except ValueError as error:
            why = f"is damaged ({str(error).splitlines()[0]}): what came before it can be read"
        raise StoreError(f"event {seq} of run {run_id!r} in {self.path} {why}")


def _fetch(
    connection: sqlite3.Connection, run: int, after: int
) -> tuple[list[tuple[int, bytes, bytes]], sqlite3.Error | None]:
    """The next rows of a journal, and what went wrong after them."""
    rows: list[tuple[int, bytes, bytes]] = []
    try:
        rows.extend(connection.execute(_READ, (run, after, _CHUNK)))
    except sqlite3.Error as error:
        return rows, error
    return rows, None
