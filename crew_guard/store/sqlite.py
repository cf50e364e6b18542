"""The default store: one SQLite file in WAL mode, written by one thread with group commit.

A future is done when its events, and all before, are on disk. Readers have connections of their own
and never keep the writer waiting.
"""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Sequence
from pathlib import Path

from crew_guard.core.events import Event
from crew_guard.core.given import must_be_number, must_be_of, must_be_one_of
from crew_guard.errors import ConfigError
from crew_guard.store.commits import Batch
from crew_guard.store.database import Place, Synchronous
from crew_guard.store.faults import explain
from crew_guard.store.flush import Flush
from crew_guard.store.reading import SqliteReader
from crew_guard.store.writer import GroupWriter


class SqliteStore(SqliteReader):
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
            ConfigError: an argument is wrong
            StoreError: it can't be opened, is no journal, or was written by a newer crew_guard
        """
        must_be_of(path, str | Path, "path", "the path of a SQLite file", ConfigError)
        must_be_one_of(synchronous, ("FULL", "NORMAL"), "synchronous", ConfigError)
        must_be_number(busy_seconds, "busy_seconds", "seconds, 0 or more", lambda each: each >= 0, ConfigError)
        place = Place(Path(path).absolute(), synchronous, busy_seconds)
        try:
            self._writer = GroupWriter(place)
        except (sqlite3.Error, OSError) as error:
            raise explain(error, place.path, busy_seconds) from error
        super().__init__(place)
        self._finalizer = weakref.finalize(self, self._writer.close, 0)
        self._finalizer.atexit = False  # the writer sees to that itself

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
        self._writer.line_up_quietly(Batch(run_id, tuple(events)))

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

    def close(self) -> None:
        """Write what is lined up, end the thread and let go of the file. Reading goes on, of the track record too."""
        self._writer.close()
        self._finalizer.detach()

    def let_go(self) -> None:
        """The same without waiting for any of it. Nothing more may be written."""
        self._writer.close(0)

    @property
    def closed(self) -> bool:
        """Whether its thread has ended and its file is let go of."""
        return not self._writer.alive
