"""What a judge's verdicts are worth: its own errors from labelled cases, and the rate corrected for them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

from msgspec import Struct

from crew_guard.core.reliability.counts import NO_TRIALS, Counts
from crew_guard.core.reliability.intervals import Interval, jeffreys
from crew_guard.core.reliability.special import betainc, normal_quantile

_NO_BETTER = 0.02
"""How much better than chance a judge must be: sensitivity + specificity - 1."""
_SURE = 0.97
"""An upper bound from here on excludes no tier: so high a rate has next to no trials that leave 1 possible."""
_NEGLIGIBLE = 1e-9
_SAFE = 0.90
"""Of the bounds of a judge's own rates by which a stream is held to less than was asked for."""


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

    def accepts(self, rate: float) -> float:
        """The share that it accepts of what is good in this share: its errors, as they were counted, with it."""
        sensitivity, specificity = self.sensitivity or 0.0, self.specificity or 0.0
        return rate * specificity + (1 - rate) * (1 - sensitivity)

    def accepts_at_least(self, rate: float) -> float:
        """The same by the lower bounds of what its cases show: what is good is not to look bad by its errors."""
        of_good, of_bad = _least_accepted(self)
        return rate * of_good + (1 - rate) * of_bad

    def rate_at_least(self, accepted: float) -> float:
        """The rate, in [0, 1], of which it accepts at least this share."""
        of_good, of_bad = _least_accepted(self)
        return 1.0 if of_good <= of_bad else min(1.0, max(0.0, (accepted - of_bad) / (of_good - of_bad)))


@lru_cache(maxsize=256)
def _least_accepted(judge: Judge) -> tuple[float, float]:
    """Of what is good, and of what is bad."""
    return jeffreys(judge.on_good, _SAFE).lower, 1 - jeffreys(judge.on_bad, _SAFE).upper


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
    """As many whole trials as would say the same without a judge, at the most: to be used like any other counts."""


def corrected(accepted: Counts, judge: Judge, confidence: float = 0.95) -> Corrected | None:
    """The true rate behind what a judge accepted, with an interval that knows how well the judge is known.

    Rogan and Gladen's estimate; the interval is Lang and Reiczigel's. None where the judge is no better than
    chance, or was never tried on good and on bad cases, or there are no verdicts.

    Args:
        accepted: verdicts, and how many of them accepted
        judge: the judge's own record
        confidence: of each bound, one-sided
    """
    rate, sensitivity, specificity = accepted.rate, judge.sensitivity, judge.specificity
    if rate is None or sensitivity is None or specificity is None or sensitivity + specificity - 1 < _NO_BETTER:
        return None
    point = min(1.0, max(0.0, (rate - (1 - sensitivity)) / (sensitivity + specificity - 1)))
    z = normal_quantile(confidence)
    n, n_bad, n_good = accepted.trials + z * z, judge.on_bad.trials + 2, judge.on_good.trials + 2
    a = (accepted.good + z * z / 2) / n
    se, sp = (judge.on_bad.good + 1) / n_bad, (judge.on_good.good + 1) / n_good
    better = se + sp - 1
    if better < _NO_BETTER:
        return None
    centre = (a - (1 - se)) / better
    of_good, of_bad = sp * (1 - sp) / n_good, se * (1 - se) / n_bad
    shift = 2 * z * z * (centre * of_good - (1 - centre) * of_bad)
    deviation = math.sqrt(a * (1 - a) / n + centre * centre * of_good + (1 - centre) ** 2 * of_bad) / better
    interval = Interval(
        min(1.0, max(0.0, centre + shift - z * deviation)), max(0.0, min(1.0, centre + shift + z * deviation))
    )
    worth = _worth(point, interval, accepted.trials, confidence)
    return Corrected(point, interval, Counts(worth, point * worth))


def counted(accepted: Counts, judge: Judge | None, confidence: float) -> Counts:
    """The trials that verdicts are worth: as they are, without a judge whose errors are known."""
    if judge is None or not accepted.trials:
        return accepted
    found = corrected(accepted, judge, confidence)
    return NO_TRIALS if found is None else found.counts  # a judge no better than chance says nothing


def _worth(point: float, interval: Interval, trials: int, confidence: float) -> int:
    """The most trials of this rate, no more than there were, that prove no more than the interval does."""

    def is_safe(number: int) -> bool:
        good = point * number
        bad = number - good
        low_enough = good <= _NEGLIGIBLE or betainc(good, bad + 1, interval.lower) >= 1 - confidence
        return low_enough and (bad <= _NEGLIGIBLE or betainc(good + 1, bad, upper) <= confidence)

    upper = min(interval.upper, _SURE)
    low, high = 0, trials + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_safe(middle) else (low, middle)
    return low
