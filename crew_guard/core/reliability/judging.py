"""What a judge's verdicts are worth: its own errors from labelled cases, and the rate corrected for them."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from crew_guard.core.reliability.counts import NO_TRIALS, Counts
from crew_guard.core.reliability.intervals import Interval


class Judge(Struct, frozen=True, omit_defaults=True):
    """How often a judge is right, counted on cases whose truth is known."""

    on_bad: Counts = NO_TRIALS
    """Bad cases, and how many of them it flagged."""
    on_good: Counts = NO_TRIALS
    """Good cases, and how many of them it accepted."""

    @property
    def sensitivity(self) -> float | None:
        """P(flagged | bad); None without bad cases."""
        return self.on_bad.rate

    @property
    def specificity(self) -> float | None:
        """P(accepted | good); None without good cases."""
        return self.on_good.rate


def judge_of(cases: Iterable[tuple[bool, bool]]) -> Judge:
    """A judge's record from labelled cases: (whether it was good, whether the judge accepted it)."""
    bad, good = NO_TRIALS, NO_TRIALS
    for truth, accepted in cases:
        if truth:
            good = good.plus(float(accepted))
        else:
            bad = bad.plus(float(not accepted))
    return Judge(bad, good)


class Corrected(Struct, frozen=True):
    """A rate with its judge's errors taken out."""

    point: float
    interval: Interval
    counts: Counts
    """As many trials as would say the same without a judge: to be used like any other counts."""


def corrected(accepted: Counts, judge: Judge, confidence: float = 0.95) -> Corrected | None:
    """The true rate behind what a judge accepted (Rogan and Gladen), with an interval that knows how well it is known.

    None where the judge is no better than chance, or was never tried on good and on bad cases.
    """
    raise NotImplementedError
