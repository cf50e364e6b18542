"""Intervals: against scipy, and against what they promise."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from crew_guard.core.reliability.counts import Counts, Sums, score, straight_passes, tier_of
from crew_guard.core.reliability.intervals import (
    Interval,
    chain_bound,
    clopper_pearson,
    confidence_sequence,
    frechet,
    jeffreys,
    lindstrom_madden,
    weighted_chain_bound,
    wilson,
)
from crew_guard.core.reliability.trials import adherence

COUNTS = st.integers(1, 500).flatmap(lambda n: st.integers(0, n).map(lambda good: Counts(n, float(good))))
CONFIDENCE = st.sampled_from((0.8, 0.9, 0.95, 0.99))


@given(counts=COUNTS, confidence=CONFIDENCE)
def test_clopper_pearson_is_scipys_exact_interval(counts: Counts, confidence: float) -> None:
    """Each end one-sided."""
    test = stats.binomtest(int(counts.good), counts.trials)
    expected = test.proportion_ci(2 * confidence - 1, method="exact")
    assert clopper_pearson(counts, confidence) == pytest.approx((expected.low, expected.high), abs=1e-8)


@given(counts=COUNTS, confidence=CONFIDENCE)
def test_wilson_is_scipys(counts: Counts, confidence: float) -> None:
    """Each end one-sided."""
    test = stats.binomtest(int(counts.good), counts.trials)
    expected = test.proportion_ci(2 * confidence - 1, method="wilson")
    assert wilson(counts, confidence) == pytest.approx((expected.low, expected.high), abs=1e-9)


@given(counts=COUNTS, confidence=CONFIDENCE)
def test_jeffreys_is_the_quantile_of_its_posterior(counts: Counts, confidence: float) -> None:
    """And reaches the end where everything or nothing was good."""
    posterior = stats.beta(counts.good + 0.5, counts.bad + 0.5)
    found = jeffreys(counts, confidence)
    assert found.lower == pytest.approx(posterior.ppf(1 - confidence) if counts.good else 0, abs=1e-8)
    assert found.upper == pytest.approx(posterior.ppf(confidence) if counts.bad else 1, abs=1e-8)


@given(counts=COUNTS)
def test_a_confidence_sequence_is_wider_than_the_exact_interval(counts: Counts) -> None:
    """It holds at all times, so it knows less at each."""
    exact, always = clopper_pearson(counts), confidence_sequence(counts)
    assert always.lower <= exact.lower + 1e-9
    assert always.upper >= exact.upper - 1e-9
    assert always.lower <= counts.good / counts.trials <= always.upper


def test_a_confidence_sequence_holds_although_somebody_looks_after_every_trial() -> None:
    """In 200 streams of 300 trials the exact bound has been wrong at some time in many, this one in at most 5 %."""
    draw = random.Random(5)
    looked = range(10, 301, 10)
    wrong_exact = wrong = 0
    for _ in range(200):
        good, ever_exact, ever = 0, False, False
        for n in range(1, 301):
            good += draw.random() < 0.8
            if n in looked and good / n > 0.8:
                counts = Counts(n, float(good))
                ever_exact = ever_exact or clopper_pearson(counts).lower > 0.8
                ever = ever or confidence_sequence(counts).lower > 0.8
        wrong_exact += ever_exact
        wrong += ever
    assert wrong_exact > 15
    assert wrong <= 10


@given(counts=COUNTS, confidence=CONFIDENCE)
def test_a_chain_of_one_has_very_nearly_the_exact_bounds(counts: Counts, confidence: float) -> None:
    """The lower end is exact to 0.005; the upper one is never too low, and 0.0725 too high at worst (0 of 10, 99 %)."""
    exact, chain = clopper_pearson(counts, confidence), chain_bound([counts], confidence)
    assert chain.lower == pytest.approx(exact.lower, abs=0.005)
    assert exact.upper - 0.001 <= chain.upper <= exact.upper + 0.075


@given(parts=st.lists(st.tuples(st.integers(5, 200), st.floats(0.6, 1)), min_size=2, max_size=8), seed=st.integers(0))
def test_the_chains_lower_bound_is_the_quantile_of_its_posterior(parts: list[tuple[int, float]], seed: int) -> None:
    """The product of Beta draws, one pseudo-failure in all on the least tested: within 0.03 of a Gamma match."""
    counts = [Counts(n, float(round(n * p))) for n, p in parts]
    weights = [Fraction(1, c.trials**3) for c in counts]
    shares = [float(weight / sum(weights)) for weight in weights]
    if any(c.good == 0 for c in counts):
        assert chain_bound(counts).lower == 0
        return
    draws = [
        stats.beta.rvs(c.good, c.bad + share, size=4_000, random_state=seed % 2**31 + index)
        for index, (c, share) in enumerate(zip(counts, shares, strict=True))
    ]
    expected = stats.scoreatpercentile(math.prod(draws), 5)
    assert chain_bound(counts).lower == pytest.approx(expected, abs=0.03)


@given(parts=st.lists(COUNTS, min_size=1, max_size=6), extra=st.booleans())
def test_more_good_trials_never_lower_a_chains_bounds(parts: list[Counts], extra: bool) -> None:
    """One more part lowers both ends, and the lower end lies below the upper one."""
    bounds = chain_bound(parts)
    assert 0 <= bounds.lower <= bounds.upper <= 1
    longer = chain_bound([*parts, Counts(30, 27.0)])
    assert longer.upper <= bounds.upper + 1e-9
    best = max(range(len(parts)), key=lambda index: parts[index].trials)
    grown = [*parts[:best], parts[best].plus(1.0), *parts[best + 1 :]]
    assert chain_bound(grown).upper >= bounds.upper - 1e-9


def test_a_part_that_nobody_tested_proves_nothing() -> None:
    """The lower bound is 0, the upper one what the others allow."""
    bounds = chain_bound([Counts(100, 100.0), Counts()])
    assert bounds == Interval(0.0, 1.0)
    assert chain_bound([Counts(100, 50.0), Counts()]).upper == pytest.approx(0.586, abs=0.01)


def test_a_part_asked_twice_counts_twice() -> None:
    """Its square, and less sure than two parts that were tested apart."""
    parts = {"a": Counts(50, 45.0)}
    twice = weighted_chain_bound(parts, {"a": 2})
    assert twice.lower == pytest.approx(weighted_chain_bound(parts, {"a": 1}).lower ** 2, abs=0.02)
    assert twice.lower < chain_bound([Counts(50, 45.0), Counts(50, 45.0)]).lower


def test_lindstrom_madden_is_near_the_chains_bound() -> None:
    """The table's chain of five at n = 20: 0.56 beside 0.57."""
    parts = [Counts(20, 19.0)] * 4 + [Counts(20, 18.0)]
    assert lindstrom_madden(parts) == pytest.approx(chain_bound(parts).lower, abs=0.02)
    assert lindstrom_madden([]) == 1
    assert lindstrom_madden([Counts(), Counts(9, 9.0)]) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_frechets_bounds_hold_the_product(rates: list[float]) -> None:
    """Independence lies between the worst and the best dependence."""
    found = frechet(rates)
    assert found.lower - 1e-12 <= math.prod(rates) <= found.upper + 1e-12


