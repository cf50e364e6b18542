"""One thread's wait for another that an interrupt can't break.

threading's Event, Condition and Future are Python code around a lock: Ctrl-C in the midst of it leaves the lock taken,
and whoever sets the event hangs, a loop that all runs share say. Here is nothing between the lock and its taker.
"""

from __future__ import annotations

import threading
from contextlib import suppress


class Alarm:
    """Rung by one thread, and waited for once by another."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self, _of: object = None) -> None:
        """Wake who waits, or will. Never blocks."""
        with suppress(RuntimeError):  # rung before
            self._lock.release()

    def wait(self, seconds: float | None = None) -> bool:
        """Block until it rings, or so many seconds are over; whether it rang."""
        if seconds is None:
            return self._lock.acquire()
        return self._lock.acquire(timeout=min(max(0.0, seconds), threading.TIMEOUT_MAX))
