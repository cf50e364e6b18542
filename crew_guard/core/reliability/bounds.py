"""Bounds of a whole structure from what is known of its parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TypeAlias

from crew_guard.core.reliability.counts import NO_TRIALS, Counts
from crew_guard.core.reliability.intervals import Interval, clopper_pearson, weighted_chain_bound
from crew_guard.core.reliability.structure import Structure, compiled, names, reckoned, series

Betavariate: TypeAlias = Callable[[float, float], float]
"""One draw from Beta(a, b): random.Random(seed).betavariate."""
DRAWS = 4_000


def lower(structure: Structure, counts: Mapping[str, Counts], confidence: float, beta: Betavariate) -> float:
    """The one-sided lower bound of the whole's success rate.

    One leaf: Clopper-Pearson. All must succeed: the chain's bound. Any other graph: draws through the structure. Of
    several ways that are taken who knows how often, the worst in each draw: it holds whatever their shares are.

    Args:
        counts: by leaf; a leaf that is missing has no trials
        confidence: in (0, 1), one-sided
        beta: drawn from for other graphs than chains
    """
    exact = _of_a_chain(structure, counts, confidence)
    if exact is not None:
        return exact.lower
    return _drawn(reckoned(structure, "worst"), counts, (1.0, 1.0), 1.0 - confidence, beta)


def upper(structure: Structure, counts: Mapping[str, Counts], confidence: float, beta: Betavariate) -> float:
    """The one-sided upper bound; see lower. Of several ways whose shares nobody knows, the best."""
    exact = _of_a_chain(structure, counts, confidence)
    if exact is not None:
        return exact.upper
    # No pseudo-failures: with one on each of many parts the bound would lie below what is true.
    return _drawn(reckoned(structure, "best"), counts, (1.0, 0.0), confidence, beta)


@lru_cache(maxsize=64)
def _compiled(structure: Structure) -> Callable[[Mapping[str, float]], float]:
    # A crew's structure is asked again and again, and its curves cost more than all draws through them.
    return compiled(structure)


def _of_a_chain(structure: Structure, counts: Mapping[str, Counts], confidence: float) -> Interval | None:
    times = series(structure)
    if times is None:
        return None
    if len(times) == 1:
        (name, often), *_ = times.items()
        one = clopper_pearson(counts.get(name, NO_TRIALS), confidence)
        return Interval(one.lower**often, one.upper**often)
    return weighted_chain_bound(counts, times, confidence)


def _drawn(
    structure: Structure,
    counts: Mapping[str, Counts],
    pseudo: tuple[float, float],
    quantile: float,
    beta: Betavariate,
) -> float:
    shapes: list[tuple[str, float, float]] = []
    for name in names(structure):
        known = counts.get(name, NO_TRIALS)
        shapes.append((name, known.good + pseudo[0], known.bad + pseudo[1]))
    whole = _compiled(structure)
    drawn = sorted(whole({name: beta(a, b) if b > 0 else 1.0 for name, a, b in shapes}) for _ in range(DRAWS))
    return drawn[min(DRAWS - 1, int(quantile * DRAWS))]
