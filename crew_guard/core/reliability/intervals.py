"""Intervals of one success rate, and of the product of several.

Each end is a one-sided bound of the given confidence: lower and upper at 0.95 make an interval of 0.90.
Grades count as parts of a success, so `good` may be a fraction.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from crew_guard.core.reliability.counts import NO_TRIALS, Counts
from crew_guard.core.reliability.special import (
    betainc,
    betaincinv,
    digamma,
    gammaincinv,
    normal_quantile,
    trigamma,
)


class Interval(NamedTuple):
    """From and to, both in [0, 1]."""

    lower: float
    upper: float


UNKNOWN = Interval(0.0, 1.0)
_NEGLIGIBLE = 1e-12
"""Of a trial: a sum of grades that differs by less is a rounded whole number."""
_HALVINGS = 30


def clopper_pearson(counts: Counts, confidence: float = 0.95) -> Interval:
    """The exact interval, for gates: never too narrow."""
    good, bad = counts.good, counts.bad
    lower = betaincinv(good, bad + 1, 1 - confidence) if good > _NEGLIGIBLE else 0.0
    upper = betaincinv(good + 1, bad, confidence) if bad > _NEGLIGIBLE else 1.0
    return Interval(lower, upper)


def wilson(counts: Counts, confidence: float = 0.95) -> Interval:
    """Wilson's score interval, for display."""
    n, rate = counts.trials, counts.rate
    if rate is None:
        return UNKNOWN
    z2 = normal_quantile(confidence) ** 2
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (rate * (1 - rate) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def jeffreys(counts: Counts, confidence: float = 0.95) -> Interval:
    """Quantiles of Beta(good + ½, bad + ½); 0 and 1 where nothing, or everything, was good."""
    good, bad = counts.good, counts.bad
    lower = betaincinv(good + 0.5, bad + 0.5, 1 - confidence) if good > 0 else 0.0
    upper = betaincinv(good + 0.5, bad + 0.5, confidence) if bad > 0 else 1.0
    return Interval(lower, upper)


def confidence_sequence(counts: Counts, confidence: float = 0.95) -> Interval:
    """Holds at all times at once, so it may be looked at after every trial. Wider than the others.

    A rate is ruled out where betting against it, on a Beta(½, ½) mixture of the rates beyond it, has won
    1 / (1 - confidence): by Ville's inequality a true one is ruled out, ever, with at most 1 - confidence.
    """
    if not counts.trials:
        return UNKNOWN
    lower = _last_ruled_out(counts.good, counts.bad, confidence)
    return Interval(lower, 1.0 - _last_ruled_out(counts.bad, counts.good, confidence))


def _last_ruled_out(good: float, bad: float, confidence: float) -> float:
    need = -math.log(1 - confidence)
    low, high = 0.0, good / (good + bad)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _log_won(good, bad, middle) >= need else (low, middle)
    return low


def _log_won(good: float, bad: float, p: float) -> float:
    """What betting on more than p has won, as a logarithm."""
    tail = 1.0 - betainc(good + 0.5, bad + 0.5, p)
    before = 1.0 - betainc(0.5, 0.5, p)
    if tail <= 0 or before <= 0 or p <= 0:
        return -math.inf if p > 0 else math.inf
    log_beta = math.lgamma(good + 0.5) + math.lgamma(bad + 0.5) - math.lgamma(good + bad + 1) - math.log(math.pi)
    return math.log(tail) - math.log(before) + log_beta - good * math.log(p) - bad * math.log1p(-p)


def chain_bound(parts: Sequence[Counts], confidence: float = 0.95, *, a0: float = 0.0) -> Interval:
    """The product of several rates, all of which must succeed.

    Args:
        parts: one for each rate
        a0: pseudo-successes: 0 for gates, ½ for display
    """
    named = {str(index): counts for index, counts in enumerate(parts)}
    return weighted_chain_bound(named, dict.fromkeys(named, 1), confidence, a0=a0)


def weighted_chain_bound(
    parts: Mapping[str, Counts], times: Mapping[str, int], confidence: float = 0.95, *, a0: float = 0.0
) -> Interval:
    """chain_bound where a part may have to succeed several times: (counts by name, how often by name).

    One pseudo-failure in all for the lower end, most of it on the least tested part. One pseudo-success on each for
    the upper end: shared out, it covers 0.81 in the worst of 150 random chains. -log R of the posterior has its first
    two moments in closed form, and is matched to a Gamma.
    """
    known = [(parts.get(name, NO_TRIALS), often) for name, often in times.items() if often]
    if not known:
        return Interval(1.0, 1.0)
    weights = _least_tested([counts.trials for counts, _ in known])
    down = [(c.good + a0, c.bad + w, often) for (c, often), w in zip(known, weights, strict=True)]
    up = [(c.good + 1.0, c.bad, often) for c, often in known]
    return Interval(_product_quantile(down, confidence), _product_quantile(up, 1 - confidence))


def _least_tested(trials: Sequence[int]) -> list[float]:
    """n⁻³ of each over their sum; parts without a trial share it among themselves."""
    if not min(trials):
        untested = trials.count(0)
        return [0.0 if n else 1.0 / untested for n in trials]
    least = min(trials)
    shares = [(least / n) ** 3 for n in trials]
    total = sum(shares)
    return [share / total for share in shares]


def _product_quantile(shapes: Iterable[tuple[float, float, int]], confidence: float) -> float:
    """exp(-the quantile of -log R) for R a product of Beta(a, b) to the power of how often."""
    mean = variance = 0.0
    for a, b, often in shapes:
        if a <= 0:
            return 0.0
        if b > 0:
            mean += often * (digamma(a + b) - digamma(a))
            variance += often * often * (trigamma(a) - trigamma(a + b))
    if mean < _NEGLIGIBLE or variance <= 0:
        return 1.0
    return math.exp(-gammaincinv(mean * mean / variance, confidence) * variance / mean)


def lindstrom_madden(parts: Sequence[Counts], confidence: float = 0.95) -> float:
    """A chain's lower bound by the least-tested part's number of trials: the cross-check of chain_bound."""
    trials = min((counts.trials for counts in parts), default=0)
    rates = [counts.rate for counts in parts]
    if not trials or not all(rates):
        return 0.0 if parts else 1.0
    good = trials * math.prod(rate for rate in rates if rate is not None)
    return betaincinv(good, trials - good + 1, 1 - confidence)


def frechet(rates: Iterable[float]) -> Interval:
    """What a chain's success can be whatever the dependence: max(0, 1 - Σ q) to min p."""
    given = tuple(rates)
    return Interval(max(0.0, 1.0 - sum(1.0 - p for p in given)), min(given, default=1.0))
