"""A clock that a test owns: time passes when the test says so."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from unittest.mock import patch

from crew_guard.supervisor.loop import engine_loop

_LONG = 86_400.0
"""Seconds after which the time of every run in a test is over."""


@dataclass(slots=True, order=True)
class _Timer:
    due: float
    ordinal: int
    callback: Callable[[], None] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        self.cancelled = True


class FakeClock:
    """A Clock of ports whose timers fire in `advance`, on the caller's thread."""

    def __init__(self, start: float = 1_000_000.0) -> None:
        self._time = start
        self._timers: list[_Timer] = []
        self._ordinals = itertools.count()

    def now(self) -> float:
        """Unix seconds."""
        return self._time

    def monotonic(self) -> float:
        """The same: nothing sets this clock back."""
        return self._time

    def call_later(self, seconds: float, callback: Callable[[], None]) -> _Timer:
        """Fire once `advance` has gone this far."""
        timer = _Timer(self._time + seconds, next(self._ordinals), callback)
        heapq.heappush(self._timers, timer)
        return timer

    def advance(self, seconds: float) -> None:
        """Let time pass, firing what becomes due on the way, in order."""
        end = self._time + seconds
        while self._timers and self._timers[0].due <= end:
            timer = heapq.heappop(self._timers)
            self._time = max(self._time, timer.due)
            if not timer.cancelled:
                timer.callback()
        self._time = end


@contextmanager
def no_time_passes() -> Generator[Callable[[], None]]:
    """For the runs that begin in this block, however slow the machine is.

    Yields:
        what has the time of all of them be over, from any thread
    """
    engine, clock = engine_loop(), FakeClock()

    def time_is_up() -> None:
        engine.loop.call_soon_threadsafe(clock.advance, _LONG)

    with patch.object(engine, "clock", clock):
        yield time_is_up
