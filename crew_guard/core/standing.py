"""How reliable a crew is, as a result tells it: the estimate with its bounds, what was measured, and what follows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from crew_guard.core.reliability.accounts import scored
from crew_guard.core.reliability.breaker import BreakerState
from crew_guard.core.reliability.records import CrewRecord, Settings
from crew_guard.core.reliability.verdict import Estimate, Way


@dataclass(frozen=True, slots=True)
class Reliability:
    """What is known of a crew's reliability after a run of it. Rates are in [0, 1]; None where nothing is known."""

    version: str
    """A digest of what defines the crew's behaviour."""
    threshold: float | None = None
    """The least end-to-end success that its policy asks for."""
    confidence: float = 0.95
    """Of every bound, one-sided."""
    estimate: float | None = None
    """From its parts, compounded over its structure."""
    lower: float | None = None
    upper: float | None = None
    measured: float | None = None
    """The end-to-end rate."""
    measured_lower: float | None = None
    measured_upper: float | None = None
    runs: int = 0
    """Of this version, with a verdict on the outcome."""
    tier: str = ""
    """What is proven: production, internal, pilot or do not ship."""
    score: float | None = None
    """The Reliability Score: the crew's own rate of success, times mean cost and latency adherence of all runs."""
    score_lower: float | None = None
    score_upper: float | None = None
    breaker: BreakerState = "closed"
    culprit: str = ""
    """Who holds the crew down most."""
    words: str = ""
    """What it means that the estimate and what was measured disagree, where they do."""
    routed: Way | None = None
    """Where reliability sent this run; None where it did not decide."""
    why: str = ""
    """Why it went there."""
    outcome: float | None = None
    """The grade of the crew's part of this run; None where nothing judged it."""
    problem: str = ""
    """Why this run is not in the record, where it should be."""

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return asdict(self)


def standing(
    version: str, settings: Settings, record: CrewRecord | None, found: Estimate | None, **told: Any
) -> Reliability:
    """The value for a result.

    Args:
        version: of the crew
        settings: how its record is kept
        record: of this version; None where there is none yet
        found: the estimate of this version
        told: what is known of this run
    """
    known: dict[str, Any] = {"threshold": settings.threshold, "confidence": settings.confidence}
    if found is not None:
        known |= {"estimate": found.point, "lower": found.lower, "upper": found.upper, "tier": found.tier}
        known |= {"culprit": found.culprit, "words": found.words}
        if found.measured is not None:
            one = found.measured
            known |= {"measured": one.point, "measured_lower": one.lower, "measured_upper": one.upper}
            known["runs"] = one.counts.trials
    if record is not None:
        known["breaker"] = record.breaker.state
        known["culprit"] = record.breaker.culprit or known.get("culprit", "")
        made = scored(record, settings)
        if made is not None:
            known |= {"score": made.value, "score_lower": made.lower, "score_upper": made.upper}
    return Reliability(version, **known, **told)
