"""One writer at a time: what queued up while the last commit ran goes into the next one.

Callers line a batch up and get a future at once; a thread encodes, commits and resolves. A caller that
waits anyway may do so itself, for all who are in line.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Literal
from weakref import WeakSet

from crew_guard.errors import StoreError
from crew_guard.store.commits import Batch, JournalFile
from crew_guard.store.database import Place
from crew_guard.store.flush import Flush

LINGER = 0.02
"""Seconds that batches which can wait are kept for company."""
SLOW = 0.002
"""Seconds; after a commit that took longer none is made on a caller's thread for a while."""
SLOW_ROW = 0.00005
"""Seconds more for each batch of it."""
_REST = 4
"""Times as long as it took, squared after the second in a row: a checkpoint is slow once, a bad disk often."""
_Call = Literal["now", "soon", "close"]
_writers: WeakSet[GroupWriter] = WeakSet()
"""Those whose thread may have something to write yet: it holds its writer."""
_process = object()
"""Another one in each process: a child that was forked has none of its parent's threads."""


def _forked() -> None:
    global _process  # noqa: PLW0603  one a process is the point
    _process = object()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def _end_all() -> None:
    for writer in tuple(_writers):
        writer.close(writer.longest)


atexit.register(_end_all)


class GroupWriter:
    """The queue, and the thread that empties it into a journal's file."""

    def __init__(self, place: Place) -> None:
        self._path = place.path
        self._file = JournalFile(place)
        self._patience = place.busy_seconds
        self._lined_up: deque[Batch] = deque()
        self._calls: SimpleQueue[_Call] = SimpleQueue()
        self._called = False
        """Whether the thread was told to hurry and has not begun: one word is enough for all who wait."""
        self._lingering = False
        """Whether the thread looks again by itself: then a batch that can wait doesn't wake it."""
        self._door = threading.RLock()
        self._turn = threading.Lock()
        """Held by whoever writes."""
        self._slow_until = 0.0
        self._slow_ones = 0
        """Slow commits in a row."""
        self._closed = False
        self._process = _process
        self._thread = threading.Thread(target=self._work, name=f"journal {place.path.name}", daemon=True)
        self._thread.start()
        _writers.add(self)

    @property
    def longest(self) -> float:
        """Seconds that a process waits for it at its exit: it must not hang because of a disk that does."""
        return 2 * self._patience + 5

    def submit(self, batch: Batch) -> Flush:
        """Line a batch up. Never blocks."""
        if self._line_up(batch):
            self._hurry()
        return batch

    def line_up_quietly(self, batch: Batch) -> Flush:
        """The same for one that can wait: it goes with the next that can't, or soon."""
        if self._line_up(batch) and not self._lingering:
            self._calls.put("soon")
        return batch

    def push(self) -> None:
        """Write what is lined up on the caller's own thread, where that is quick.

        Handing a commit to the thread and hearing of it costs more than a quick disk's flush. After one
        that was slow the thread takes over for a while, so that a slow disk holds up nobody's event loop.
        """
        if monotonic() < self._slow_until or not self._turn.acquire(blocking=False):
            self._hurry()
            return
        try:
            began = monotonic()
            rows = self._write_lined_up(patience=0.0)
            ended = monotonic()
            slow = ended - began > SLOW + rows * SLOW_ROW
            self._slow_ones = self._slow_ones + 1 if slow else 0
            if slow:
                self._slow_until = ended + min(1.0, (ended - began) * _REST**self._slow_ones)
        finally:
            self._turn.release()

    @property
    def crowded(self) -> bool:
        """Whether several runs are being written."""
        return self._file.crowded

    def _hurry(self) -> None:
        if not self._called:
            self._called = True
            self._calls.put("now")

    def _line_up(self, batch: Batch) -> bool:
        why = "was opened before this process was forked, open it again"
        if self._is_ours:
            with self._door:
                if not self._closed:
                    self._lined_up.append(batch)
                    return True
            why = "is closed"
        batch.resolve(StoreError(f"{self._path} {why}: nothing more can be written to it"))
        return False

    def close(self, seconds: float | None = None) -> None:
        """Write what is lined up and end the thread; wait at most this long for it."""
        if not self._is_ours:
            return
        with self._door:
            if not self._closed:
                self._closed = True
                self._calls.put("close")
        if self._thread is not threading.current_thread():
            self._thread.join(seconds)

    @property
    def alive(self) -> bool:
        """Whether its thread still works."""
        return self._thread.is_alive()

    @property
    def _is_ours(self) -> bool:
        """Whether this process made it: a forked child has none of its threads, and maybe one's lock for ever."""
        return self._process is _process

    def _work(self) -> None:
        more = True
        while more:
            more = self._wait()
            with self._turn:
                self._write_lined_up(self._patience)
        self._file.close()

    def _write_lined_up(self, patience: float) -> int:
        """Write what is lined up by now; how many batches that was."""
        self._called = False  # before looking: who lines up from here on calls again
        group: list[Batch] = []
        while self._lined_up:
            group.append(self._lined_up.popleft())
        if group and not self._write(group, patience):
            # Another process writes: the thread waits for it, this caller doesn't.
            self._lined_up.extendleft(batch for batch in reversed(group) if not batch.done())
            self._hurry()
        return len(group)

    def _wait(self) -> bool:
        """Until somebody is in a hurry, or what is lined up has waited long enough. False once it is closed."""
        while True:
            self._lingering = True
            try:
                call = self._calls.get(timeout=LINGER)
            except Empty:
                if self._lined_up:
                    return True
                self._lingering = False
                if self._lined_up:  # lined up just before, and not called for
                    continue
                call = self._calls.get()
            if call != "soon":
                break
        with suppress(Empty):
            while call != "close":
                call = self._calls.get_nowait()
        return call != "close"

    def _write(self, group: list[Batch], patience: float) -> bool:
        try:
            return self._file.write(group, patience=patience)
        except BaseException as error:  # noqa: BLE001 - were this thread to end, every later future would stay open
            self._file.fail(group, StoreError(f"{self._path} could not be written: {type(error).__name__}: {error}"))
            return True
