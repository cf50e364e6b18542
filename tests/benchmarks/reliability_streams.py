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

    def keep(self, where: Bits) -> None:
        """Go on with these streams only: their places."""
        ...


class Rival(Watch, Protocol):
    """One that alarms where a value of each stream reaches a threshold."""

    value: Any

    def least(self, threshold: float) -> Any:
        """What the value must reach, at this threshold."""
        ...


class Detectors:
    """EDetector, side by side."""

    def __init__(self, streams: int, level: float = P0, alarm_after: float = own.ALARM_AFTER) -> None:
        bets = own._bets(level)
        stakes = np.array(bets.stakes)
        self.level, self.alarm_after, self.bets = level, alarm_after, bets
        self.good, self.bad = 1.0 + stakes.T * (level - 1.0), 1.0 + stakes.T * level
        self.terms = np.zeros((len(own.ODDS_RATIOS), streams))
        self.failures = np.zeros(streams, int)
        self.quiet = np.zeros(streams, int)
        self.bursts, self.pending = np.zeros(streams), np.zeros(streams)

    @property
    def evidence(self) -> Any:
        """Of each stream."""
        return self.terms.mean(axis=0)

    def step(self, failed: Bits) -> Bits:
        """One trial of each."""
        self.fold(failed)
        return self.evidence >= self.alarm_after

    def fold(self, failed: Bits) -> None:
        """The same without the alarm. Most are good and come after a good one: only the others need a closer look."""
        other = np.flatnonzero(failed | (self.failures > 0))
        before, fails, in_row = self.terms[:, other], failed[other], self.failures[other]
        row = np.where(self.bursts[other] <= own.FREE_OF_BURSTS, 0, np.minimum(in_row, self.good.shape[1] - 1))
        self.terms += 1.0
        self.terms *= self.good[:, :1]
        self.terms[:, other] = (1.0 + before) * np.where(fails, self.bad[:, row], self.good[:, row])
        learned = np.where(fails, self.bets.again, self.bets.over)
        self.pending[other] += np.where(in_row > 0, learned, 0.0)
        self.failures[other] = np.where(fails, in_row + 1, 0)
        self.quiet += 1
        self.quiet[other[fails]] = 0
        over = np.flatnonzero(self.quiet == own.QUIET)
        self.bursts[over] += self.pending[over]
        self.pending[over] = 0.0

    def restart(self, where: Bits) -> None:
        """As a breaker does that closes: without evidence; what is known of bursts stays."""
        self.terms[:, where] = 0.0

    def keep(self, where: Bits) -> None:
        """See Watch."""
        self.terms = np.ascontiguousarray(self.terms[:, where])
        self.failures, self.quiet = self.failures[where], self.quiet[where]
        self.bursts, self.pending = self.bursts[where], self.pending[where]


class Cusum:
    """Page's CUSUM that knows the new rate: the exact optimum."""

    def __init__(self, streams: int, threshold: float, rate: float) -> None:
        self.threshold, self.value = threshold, np.zeros(streams)
        self.good, self.bad = math.log(rate / P0), math.log((1 - rate) / (1 - P0))

    def least(self, threshold: float) -> Any:
        """See Rival."""
        return threshold

    def step(self, failed: Bits) -> Bits:
        """One trial of each."""
        self.value = np.maximum(0.0, self.value + np.where(failed, self.bad, self.good))
        return self.value >= self.threshold

    def restart(self, where: Bits) -> None:
        """See Watch."""
        self.value[where] = 0.0

    def keep(self, where: Bits) -> None:
        """See Watch."""
        self.value = self.value[where]


class Ewma:
    """An exponentially weighted mean of the failures, 0.02."""

    def __init__(self, streams: int, threshold: float) -> None:
        self.threshold, self.value = threshold, np.full(streams, 1 - P0)

    def least(self, threshold: float) -> Any:
        """See Rival."""
        return threshold

    def step(self, failed: Bits) -> Bits:
        """One trial of each."""
        self.value += 0.02 * (failed - self.value)
        return self.value >= self.threshold

    def restart(self, where: Bits) -> None:
        """See Watch."""
        self.value[where] = 1 - P0

    def keep(self, where: Bits) -> None:
        """See Watch."""
        self.value = self.value[where]


class Window:
    """Failures among the last 50; the threshold is a number, and a fraction of one by chance at each alarm."""

    def __init__(self, streams: int, threshold: float, size: int = 50) -> None:
        self.threshold, self.size = threshold, size
        self.last, self.at = np.zeros((size, streams), bool), 0
        self.value = np.zeros(streams, int)
        self.weights = np.random.default_rng(11).random(streams)

    def least(self, threshold: float) -> Any:
        """See Rival."""
        return np.floor(threshold) + (self.weights < threshold % 1)

    def step(self, failed: Bits) -> Bits:
        """One trial of each."""
        oldest = self.last[self.at % self.size]
        self.value += failed
        self.value -= oldest
        oldest[:] = failed
        self.at += 1
        return self.value >= self.least(self.threshold)

    def restart(self, where: Bits) -> None:
        """See Watch."""
        self.last[:, where] = False
        self.value[where] = 0

    def keep(self, where: Bits) -> None:
        """See Watch."""
        self.last = np.ascontiguousarray(self.last[:, where])
        self.value, self.weights = self.value[where], self.weights[where]


