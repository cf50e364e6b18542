"""Events on their way to observers: in order, outside of the gate's lock, one thread at a time.

An observer may look and may not veto: one that raises is told off in the log once, and is not
called again in this run.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from loguru import logger

from crew_guard.core.events import Event
from crew_guard.core.plain import error_words
from crew_guard.ports import Observer
from crew_guard.supervisor.tap import Tap

logger.disable("crew_guard")  # a library is silent until its user says logger.enable("crew_guard")


class Outbox:
    """One run's queue of events for its observers."""

    def __init__(self, run_id: str, observers: Sequence[Observer], redact: Callable[[str], str] = str) -> None:
        self._run_id = run_id
        self._observers = list(observers)
        self._redact = redact
        self.waiting: deque[Event] = deque()
        """What they have not been told yet."""
        self._draining = threading.Lock()
        self.tap: Tap | None = None
        """Where somebody reads the run as a stream: told at once, under the gate's lock."""
        self.wanted = bool(observers)
        """Whether anybody is told of anything."""

    def listen(self, tap: Tap) -> None:
        """Have the run read as a stream."""
        self.tap, self.wanted = tap, True

    def put(self, event: Event) -> None:
        """Line an event up; the caller holds the gate's lock."""
        if self.tap is not None:
            self.tap.event(event)
        if self._observers:
            self.waiting.append(event)

    def drain(self) -> None:
        """Hand over what is lined up, unless another thread is at it."""
        while self.waiting and self._draining.acquire(blocking=False):
            try:
                while self.waiting:
                    self._hand_over(self.waiting.popleft())
            finally:
                self._draining.release()

    def _hand_over(self, event: Event) -> None:
        for observer in tuple(self._observers):
            try:
                observer(self._run_id, event)
            except Exception as error:  # noqa: BLE001  an observer may not end a run
                self._observers.remove(observer)
                words = self._redact(error_words(error))
                logger.warning("an observer of run {} raised and is left out: {}", self._run_id, words)


NOBODY = Outbox("", ())
"""The outbox of every run that nobody is told of."""
