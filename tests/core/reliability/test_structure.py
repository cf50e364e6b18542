"""What a crew's success is made of, against counting all cases and against known figures."""

from __future__ import annotations

import itertools
import math
import random

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from crew_guard.core.reliability import bounds, formulas
from crew_guard.core.reliability.bounds import lower, upper
from crew_guard.core.reliability.counts import Counts
from crew_guard.core.reliability.structure import (
    AheadByK,
    AllOf,
    AnyOf,
    Chain,
    CommonCause,
    KOfN,
    Leaf,
    Loop,
    OneOf,
    Repeat,
    Retry,
    Structure,
    Vote,
    compiled,
    leverage,
    names,
    point,
    reckoned,
    series,
)

A, B, C = Leaf("a"), Leaf("b"), Leaf("c")
RATE = st.floats(0, 1)
INNER = st.floats(0.02, 0.98)


def test_five_agents_of_093_make_070() -> None:
    """The product, for a chain and for parallel work that must all succeed."""
    five = tuple(Leaf(name) for name in "abcde")
    rates = dict.fromkeys("abcde", 0.93)
    assert point(Chain(five), rates) == pytest.approx(0.696, abs=5e-4)
    assert point(AllOf(five), rates) == point(Chain(five), rates)


@given(rates=st.lists(RATE, min_size=1, max_size=5), k=st.integers(0, 6))
def test_k_of_n_counts_every_case(rates: list[float], k: int) -> None:
    """The Poisson-binomial tail, against all 2ⁿ cases."""
    expected = sum(
        math.prod(p if good else 1 - p for p, good in zip(rates, case, strict=True))
        for case in itertools.product((0, 1), repeat=len(rates))
        if sum(case) >= k
    )
    assert formulas.k_of_n(rates, k) == pytest.approx(expected, abs=1e-12)


@given(a=RATE, b=RATE, judge=RATE)
def test_any_of_two_behind_a_judge(a: float, b: float, judge: float) -> None:
    """p_A p_B + g (p_A q_B + q_A p_B); with a perfect judge 1 - Πq."""
    expected = a * b + judge * (a * (1 - b) + (1 - a) * b)
    assert point(AnyOf((A, B), judge), {"a": a, "b": b}) == pytest.approx(expected, abs=1e-12)
    assert point(AnyOf((A, B)), {"a": a, "b": b}) == pytest.approx(1 - (1 - a) * (1 - b), abs=1e-12)


def test_a_retry_behind_a_verifier_lifts_five_agents_as_published() -> None:
    """0.590 becomes 0.823 good, 0.101 silently bad, 0.076 escalated."""
    once = formulas.retry(0.9, 1, 0.8, 0.95, 0.0)
    good = once.good**5
    not_escalated = (once.good + once.silently_bad) ** 5
    assert math.isclose(0.9**5, 0.590, abs_tol=5e-4)
    assert (good, not_escalated - good, 1 - not_escalated) == pytest.approx((0.823, 0.101, 0.076), abs=5e-4)


@given(p=INNER, times=st.integers(0, 5), sensitivity=RATE, specificity=RATE)
def test_independent_retries_have_the_closed_form(p: float, times: int, sensitivity: float, specificity: float) -> None:
    """G = (1 - rho^(r+1)) / (1 - rho), and the three endings are all there are."""
    found = formulas.retry(p, times, sensitivity, specificity, 0.0)
    rho = p * (1 - specificity) + (1 - p) * sensitivity
    attempts = times + 1 if rho == 1 else (1 - rho ** (times + 1)) / (1 - rho)
    assert found.attempts == pytest.approx(attempts, rel=1e-6)
    assert found.good == pytest.approx(p * specificity * attempts, rel=1e-6, abs=1e-12)
    assert found.good + found.silently_bad + found.escalated == pytest.approx(1.0)


