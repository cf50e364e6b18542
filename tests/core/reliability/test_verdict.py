"""The three-way rule, judges and plans."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crew_guard.core.reliability import formulas
from crew_guard.core.reliability.counts import TIERS, Counts
from crew_guard.core.reliability.intervals import clopper_pearson
from crew_guard.core.reliability.judging import Judge, corrected, judge_of
from crew_guard.core.reliability.planning import Better, Part, Verifying, cheapest_plan
from crew_guard.core.reliability.structure import AnyOf, Chain, Leaf, point
from crew_guard.core.reliability.verdict import Estimate, estimate, route

TWO = Chain((Leaf("a"), Leaf("b")))


def known(a: Counts, b: Counts, measured: Counts | None = None) -> Estimate:
    """Of a chain of two."""
    return estimate(TWO, {"a": a, "b": b}, measured, 0.95, random.Random(1).betavariate)


def test_the_lower_bound_sends_to_the_crew_and_the_upper_one_to_the_workflow() -> None:
    """Between them the policy's word for the unknown decides."""
    well, badly = known(Counts(400, 398.0), Counts(400, 398.0)), known(Counts(400, 320.0), Counts(400, 330.0))
    assert route(well, 0.85)[::2] == ("crew", "parts")
    assert route(badly, 0.85)[::2] == ("workflow", "parts")
    little = known(Counts(5, 5.0), Counts(5, 5.0))
    assert [route(little, 0.85, unknown).way for unknown in ("crew", "workflow", "shadow")] == [
        "crew",
        "workflow",
        "shadow",
    ]
    assert route(little, 0.85).by == "unknown"
    assert "0.85 is unknown" in route(little, 0.85).why


def test_what_was_measured_decides_where_there_is_enough_of_it() -> None:
    """19 runs can prove 0.85, 18 can't: then the parts decide."""
    parts = Counts(400, 398.0), Counts(400, 398.0)
    assert route(known(*parts, Counts(60, 30.0)), 0.85)[::2] == ("workflow", "measured")
    assert route(known(*parts, Counts(18, 9.0)), 0.85)[::2] == ("crew", "parts")
    assert route(known(*parts, Counts(19, 19.0)), 0.85)[::2] == ("crew", "measured")
    assert route(known(*parts, Counts(19, 18.0)), 0.85).by == "unknown"
    assert route(known(*parts, Counts()), 0.85).by == "parts"


def test_a_threshold_of_one_is_never_proven() -> None:
    """No number of runs could; the parts say unknown."""
    assert route(known(Counts(900, 900.0), Counts(900, 900.0), Counts(900, 900.0)), 1.0).by == "unknown"


def test_a_crew_worse_than_its_parts_has_a_hand_off_that_fails() -> None:
    """Told as an agent of its own, with the rate that explains it; a better one fails together."""
    worse = known(Counts(400, 396.0), Counts(400, 396.0), Counts(100, 70.0))
    assert worse.disagreement == "hand-off"
    assert worse.hand_off == pytest.approx(0.7 / 0.99**2)
    assert "hand-off" in worse.words
    better = known(Counts(400, 320.0), Counts(400, 320.0), Counts(400, 318.0))
    assert better.disagreement == "together"
    assert "come together" in better.words
    assert known(Counts(400, 360.0), Counts(400, 360.0), Counts(100, 81.0)).disagreement == ""


def test_the_culprit_is_who_costs_most_and_the_least_tested_is_named() -> None:
    """Of those that were tried at all."""
    found = known(Counts(100, 90.0), Counts(20, 19.0))
    assert (found.culprit, found.least_tested) == ("a", "b")
    untried = known(Counts(), Counts(20, 19.0))
    assert (untried.culprit, untried.least_tested, untried.lower) == ("b", "a", 0)
    assert known(Counts(), Counts()).culprit == ""


def test_a_tier_needs_proof() -> None:
    """59 straight runs make production, whatever the parts' own bound; a contradiction takes it away."""
    assert known(Counts(60, 60.0), Counts(60, 60.0), Counts(59, 59.0)).tier == "production"
    assert known(Counts(40, 40.0), Counts(40, 40.0)).tier == "internal"
    assert known(Counts(), Counts()).tier == "do not ship"
    assert known(Counts(900, 900.0), Counts(900, 900.0), Counts(40, 30.0)).tier == "do not ship"


