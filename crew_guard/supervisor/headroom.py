"""The read-only view of a run's budget that runtimes have: what is left, and what an agent is to be told of it."""

from __future__ import annotations

from msgspec import Struct

from crew_guard.core.events import Side
from crew_guard.core.headroom import Mark, Remaining, marks, merged, remaining, words
from crew_guard.core.limits import Ledger
from crew_guard.core.run import RunState
from crew_guard.ports import Clock
from crew_guard.supervisor.standstill import Standstill


class Headroom(Struct, gc=False):
    """Looks at the ledgers of one run without its lock: what it reads may be one action old."""

    _state: RunState
    _clock: Clock
    _standstill: Standstill
    _share: float
    """Of a budget, from which on an agent is told what is left."""
    seconds: dict[Side, float | None]
    """Wall clock of each side, from the run's beginning."""
    _marks: dict[tuple[Side, str], tuple[Mark, ...]] = {}
    _told_time: dict[tuple[Side, str], None] = {}
    """As keys: who was told that the time runs out."""

    def remaining(self, side: Side, agent: str) -> Remaining:
        """See Gate.remaining."""
        cap = self.seconds[side]
        return remaining(self._ledgers(side, agent), None if cap is None else cap - self.elapsed())

    def notice(self, side: Side, agent: str) -> str | None:
        """What the agent is to be told of its budget now; None at nearly every turn, so that is spelled out."""
        if self._share >= 1:
            return None
        who = side, agent
        watched = self._marks.get(who)
        if watched is None:
            path = self._state.path(side, agent, None, None)
            if path.scopes[-1] not in self._state.ledgers:
                return None  # it did nothing yet
            watched = self._marks[who] = marks(path.ledgers, self._share)
        for mark in watched:
            used = mark.used
            if (
                used.steps >= mark.steps
                or used.input_tokens + used.output_tokens >= mark.tokens
                or used.tool_calls >= mark.tool_calls
                or used.nano_usd >= mark.nano_usd
            ):
                return self._told(who, watched)
        return None if self.seconds[side] is None or not self._late(who) else self._told(who, watched)

    def _told(self, who: tuple[Side, str], watched: tuple[Mark, ...]) -> str:
        seconds, cap = None, self.seconds[who[0]]
        if cap is not None and self._late(who):
            self._told_time[who] = None
            seconds = max(0.0, cap - self.elapsed()), cap
        return words(merged(mark.tell() for mark in watched), seconds)

    def _late(self, who: tuple[Side, str]) -> bool:
        cap = self.seconds[who[0]]
        return cap is not None and who not in self._told_time and self.elapsed() >= cap * self._share

    def _ledgers(self, side: Side, agent: str) -> tuple[Ledger, ...]:
        return self._state.path(side, agent, None, None).ledgers

    def elapsed(self) -> float:
        """Seconds of the run so far, without those of persons."""
        started = self._state.started
        return 0.0 if started is None else self._clock.now() - started.at - self._standstill.seconds
