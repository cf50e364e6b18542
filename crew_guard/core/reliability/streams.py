"""One stream of a crew's record: what is counted of an agent, or of the outcomes, and its detectors."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from crew_guard.core.reliability.counts import NO_TRIALS, Counts
from crew_guard.core.reliability.detector import BASELINE_RUNS, EDetector, level_of
from crew_guard.core.reliability.intervals import jeffreys
from crew_guard.core.reliability.trials import Subject

_BASELINE_DOUBT = 0.10
"""The chance that the first baseline is above the truth; halved for each later one."""
_LEVELS = 3
"""Other levels that evidence is kept for."""
_CALM = 100.0
"""Evidence below which a stream may be taken for healthy: what is shown during a drop is no baseline."""


class Stream(Struct, frozen=True, omit_defaults=True):
    """What is known of one agent of the crew, or of its outcomes, since its version began."""

    subject: Subject | None = None
    """None for the outcomes."""
    counts: Counts = NO_TRIALS
    detector: EDetector | None = None
    """None where nothing is decided by reliability."""
    baseline: float | None = None
    """The best of Jeffreys' lower bounds of the first 100, 200, 400 … trials, from the first of them on.

    It only rises: a slow decline must not lower what the stream is held to.
    """
    others: tuple[EDetector, ...] = ()
    """The same at other levels, the latest first: policies of several thresholds may take turns with one crew."""

    def observed(self, grade: float, target: float | None) -> Stream:
        """With one trial more. One without a target is evidence, too, for the runs that have one."""
        counts = self.counts.plus(grade)
        detector, others = self._detectors(target)
        detector = None if detector is None else detector.observed(grade)
        calm = detector is None or detector.evidence < _CALM
        baseline = _baseline(counts, self.baseline) if calm else self.baseline
        return Stream(self.subject, counts, detector, baseline, tuple([one.observed(grade) for one in others]))

    def _detectors(self, target: float | None) -> tuple[EDetector | None, tuple[EDetector, ...]]:
        """The one at the target's level, and the others."""
        own = self.detector
        if target is None:
            return own, self.others
        level = level_of(target, self.baseline)
        if own is None:
            return EDetector(level), ()
        if own.level == level:
            return own, self.others
        known = next((one for one in self.others if one.level == level), own.restarted(level))
        return known, (own, *(one for one in self.others if one.level != level))[:_LEVELS]

    def held_to(self, target: float | None) -> EDetector | None:
        """The evidence at this target's level; None where there is none at just that."""
        if target is None:
            return None
        level = level_of(target, self.baseline)
        own = () if self.detector is None else (self.detector,)
        return next((one for one in (*own, *self.others) if one.level == level), None)

    def revised(self, before: float | None, after: float, target: float | None) -> Stream:
        """With a later verdict on a trial; before is None where it had none."""
        if before is None:
            return self.observed(after, target)
        detector, others = self._detectors(target)
        detector = None if detector is None else detector.corrected(before, after)
        counts = self.counts.revised(before, after)
        return Stream(
            self.subject, counts, detector, self.baseline, tuple([one.corrected(before, after) for one in others])
        )

    def restarted(self) -> Stream:
        """Its evidence forgotten."""
        return self if self.detector is None else replace(self, detector=self.detector.restarted(), others=())


def _baseline(counts: Counts, known: float | None) -> float | None:
    times, rest = divmod(counts.trials, BASELINE_RUNS)
    if rest or not times or times & (times - 1):
        return known
    return max(known or 0.0, jeffreys(counts, 1.0 - _BASELINE_DOUBT / times).lower)
