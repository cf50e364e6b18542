"""What every part of a run's gate shares: the state, its lock, and one way to record an event.

An event counts as soon as it is recorded; it is on disk when its future is done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from crew_guard.core.actions import Grant
from crew_guard.core.decisions import Stop
from crew_guard.core.events import (
    AgentMoved,
    AgentStep,
    Event,
    Judged,
    Latched,
    RunEnded,
    Side,
)
from crew_guard.core.known import Known
from crew_guard.core.policy import Policy
from crew_guard.core.roles import Verdict
from crew_guard.core.run import RunState, apply
from crew_guard.core.verdicts import verdict_of
from crew_guard.ports import Clock, Flushed, Store
from crew_guard.promises import Promise
from crew_guard.supervisor.outbox import Outbox
from crew_guard.supervisor.redaction import Redactor
from crew_guard.supervisor.standstill import Standstill

NO_FLUSH: Promise[None] = Promise()
"""To wait for: what nobody waits for, or what was refused."""
NO_FLUSH.set_result(None)


class Recorder:
    """Records what happens in one run, in order, from any thread."""

    # Slots, because a gate has more attributes than those a class shares the keys of.
    __slots__ = (
        "_early",
        "_lock",
        "_news",
        "_outbox",
        "_write_ahead",
        "clock",
        "last_progress",
        "on_latch",
        "on_verdict",
        "policy",
        "redact",
        "run_id",
        "standstill",
        "state",
        "store",
    )

    def __init__(self, run_id: str, policy: Policy, store: Store, clock: Clock, outbox: Outbox) -> None:
        self.run_id = run_id
        self.policy = policy
        self.state = RunState(known=Known(policy.tools.vouching) if policy.tools.weighs_origins else None)
        self.clock = clock
        self.redact = Redactor(())
        self.last_progress = clock.monotonic()
        self.standstill = Standstill(clock)
        self.on_latch: Callable[[str, Stop], None] = _nobody_listens
        """Called without the lock, on the thread that ran into the stop."""
        self.on_verdict: Callable[[Judged], None] | None = None
        """Called without the lock after each verdict, where somebody looks ahead."""
        self.store = store
        self._outbox = outbox
        self._lock = threading.RLock()
        self._write_ahead = policy.durability == "write_ahead"
        self._news: tuple[tuple[str, Stop], ...] = ()
        self._early: tuple[tuple[str, Stop], ...] = ()
        """Stops from before the run began."""

    def begin(self, event_type: Callable[..., Event], *values: Any) -> Flushed:
        """Create the run's journal with its first event, once."""
        with self._lock:
            if self.state.started is not None:
                return NO_FLUSH
            event = event_type(1, self.clock.now(), *values)
            flushed = self.store.begin(self.run_id, event)
            apply(self.state, event)
            self._outbox.put(event)
            for scope, stop in self._early:
                self._latch(scope, stop)
            news = self._take_news()
        self._tell(news)
        return flushed

    def record(self, event_type: Callable[..., Event], *values: Any) -> None:
        """Append one event of this type, that nobody waits for. After the run's end nothing is appended."""
        with self._lock:
            if self.state.ended is None:
                self._note(event_type, *values)
        if self._outbox.waiting:
            self._outbox.drain()

    def flushed(self) -> Flushed:
        """To wait for: all that was recorded so far, on disk. After the run's end there is nothing to wait for."""
        with self._lock:
            return NO_FLUSH if self.state.ended is not None else self.store.append(self.run_id, ())

    def end(self, *values: Any) -> Flushed:
        """Close the run, once: nothing of it is admitted or settled afterwards. See RunEnded."""
        with self._lock:
            flushed: Flushed = NO_FLUSH
            if self.state.ended is None:
                flushed = self._keep(RunEnded(self.state.seq + 1, self.clock.now(), *values))
        self._outbox.drain()
        return flushed

    def moved(self, agent: str, task: str, step: AgentStep) -> None:
        """See Gate.moved."""
        self.record(AgentMoved, agent, task, step)

    def judged(self, agent: str, task: str, verdict: Verdict, side: Side) -> None:
        """See Gate.judged. A verdict of a side that has ended is dropped: it would be taken for the other one's."""
        if self.state.over(side) is not None:
            return
        verdict = verdict_of(verdict)  # a runtime of a user's own may hand in what no journal can hold
        reason, blames = self.redact(verdict.reason), self.redact(verdict.blames)
        self.record(Judged, agent, task, verdict.passed, verdict.grade, reason, blames, verdict.source)
        if self.on_verdict is not None:
            self.on_verdict(self.state.verdicts[-1])

    def progress(self, grant: Grant | None = None, text: str = "") -> None:
        """See Gate.progress."""
        self.last_progress = self.clock.monotonic()
        tap = self._outbox.tap
        if tap is not None and grant is not None and text:
            with self._lock:
                tap.text(grant.action_id, text)

    def hearer(self, grant: Grant) -> Callable[[str], None]:
        """What a model tells of its text; where nobody reads a stream, only that there is some."""
        return self._on_text if self._outbox.tap is None else partial(self.progress, grant)

    def _on_text(self, _text: str) -> None:
        self.last_progress = self.clock.monotonic()

    # Under the lock

    def _note(self, event_type: Callable[..., Event], *values: Any) -> None:
        """An event that nobody waits for: it goes to disk with the next admission, or soon."""
        self._log(event_type(self.state.seq + 1, self.clock.now(), *values))

    def _log(self, event: Event) -> None:
        """The same, of one that is numbered and timed already."""
        apply(self.state, event)
        self.store.later(self.run_id, (event,))
        if self._outbox.wanted:
            self._outbox.put(event)

    def _keep(self, event: Event) -> Flushed:
        """An event whose way to disk somebody may wait for; it is numbered and timed already."""
        apply(self.state, event)
        flushed = self.store.write(self.run_id, (event,))
        if self._outbox.wanted:
            self._outbox.put(event)
        return flushed

    def _latch(self, scope: str, stop: Stop) -> None:
        if self.state.started is None:
            self._early += ((scope, stop),)
            return
        if scope in self.state.latches or self.state.ended is not None:
            return
        stop = self.redact.stop(stop)
        self._note(Latched, scope, stop)
        self._news += ((scope, stop),)

    def _take_news(self) -> tuple[tuple[str, Stop], ...]:
        news, self._news = self._news, ()
        return news

    # Outside of the lock

    def _tell(self, news: tuple[tuple[str, Stop], ...]) -> None:
        for scope, stop in news:
            self.on_latch(scope, stop)
        self._outbox.drain()


def _nobody_listens(_scope: str, _stop: Stop) -> None:
    pass
