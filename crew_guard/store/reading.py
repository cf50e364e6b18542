"""The half of the default store that only reads: every look has a connection of its own.

A journal that is only looked at needs no file that can be written, and nothing is made beside it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from crew_guard.core.events import Event, decode
from crew_guard.errors import StoreError
from crew_guard.ports import RunSummary
from crew_guard.store.database import Access, Place, connect, is_current, prepare
from crew_guard.store.faults import explain, refuse_other_than_file
from crew_guard.store.journals import LOOK, one_of, storable
from crew_guard.store.track_sqlite import SqliteTrack

_CHUNK = 256
"""Rows of a journal read at a time: a reader that dawdles must not hold up the log's reuse."""
_HIGHEST = "\U0010ffff"
# As bytes: a damaged text is then the decoder's to report, with its event.
_READ = "SELECT seq, CAST(type AS BLOB), CAST(body AS BLOB) FROM events WHERE run = ? AND seq > ? ORDER BY seq LIMIT ?"
_RUNS = "SELECT run_id, crew, started, ended, status FROM runs ORDER BY started DESC, number DESC LIMIT ?"
_FIND = "SELECT run_id FROM runs WHERE run_id BETWEEN ? AND ? ORDER BY run_id LIMIT 5"


class SqliteReader:
    """Reads journals from one file, whoever writes them meanwhile."""

    def __init__(self, place: Place) -> None:
        """Read a file that `prepare` or `place_to_read` has seen."""
        self._place = place
        self._track = SqliteTrack(place)

    @property
    def path(self) -> Path:
        """The journal's file."""
        return self._place.path

    def read(self, run_id: str) -> Iterator[Event]:
        """A run's events in order, read in chunks as they are asked for.

        Raises:
            StoreError: there is no such run, at once; or, after all that could be read, an event is damaged
        """
        with self._reader() as connection:
            known = connection.execute("SELECT number FROM runs WHERE run_id = ?", (storable(run_id),)).fetchone()
        if known is None:
            raise StoreError(f"no run {run_id!r} in {self.path}; {LOOK}")
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
        """What runs have shown of crews and agents, in the same file."""
        return self._track

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


def open_to_read(path: str | Path, *, busy_seconds: float = 10.0) -> SqliteReader:
    """A journal that is there, to look at it only.

    Raises:
        StoreError: it can't be read, is no journal, or another crew_guard's that can't be brought up to date
    """
    file = Path(path).absolute()
    return SqliteReader(place_to_read(file, busy_seconds, writable=can_write(file)))


def can_write(path: Path) -> bool:
    """Whether this process may write a file, and make others beside it, as SQLite's log needs."""
    real = path.resolve()
    effective = os.access in os.supports_effective_ids
    return all(os.access(one, os.R_OK | os.W_OK, effective_ids=effective) for one in (real, real.parent))


def place_to_read(path: Path, busy_seconds: float, *, writable: bool) -> Place:
    """How to reach a journal that is only looked at. An older schema is brought up to date where that can be written.

    Args:
        path: its file, which is there
        busy_seconds: how long to wait for another process's lock
        writable: whether the file and its folder can be written; else nothing is, there
    Raises:
        StoreError: see `open_to_read`
    """
    refuse_other_than_file(path)
    if not os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
        raise StoreError(f"{path} can't be read: let its owner give you the right, or choose another file with --store")
    place = Place(path, "FULL", busy_seconds, "look" if writable else _untouched(path))
    try:
        if is_current(place):
            return place
    except (sqlite3.Error, OSError, StoreError) as error:
        raise explain(error, path, busy_seconds) from error
    if not writable:
        raise StoreError(
            f"{path} is empty, or was written by an older crew_guard, and can't be brought up to date where it can't "
            "be written: copy it to a folder of yours, and name the copy with --store"
        )
    prepare(place._replace(access="write"))
    return place


def _untouched(path: Path) -> Access:
    """How to read a file where nothing can be written."""
    real = path.resolve()
    log, index = (real.with_name(real.name + suffix) for suffix in ("-wal", "-shm"))
    if not log.exists() or log.stat().st_size == 0:
        return "frozen"
    if index.exists():
        return "shared"
    raise StoreError(
        f"{path} has events in its log, {log.name}, that can't be read where nothing can be written: copy both files "
        "to a folder of yours, and name the copy with --store"
    )


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