def test_a_judges_errors_are_taken_out() -> None:
    """Rogan and Gladen: (a - (1 - se)) / (se + sp - 1)."""
    judge = Judge(Counts(200, 160.0), Counts(200, 190.0))
    found = corrected(Counts(1_000, 875.0), judge)
    assert found is not None
    assert found.point == pytest.approx((0.875 - 0.2) / 0.75)
    assert found.interval.lower < found.point < found.interval.upper
    assert found.counts.trials < 1_000


def test_a_judge_that_is_no_better_than_chance_says_nothing() -> None:
    """Nor does one that was never tried on bad cases, nor no verdict at all."""
    assert corrected(Counts(100, 80.0), Judge(Counts(10, 5.0), Counts(10, 5.0))) is None
    assert corrected(Counts(100, 80.0), judge_of([(True, True)] * 20)) is None
    assert corrected(Counts(), Judge(Counts(10, 9.0), Counts(10, 9.0))) is None


def test_a_judges_record_is_counted_from_labelled_cases() -> None:
    """Flagged of the bad, accepted of the good."""
    judge = judge_of([(True, True)] * 9 + [(True, False)] + [(False, False)] * 4 + [(False, True)])
    assert (judge.sensitivity, judge.specificity) == (0.8, 0.9)


@pytest.mark.parametrize("truth", [0.6, 0.9, 0.97])
def test_the_corrected_interval_covers(truth: float) -> None:
    """Of 600 judges and 600 runs judged by them both one-sided bounds hold the true rate in at least 92 %."""
    draw, low, high = random.Random(7), 0, 0
    for _ in range(600):
        judge = Judge(
            Counts(100, float(sum(draw.random() < 0.8 for _ in range(100)))),
            Counts(100, float(sum(draw.random() < 0.95 for _ in range(100)))),
        )
        share = truth * 0.95 + (1 - truth) * 0.2
        found = corrected(Counts(200, float(sum(draw.random() < share for _ in range(200)))), judge)
        assert found is not None
        low += found.interval.lower <= truth
        high += found.interval.upper >= truth
    assert low / 600 >= 0.92
    assert high / 600 >= 0.92


def test_the_more_a_judge_has_accepted_the_more_it_is_worth() -> None:
    """Also where nothing is left to correct: 378 of 400 by a judge of 0.95 and 0.95 are no less than 20 of 20."""
    sure = Judge(Counts(50, 50.0), Counts(50, 50.0))
    worth = [corrected(Counts(number, float(number)), sure) for number in (20, 100, 1_000)]
    trials = [found.counts.trials for found in worth if found is not None]
    assert trials == sorted(trials)
    assert trials[0] >= 15
    good = corrected(Counts(400, 378.0), Judge(Counts(100, 95.0), Counts(100, 95.0)))
    assert good is not None
    assert good.counts.trials >= 59
    assert clopper_pearson(good.counts).lower == pytest.approx(good.interval.lower, abs=0.01)