@pytest.mark.parametrize(("threshold", "passes"), [(0.95, 59), (0.85, 19), (0.70, 9), (0.0, 0), (1.0, None)])
def test_so_many_straight_passes_prove_a_tier(threshold: float, passes: int | None) -> None:
    """Where all are good the exact bound reaches the threshold at that number, and not one before."""
    assert straight_passes(threshold) == passes
    if passes:
        assert clopper_pearson(Counts(passes, float(passes))).lower >= threshold
        assert clopper_pearson(Counts(passes - 1, float(passes - 1))).lower < threshold


def test_a_tier_is_what_the_lower_bound_reaches() -> None:
    """At the threshold it is reached."""
    found = [tier_of(lower) for lower in (0.95, 0.949, 0.85, 0.70, 0.699, 0.0)]
    assert found == ["production", "internal", "internal", "pilot", "do not ship", "do not ship"]


def test_the_score_is_success_times_both_adherences() -> None:
    """90 of 100 good, costs kept to 0.95 and times to 0.98 on average; bounds on both sides; none unjudged."""
    sums = Sums(runs=100, outcomes=Counts(100, 90.0), cost_adherence=95.0, latency_adherence=98.0)
    found = score(sums)
    assert found is not None
    assert found.value == pytest.approx(0.9 * 0.95 * 0.98)
    assert found.lower < found.value < found.upper
    assert score(Sums(runs=5)) is None
    both = score(sums + sums)
    assert both is not None
    assert both.value == pytest.approx(found.value)
    assert both.lower > found.lower


def test_adherence_is_the_target_over_the_actual_at_most_one() -> None:
    """Without a target everything keeps to it."""
    assert [adherence(2.0, 1.0), adherence(2.0, 4.0), adherence(None, 9.0), adherence(0.0, 1.0)] == [1, 0.5, 1, 0]


@given(st.integers(1, 50), st.integers(0, 16), st.floats(0.5, 0.999))
def test_a_sum_of_grades_that_rounding_has_touched_has_an_interval(trials, digits, confidence):
    """All good but for a rounding error, and all bad but for one, are inside of [0, 1] like any other."""
    for good in (trials - 10.0**-digits, 10.0**-digits):
        interval = clopper_pearson(Counts(trials, max(0.0, good)), confidence)
        assert 0 <= interval.lower <= interval.upper <= 1
