"""One thread that writes everything: what queued up while the last commit ran goes into the next one.

Callers line a batch up and get a future at once; this thread encodes, commits and resolves.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import monotonic

from crew_guard.errors import StoreError
from crew_guard.store.commits import Batch, JournalFile
from crew_guard.store.database import Place

LONGEST_DELAY = 1.0
"""Seconds that a batch is kept back at the most, whatever its caller allows."""


class GroupWriter:
    """The queue, and the thread that empties it into a journal's file."""

    def __init__(self, place: Place) -> None:
        self._path = place.path
        self._file = JournalFile(place)
        self._queue: SimpleQueue[Batch | None] = SimpleQueue()
        self._door = threading.RLock()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=f"journal {place.path.name}", daemon=True)
        self._thread.start()

    def submit(self, batch: Batch) -> Future[None]:
        """Line a batch up. Never blocks."""
        with self._door:
            if not self._closed and self._thread.is_alive():
                self._queue.put(batch)
                return batch.future
        why = "is closed" if self._closed else "was opened before this process was forked, open it again"
        batch.future.set_exception(StoreError(f"{self._path} {why}: nothing more can be written to it"))
        return batch.future

    def close(self, seconds: float | None = None) -> None:
        """Write what is lined up and end the thread; wait at most this long for it."""
        with self._door:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        if self._thread is not threading.current_thread():
            self._thread.join(seconds)

    def _work(self) -> None:
        more = True
        while more:
            group, more = self._next_group()
            self._write(group)
        self._file.close()

    def _next_group(self) -> tuple[list[Batch], bool]:
        """What goes into one commit, and whether more may come: all that is lined up once somebody is in a hurry."""
        group: list[Batch] = []
        batch = self._queue.get()
        due = monotonic() + LONGEST_DELAY
        with suppress(Empty):
            while batch is not None:
                group.append(batch)
                due = min(due, monotonic() + batch.within) if batch.within else 0.0
                left = due - monotonic()
                batch = self._queue.get(timeout=left) if left > 0 else self._queue.get_nowait()
            return group, False
        return group, True

    def _write(self, group: list[Batch]) -> None:
        try:
            self._file.write(group)
        except BaseException as error:  # noqa: BLE001 - were this thread to end, every later future would stay open
            self._file.fail(group, StoreError(f"{self._path} could not be written: {type(error).__name__}: {error}"))
