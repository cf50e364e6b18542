"""One stream of a crew's record: what is counted of an agent, or of the outcomes, and its detectors."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from crew_guard.core.reliability.counts import NO_TRIALS, Counts
from crew_guard.core.reliability.detector import BASELINE_RUNS, EDetector
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
    cleared: Counts = NO_TRIALS
    """Of the counts, those from before its crew was last found to be fine."""

    @property
    def fresh(self) -> Counts:
        """The trials since its crew was last found to be fine; all, where it never was."""
        return self.counts.without(self.cleared)

    def observed(self, grade: float, level: float | None, at: float) -> Stream:
        """With one trial more. One that is held to no level is evidence, too, for the runs that have one.

        Args:
            at: Unix seconds
        """
        counts = self.counts.plus(grade)
        detector, others = self._detectors(level)
        detector = None if detector is None else detector.observed(grade, at)
        others = tuple([one.observed(grade, at) for one in others])
        baseline = _shown(counts, self.baseline, detector)
        return Stream(self.subject, counts, detector, baseline, others, self.cleared)

    def _detectors(self, level: float | None) -> tuple[EDetector | None, tuple[EDetector, ...]]:
        """The one at this level, and the others."""
        own = self.detector
        if level is None:
            return own, self.others
        if own is None:
            return EDetector(level), ()
        if own.level == level:
            return own, self.others
        known = next((one for one in self.others if one.level == level), own.restarted(level))
        return known, (own, *(one for one in self.others if one.level != level))[:_LEVELS]

    def held_to(self, level: float | None) -> EDetector | None:
        """The evidence at this level; None where there is none at just that."""
        own = () if self.detector is None else (self.detector,)
        return next((one for one in (*own, *self.others) if one.level == level), None)

    def revised(
        self, grades: tuple[float | None, float], level: float | None, at: float, now: float, *, fresh: bool
    ) -> Stream:
        """With a later verdict on a trial. One from before its crew was last found to be fine is no evidence.

        Args:
            grades: the verdict that it corrects, None where there was none, and the later one
            at: Unix seconds of the trial
            now: the same of the latest one
            fresh: whether the trial is one of those since its crew was last found to be fine
        """
        before, after = grades
        counts = self.counts.judged(before, after)
        if not fresh:
            baseline = self.baseline if before is not None else _shown(counts, self.baseline, self.detector)
            return replace(self, counts=counts, baseline=baseline, cleared=self.cleared.judged(before, after))
        if before is None:
            return self.observed(after, level, now)
        detector, others = self._detectors(level)
        detector = None if detector is None else detector.corrected(before, after, at, now)
        others = tuple([one.corrected(before, after, at, now) for one in others])
        return Stream(self.subject, counts, detector, self.baseline, others, self.cleared)

    def restarted(self) -> Stream:
        """Its evidence forgotten: its crew was found to be fine."""
        detector = None if self.detector is None else self.detector.restarted()
        return replace(self, detector=detector, others=(), cleared=self.counts)


def _shown(counts: Counts, known: float | None, detector: EDetector | None) -> float | None:
    """The baseline after one trial more, which teaches it only where its detector is calm."""
    calm = detector is None or detector.evidence < _CALM
    return _baseline(counts, known) if calm else known


def _baseline(counts: Counts, known: float | None) -> float | None:
    times, rest = divmod(counts.trials, BASELINE_RUNS)
    if rest or not times or times & (times - 1):
        return known
    return max(known or 0.0, jeffreys(counts, 1.0 - _BASELINE_DOUBT / times).lower)
