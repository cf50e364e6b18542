"""What a graph with branches comes to, against playing each of its ways through."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from crew_guard.core.reliability.structure import (
    AheadByK,
    AllOf,
    Chain,
    Leaf,
    OneOf,
    Retry,
    names,
    point,
    reckoned,
)
from crew_guard.errors import WorkflowError
from crew_guard.workflows.graph import Workflow, branch, chain, loop, node
from crew_guard.workflows.patterns import parallel, route, vote
from crew_guard.workflows.shape import Shape

A, B, C, D, SORT = (Leaf(name) for name in ("a", "b", "c", "d", "sort"))
Kind = Literal["easy", "hard"]


def step(name: str) -> Any:
    return node(lambda value: value, name=name)


def sort(value: Any) -> Kind:
    return "easy"


def again(value: Any) -> bool:
    return False


def test_a_route_counts_one_of_its_ways() -> None:
    """Not the product of all; a step after it is outside of them, and equal ways are one."""
    one = route(sort, {"easy": step("a"), "hard": chain(step("b"), step("c"))})
    assert one.structure() == Chain((SORT, OneOf((A, Chain((B, C))))))
    assert chain(one, step("d")).structure() == Chain((SORT, OneOf((A, Chain((B, C)))), D))
    same = step("a")
    assert route(sort, {"easy": same, "hard": same}).structure() == Chain((SORT, A))

    def plain(value: Any) -> Any:
        return value

    function = route(sort, {"easy": plain, "hard": step("b")}, otherwise=plain)
    assert function.structure() == Chain((SORT, OneOf((Leaf("plain"), B))))
    mixed = route(sort, {"easy": same, 2: same, "hard": step("b")}, otherwise=step("c"))
    assert mixed.structure() == Chain((SORT, OneOf((A, B, C))))


def test_a_way_that_skips_a_step_asks_nothing_more() -> None:
    """Where the branch leads right to where its ways meet."""
    flow = Workflow(
        [sort, step("a"), step("d")], [branch("sort", {"easy": "d", "hard": "a"}), ("a", "d")], name="skips"
    )
    assert flow.structure() == Chain((SORT, OneOf((Chain(()), A)), D))


def test_shares_that_were_counted_weigh_the_ways() -> None:
    """As counts or as shares; of equal ways they add up; each outcome needs one."""
    one = route(sort, {"easy": step("a"), "hard": step("b")}, otherwise=step("c"))
    counted = {"sort": {"easy": 30, "hard": 10, "otherwise": 0}}
    assert one.structure(counted) == Chain((SORT, OneOf((A, B, C), (0.75, 0.25, 0.0))))
    same = step("a")
    both = route(sort, {"easy": same, "hard": same, "odd": step("b")}, otherwise=step("c"))
    shares = {"easy": 0.25, "hard": 0.25, "odd": 0.25, "otherwise": 0.25}
    assert both.structure({"sort": shares}) == Chain((SORT, OneOf((A, B, C), (0.5, 0.25, 0.25))))


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ({"a": {"easy": 1}}, "no branch comes after 'a'; there are branches after sort"),
        ({"sort": {"easy": 1}}, "expected a number, 0 or more, for each of 'easy', 'hard'"),
        ({"sort": {"easy": 0, "hard": 0}}, "the branch after 'sort' has {'easy': 0, 'hard': 0}"),
        ({"sort": {"easy": -1, "hard": 2}}, "0 or more"),
    ],
)
def test_shares_that_fit_no_branch_are_refused(shares: Mapping[str, Any], words: str) -> None:
    """By the branch and what is expected."""
    with pytest.raises(WorkflowError) as raised:
        route(sort, {"easy": step("a"), "hard": step("b")}).structure(shares)
    assert words in str(raised.value)


def test_branches_inside_of_loops_and_loops_inside_of_ways() -> None:
    """A loop is tried again as a whole, its branch within; a way's loop is the way's alone."""
    back = loop("d", "sort", again=again, rounds=3)
    ways = [branch("sort", {"easy": "a", "hard": "b"}), ("a", "d"), ("b", "d")]
    inside = Workflow([sort, step("a"), step("b"), step("d")], [*ways, back], name="inside")
    assert inside.structure() == Retry(Chain((SORT, OneOf((A, B)), D)), 2)
    looped = Workflow([step("a"), step("b")], [("a", "b"), loop("b", "a", again=again, rounds=2)], name="looped")
    assert route(sort, {"easy": looped, "hard": step("c")}).structure() == Chain(
        (SORT, OneOf((Retry(Chain((A, B)), 1), C)))
    )
    nested = route(sort, {"easy": inside_of(), "hard": step("c")}).structure()
    assert nested == Chain((SORT, OneOf((Retry(Chain((Leaf("pick"), OneOf((A, B)), D)), 2), C))))


def inside_of() -> Workflow:
    def pick(value: Any) -> Kind:
        return "easy"

    ways = [branch("pick", {"easy": "a", "hard": "b"}), ("a", "d"), ("b", "d")]
    return Workflow(
        [pick, step("a"), step("b"), step("d")], [*ways, loop("d", "pick", again=again, rounds=3)], name="inside"
    )


def test_a_loop_around_a_vote_is_no_vote() -> None:
    """What else stands in it counts, too."""
    inner = vote(step("a"), ahead_by=2, most=9)
    whole = chain(inner, step("b"))
    flow = Workflow(whole.nodes, [*whole.edges, loop("b", "a", again=again, rounds=2)], name="around")
    assert flow.structure() == Retry(Chain((AheadByK(A, 2, votes=9), B)), 1)


def test_sections_with_a_branch_in_each_know_nothing_of_each_other() -> None:
    """Side by side; no way of the one is counted within the other."""

    def pick(value: Any) -> Kind:
        return "easy"

    one = chain(route(sort, {"easy": step("a"), "hard": step("b")}), step("x"))
    other = chain(route(pick, {"easy": step("c"), "hard": step("d")}), step("y"))
    found = parallel(one, other).structure()
    assert found == Chain(
        (
            AllOf((SORT, Leaf("pick"))),
            AllOf((OneOf((A, B)), OneOf((C, D)))),
            AllOf((Leaf("x"), Leaf("y"))),
        )
    )


# Against playing it


@st.composite
def flows(draw: Any, depth: int = 3) -> Workflow:
    """Chains, sections and routes in each other, each step with a name of its own."""
    count = itertools.count()

    def part(depth: int) -> Any:
        kind = draw(st.sampled_from(("step", "chain", "route", "route", "parallel"))) if depth else "step"
        if kind == "step":
            return step(f"n{next(count)}")
        parts = [part(depth - 1) for _ in range(draw(st.integers(1, 3)))]
        if kind == "chain":
            return chain(*parts)
        if kind == "parallel":
            return parallel(*parts, join=step(f"n{next(count)}"))
        ways = dict(enumerate(parts))
        last = step(f"n{next(count)}")
        return chain(route(step(f"n{next(count)}"), ways, otherwise=part(depth - 1)), last)

    return chain(part(depth))


def play(shape: Shape, taken: Mapping[str, Any]) -> Iterator[str]:
    """The nodes that run where branches come out like this, along the edges."""
    live = set(shape.start)
    for name in shape.order:
        if name not in live:
            continue
        yield name
        for place in shape.out[name]:
            edge = shape.edges[place]
            if not edge.branches or edge.outcome == taken[name]:
                live.add(edge.target)


@given(flow=flows(), data=st.data())
@settings(max_examples=60, deadline=None)
def test_the_point_is_that_of_every_way_played(flow: Workflow, data: Any) -> None:
    """Σ over all outcomes of their chance times the product of what runs; at the worst, no more than the worst play."""
    rates = {name: data.draw(st.floats(0.5, 1), label=name) for name in flow.shape.nodes}
    weights = {
        source: {each: data.draw(st.integers(0, 3)) + (not place) for place, each in enumerate(one.outcomes)}
        for source, one in flow.shape.branches.items()
    }
    assume(math.prod(len(one) for one in weights.values()) <= 3_000)
    whole, plays = 0.0, []
    for outcomes in itertools.product(*weights.values()):
        taken = dict(zip(weights, outcomes, strict=True))
        chance = math.prod(weights[source][each] / sum(weights[source].values()) for source, each in taken.items())
        plays.append(math.prod(rates[name] for name in play(flow.shape, taken)))
        whole += chance * plays[-1]
    named = {s: {"otherwise" if repr(k) == "otherwise" else k: v for k, v in w.items()} for s, w in weights.items()}
    assert point(flow.structure(named), rates) == pytest.approx(whole)
    assert set(names(flow.structure())) == set(flow.shape.nodes)
    assert point(reckoned(flow.structure(), "worst"), rates) == pytest.approx(min(plays))
    assert point(reckoned(flow.structure(), "best"), rates) == pytest.approx(max(plays))