def test_a_retry_of_the_same_task_helps_less_than_it_seems() -> None:
    """At p = 0.9 and ICC 0.4 it gives 0.954, not 0.99."""
    assert point(Retry(A, 1, icc=0.4), {"a": 0.9}) == pytest.approx(0.954, abs=1e-9)
    assert point(Retry(A, 1, icc=0.0), {"a": 0.9}) == pytest.approx(0.99, abs=1e-9)


@given(p=INNER, icc=st.floats(0.05, 0.95), good=st.integers(0, 5), bad=st.integers(0, 5))
def test_trials_of_one_task_are_beta_binomial(p: float, icc: float, good: int, bad: int) -> None:
    """E[θ^a (1 - θ)^b], against scipy; pass^2 gives the ICC back."""
    s = 1 / icc - 1
    expected = stats.betabinom(good + bad, p * s, (1 - p) * s).pmf(good) / math.comb(good + bad, good)
    assert formulas.moment(p, icc, good, bad) == pytest.approx(expected, rel=1e-6)
    assert formulas.icc_of(p, formulas.moment(p, icc, 2, 0)) == pytest.approx(icc, abs=1e-6)


@given(p=INNER, icc=st.floats(0.01, 0.9), votes=st.sampled_from((1, 3, 5, 7)))
def test_a_majority_of_alike_votes_lies_between_one_vote_and_independent_ones(p: float, icc: float, votes: int) -> None:
    """And with ICC 1 it is one vote."""
    one, free = p, formulas.majority(p, votes, 0.0)
    found = formulas.majority(p, votes, icc)
    assert min(one, free) - 1e-9 <= found <= max(one, free) + 1e-9
    assert formulas.majority(p, votes, 1.0) == pytest.approx(p)


def test_first_to_be_ahead_by_k_as_published() -> None:
    """A million steps at p = 0.99 need k = 4 for 0.9; the mean number of votes is k(2P - 1)/(2p - 1)."""
    assert formulas.ahead_by(0.99, 3, 0.0, 0) ** 1_000_000 < 0.9 <= formulas.ahead_by(0.99, 4, 0.0, 0) ** 1_000_000
    assert formulas.ahead_by(0.8, 3, 0.0, 0) == pytest.approx(1 / (1 + (0.2 / 0.8) ** 3))
    assert formulas.expected_votes(0.5, 3) == 9
    assert formulas.expected_votes(0.8, 3) == pytest.approx(3 * (2 * formulas.ahead_by(0.8, 3, 0, 0) - 1) / 0.6)


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 0.875, 1.0])
def test_the_urn_is_the_closed_form_where_votes_are_independent(p: float) -> None:
    """Many votes allowed is as good as no bound; and for alike votes it is the mean of the closed form."""
    assert formulas.ahead_by(p, 3, 0.0, 4_000) == pytest.approx(formulas.ahead_by(p, 3, 0.0, 0), abs=1e-6)
    if 0 < p < 1:
        prior = stats.beta(p * 1.5, (1 - p) * 1.5)
        expected = integrate.quad(lambda x: formulas.ahead_by(x, 2, 0.0, 0) * prior.pdf(x), 0, 1)[0]
        assert formulas.ahead_by(p, 2, 0.4, 0) == pytest.approx(expected, abs=2e-3)


def test_an_evaluators_loop_is_its_markov_chain() -> None:
    """Counted by playing it; and one without a fix is a check."""
    loop = Loop(A, fix=0.6, breaks=0.1, rounds=2, sensitivity=0.8, specificity=0.9, keep_last=True)
    draw, good = random.Random(2), 0
    for _ in range(40_000):
        state = draw.random() < 0.7
        for turn in range(3):
            flagged = draw.random() < (0.1 if state else 0.8)
            if not flagged or turn == 2:
                break
            state = draw.random() < (0.9 if state else 0.6)
        good += state
    assert point(loop, {"a": 0.7}) == pytest.approx(good / 40_000, abs=0.01)
    assert point(Loop(A, 0.0, 0.0, 0), {"a": 0.7}) == pytest.approx(0.7)


