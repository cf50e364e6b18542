"""Has a success rate dropped? A mixture Shiryaev-Roberts e-detector for each stream, and their mean for a crew.

If the rate is at least `level`, the mean time to a false alarm at A is at least A, whatever the dependence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from msgspec import Struct

ODDS_RATIOS = (1.6, 2.5, 4.5, 9.0, 18.0, 40.0)
"""How many times worse the failure odds may have become: each has a term of its own."""
ALARM_AFTER = 10_000.0
BASELINE_RUNS = 100


class EDetector(Struct, frozen=True):
    """One stream's evidence that its mean is below `level`."""

    level: float
    """The acceptable mean, in (0, 1)."""
    terms: tuple[float, ...] = (0.0,) * len(ODDS_RATIOS)
    failures: int = 0
    """In a row, at the moment."""

    @property
    def evidence(self) -> float:
        """The mean of the terms: alarm when it reaches A."""
        return sum(self.terms) / len(self.terms)

    def observed(self, grade: float) -> EDetector:
        """With one outcome in [0, 1] more."""
        raise NotImplementedError

    def corrected(self, before: float, after: float) -> EDetector:
        """With an earlier outcome's grade corrected by a later verdict."""
        raise NotImplementedError


def level_of(target: float, baseline_lower: float | None) -> float:
    """The acceptable mean: the declared target, or what the stream has shown if that is less, kept inside (0, 1)."""
    least = target if baseline_lower is None else min(target, baseline_lower)
    return min(0.999, max(0.05, least))


class Alarm(Struct, frozen=True):
    """A crew's streams together have reached A."""

    culprit: str
    """The stream with the largest evidence."""
    share: float
    """Its part of all evidence, in [0, 1]."""
    evidence: float
    """The mean over the streams."""


def evidence(detectors: Mapping[str, EDetector]) -> float:
    """The mean over streams; 0 without any."""
    return sum(one.evidence for one in detectors.values()) / len(detectors) if detectors else 0.0


def alarm(detectors: Mapping[str, EDetector], after: float = ALARM_AFTER) -> Alarm | None:
    """The alarm of a crew's streams, where their mean has reached `after`."""
    total = evidence(detectors)
    if total < after:
        return None
    culprit = max(detectors, key=lambda name: detectors[name].evidence)
    return Alarm(culprit, detectors[culprit].evidence / (total * len(detectors)), total)


SprtAnswer: TypeAlias = Literal["good", "bad", "open"]


class Sprt(Struct, frozen=True):
    """Wald's sequential test between a rate that is fine again and one that is not."""

    ok: float = 0.95
    bad: float = 0.85
    alpha: float = 0.05
    """The chance to say good at `bad`."""
    beta: float = 0.10
    """The chance to say bad at `ok`."""
    log_ratio: float = 0.0
    trials: int = 0

    @property
    def answer(self) -> SprtAnswer:
        """good, bad, or open: more trials are needed."""
        raise NotImplementedError

    def observed(self, grade: float) -> Sprt:
        """With one outcome more."""
        raise NotImplementedError


def sprt_for(level: float) -> Sprt:
    """The test for a stream that is held to this level: 0.95 against 0.85, or the same odds ratio below it."""
    raise NotImplementedError
