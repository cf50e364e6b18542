"""Wall clock and idle time: timers that latch a scope when its time is over."""

from __future__ import annotations

from typing import Literal

from crew_guard.core.decisions import Stop
from crew_guard.ports import Handle
from crew_guard.supervisor.gate import Gatekeeper

_TO_BEGIN = 5.0
"""Seconds that a crew has to its first call, however short its idle limit: its host is loaded then, and what counts."""


def set_deadlines(gate: Gatekeeper, began: float, *, reserve: bool) -> list[Handle]:
    """Start the timers of the run's policy, on the thread of the clock's loop.

    Args:
        gate: what they latch
        began: monotonic seconds, when the run did
        reserve: whether there is a workflow that the policy's reserve of time is kept for
    """
    limits, kept_back = gate.policy.limits, gate.policy.reserve.seconds
    timers: list[Handle] = []
    if limits.max_seconds is not None:
        timers.append(_Deadline(gate, began, "run", limits.max_seconds))
        if reserve and kept_back:
            gate.headroom.seconds["crew"] = max(0.0, limits.max_seconds - kept_back)
            timers.append(_Deadline(gate, began, "crew", max(0.0, limits.max_seconds - kept_back)))
    if limits.max_idle_seconds is not None:
        timers.append(_IdleTimer(gate, limits.max_idle_seconds))
    return timers


class _Deadline:
    """Looks whether the time is over, later by as long as the run stood still."""

    def __init__(self, gate: Gatekeeper, began: float, scope: Literal["run", "crew"], seconds: float) -> None:
        self._gate, self._began, self._scope, self._seconds = gate, began, scope, seconds
        if self._left <= 0:
            self._over()
        self._handle = gate.clock.call_later(max(0.0, self._left), self._look)

    def cancel(self) -> None:
        """Stop looking."""
        self._handle.cancel()

    @property
    def _left(self) -> float:
        return self._seconds - (self._gate.clock.monotonic() - self._began - self._gate.standstill.seconds)

    def _look(self) -> None:
        # Only where it stood still meanwhile: a timer may come a hair too early.
        if self._gate.standstill.seconds and self._left > 0:
            self._handle = self._gate.clock.call_later(self._left, self._look)
        else:
            self._over()

    def _over(self) -> None:
        elapsed = round(self._seconds - self._left, 3)
        self._gate.stop(self._scope, Stop("deadline", self._scope, "max_seconds", self._seconds, elapsed))


class _IdleTimer:
    """Looks whether something happened, as seldom as it can."""

    def __init__(self, gate: Gatekeeper, seconds: float) -> None:
        self._gate = gate
        self._seconds = seconds
        self._handle = gate.clock.call_later(seconds, self._look)

    def cancel(self) -> None:
        """Stop looking."""
        self._handle.cancel()

    def _look(self) -> None:
        gate = self._gate
        idle, patience = gate.clock.monotonic() - gate.last_progress, self._patience
        if self._waits_legitimately():
            idle = 0.0
        if idle >= patience:
            side = gate.state.side
            stop = Stop("idle", side, "max_idle_seconds", self._seconds, round(idle, 3), detail=self._doing())
            gate.stop(side, stop)
            if side == "fallback":
                return
            gate.progress()
            idle = 0.0
        later = self._seconds - idle if idle < self._seconds else min(self._seconds, patience - idle)
        self._handle = gate.clock.call_later(later, self._look)

    @property
    def _patience(self) -> float:
        return self._seconds if self._has_begun() else max(self._seconds, _TO_BEGIN)

    def _has_begun(self) -> bool:
        state = self._gate.state
        used = state.used("run")
        return bool(state.side != "crew" or state.open or used.steps or used.tool_calls)

    def _waits_legitimately(self) -> bool:
        """In line for budget, for a person, or in a call that doesn't stream: its own deadline ends it."""
        gate = self._gate
        silent = [held.event for held in tuple(gate.state.open.values())]
        return (
            gate.waiting
            or gate.pauses > 0
            or gate.standstill.holds
            or any(event.kind == "model_call" and not event.streams for event in silent)
        )

    def _doing(self) -> str:
        held = [f"{held.event.agent}/{held.event.target}" for held in tuple(self._gate.state.open.values())]
        if held:
            return f"in flight: {', '.join(held)}"
        return "nothing was in flight" if self._has_begun() else "it made no first call"