def test_a_common_cause_limits_what_spares_are_worth() -> None:
    """R = (1 - βq) f((q - βq)/(1 - βq)); a chain keeps its own rate for each part."""
    q = 0.1
    shock = 0.1 * q
    alone = (q - shock) / (1 - shock)
    found = point(CommonCause(AnyOf((A, B))), {"a": 0.9, "b": 0.9})
    assert found == pytest.approx((1 - shock) * (1 - alone**2))
    assert found < point(AnyOf((A, B)), {"a": 0.9, "b": 0.9})
    assert point(CommonCause(Chain((A, B))), {"a": 0.9, "b": 0.9}) > 0.81
    assert point(CommonCause(A), {"a": 0.9}) == pytest.approx(0.9)
    assert point(CommonCause(A, beta=1.0), {"a": 0.0}) == 0


def test_common_causes_inside_each_other_leave_the_rates_of_their_parts_what_they_are() -> None:
    """Both hit all of it at once: a second one makes what fails together more, and a leaf no worse."""
    rates = {"a": 0.9, "b": 0.8}
    assert point(CommonCause(CommonCause(A)), rates) == pytest.approx(0.9)
    assert point(CommonCause(CommonCause(OneOf((A, B), (0.25, 0.75)))), rates) == pytest.approx(0.825)
    both = Chain((A, B))
    assert point(CommonCause(CommonCause(both)), rates) > point(CommonCause(both), rates) > point(both, rates)
    assert point(CommonCause(CommonCause(both, 0.2), 0.0), rates) == pytest.approx(point(CommonCause(both, 0.2), rates))
    assert leverage(CommonCause(CommonCause(A)), rates)["a"] == pytest.approx(1.0)


def test_pass_k_of_tau_bench_is_predicted_from_its_icc() -> None:
    """Π (ps + i)/(s + i)."""
    p, icc = 0.42, 0.45
    s = 1 / icc - 1
    expected = math.prod((p * s + i) / (s + i) for i in range(4))
    assert point(Repeat(A, 4, icc), {"a": p}) == pytest.approx(expected)


def test_leverage_names_the_weakest_of_a_chain_first() -> None:
    """R / p, also where a part is asked twice; and 0 where a part can't matter."""
    rates = {"a": 0.9, "b": 0.5, "c": 0.8}
    found = leverage(Chain((A, B, C)), rates)
    assert list(found) == ["b", "c", "a"]
    assert found["b"] == pytest.approx(0.72, abs=1e-6)
    assert leverage(Chain((A, A)), {"a": 0.9})["a"] == pytest.approx(1.8, abs=1e-6)
    assert leverage(Chain((A, B)), {"a": 1.0, "b": 0.0}) == pytest.approx({"b": 1.0, "a": 0.0})


LEAVES = st.sampled_from((A, B, C))
GRAPHS: st.SearchStrategy[Structure] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: Chain(tuple(parts))),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: AllOf(tuple(parts))),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: AnyOf(tuple(parts), 0.9)),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: KOfN(2, tuple(parts))),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: OneOf(tuple(parts))),
        st.lists(inner, min_size=2, max_size=2).map(lambda parts: OneOf(tuple(parts), (0.25, 0.75))),
        inner.map(lambda part: Retry(part, 2, 0.8, 0.95)),
        inner.map(lambda part: Loop(part, 0.5, 0.1, 2, 0.8, 0.9)),
        inner.map(lambda part: Vote(part, 3)),
        inner.map(lambda part: AheadByK(part, 2)),
        inner.map(lambda part: Repeat(part, 3)),
        inner.map(CommonCause),
    ),
    max_leaves=6,
)


