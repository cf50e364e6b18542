"""Intervals of one success rate, and of the product of several.

Each end is a one-sided bound of the given confidence: lower and upper at 0.95 make an interval of 0.90.
Grades count as parts of a success, so `good` may be a fraction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from crew_guard.core.reliability.counts import Counts


class Interval(NamedTuple):
    """From and to, both in [0, 1]."""

    lower: float
    upper: float


UNKNOWN = Interval(0.0, 1.0)


def clopper_pearson(counts: Counts, confidence: float = 0.95) -> Interval:
    """The exact interval, for gates: never too narrow."""
    raise NotImplementedError


def wilson(counts: Counts, confidence: float = 0.95) -> Interval:
    """Wilson's score interval, for display."""
    raise NotImplementedError


def jeffreys(counts: Counts, confidence: float = 0.95) -> Interval:
    """Quantiles of Beta(good + ½, bad + ½); 0 and 1 where nothing, or everything, was good."""
    raise NotImplementedError


def confidence_sequence(counts: Counts, confidence: float = 0.95) -> Interval:
    """Holds at all times at once, so it may be looked at after every trial. Wider than the others."""
    raise NotImplementedError


def chain_bound(parts: Sequence[Counts], confidence: float = 0.95, *, a0: float = 0.0) -> Interval:
    """The product of several rates, all of which must succeed.

    Args:
        parts: one for each; the same part twice is named by `times` of chain_bound_of
        a0: pseudo-successes: 0 for gates, ½ for display
    """
    raise NotImplementedError


def lindstrom_madden(parts: Sequence[Counts], confidence: float = 0.95) -> float:
    """A chain's lower bound by the least-tested part's number of trials: the cross-check of chain_bound."""
    raise NotImplementedError


def frechet(rates: Iterable[float]) -> Interval:
    """What a chain's success can be whatever the dependence: max(0, 1 - Σ q) to min p."""
    given = tuple(rates)
    return Interval(max(0.0, 1.0 - sum(1.0 - p for p in given)), min(given, default=1.0))


def weighted_chain_bound(
    parts: Mapping[str, Counts], times: Mapping[str, int], confidence: float = 0.95, *, a0: float = 0.0
) -> Interval:
    """chain_bound where a part must succeed several times: (counts by name, how often by name)."""
    raise NotImplementedError
