"""What the reliability benchmarks simulate with: streams side by side, our detector and those it is held against.

`Detectors` is the package's EDetector for many streams at once; `check` holds it against the package's own, step by
step, in each benchmark that uses it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from crew_guard.core.reliability import detector as own
from crew_guard.core.reliability.detector import EDetector

P0 = 0.97
Bits = Any
"""An array of bool, one for each stream: True is a failure."""


class Watch(Protocol):
    """Any detector of many streams."""

    def step(self, failed: Bits) -> Bits:
        """Which of them alarm."""
        ...

    def restart(self, where: Bits) -> None:
        """Begin afresh where this is True."""
        ...


class Detectors:
    """EDetector, side by side."""

    def __init__(self, streams: int, level: float = P0, alarm_after: float = own.ALARM_AFTER) -> None:
        bets = own._bets(level)
        stakes = np.array(bets.stakes)
        self.level, self.alarm_after, self.bets = level, alarm_after, bets
        self.good, self.bad = 1.0 + stakes * (level - 1.0), 1.0 + stakes * level
        self.terms = np.zeros((streams, len(own.ODDS_RATIOS)))
        self.failures = np.zeros(streams, int)
        self.quiet = np.zeros(streams, int)
        self.bursts, self.pending = np.zeros(streams), np.zeros(streams)

    def step(self, failed: Bits) -> Bits:
        """One trial of each."""
        row = np.where(self.bursts <= own.FREE_OF_BURSTS, 0, np.minimum(self.failures, len(self.good) - 1))
        self.terms = (1.0 + self.terms) * np.where(failed[:, None], self.bad[row], self.good[row])
        learned = np.where(failed, self.bets.again, self.bets.over)
        self.pending += np.where(self.failures > 0, learned, 0.0)
        self.quiet = np.where(failed, 0, self.quiet + 1)
        over = self.quiet == own.QUIET
        self.bursts += np.where(over, self.pending, 0.0)
        self.pending[over] = 0.0
        self.failures = np.where(failed, self.failures + 1, 0)
        return self.terms.mean(axis=1) >= self.alarm_after

    def restart(self, where: Bits) -> None:
        """As a breaker does that closes: without evidence; what is known of bursts stays."""
        self.terms[where] = 0.0


class Cusum:
    """Page's CUSUM that knows the new rate: the exact optimum."""

    def __init__(self, streams: int, threshold: float, rate: float) -> None:
        self.threshold, self.sum = threshold, np.zeros(streams)
        self.good, self.bad = math.log(rate / P0), math.log((1 - rate) / (1 - P0))

    def step(self, failed: Bits) -> Bits:
        """One trial of each."""
        self.sum = np.maximum(0.0, self.sum + np.where(failed, self.bad, self.good))
        return self.sum >= self.threshold

    def restart(self, where: Bits) -> None:
        """See Watch."""
        self.sum[where] = 0.0


class Ewma:
    """An exponentially weighted mean of the failures, 0.02."""

    def __init__(self, streams: int, threshold: float) -> None:
        self.threshold, self.mean = threshold, np.full(streams, 1 - P0)

    def step(self, failed: Bits) -> Bits:
        """One trial of each."""
        self.mean += 0.02 * (failed - self.mean)
        return self.mean >= self.threshold

    def restart(self, where: Bits) -> None:
        """See Watch."""
        self.mean[where] = 1 - P0


class Window:
    """Failures among the last 50; the threshold is a number, and a fraction of one by chance at each alarm."""

    def __init__(self, streams: int, threshold: float, size: int = 50) -> None:
        self.threshold, self.size = threshold, size
        self.last, self.at = np.zeros((streams, size), bool), 0
        self.weights = np.random.default_rng(11).random(streams)

    def step(self, failed: Bits) -> Bits:
        """One trial of each."""
        self.last[:, self.at % self.size] = failed
        self.at += 1
        least = np.floor(self.threshold) + (self.weights < self.threshold % 1)
        return self.last.sum(axis=1) >= least

    def restart(self, where: Bits) -> None:
        """See Watch."""
        self.last[where] = False


class RunningMean:
    """The mean of all trials so far, from the twentieth on."""

    def __init__(self, streams: int, threshold: float) -> None:
        self.threshold = threshold
        self.failed, self.trials = np.zeros(streams), np.zeros(streams)

    def step(self, failed: Bits) -> Bits:
        """One trial of each."""
        self.failed += failed
        self.trials += 1
        return (self.failed >= self.threshold * self.trials) & (self.trials >= 20)

    def restart(self, where: Bits) -> None:
        """See Watch."""
        self.failed[where] = self.trials[where] = 0


class Streams:
    """Trials side by side: independent, or with neighbours that are correlated."""

    def __init__(self, streams: int, seed: int, correlation: float = 0.0) -> None:
        self.random = np.random.default_rng(seed)
        self.correlation, self.before = correlation, np.zeros(streams, bool)

    def next(self, rate: float) -> Bits:
        """Which of them fail at this success rate."""
        failure, drawn = 1.0 - rate, self.random.random(self.before.size)
        if self.correlation:
            after = np.where(self.before, failure + self.correlation * rate, failure * (1.0 - self.correlation))
            self.before = drawn < after
            return self.before
        return drawn < failure


def time_to_false_alarm(watch: Watch, streams: int, steps: int, *, correlation: float = 0.0, seed: int = 1) -> float:
    """Mean number of healthy trials to the first alarm: trials looked at ÷ alarms."""
    trials, alarmed, looked = Streams(streams, seed, correlation), np.zeros(streams, bool), 0
    for _ in range(steps):
        hit = watch.step(trials.next(P0)) & ~alarmed
        looked += int((~alarmed).sum())
        alarmed |= hit
        if alarmed.all():
            break
    return looked / max(1, int(alarmed.sum()))


def delay(
    watch: Watch, streams: int, rate: Callable[[int], float], *, healthy: int = 500, steps: int = 6_000, seed: int = 2
) -> float:
    """Mean number of trials from a drop after so many healthy ones to the alarm; false ones before begin afresh."""
    trials, found = Streams(streams, seed), np.full(streams, steps, float)
    for _ in range(healthy):
        hit = watch.step(trials.next(P0))
        if hit.any():
            watch.restart(hit)
    waiting = np.ones(streams, bool)
    for step in range(1, steps + 1):
        hit = watch.step(trials.next(rate(step))) & waiting
        found[hit] = step
        waiting &= ~hit
        if not waiting.any():
            break
    return float(found.mean())


def calibrated(
    make: Callable[[float], Watch], bounds: tuple[float, float], target: float, streams: int, steps: int
) -> float:
    """The threshold between bounds at which the time to a false alarm is what it should be."""
    low, high = bounds
    for _ in range(10):
        middle = (low + high) / 2
        enough = time_to_false_alarm(make(middle), streams, steps) >= target
        low, high = (low, middle) if enough else (middle, high)
    return high


def check(seed: int = 3, streams: int = 20, steps: int = 400) -> None:
    """Hold the detectors side by side against the package's own.

    Raises:
        AssertionError: they differ
    """
    many, ours = Detectors(streams), [EDetector(P0) for _ in range(streams)]
    trials = Streams(streams, seed, 0.3)
    for _ in range(steps):
        failed = trials.next(0.93)
        many.step(failed)
        ours = [one.observed(float(not bad)) for one, bad in zip(ours, failed, strict=True)]
    assert np.allclose(many.terms, [one.terms for one in ours], rtol=1e-9)
    assert np.allclose(many.bursts, [one.bursts for one in ours])
