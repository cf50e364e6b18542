"""Crew, workflow or shadow: the three-way rule, and what the numbers behind it mean in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

from msgspec import Struct

from crew_guard.core.reliability import bounds
from crew_guard.core.reliability.bounds import Betavariate
from crew_guard.core.reliability.counts import NO_TRIALS, TIERS, Counts, Tier, straight_passes, tier_of
from crew_guard.core.reliability.intervals import clopper_pearson
from crew_guard.core.reliability.structure import Structure, leverage, names, point

Way: TypeAlias = Literal["crew", "workflow", "shadow"]
Disagreement: TypeAlias = Literal["", "hand-off", "together"]
By: TypeAlias = Literal["measured", "parts", "unknown"]
_NOTHING_KNOWN = 0.5
"""The rate of a part without trials, in point estimates only: bounds know that it could be anything."""


class Measured(Struct, frozen=True):
    """The measured end-to-end rate with one-sided bounds."""

    counts: Counts
    point: float
    lower: float
    upper: float


class Estimate(Struct, frozen=True):
    """How reliable a crew is, from its parts, beside what was measured."""

    point: float
    """From the parts' rates; a part without trials counts as ½."""
    lower: float
    upper: float
    confidence: float
    """Of each bound, one-sided."""
    measured: Measured | None = None
    disagreement: Disagreement = ""
    """hand-off: measured below what the parts say; together: above."""
    words: str = ""
    """What that means."""
    hand_off: float | None = None
    """The success rate of the hand-off that no agent owns, where the crew is worse than its parts."""
    culprit: str = ""
    """The leaf that holds the whole down most; empty without trials."""
    least_tested: str = ""

    @property
    def proven(self) -> float:
        """The lower bound that counts: the measured one where there is enough of it, or the parts contradict it."""
        if self.measured is None:
            return self.lower
        if self.disagreement or _enough(self.measured, max(TIERS.values()), self.confidence):
            return self.measured.lower
        return max(self.lower, self.measured.lower)

    @property
    def tier(self) -> Tier:
        """The tier that is proven."""
        return tier_of(self.proven)


class Route(NamedTuple):
    """Where a run goes, and why."""

    way: Way
    why: str
    by: By


def estimate(
    structure: Structure,
    counts: Mapping[str, Counts],
    measured: Counts | None,
    confidence: float,
    beta: Betavariate,
) -> Estimate:
    """What is known about a crew.

    Args:
        structure: how the crew's success follows from its parts'
        counts: by leaf of the structure; a leaf that is missing has no trials
        measured: end-to-end outcomes of the same version; None or empty where nobody judged
        confidence: of each bound, in (0, 1)
        beta: where graphs other than chains draw from, e.g. random.Random(seed).betavariate
    """
    leaves = names(structure)
    trials = {name: counts.get(name, NO_TRIALS) for name in leaves}
    rates = {name: _NOTHING_KNOWN if (rate := known.rate) is None else rate for name, known in trials.items()}
    tested = [name for name in leaves if trials[name].trials]
    lost = {name: (1.0 - rates[name]) * gain for name, gain in leverage(structure, rates).items()}
    found = Estimate(
        point(structure, rates),
        bounds.lower(structure, counts, confidence, beta),
        bounds.upper(structure, counts, confidence, beta),
        confidence,
        culprit=max(tested, key=lambda name: lost[name], default=""),
        least_tested=min(leaves, key=lambda name: trials[name].trials, default=""),
    )
    return found if not measured or measured.rate is None else _beside(found, measured, measured.rate)


def _beside(parts: Estimate, counts: Counts, rate: float) -> Estimate:
    """The estimate from the parts with what was measured beside it."""
    exact = clopper_pearson(counts, parts.confidence)
    measured = Measured(counts, rate, exact.lower, exact.upper)
    disagreement: Disagreement = ""
    words, hand_off = "", None
    if measured.upper < parts.lower:
        disagreement, hand_off = "hand-off", rate / parts.point
        words = (
            f"measured {rate:.3f} is below what the parts say ({parts.lower:.3f} to {parts.upper:.3f}): a hand-off "
            f"between them fails that no agent owns, as an agent of {hand_off:.3f} would"
        )
    elif measured.lower > parts.upper:
        disagreement = "together"
        words = (
            f"measured {rate:.3f} is above what the parts say ({parts.lower:.3f} to {parts.upper:.3f}): failures come "
            "together, so a chain does better than its product, and spare parts help less than they seem to"
        )
    return Estimate(
        parts.point,
        parts.lower,
        parts.upper,
        parts.confidence,
        measured,
        disagreement,
        words,
        hand_off,
        parts.culprit,
        parts.least_tested,
    )


def route(estimate: Estimate, threshold: float, unknown: Way = "crew") -> Route:
    """The three-way rule. What was measured decides where there is enough of it to prove the threshold.

    Args:
        estimate: what is known about the crew
        threshold: the least end-to-end success, in [0, 1]
        unknown: where a run goes that the numbers say too little about
    """
    measured = estimate.measured
    by: By = "measured"
    if measured is not None and _enough(measured, threshold, estimate.confidence):
        lower, upper = measured.lower, measured.upper
        words = f"measured over {measured.counts.trials} runs, {lower:.3f} to {upper:.3f}"
    else:
        lower, upper, by = estimate.lower, estimate.upper, "parts"
        words = f"estimated from its parts, {lower:.3f} to {upper:.3f}"
    if lower >= threshold:
        return Route("crew", f"its success is at least {threshold:.3g}: {words}", by)
    if upper < threshold:
        return Route("workflow", f"its success is below {threshold:.3g}: {words}", by)
    return Route(unknown, f"whether its success is at least {threshold:.3g} is unknown: {words}", "unknown")


def _enough(measured: Measured, threshold: float, confidence: float) -> bool:
    """Whether so many runs, had all been good, would prove the threshold."""
    needed = straight_passes(threshold, confidence)
    return needed is not None and measured.counts.trials >= needed
