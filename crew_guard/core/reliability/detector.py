"""Has a success rate dropped? A mixture Shiryaev-Roberts e-detector for each stream, and their mean for a crew.

Each term bets on failure odds so many times worse than is acceptable. If the mean is at least `level`, whatever the
dependence, the mean time to a false alarm at A is at least A: each bet is fixed before the outcome, so it is fair.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from crew_guard.core.reliability.trials import END_TO_END

ODDS_RATIOS = (1.6, 2.5, 4.5, 9.0, 18.0, 40.0)
"""How many times worse the failure odds may have become: each has a term of its own."""
ALARM_AFTER = 10_000.0
BASELINE_RUNS = 100
AFTER_FAILURES = (0.1, 0.05)
"""After one and after more failures in a row a further one gains at most this part of what it gains at 0.97.

Bursts are not a drop. Leaving out the third and later failures altogether holds against bursts as well, but never
tells of an agent that always fails, and takes a third longer than the optimum at a rate of 0.5.
"""
_REFERENCE = 0.97
BURST = 0.3
"""The correlation of neighbours that a stream is tested for."""
FREE_OF_BURSTS = -1.5
"""The log likelihood ratio of bursts against none at which a stream's bets are made in full: e^-1.5 is 1 to 4.5."""
QUIET = 10
"""Good trials in a row after which a failure is over, and tells of bursts: a drop has too few of them to teach."""
_LEAST = 0.05
"""What a stream is held to at the least: nothing is worse than a rate of 0."""
_MOST = 1e100
"""Of one term: far beyond any alarm, and JSON has no infinity."""
_FAILED = 0.5
"""Grades below count as failures in a row."""
_REMEMBERED = 64
"""Bets that a detector can still correct: what fails as often in a row has long been told of, and what doesn't has
forgotten most of what came before."""
_TO_BLAME = 0.1
"""An agent with at least this part of the outcomes' evidence is named in their place: it is its work that fails."""


class _Bets(NamedTuple):
    stakes: tuple[tuple[float, ...], ...]
    """By failures in a row, by term: the factor is 1 + stake * (level - grade)."""
    again: float
    """The log likelihood ratio of bursts where a failure follows a failure."""
    over: float
    """The same where none does."""


@lru_cache(maxsize=4096)
def _bets(level: float) -> _Bets:
    full, most = _stakes(level), _stakes(_REFERENCE)
    rows = [
        tuple(min(stake, part * gain * _REFERENCE / level) for stake, gain in zip(full, most, strict=True))
        for part in AFTER_FAILURES
    ]
    in_bursts = (1.0 - level) + BURST * level
    again, over = math.log(in_bursts / (1.0 - level)), math.log((1.0 - in_bursts) / level)
    return _Bets((full, *rows), again, over)


def _stakes(level: float) -> tuple[float, ...]:
    """(m0 - q) / (m0 (1 - m0)) for each odds ratio: a term's factor is then its likelihood ratio."""
    odds = (1.0 - level) / level
    rates = [1.0 / (1.0 + ratio * odds) for ratio in ODDS_RATIOS]
    return tuple([(level - rate) / (level * (1.0 - level)) for rate in rates])


class Bet(Struct, frozen=True, array_like=True, gc=False):
    """One outcome that was not wholly good, or not bet on in full."""

    at: float
    grade: float
    row: int
    """Which stakes it was bet on with."""
    good: int
    """How many came before it, after the bet before, that were wholly good and bet on in full."""


class EDetector(Struct, frozen=True):
    """One stream's evidence that its mean is below `level`."""

    level: float
    """The acceptable mean, in (0, 1)."""
    terms: tuple[float, ...] = (0.0,) * len(ODDS_RATIOS)
    failures: int = 0
    """In a row, at the moment."""
    quiet: int = 0
    """Good ones in a row."""
    bursts: float = 0.0
    """The log likelihood ratio of bursts against none, from failures that are over."""
    pending: float = 0.0
    """The same of failures that are not over yet."""
    bets: tuple[Bet, ...] = ()
    """The latest, the oldest first: what a correction needs to know."""
    good: int = 0
    """The wholly good outcomes since the last of them."""
    base: tuple[float, ...] = (0.0,) * len(ODDS_RATIOS)
    """What the terms were before the first of them."""

    @property
    def evidence(self) -> float:
        """The mean of the terms: alarm when it reaches A."""
        return sum(self.terms) / len(self.terms)

    def observed(self, grade: float, at: float = 0.0) -> EDetector:
        """With one outcome in [0, 1] more.

        Args:
            at: when it was, on any clock: see corrected
        """
        known = _bets(self.level)
        row = 0 if self.bursts <= FREE_OF_BURSTS else min(self.failures, len(known.stakes) - 1)
        terms = _stepped(self.terms, known.stakes[row], self.level - grade)
        bets, good, base = self.bets, self.good + 1, self.base
        if row or grade < 1.0:
            bets, good = (*bets, Bet(at, grade, row, self.good)), 0
            if len(bets) > _REMEMBERED:
                bets, base = bets[1:], _folded(self.level, base, bets[:1])
        bursts, pending, failed = self.bursts, self.pending, grade < _FAILED
        if self.failures:
            pending += known.again if failed else known.over
        if failed:
            return EDetector(self.level, terms, self.failures + 1, 0, bursts, pending, bets, good, base)
        if self.quiet + 1 == QUIET:
            bursts, pending = bursts + pending, 0.0
        return EDetector(self.level, terms, 0, self.quiet + 1, bursts, pending, bets, good, base)

    def corrected(self, before: float, after: float, at: float, now: float = 0.0) -> EDetector:
        """With an earlier outcome's grade corrected by a later verdict.

        For the worse it counts as an outcome of now. For the better the evidence is what the same bets come to on the
        corrected outcomes: each was fixed before its outcome, so it stays fair. What is older than the bets that are
        remembered stays as it was.

        Args:
            at: when the outcome was, on the clock that the detector was told of
            now: the same of the verdict
        """
        if after < before:
            return self.observed(after, now)
        # Two of one time and grade can't be told apart: to correct the larger bet never leaves too much.
        places = [place for place, bet in enumerate(self.bets) if (bet.at, bet.grade) == (at, before)]
        if after == before or not places:
            return self
        place = min(places, key=lambda each: self.bets[each].row)
        bets = (*self.bets[:place], replace(self.bets[place], grade=after), *self.bets[place + 1 :])
        return replace(self, terms=_good(self.level, _folded(self.level, self.base, bets), self.good), bets=bets)

    def restarted(self, level: float | None = None) -> EDetector:
        """Without evidence, perhaps at another level; what is known of bursts stays."""
        return EDetector(self.level if level is None else level, bursts=self.bursts)


