"""The closed forms behind a structure's nodes: rates in, a rate out.

Trials of one task are alike: their rate is itself drawn from a Beta with mean p and intra-task correlation `icc`,
so that P(a good, b bad) is E[θ^a (1 - θ)^b]. All sums are of positive terms: nothing cancels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

_GRID = 1024
_LONGEST_VOTE = 5_000
_DECIDED = 1e-10


def any_of(values: Sequence[float], judge: float) -> float:
    """At least one is good, and a good one is picked with `judge` where some are bad."""
    all_good = math.prod(values)
    all_bad = math.prod(1.0 - value for value in values)
    return all_good + judge * max(0.0, 1.0 - all_good - all_bad)


def k_of_n(values: Sequence[float], k: int) -> float:
    """At least k are good: the tail of the Poisson-binomial."""
    chances = [1.0]
    for p in values:
        grown = [0.0] * (len(chances) + 1)
        for good, chance in enumerate(chances):
            grown[good] += chance * (1.0 - p)
            grown[good + 1] += chance * p
        chances = grown
    return min(1.0, math.fsum(chances[max(0, k) :]))


def moment(p: float, icc: float, good: int, bad: int) -> float:
    """The chance that one task's trials end good `good` times and then bad `bad` times."""
    if icc <= 0:
        return p**good * (1.0 - p) ** bad
    if icc >= 1:
        return 0.0 if good and bad else p if good else 1.0 - p if bad else 1.0
    s = 1.0 / icc - 1.0
    result = 1.0
    for i in range(good):
        result *= (p * s + i) / (s + i)
    for i in range(bad):
        result *= ((1.0 - p) * s + i) / (s + good + i)
    return result


def icc_of(pass_1: float, pass_2: float) -> float:
    """The intra-task correlation that pass^1 and pass^2 show, in [0, 1]."""
    spread = pass_1 * (1.0 - pass_1)
    return min(1.0, max(0.0, (pass_2 - pass_1 * pass_1) / spread)) if spread > 0 else 0.0


class Retried(NamedTuple):
    """What comes of retries behind an imperfect verifier."""

    good: float
    silently_bad: float
    """Bad, and accepted."""
    escalated: float
    """Flagged to the end."""
    attempts: float
    """On average."""


def retry(p: float, times: int, sensitivity: float, specificity: float, icc: float) -> Retried:
    """Tried up to 1 + times, while a verifier flags the answer."""
    good = bad = attempts = 0.0
    for flagged in range(times + 1):
        good += specificity * _flagged(p, (flagged, 1, 0), (sensitivity, specificity), icc)
        bad += (1.0 - sensitivity) * _flagged(p, (flagged, 0, 1), (sensitivity, specificity), icc)
        attempts += _flagged(p, (flagged, 0, 0), (sensitivity, specificity), icc)
    return Retried(good, bad, _flagged(p, (times + 1, 0, 0), (sensitivity, specificity), icc), attempts)


def _flagged(p: float, what: tuple[int, int, int], verifier: tuple[float, float], icc: float) -> float:
    """The chance that the first `flagged` answers are flagged, and that so many more are good, or bad."""
    flagged, good, bad = what
    sensitivity, specificity = verifier
    return math.fsum(
        math.comb(flagged, j)
        * (1.0 - specificity) ** j
        * sensitivity ** (flagged - j)
        * moment(p, icc, good + j, bad + flagged - j)
        for j in range(flagged + 1)
    )


def loop(
    p: float, revise: tuple[float, float], verifier: tuple[float, float], rounds: int, *, keep_last: bool
) -> float:
    """Evaluated and revised: the good ending of an absorbing Markov chain.

    Args:
        revise: P(a bad answer is fixed), P(a good one is broken)
        verifier: P(flagged | bad), P(accepted | good)
        rounds: revisions at the most
        keep_last: whether an answer that is flagged to the end is used
    """
    fix, breaks = revise
    sensitivity, specificity = verifier
    good, bad, ended = p, 1.0 - p, 0.0
    for turn in range(rounds + 1):
        ended += good * specificity
        good, bad = good * (1.0 - specificity), bad * sensitivity
        if turn < rounds:
            good, bad = good * (1.0 - breaks) + bad * fix, good * breaks + bad * (1.0 - fix)
    return ended + (good if keep_last else 0.0)


def majority(p: float, voters: int, icc: float) -> float:
    """More than half of the votes are good."""
    return math.fsum(
        math.comb(voters, good) * moment(p, icc, good, voters - good) for good in range(voters // 2 + 1, voters + 1)
    )


def ahead_by(p: float, k: int, icc: float, votes: int) -> float:
    """The good answer is the first to be ahead by k votes; with a bound on votes, or ahead at the end."""
    if icc <= 0 and not votes:
        # Both powers of ratios at most 1: no overflow.
        return 1.0 / (1.0 + ((1.0 - p) / p) ** k) if p > 0.5 else (r := (p / (1.0 - p)) ** k) / (1.0 + r)  # noqa: PLR2004  even odds
    # Interpolated, so that thousands of draws through a structure walk few urns.
    cell, within = divmod(p * _GRID, 1)
    left = _ahead_at(int(cell), k, icc, votes)
    return left if not within else left + within * (_ahead_at(int(cell) + 1, k, icc, votes) - left)


def expected_votes(p: float, k: int) -> float:
    """How many independent votes it takes, on average, until one answer is ahead by k."""
    drift = 2.0 * p - 1.0
    if abs(drift) < 1e-6:  # noqa: PLR2004  where the quotient has no digits left, and its limit is k²
        return float(k * k)
    return k * (2.0 * ahead_by(p, k, 0.0, 0) - 1.0) / drift


@lru_cache(maxsize=8192)
def _ahead_at(cell: int, k: int, icc: float, votes: int) -> float:
    """Pólya's urn: each vote is drawn by what the votes before it say of the task."""
    p = cell / _GRID
    if icc >= 1:
        return p
    s = 1.0 / icc - 1.0 if icc > 0 else math.inf
    open_: dict[int, float] = {0: 1.0}
    won = 0.0
    for cast in range(votes or _LONGEST_VOTE):
        after: dict[int, float] = {}
        for lead, chance in open_.items():
            good = (cast + lead) / 2
            up = p if s == math.inf else (p * s + good) / (s + cast)
            for to, part in ((lead + 1, chance * up), (lead - 1, chance * (1.0 - up))):
                if to == k:
                    won += part
                elif to != -k:
                    after[to] = after.get(to, 0.0) + part
        open_ = after
        if sum(open_.values()) < _DECIDED:
            break
    return won + sum(chance for lead, chance in open_.items() if lead > 0)
