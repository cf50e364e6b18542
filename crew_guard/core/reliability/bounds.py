"""Bounds of a whole structure from what is known of its parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from crew_guard.core.reliability.counts import Counts
from crew_guard.core.reliability.structure import Structure

Betavariate: TypeAlias = Callable[[float, float], float]
"""One draw from Beta(a, b): random.Random(seed).betavariate."""
DRAWS = 4_000


def lower(structure: Structure, counts: Mapping[str, Counts], confidence: float, beta: Betavariate) -> float:
    """The one-sided lower bound of the whole's success rate.

    One leaf: Clopper-Pearson. All must succeed: the chain's bound. Any other graph: draws through the structure.

    Args:
        counts: by leaf; a leaf that is missing has no trials
        confidence: in (0, 1), one-sided
        beta: drawn from for other graphs than chains
    """
    raise NotImplementedError


def upper(structure: Structure, counts: Mapping[str, Counts], confidence: float, beta: Betavariate) -> float:
    """The one-sided upper bound; see lower."""
    raise NotImplementedError