def _stepped(terms: Iterable[float], stakes: Iterable[float], excess: float) -> tuple[float, ...]:
    return tuple([min(_MOST, (1.0 + m) * (1.0 + stake * excess)) for m, stake in zip(terms, stakes, strict=True)])


def _folded(level: float, terms: tuple[float, ...], bets: Iterable[Bet]) -> tuple[float, ...]:
    """The terms after these bets, and the good outcomes before each."""
    stakes = _bets(level).stakes
    for bet in bets:
        terms = _stepped(_good(level, terms, bet.good), stakes[bet.row], level - bet.grade)
    return terms


def _good(level: float, terms: tuple[float, ...], times: int) -> tuple[float, ...]:
    """The terms after so many wholly good outcomes that were bet on in full: m ← (1 + m) f is a geometric sum."""
    factors = [1.0 - stake * (1.0 - level) for stake in _bets(level).stakes[0]]
    return tuple([m * f**times + f * (1.0 - f**times) / (1.0 - f) for m, f in zip(terms, factors, strict=True)])


def level_of(target: float, baseline_lower: float | None) -> float:
    """The acceptable mean: the declared target, or what the stream has shown if that is less, kept inside (0, 1).

    Args:
        baseline_lower: Jeffreys' lower 90 % of at least 100 runs; the plain rate would give false alarms
    """
    least = target if baseline_lower is None else min(target, baseline_lower)
    return min(0.999, max(_LEAST, least))


class Alarm(Struct, frozen=True):
    """A crew's streams together have reached A."""

    culprit: str
    """The stream with the largest evidence; an agent's, where one has shown that it is to blame."""
    share: float
    """Its part of all evidence, in [0, 1]."""
    evidence: float
    """The mean over the streams."""


def evidence(detectors: Mapping[str, EDetector]) -> float:
    """The mean over streams; 0 without any."""
    return sum(one.evidence for one in detectors.values()) / len(detectors) if detectors else 0.0


def alarm(detectors: Mapping[str, EDetector], after: float = ALARM_AFTER) -> Alarm | None:
    """The alarm of a crew's streams, where their mean has reached `after`.

    A mean of e-detectors is one itself: no correction for their number, and its largest term names the culprit.
    """
    total = evidence(detectors)
    if not detectors or total < after:
        return None
    culprit = _culprit(detectors)
    return Alarm(culprit, detectors[culprit].evidence / (total * len(detectors)), total)


def _culprit(detectors: Mapping[str, EDetector]) -> str:
    shown = {name: one.evidence for name, one in detectors.items()}
    most = max(shown, key=shown.__getitem__)
    worst = max((name for name in shown if name != END_TO_END), key=shown.__getitem__, default=most)
    return worst if shown[worst] >= _TO_BLAME * shown[most] else most


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
        if self.log_ratio >= math.log((1 - self.beta) / self.alpha):
            return "good"
        return "bad" if self.log_ratio <= math.log(self.beta / (1 - self.alpha)) else "open"

    def observed(self, grade: float) -> Sprt:
        """With one outcome in [0, 1] more, after its answer too: what is said in the end is of all that was seen.

        Wald's bounds of its errors are those of ever coming to an answer, so they hold for this one as well.
        """
        return Sprt(self.ok, self.bad, self.alpha, self.beta, self.log_ratio + self._step(grade), self.trials + 1)

    def revised(self, before: float | None, after: float) -> Sprt:
        """With a later verdict on one of its outcomes; before is None where it had none."""
        if before is None:
            return self.observed(after)
        log_ratio = self.log_ratio + self._step(after) - self._step(before)
        return Sprt(self.ok, self.bad, self.alpha, self.beta, log_ratio, self.trials)

    def restarted(self) -> Sprt:
        """The same test without trials."""
        return Sprt(self.ok, self.bad, self.alpha, self.beta)

    def _step(self, grade: float) -> float:
        return grade * math.log(self.ok / self.bad) + (1 - grade) * math.log((1 - self.ok) / (1 - self.bad))


def sprt_for(level: float) -> Sprt:
    """The test for a stream that is held to this level: 0.95 against 0.85, or the same odds ratio below it."""
    default = Sprt()
    if level >= default.ok:
        return default
    level = max(_LEAST, level)
    ratio = (default.ok / (1 - default.ok)) / (default.bad / (1 - default.bad))
    odds = level / (1 - level) / ratio
    return Sprt(level, odds / (1 + odds))