@given(graph=GRAPHS, rates=st.tuples(RATE, RATE, RATE))
@example(graph=CommonCause(CommonCause(OneOf((A, A), (0.25, 0.75)))), rates=(0.5, 0.5, 0.5))
def test_every_graph_is_a_chance_and_survives_json(graph: Structure, rates: tuple[float, float, float]) -> None:
    """In [0, 1]; the same tree after encoding and decoding."""
    p = dict(zip("abc", rates, strict=True))
    assert -1e-12 <= point(graph, p) <= 1 + 1e-12
    assert msgspec.json.decode(msgspec.json.encode(graph), type=Structure) == graph
    assert set(names(graph)) <= set("abc")
    assert compiled(graph)(p) == pytest.approx(point(graph, p), abs=1e-4)


@given(graph=GRAPHS)
def test_the_series_of_a_graph_is_its_product(graph: Structure) -> None:
    """Where all must succeed the whole is the product of powers."""
    found = series(graph)
    p = {"a": 0.9, "b": 0.7, "c": 0.6}
    if found is not None:
        assert point(graph, p) == pytest.approx(math.prod(p[name] ** often for name, often in found.items()))


WEIGHTS = st.lists(st.integers(0, 20), min_size=3, max_size=3).filter(any)


def shares_of(weights: list[int]) -> tuple[float, ...]:
    return tuple(weight / sum(weights) for weight in weights)


@given(rates=st.tuples(INNER, INNER, INNER), weights=WEIGHTS)
def test_of_several_ways_each_counts_by_its_share(rates: tuple[float, ...], weights: list[int]) -> None:
    """Σ share · rate, also inside of a chain; one that nobody knows lies between the worst and the best way."""
    p, shares = dict(zip("abc", rates, strict=True)), shares_of(weights)
    known = sum(share * rate for share, rate in zip(shares, rates, strict=True))
    assert point(OneOf((A, B, C), shares), p) == pytest.approx(known)
    assert point(Chain((A, OneOf((A, B, C), shares))), p) == pytest.approx(p["a"] * known)
    assert point(OneOf((A, B, C)), p) == pytest.approx(sum(rates) / 3)
    assert point(reckoned(OneOf((A, B, C)), "worst"), p) == min(rates)
    assert point(reckoned(OneOf((A, B, C)), "best"), p) == max(rates)
    assert point(reckoned(OneOf((A, B, C), shares), "worst"), p) == pytest.approx(known)


def test_a_branch_played_comes_out_as_its_point() -> None:
    """Two branches in a row, one with a way of two steps and one that skips: 60,000 tasks, played."""
    ways = (Chain((B, C)), A, Chain(()))
    graph = Chain((A, OneOf(ways, (0.5, 0.3, 0.2)), Retry(OneOf((B, C), (0.6, 0.4)), 1, 0.8, 0.95, icc=0.0)))
    p, draw = {"a": 0.95, "b": 0.8, "c": 0.7}, random.Random(3)

    def right(name: str) -> bool:
        return draw.random() < p[name]

    def tried() -> bool:
        for turn in range(2):
            good = right(draw.choices("bc", (0.6, 0.4))[0])
            if draw.random() < (0.05 if good else 0.8):
                if turn:
                    return False
                continue
            return good
        return False

    taken = {0: lambda: right("b") and right("c"), 1: lambda: right("a"), 2: lambda: True}
    good = sum(right("a") and taken[draw.choices((0, 1, 2), (5, 3, 2))[0]]() and tried() for _ in range(60_000))
    assert point(graph, p) == pytest.approx(good / 60_000, abs=4 * math.sqrt(0.25 / 60_000))


@given(graph=GRAPHS, weights=WEIGHTS, tested=st.integers(0, 30), bad=st.integers(0, 5))
@settings(max_examples=10, deadline=None)
def test_bounds_of_a_branch_hold_whatever_its_shares_are(
    graph: Structure, weights: list[int], tested: int, bad: int
) -> None:
    """On the same draws, shares that are known give a lower bound no lower, and an upper bound no higher."""
    counts = {name: Counts(tested + place, max(0.0, tested + place - bad * place)) for place, name in enumerate("abc")}
    open_, known = (Chain((A, OneOf((A, graph, B), shares))) for shares in ((), shares_of(weights)))

    def bound(of: object, shape: Structure) -> float:
        return of(shape, counts, 0.95, random.Random(1).betavariate)  # type: ignore[operator]

    assert bound(lower, open_) <= bound(lower, known) + 1e-9
    assert bound(upper, open_) >= bound(upper, known) - 1e-9


