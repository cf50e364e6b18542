"""A crew of 0.97 with incidents, a workflow of 0.93: how much success is left?

Run it by python -m tests.benchmarks.reliability_closed_loop.

Healthy stretches of 2,833 runs on average, incidents of 500, so that an oracle that switches at once gets 0.964.
The detector, the breaker and its probes are the package's own, in the same loop as the others.
"""

from __future__ import annotations

import math
import random
import statistics
from collections import deque
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import NamedTuple, Protocol

from crew_guard.core.reliability.breaker import Breaker
from crew_guard.core.reliability.detector import EDetector, Sprt, alarm
from crew_guard.core.reliability.trials import END_TO_END
from tests.benchmarks.reliability_streams import P0

FALLBACK = 0.93
HEALTHY, INCIDENT = 2_833, 500
RATES = (0.85, 0.70, 0.50)
AT_LEAST = 0.960
INCIDENTS = 360
OTHERS = 90
"""Incidents for those that decide nothing here."""
WORKERS = 2


class Guide(Protocol):
    """Whoever decides: told of each run of the crew, asked before each run."""

    def crew_works(self) -> bool:
        """Whether the next run is the crew's; else it is the workflow's."""
        ...

    def probes(self) -> bool:
        """Whether the crew runs in the workflow's shadow this time."""
        ...

    def ran(self, grade: float | None) -> None:
        """How the crew did; None where it didn't run."""
        ...


class Ours:
    """EDetector and Breaker, as CrewRecord folds them."""

    def __init__(self) -> None:
        self.detector, self.breaker = EDetector(P0), Breaker()

    def crew_works(self) -> bool:
        """See Guide."""
        return self.breaker.state == "closed"

    def probes(self) -> bool:
        """See Guide."""
        return self.breaker.due(0.2)

    def ran(self, grade: float | None) -> None:
        """See Guide."""
        if self.breaker.state == "closed":
            if grade is None:
                return
            self.detector = self.detector.observed(grade)
            if found := alarm({END_TO_END: self.detector}):
                self.breaker = self.breaker.opened(found, {END_TO_END: P0}, 0.0)
            return
        if grade is not None:
            self.breaker = self.breaker.probed([(END_TO_END, grade)], 0.0)
        self.breaker = self.breaker.fell_back(0.2, 0.0)
        if self.breaker.state == "closed":
            self.detector = self.detector.restarted()


class Plain:
    """A detector of failures, and what closes again: a fifth of the workflow's runs has a probe."""

    def __init__(self, detector: str, closing: str) -> None:
        self.detector, self.closing = detector, closing
        self.open, self.turn = False, 0
        self.e_detector, self.sprt, self.row = EDetector(P0), Sprt(), 0
        self.last: deque[float] = deque(maxlen=20)
        self.failed = self.trials = 0.0

    def crew_works(self) -> bool:
        """See Guide."""
        return not self.open

    def probes(self) -> bool:
        """See Guide."""
        return self.turn % 5 == 4

    def ran(self, grade: float | None) -> None:
        """See Guide."""
        self.turn += 1
        if grade is None:
            return
        if self.open:
            self._probed(grade)
        elif self._alarms(grade):
            self.open, self.turn, self.sprt, self.row = True, 0, Sprt(), 0

    def _alarms(self, grade: float) -> bool:
        if self.detector == "e-detector":
            self.e_detector = self.e_detector.observed(grade)
            return self.e_detector.evidence >= 10_000
        self.last.append(grade)
        self.failed, self.trials = self.failed + 1 - grade, self.trials + 1
        if self.detector == "window of 20":
            return len(self.last) - sum(self.last) >= 4
        return self.trials >= 50 and self.failed / self.trials >= 0.06

    def _probed(self, grade: float) -> None:
        self.sprt, self.row = self.sprt.observed(grade), self.row + 1 if grade else 0
        if self.closing == "SPRT" and self.sprt.answer == "bad":
            self.sprt = Sprt()
        if (self.sprt.answer == "good") if self.closing == "SPRT" else self.row == 3:
            self.open = False
            self.e_detector = self.e_detector.restarted()
            self.last.clear()
            self.failed = self.trials = 0.0


