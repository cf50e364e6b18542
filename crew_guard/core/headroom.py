"""What is left below an agent's caps, and whether it is time to tell it so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from msgspec import Struct

from crew_guard.core.limits import NO_CAP, Caps, Ledger, Meter
from crew_guard.core.usage import NANO

_WORDS = {"steps": "steps", "tool_calls": "tool calls", "tokens": "tokens"}


class Remaining(NamedTuple):
    """The least that any of an agent's scopes has left, reservations taken off; NO_CAP where none is capped."""

    steps: int = NO_CAP
    tool_calls: int = NO_CAP
    tokens: int = NO_CAP
    nano_usd: int = NO_CAP
    seconds: float | None = None
    """Of wall clock; None without a deadline."""


def remaining(ledgers: Iterable[Ledger], seconds: float | None) -> Remaining:
    """What an actor with these ledgers has left.

    Args:
        ledgers: of every scope that it is charged to
        seconds: until its deadline
    """
    left = dict.fromkeys(Remaining._fields[:4], NO_CAP)
    for ledger in ledgers:
        for limit in left:
            if getattr(ledger.caps, limit) != NO_CAP:
                left[limit] = min(left[limit], max(0, ledger.room(limit)))
    return Remaining(**left, seconds=None if seconds is None else max(0.0, seconds))


class Mark(Struct, gc=False):
    """Where a ledger's use crosses the share that its agent is told of; NO_CAP where it was told, or has no cap."""

    ledger: Ledger
    used: Meter
    """The ledger's own: at hand at every turn."""
    steps: int
    tool_calls: int
    tokens: int
    nano_usd: int

    def tell(self) -> dict[str, tuple[int, int]]:
        """(left, cap) of each limit that was crossed since it was asked last; none is told twice."""
        told: dict[str, tuple[int, int]] = {}
        for limit in Remaining._fields[:4]:
            used, cap = self.ledger.used.of(limit), getattr(self.ledger.caps, limit)
            if used >= getattr(self, limit):
                told[limit] = max(0, cap - used), cap
                setattr(self, limit, NO_CAP)
        return told


def marks(ledgers: Sequence[Ledger], share: float) -> tuple[Mark, ...]:
    """One mark for each ledger with caps, the outermost first.

    What an inner scope may use as much of as an outer one is only marked in the outer: that is crossed no later.
    """
    at = _thresholds(tuple([ledger.caps for ledger in ledgers]), share)
    return tuple([Mark(ledger, ledger.used, *found) for ledger, found in zip(ledgers, at, strict=True) if found])


@lru_cache(maxsize=256)
def _thresholds(chain: tuple[Caps, ...], share: float) -> tuple[tuple[int, int, int, int] | None, ...]:
    """What each of these caps marks, or None: the same for every run of a policy."""
    found: list[tuple[int, int, int, int] | None] = []
    least = dict.fromkeys(Remaining._fields[:4], NO_CAP)
    for caps in chain:
        own = {limit: cap for limit in least if (cap := getattr(caps, limit)) < least[limit]}
        steps, tool_calls, tokens, nano_usd = (_share(own.get(limit, NO_CAP), share) for limit in least)
        found.append((steps, tool_calls, tokens, nano_usd) if own else None)
        least |= own
    return tuple(found)


def _share(cap: int, share: float) -> int:
    # A cap of 0 is refused, not warned of.
    return NO_CAP if cap in (NO_CAP, 0) else max(1, -int(-cap * share // 1))


def words(told: dict[str, tuple[int, int]], seconds: tuple[float, float] | None) -> str:
    """What an agent reads of its budget.

    Args:
        told: (left, cap) by field of Caps
        seconds: (left, in all) where the time is to be told of
    """
    parts = [f"{told[name][0]:,} of {told[name][1]:,} {unit}" for name, unit in _WORDS.items() if name in told]
    if "nano_usd" in told:
        left, cap = told["nano_usd"]
        parts.append(f"${left / NANO:.4g} of ${cap / NANO:.4g}")
    if seconds is not None:
        parts.append(f"{seconds[0]:.0f} of {seconds[1]:.0f} seconds")
    return f"Of your budget you have left: {', '.join(parts)}. Come to an end: answer with what you have."


def merged(found: Iterable[dict[str, tuple[int, int]]]) -> dict[str, tuple[int, int]]:
    """The tightest of what several ledgers tell."""
    least: dict[str, tuple[int, int]] = {}
    for told in found:
        for limit, (left, cap) in told.items():
            if limit not in least or left < least[limit][0]:
                least[limit] = left, cap
    return least
