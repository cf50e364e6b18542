"""Crew, workflow or shadow: the three-way rule, and what the numbers behind it mean in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

from msgspec import Struct

from crew_guard.core.reliability.bounds import Betavariate
from crew_guard.core.reliability.counts import Counts, Tier
from crew_guard.core.reliability.structure import Structure

Way: TypeAlias = Literal["crew", "workflow", "shadow"]
Disagreement: TypeAlias = Literal["", "hand-off", "together"]


class Measured(Struct, frozen=True):
    """The measured end-to-end rate with one-sided bounds."""

    counts: Counts
    point: float
    lower: float
    upper: float


class Estimate(Struct, frozen=True):
    """How reliable a crew is, from its parts, beside what was measured."""

    point: float
    """From the parts' rates; Jeffreys' means, so that it is defined without trials."""
    lower: float
    upper: float
    confidence: float
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
    def tier(self) -> Tier:
        """The tier that is proven: by what was measured where that decides, else by the parts."""
        raise NotImplementedError


class Route(NamedTuple):
    """Where a run goes, and why."""

    way: Way
    why: str
    by: Literal["measured", "parts", "unknown"]


def estimate(
    structure: Structure,
    counts: Mapping[str, Counts],
    measured: Counts | None,
    confidence: float,
    beta: Betavariate,
) -> Estimate:
    """What is known about a crew.

    Args:
        counts: by leaf of the structure; a leaf that is missing has no trials
        measured: end-to-end outcomes of the same version; None or empty where nobody judged
    """
    raise NotImplementedError


def route(estimate: Estimate, threshold: float, unknown: Way = "crew") -> Route:
    """The three-way rule. What was measured decides where there is enough of it to prove the threshold.

    Args:
        threshold: the least end-to-end success, in [0, 1]
        unknown: where a run goes that the numbers say too little about
    """
    raise NotImplementedError
