"""How many trials, how many of them good, and what that is worth: tiers and the Reliability Score."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

from msgspec import Struct

Tier: TypeAlias = Literal["production", "internal", "pilot", "do not ship"]

TIERS: dict[Tier, float] = {"production": 0.95, "internal": 0.85, "pilot": 0.70, "do not ship": 0.0}
"""What the lower bound must reach, the highest first."""


class Counts(Struct, frozen=True, omit_defaults=True, gc=False):
    """Trials of one subject. Grades between 0 and 1 count as parts of a good trial."""

    trials: int = 0
    good: float = 0.0
    """The sum of the grades, at most `trials`."""

    @property
    def bad(self) -> float:
        """What is missing to all good."""
        return max(0.0, self.trials - self.good)

    @property
    def rate(self) -> float | None:
        """The mean grade; None without trials."""
        return self.good / self.trials if self.trials else None

    def plus(self, grade: float) -> Counts:
        """With one more trial."""
        return Counts(self.trials + 1, self.good + grade)

    def revised(self, before: float, after: float) -> Counts:
        """With one trial's grade corrected."""
        return Counts(self.trials, min(float(self.trials), max(0.0, self.good - before + after)))

    def judged(self, before: float | None, after: float) -> Counts:
        """With a later verdict on one trial; before is None where it had none, and is a new one."""
        return self.plus(after) if before is None else self.revised(before, after)

    def without(self, some: Counts) -> Counts:
        """Those of these trials that are not among some of them."""
        trials = max(0, self.trials - some.trials)
        return Counts(trials, min(float(trials), max(0.0, self.good - some.good)))

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.trials + other.trials, self.good + other.good)


NO_TRIALS = Counts()


def tier_of(lower: float) -> Tier:
    """The tier that a lower bound of the success rate proves."""
    return next(tier for tier, least in TIERS.items() if lower >= least)


def straight_passes(threshold: float, confidence: float = 0.95) -> int | None:
    """How many trials, all of them good, prove a success rate of at least `threshold`; None where no number does.

    Args:
        threshold: in [0, 1]
        confidence: in (0, 1), one-sided
    """
    if threshold >= 1:
        return None
    if threshold <= 0:
        return 0
    return math.ceil(math.log(1 - confidence) / math.log(threshold) - 1e-9)


class Sums(Struct, frozen=True, omit_defaults=True, gc=False):
    """Sums over runs, of which the Reliability Score is made."""

    runs: int = 0
    outcomes: Counts = NO_TRIALS
    """Of the runs that were judged."""
    cost_adherence: float = 0.0
    latency_adherence: float = 0.0
    usd: float = 0.0
    seconds: float = 0.0
    faults: int = 0
    """Runs in which the infrastructure failed."""
    ended: int = 0
    """Those of them that it ended: how they kept to their targets says nothing, and is in no sum."""

    @property
    def scored(self) -> int:
        """The runs that the Reliability Score is about."""
        return self.runs - self.ended

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.runs + other.runs,
            self.outcomes + other.outcomes,
            self.cost_adherence + other.cost_adherence,
            self.latency_adherence + other.latency_adherence,
            self.usd + other.usd,
            self.seconds + other.seconds,
            self.faults + other.faults,
            self.ended + other.ended,
        )


class Spent(Struct, frozen=True, omit_defaults=True, gc=False):
    """What one part of a crew has cost."""

    runs: int = 0
    usd: float = 0.0

    def plus(self, usd: float) -> Spent:
        """With one run more."""
        return Spent(self.runs + 1, self.usd + usd)


class Score(Struct, frozen=True):
    """The Reliability Score: success rate times mean cost adherence times mean latency adherence, in [0, 1]."""

    value: float
    lower: float
    upper: float
    runs: int
    """Without those that the infrastructure ended."""
    judged: int
    """Runs with a verdict on their outcome: the others say nothing about success."""


def score(sums: Sums, confidence: float = 0.95) -> Score | None:
    """The score of these runs with one-sided bounds of this confidence; None where no run was judged."""
    from crew_guard.core.reliability.intervals import chain_bound  # which counts with Counts, too

    rate, runs = sums.outcomes.rate, sums.scored
    if rate is None or not runs:
        return None
    cost, latency = Counts(runs, sums.cost_adherence), Counts(runs, sums.latency_adherence)
    value = rate * (cost.good / runs) * (latency.good / runs)
    # Three means that must all be high: an adherence varies less than a bit does, so the bounds are safe.
    bounds = chain_bound((sums.outcomes, cost, latency), confidence)
    return Score(value, min(value, bounds.lower), max(value, bounds.upper), runs, sums.outcomes.trials)