@given(
    st.integers(1, 2_000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))),
    st.integers(10, 300).flatmap(lambda n: st.tuples(st.just(n), st.integers(n // 2, n))),
    st.integers(10, 300).flatmap(lambda n: st.tuples(st.just(n), st.integers(n * 2 // 3, n))),
)
def test_what_a_judge_said_is_worth_no_more_than_its_interval(
    accepted: tuple[int, int], bad: tuple[int, int], good: tuple[int, int]
) -> None:
    """No bound of the trials that stand for it is inside of the interval, and no tier is excluded that isn't."""
    judge = Judge(Counts(bad[0], float(bad[1])), Counts(good[0], float(good[1])))
    found = corrected(Counts(accepted[0], float(accepted[1])), judge)
    if found is None:
        return
    exact = clopper_pearson(found.counts)
    assert found.counts.trials <= accepted[0]
    assert exact.lower <= found.interval.lower + 1e-9
    assert exact.upper >= min(found.interval.upper, max(TIERS.values())) - 1e-9


FIVE = Chain(tuple(Leaf(name) for name in "abcde"))
CHECKS = Verifying(0.9, 0.98, usd=0.01, icc=0.2)


def test_a_crew_that_is_good_enough_needs_no_plan() -> None:
    """Nothing is changed, nothing costs more."""
    found = cheapest_plan(FIVE, dict.fromkeys("abcde", Part(0.99, 0.7)), 0.9)
    assert (found.steps, found.reached) == ((), True)
    assert found.usd == pytest.approx(3.5)


@given(
    rates=st.lists(st.floats(0.7, 0.99), min_size=1, max_size=2),
    prices=st.lists(st.floats(0.01, 2), min_size=2, max_size=2),
    target=st.floats(0.5, 0.99),
)
def test_a_chains_plan_is_the_cheapest_there_is(rates: list[float], prices: list[float], target: float) -> None:
    """Against every combination of measures; where none reaches the target, it says so and gives the best."""
    letters = "ab"[: len(rates)]
    parts = {name: Part(p, usd) for name, p, usd in zip(letters, rates, prices, strict=False)}
    found = cheapest_plan(Chain(tuple(Leaf(name) for name in letters)), parts, target, verifier=CHECKS)
    every = []
    for part in parts.values():
        own = [(part.p, part.usd)]
        for times in (1, 2, 3):
            after = formulas.retry(part.p, times, 0.9, 0.98, 0.2)
            own.append((after.good, after.attempts * (part.usd + 0.01)))
        own += [(formulas.majority(part.p, votes, 0.2), votes * part.usd) for votes in (3, 5)]
        every.append(own)
    totals = []
    for choice in itertools.product(*every):
        success, cost = 1.0, 0.0
        for p, usd in choice:
            success, cost = success * p, cost + usd
        totals.append((success, cost))
    enough = [cost for success, cost in totals if success >= target]
    assert found.reached == bool(enough)
    if enough:
        assert found.usd == pytest.approx(min(enough))
    else:
        assert found.point == pytest.approx(max(success for success, _ in totals))


def test_a_better_model_or_one_agent_less_is_taken_where_it_is_cheaper() -> None:
    """A neighbour does the work of one that isn't needed; a model that is better and cheaper is taken first."""
    parts = {name: Part(0.93, 0.7, needed=name != "e") for name in "abcde"}
    found = cheapest_plan(FIVE, parts, 0.74)
    assert [step.measure for step in found.steps] == ["fewer"]
    assert found.usd == pytest.approx(2.8)
    models = {name: [Better("small", 0.98, 0.2)] for name in "abcd"}
    found = cheapest_plan(FIVE, parts, 0.92, models=models)
    assert {step.measure for step in found.steps} == {"model", "fewer"}
    assert found.usd == pytest.approx(0.8)
    assert found.point == pytest.approx(0.98**4)


def test_a_target_out_of_reach_is_said_to_be() -> None:
    """With the best plan there is."""
    found = cheapest_plan(FIVE, dict.fromkeys("abcde", Part(0.9, 0.7)), 0.999999)
    assert not found.reached
    assert found.point > 0.9**5


def test_other_graphs_are_planned_step_by_step() -> None:
    """The measures reach the target, and the point is the structure's own with them."""
    graph = Chain((Leaf("a"), AnyOf((Leaf("b"), Leaf("c")))))
    parts = {"a": Part(0.85, 0.5), "b": Part(0.9, 0.5), "c": Part(0.9, 0.5)}
    assert point(graph, {name: part.p for name, part in parts.items()}) < 0.9
    found = cheapest_plan(graph, parts, 0.92, verifier=CHECKS)
    assert found.reached
    assert {step.leaf for step in found.steps} == {"a"}
    rates = {name: part.p for name, part in parts.items()} | {step.leaf: step.p for step in found.steps}
    assert found.point == pytest.approx(point(graph, rates))


def test_a_part_that_is_asked_twice_pays_twice() -> None:
    """In success and in money."""
    found = cheapest_plan(Chain((Leaf("a"), Leaf("a"))), {"a": Part(0.9, 0.5)}, 0.5)
    assert (found.point, found.usd) == (pytest.approx(0.81), pytest.approx(1.0))
