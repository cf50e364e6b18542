"""A run under way, seen from its caller's thread or loop: waiting for it, and not for ever.

The caller waits with a deadline of its own, so that a loop that something blocks can't keep it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass

from crew_guard.alarms import Alarm
from crew_guard.core.decisions import Stop
from crew_guard.core.result import Result
from crew_guard.errors import CrewGuardError, RunInterruptedError
from crew_guard.loops import works_here
from crew_guard.promises import Promise
from crew_guard.supervisor.life import Job, Life
from crew_guard.supervisor.loop import EngineLoop, abandon, engine_loop
from crew_guard.supervisor.wakeups import done

_GRACE = 0.1
"""Seconds after the deadline until a loop that doesn't answer is taken to be blocked."""
_NAP = 0.5
"""Seconds that a waiting thread blocks at a time."""
_TIDY = 2.0
"""Seconds that an interrupted run has to make its record whole."""


def start(job: Job, known: Callable[[Life], None]) -> Running:
    """Start a run on the engine's loop.

    Args:
        job: what to run
        known: told of the run's life before it begins, so that a kill can't come too early
    """
    engine = engine_loop()
    life = Life(job, engine.clock)
    known(life)
    return Running(life, engine.submit(life.live()), engine)


@dataclass(frozen=True, slots=True)
class Running:
    """A run under way: its life, and the future of its result."""

    life: Life
    future: Promise[Result]
    engine: EngineLoop

    @property
    def patience(self) -> float | None:
        """Seconds from now until the loop must have answered; None where the run has no deadline."""
        seconds = self.life.job.policy.limits.max_seconds
        if seconds is None:
            return None
        return max(_GRACE, seconds + _GRACE - self.life.seconds)

    @property
    def is_ending(self) -> bool:
        """Whether nothing of it is admitted any more, and its record is made whole."""
        state = self.life.gate.state
        return state.ended is not None or "run" in state.latches

    @property
    def nap(self) -> float:
        """Seconds that a thread may block at a time, so that it hears of an interrupt that came just before."""
        patience = self.patience
        return _NAP if patience is None else min(patience, _NAP)

    def overdue(self) -> Result | None:
        """The result, taken from here, where something blocks the engine's loop past the deadline."""
        cap = self.life.job.policy.limits.max_seconds
        elapsed = round(self.life.seconds, 3)
        if cap is None or elapsed < cap + _GRACE or self.engine.owns_this_thread() or _answers(self.engine):
            return None
        if self.life.gate.state.ended is not None:
            return None  # it ended; its result is on the way
        abandon(self.engine)
        detail = "something blocks the event loop: an async tool or host that calls blocking code"
        return self.life.abandon(Stop("deadline", "run", "max_seconds", cap, elapsed, detail=detail))

    def interrupt(self, why: str = "its caller was interrupted") -> None:
        """End the run because its caller goes away."""
        self.life.gate.stop("run", Stop("cancelled", "run", detail=why))

    def leave(self, why: str = "its caller was interrupted") -> Result | None:
        """The same, and give the run a moment to make its record whole; its result where it did."""
        # Beside this thread: what holds the gate's lock, a store that hangs say, must not hold its caller.
        threading.Thread(target=self.interrupt, args=(why,), name="crew_guard interrupt", daemon=True).start()
        with contextlib.suppress(Exception):
            return self.future.result(_TIDY)
        return None

    def wait(self) -> Result:
        """Block until the run has ended.

        Raises:
            CrewGuardError: called on the loop that an enclosing run works on, where nothing would go on
            RunInterruptedError: Ctrl-C came, and the run was ended; it has the result
            KeyboardInterrupt: it came twice, or the run did not end in time
        """
        if self.engine.owns_this_thread() or works_here():
            self.interrupt()
            raise CrewGuardError(
                "run() was called on the loop that its run works on, by an async tool: use arun() there"
            )
        try:
            return self._until_over()
        except KeyboardInterrupt:
            if (result := self.leave()) is None:
                raise
            raise RunInterruptedError(result) from None

    def _until_over(self) -> Result:
        while True:
            try:
                return self.future.result(self.nap)
            except TimeoutError:
                if self.future.done():
                    return self.future.result()
                if (result := self.overdue()) is not None:
                    return result

    async def result(self) -> Result:
        """The same for async code; cancelling it ends the run."""
        try:
            while not self.future.done():
                await done(self.future, self.patience)
                if not self.future.done() and (result := self.overdue()) is not None:
                    return result
            return self.future.result()
        except asyncio.CancelledError:
            self.interrupt()
            await done(self.future, _TIDY)  # so that the record is whole
            raise


@dataclass(frozen=True, slots=True)
class Forgets:
    """Takes a run that has ended off the list of those under way."""

    live: dict[str, Life]
    run_id: str

    def __call__(self, _ended: object) -> None:
        self.live.pop(self.run_id, None)


def _answers(engine: EngineLoop) -> bool:
    """Whether the loop still turns: it gets 50 ms to say so."""
    heard = Alarm()
    engine.loop.call_soon_threadsafe(heard.ring)
    return heard.wait(0.05)
