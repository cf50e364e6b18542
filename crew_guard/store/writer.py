"""One thread that writes everything: what queued up while the last commit ran goes into the next one.

Callers line a batch up and get a future at once; this thread encodes, commits and resolves.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue

from crew_guard.errors import StoreError
from crew_guard.store.commits import Batch, JournalFile
from crew_guard.store.database import Place


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
            batch = self._queue.get()
            group: list[Batch] = []
            with suppress(Empty):
                while batch is not None:
                    group.append(batch)
                    batch = self._queue.get_nowait()
                more = False
            self._write(group)
        self._file.close()

    def _write(self, group: list[Batch]) -> None:
        try:
            self._file.write(group)
        except BaseException as error:  # noqa: BLE001 - were this thread to end, every later future would stay open
            self._file.fail(group, StoreError(f"{self._path} could not be written: {type(error).__name__}: {error}"))