@pytest.mark.parametrize("shares", [(), (0.9, 0.1), (0.1, 0.9), (0.5, 0.5)])
def test_a_branchs_lower_bound_covers_the_truth(shares: tuple[float, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """In at least 0.94 of 200 records: with the shares known, or with none, where only the worse way is taken."""
    monkeypatch.setattr(bounds, "DRAWS", 500)
    p, trials, draw = {"a": 0.97, "b": 0.75, "c": 0.9}, {"a": 25, "b": 12, "c": 40}, random.Random(5)
    graph, held, times = Chain((C, OneOf((A, B), shares))), 0, 200
    truth = point(Chain((C, OneOf((A, B), shares or (0.0, 1.0)))), p)
    for _ in range(times):
        good = {name: float(sum(draw.random() < p[name] for _ in range(trials[name]))) for name in p}
        counts = {name: Counts(trials[name], good[name]) for name in p}
        held += lower(graph, counts, 0.95, draw.betavariate) <= truth
    assert held / times >= 0.94


def test_only_the_ways_that_are_taken_have_leverage() -> None:
    """By their shares: a way that is never taken gains nothing."""
    p = {"a": 0.9, "b": 0.5, "c": 0.8}
    assert leverage(Chain((A, OneOf((B, C), (0.25, 0.75)))), p) == pytest.approx({"a": 0.725, "c": 0.675, "b": 0.225})
    assert leverage(OneOf((B, C), (0.0, 1.0)), p) == pytest.approx({"c": 1.0, "b": 0.0})


@pytest.mark.parametrize(
    ("parts", "shares", "words"),
    [
        ((), (), "expected the ways of which one is taken"),
        ((A, B), (1.0,), "expected 2 numbers"),
        ((A, B), (0.5, 0.6), "1 in all"),
        ((A, B), (1.5, -0.5), "none below 0"),
    ],
)
def test_shares_that_are_none_are_refused(parts: tuple[Structure, ...], shares: tuple[float, ...], words: str) -> None:
    """One for each way, 1 in all; also where a record is read."""
    with pytest.raises(ValueError, match=words):
        OneOf(parts, shares)


def test_bounds_of_a_graph_hold_its_point() -> None:
    """Drawn for a graph with spares, exact for a leaf, the chain's for a chain; the same seed, the same bounds."""
    counts = {name: Counts(60, 54.0) for name in "abc"}
    rates = dict.fromkeys("abc", 0.9)
    for graph in (A, Chain((A, B, C)), Chain((A, AnyOf((B, C)))), Chain((Vote(A, 3), Retry(B, 1)))):
        low = lower(graph, counts, 0.95, random.Random(1).betavariate)
        high = upper(graph, counts, 0.95, random.Random(1).betavariate)
        assert 0 < low < point(graph, rates) < high < 1
        assert low == lower(graph, counts, 0.95, random.Random(1).betavariate)


def test_bounds_of_a_graph_that_nobody_tested_say_nothing() -> None:
    """A chain's lower end is 0; a graph's is near it, and its upper end 1."""
    graph = Chain((A, AnyOf((B, C))))
    assert lower(Chain((A, B)), {}, 0.95, random.Random(1).betavariate) == 0
    assert lower(graph, {}, 0.95, random.Random(1).betavariate) < 0.1
    assert upper(graph, {}, 0.95, random.Random(1).betavariate) == 1
    assert lower(Chain((A, A)), {"a": Counts(59, 59.0)}, 0.95, random.Random(1).betavariate) == pytest.approx(
        0.9, abs=0.01
    )
