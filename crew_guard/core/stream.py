"""What a stream of a run yields: its journal's events, and between them what no journal keeps.

A text as it is written, and what is used of the limits, are of use only while they are news.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from crew_guard.core.events import Event
from crew_guard.core.limits import NO_CAP, POLICY_NAMES, Caps
from crew_guard.core.usage import NANO, Usage


class TextDelta(Struct, frozen=True):
    """A piece of what a model writes. The pieces of one action, joined, are the text of its Settled event.

    An attempt that failed has pieces, too: its Settled says so, and the next attempt is another action.
    """

    agent: str
    task: str
    """The task that the agent took up last; empty where the engine names none."""
    action_id: str
    """The Admitted event that it belongs to."""
    attempt: int
    """1, or more where earlier attempts of the same call failed."""
    text: str


class Budget(Struct, frozen=True):
    """What the run has used of its limits, after each action that was settled."""

    used: Usage
    caps: Caps
    """The run's own; NO_CAP where there is none."""
    seconds: float
    """Since the run began."""
    max_seconds: float | None = None

    @property
    def limits(self) -> dict[str, tuple[float, float]]:
        """(used, cap) of each limit that is set, by the policy's name, money in dollars."""
        found: dict[str, tuple[float, float]] = {}
        for name, cap in self.caps._asdict().items():
            if cap < NO_CAP:
                used: int = getattr(self.used, name)
                found[POLICY_NAMES[name]] = (used / NANO, cap / NANO) if name == "nano_usd" else (used, cap)
        if self.max_seconds is not None:
            found["max_seconds"] = (self.seconds, self.max_seconds)
        return found


class Missed(Struct, frozen=True):
    """The reader was so far behind that items were dropped here: pieces of text and budgets, not events."""

    count: int
    """How many; an event is among them only where the journal could not be read."""


StreamItem: TypeAlias = Event | TextDelta | Budget | Missed