class Outcome(NamedTuple):
    """Of one loop."""

    success: float
    error: float
    """The standard error of the success, from one incident to the next."""
    lost: float
    """The share of healthy runs that the workflow had."""


def stretches(incidents: int) -> list[tuple[bool, int]]:
    """Healthy and not, in turn: (whether it is an incident, runs), exponential lengths of exactly these means."""
    draw = random.Random(2)
    drawn = [[-math.log(1.0 - draw.random()) for _ in range(incidents)] for _ in range(2)]
    scaled = [
        [max(1, round(mean * one / statistics.mean(lengths))) for one in lengths]
        for mean, lengths in zip((HEALTHY, INCIDENT), drawn, strict=True)
    ]
    return [(kind == 1, length) for pair in zip(*scaled, strict=True) for kind, length in enumerate(pair)]


def loop(guide: Guide, rate: float, incidents: int) -> Outcome:
    """Play it: each run's expected success is counted, so that luck plays no part."""
    draw, runs, good, healthy, lost = random.Random(1), 0, 0.0, 0, 0
    missing: list[float] = []
    for incident, length in stretches(incidents):
        now, before = rate if incident else P0, good
        for _ in range(length):
            works = guide.crew_works()
            good += now if works else FALLBACK
            lost += not works and not incident
            runs_too = works or guide.probes()
            guide.ran(float(draw.random() < now) if runs_too else None)
        runs += length
        healthy += 0 if incident else length
        # What was lost to an oracle: how long a stretch happens to be is no error, its length is set.
        missed = length * (max(rate, FALLBACK) if incident else P0) - (good - before)
        if incident:
            missing[-1] += missed
        else:
            missing.append(missed)
    error = statistics.stdev(missing) * math.sqrt(incidents) / runs
    return Outcome(good / runs, error, lost / healthy)


def played(job: tuple[Callable[[], Guide], float, int]) -> Outcome:
    """One loop, in a process of its own."""
    make, rate, incidents = job
    return loop(make(), rate, incidents)


def oracle(rate: float) -> float:
    """The crew where it is better than the workflow."""
    of = stretches(INCIDENTS)
    good = sum(length * (max(rate, FALLBACK) if incident else P0) for incident, length in of)
    return good / sum(length for _, length in of)


def main() -> bool:
    """Print the table; True if ours is good enough everywhere."""
    print(f"overall success, incidents at each rate; the workflow's {FALLBACK}; {INCIDENTS} incidents each")
    print(f"{'':<40}" + "".join(f"{rate:>9.2f}" for rate in RATES) + f"{'healthy time lost':>20}{'std. error':>12}")
    print(f"{'oracle':<40}" + "".join(f"{oracle(rate):>9.4f}" for rate in RATES))
    rows: dict[str, tuple[Callable[[], Guide], int]] = {"e-detector with SPRT (crew_guard)": (Ours, INCIDENTS)}
    for detector, closing in (
        ("window of 20", "SPRT"),
        ("e-detector", "3 in a row"),
        ("window of 20", "3 in a row"),
        ("running mean", "SPRT"),
        ("running mean", "3 in a row"),
    ):
        rows[f"{detector} with {closing}"] = (partial(Plain, detector, closing), OTHERS)
    jobs = [(make, rate, incidents) for make, incidents in rows.values() for rate in RATES]
    with ProcessPoolExecutor(WORKERS) as pool:
        outcomes = list(pool.map(played, jobs))
    for place, name in enumerate(rows):
        row = outcomes[place * len(RATES) : (place + 1) * len(RATES)]
        lost = max(one.lost for one in row)
        error = max(one.error for one in row)
        print(f"{name:<40}" + "".join(f"{one.success:>9.4f}" for one in row) + f"{lost:>20.1%}{error:>12.5f}")
    least = min(outcomes[: len(RATES)])
    print(f"seeds fixed; the others over {OTHERS} incidents of the same mean length")
    words = "ok" if least.success >= AT_LEAST else "MISSED"
    print(f"least {least.success:.4f}, standard error {least.error:.5f} (at least {AT_LEAST}): {words}")
    return least.success >= AT_LEAST


if __name__ == "__main__":
    raise SystemExit(0 if main() else 1)