class RunningMean:
    """The mean of all trials so far, from the twentieth on."""

    def __init__(self, streams: int, threshold: float) -> None:
        self.threshold, self.value = threshold, np.zeros(streams)
        self.failed, self.trials = np.zeros(streams), np.zeros(streams)

    def least(self, threshold: float) -> Any:
        """See Rival."""
        return threshold

    def step(self, failed: Bits) -> Bits:
        """One trial of each."""
        self.failed += failed
        self.trials += 1
        self.value = np.where(self.trials >= 20, self.failed / self.trials, -1.0)
        return self.value >= self.threshold

    def restart(self, where: Bits) -> None:
        """See Watch."""
        self.failed[where] = self.trials[where] = 0

    def keep(self, where: Bits) -> None:
        """See Watch."""
        self.failed, self.trials = self.failed[where], self.trials[where]


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


class Waiting:
    """The streams that have not alarmed yet: the others are let go of, and drawn for all the same."""

    def __init__(self, streams: int) -> None:
        self.places = np.arange(streams)
        self.still = np.ones(streams, bool)

    def alarmed(self, hit: Bits) -> Any:
        """The places of those that alarm now, for the first time."""
        now = hit & self.still
        self.still &= ~now
        return self.places[now]

    def thinned(self) -> Any | None:
        """What to go on with, once a fifth is over; None before."""
        if self.still.sum() > 0.8 * self.still.size:
            return None
        left = np.flatnonzero(self.still)
        self.places, self.still = self.places[left], np.ones(left.size, bool)
        return left


def time_to_false_alarm(watch: Watch, streams: int, steps: int, *, correlation: float = 0.0, seed: int = 1) -> float:
    """Mean number of healthy trials to the first alarm: trials looked at ÷ alarms."""
    trials, waiting, looked, alarms = Streams(streams, seed, correlation), Waiting(streams), 0, 0
    for _ in range(steps):
        looked += int(waiting.still.sum())
        alarms += waiting.alarmed(watch.step(trials.next(P0)[waiting.places])).size
        if (left := waiting.thinned()) is not None:
            watch.keep(left)
            if not left.size:
                break
    return looked / max(1, alarms)


def delay(
    watch: Watch, streams: int, rate: Callable[[int], float], *, healthy: int = 500, steps: int = 6_000, seed: int = 2
) -> float:
    """Mean number of trials from a drop after so many healthy ones to the alarm; false ones before begin afresh."""
    trials, found = Streams(streams, seed), np.full(streams, steps, float)
    for _ in range(healthy):
        hit = watch.step(trials.next(P0))
        if hit.any():
            watch.restart(hit)
    waiting = Waiting(streams)
    for step in range(1, steps + 1):
        found[waiting.alarmed(watch.step(trials.next(rate(step))[waiting.places]))] = step
        if (left := waiting.thinned()) is not None:
            watch.keep(left)
            if not left.size:
                break
    return float(found.mean())


def calibrated(
    make: Callable[[float], Rival], bounds: tuple[float, float], target: float, streams: int, steps: int
) -> float:
    """The threshold between bounds at which the time to a false alarm is what it should be.

    All thresholds are held against one and the same past: each stream's new highs are all that can alarm first.
    """
    low, high = bounds
    watch, trials = make(high), Streams(streams, 1)
    highest = np.full(streams, -np.inf)
    highs: list[tuple[int, Any, Any]] = []
    for step in range(1, steps + 1):
        watch.step(trials.next(P0))
        new = np.flatnonzero(watch.value > highest)
        if new.size:
            highest[new] = watch.value[new]
            highs.append((step, new, highest[new]))
    when = np.concatenate([np.full(new.size, step) for step, new, _ in highs])
    who, value = (np.concatenate([one[place] for one in highs]) for place in (1, 2))
    for _ in range(10):
        middle = (low + high) / 2
        first = np.full(streams, steps + 1)
        crossed = value >= np.broadcast_to(watch.least(middle), streams)[who]
        np.minimum.at(first, who[crossed], when[crossed])
        alarms = int((first <= steps).sum())
        enough = np.minimum(first, steps).sum() / max(1, alarms) >= target
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
    assert np.allclose(many.terms.T, [one.terms for one in ours], rtol=1e-9)
    assert np.allclose(many.bursts, [one.bursts for one in ours])
