"""What is wrong with a graph is told when it is made, before anything runs."""

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Literal, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from crew_guard import NodeContext, Workflow, agent_node, chain, node, parallel, route, tool
from crew_guard.core.limits import Limits
from crew_guard.core.reliability.structure import AheadByK, AllOf, Chain, Leaf, Repeat, Retry, Vote
from crew_guard.core.reliability.trials import END_TO_END
from crew_guard.core.roles import Agent, Role
from crew_guard.errors import ConfigError, WorkflowError
from crew_guard.workflows import graph
from crew_guard.workflows.fitting import fits
from crew_guard.workflows.graph import Edge, branch, loop
from crew_guard.workflows.patterns import Revision, gate, orchestrate, refine, retry, vote
from tests.workflows.going import Ran


class Lead(BaseModel):
    name: str
    kind: Literal["new", "old"] = "new"


class Size(Enum):
    BIG = 1
    SMALL = 2


def start(inputs: Mapping[str, Any]) -> Lead:
    return Lead(name="Ann")


def upper(name: str) -> str:
    return name.upper()


def of_lead(lead: Lead) -> str:
    return lead.name


def size(lead: Lead) -> Size:
    return Size.BIG


def flag(lead: Lead) -> bool:
    return True


def wrong(*nodes: Any, edges: Sequence[Any] = (), **options: Any) -> str:
    """What a graph that can't work is told."""
    with pytest.raises(WorkflowError) as caught:
        Workflow(list(nodes), list(edges), "flow", **options)
    assert isinstance(caught.value, ConfigError)
    assert all(problem.message in str(caught.value) for problem in caught.value.problems)
    return str(caught.value)


def test_names_that_lead_nowhere_are_told():
    """Edges, branches, loops and starts; with the names that there are."""
    text = wrong(start, of_lead, edges=[("start", "of_led")])
    assert "there is no node 'of_led'; there are start, of_lead" in text
    assert "'nobody'" in wrong(start, edges=[branch("start", {"new": "nobody"}, by="kind", otherwise="start2")])
    assert "'x'" in wrong(start, edges=[loop("start", "x", again=lambda _: True, rounds=2)])
    assert "'begin'" in wrong(start, start=["begin"])


def test_two_nodes_of_one_name_are_told():
    """As before, and a ValueError as before."""
    with pytest.raises(ValueError, match="two nodes are named 'start'"):
        chain(start, start)
    with pytest.raises(ValueError, match="has no nodes"):
        chain()


def test_no_node_has_the_name_of_the_outcomes():
    """Its trials would count as those of the whole."""
    assert "a node is named 'end to end'" in wrong(node(upper, name=END_TO_END))


def test_a_cycle_needs_a_bound():
    """Plain edges in a circle, and a loop that says no number of rounds."""
    nodes = [node(upper, name=name) for name in "abc"]
    assert "a cycle without a bound: " in wrong(*nodes, edges=[("a", "b", "c", "b")])
    text = wrong(*nodes, edges=[("a", "b", "c"), loop("c", "b", again=lambda _: True, rounds=None)])
    assert "the loop from 'c' back to 'b' has no bound" in text
    assert "not 0" in wrong(*nodes, edges=[("a", "b", "c"), loop("c", "b", again=lambda _: True, rounds=0)])


def test_an_unreachable_node_is_told():
    """Nothing leads to it from the start."""
    text = wrong(start, of_lead, upper, edges=[("start", "of_lead")])
    assert "'upper' is unreachable: nothing leads to it from start" in text


@pytest.mark.parametrize(
    ("by", "targets", "told"),
    [
        ("kind", {"new": "of_lead"}, "is missing one for 'old'"),
        ("kind", {"new": "of_lead", "old": "of_lead", "x": "of_lead"}, "one for 'x', which never comes"),
        (size, {Size.BIG: "of_lead"}, "is missing one for <Size.SMALL: 2>"),
        (flag, {True: "of_lead"}, "is missing one for False"),
        (upper, {"A": "of_lead"}, "give it otherwise="),
        (lambda _: "A", {"A": "of_lead"}, "give it otherwise="),
        ("age", {1: "of_lead"}, "Lead has no such field"),
    ],
)
def test_a_missing_branch_is_told(by: Any, targets: Any, told: str):
    """Where all outcomes can be named, each needs one; else there must be an otherwise."""
    assert told in wrong(start, of_lead, edges=[branch("start", targets, by=by)])


def test_a_branch_that_names_all_outcomes_is_whole():
    """So is one with an otherwise."""
    Workflow([start, of_lead], [branch("start", {"new": "of_lead", "old": "of_lead"}, by="kind")])
    Workflow([start, of_lead], [branch("start", {"new": "of_lead"}, by=lambda _: 1, otherwise="of_lead")])


def test_types_that_do_not_fit_are_told_between_neighbours():
    """Along an edge, along a loop, into a join by name and as a dict, into each item."""

    def count(name: str) -> int:
        return len(name)

    def both(a: str, b: int) -> str:
        return a * b

    def numbers(lead: Lead) -> list[int]:
        return []

    assert "'upper' takes str; from 'start' comes Lead" in wrong(start, upper, edges=[("start", "upper")])
    nodes = [start, of_lead, count]
    text = wrong(*nodes, edges=[("start", "of_lead", "count"), loop("count", "of_lead", again=flag, rounds=2)])
    assert "'of_lead' takes Lead; from 'count', going back, comes int" in text
    a, b = node(of_lead, name="a"), node(of_lead, name="b")
    assert "'both' takes int; from 'b' comes str" in wrong(
        start, a, b, both, edges=[("start", "a", "both"), ("start", "b", "both")]
    )
    assert "takes str; from a, b, as a dict by name, comes" in wrong(
        start, a, b, upper, edges=[("start", "a", "upper"), ("start", "b", "upper")]
    )
    with pytest.raises(WorkflowError, match="'upper' takes str; from 'numbers' comes int"):
        orchestrate(numbers, upper, lambda results: results)


def test_a_gate_lets_types_through():
    """What comes after it is checked against what comes before it."""

    def sound(lead: Lead) -> bool:
        return True

    chain(start, gate(sound), of_lead)
    with pytest.raises(WorkflowError, match="'upper' takes str; from 'sound' comes Lead"):
        chain(start, gate(sound), upper)


def test_where_a_run_would_not_fit_is_told_before_it_runs():
    """A first node that takes no mapping is a part of a larger workflow, and can't run alone."""
    part = chain(upper, name="part")
    with pytest.raises(WorkflowError, match="'upper' takes str; from a run's inputs"):
        part.check()
    chain(of_lead).check()  # inputs are read into a pydantic model


def test_a_function_that_takes_other_values_is_told():
    """By name only where the names are those of the nodes before."""

    def pair(first: str, second: str, third: str) -> str:
        return first

    assert "takes first, second, third; it is given one value" in wrong(start, pair, edges=[("start", "pair")])


def test_loops_have_one_way_in_and_one_way_out():
    """Or a round would not be whole."""
    a, b, c, d = (node(upper, name=name) for name in "abcd")
    back = loop("c", "b", again=flag, rounds=2)
    assert "'b' leaves the loop from 'c'" in wrong(a, b, c, d, edges=[("a", "b", "c"), ("b", "d"), back])
    assert "inside of the loop" in wrong(a, b, c, edges=[("a", "b", "c"), ("a", "c"), back])
    assert "doesn't come before it" in wrong(a, b, c, edges=[("a", "b"), ("a", "c"), back])
    crossing = [("a", "b", "c", "d"), loop("c", "a", again=flag, rounds=2), loop("d", "b", again=flag, rounds=2)]
    assert "cross each other" in wrong(node(lambda x: x, name="z"), a, b, c, d, edges=[("z", "a"), *crossing])


def test_a_join_of_what_runs_and_what_may_is_told():
    """Nobody could say what it waits for."""

    def yes(name: str) -> bool:
        return True

    nodes = [node(upper, name=name) for name in "abcd"]
    edges = [("a", "b", "d"), branch("b2", {True: "c"}, by=yes, otherwise="e"), ("c", "d")]
    extra = [node(upper, name="b2"), node(upper, name="e")]
    text = wrong(*nodes, *extra, edges=[*edges, ("a", "b2"), ("e", "d")])
    assert "of which now all run and now only some" in text


def test_branches_that_meet_again_are_one_value():
    """Whichever way it went: a merge, and behind it a join with what always runs."""

    def yes(name: str) -> bool:
        return True

    nodes = [node(upper, name=name) for name in ("a", "b", "c", "m", "n")]
    edges = [branch("a", {True: "b", False: "c"}, by=yes), ("b", "m"), ("c", "m"), ("m", "n"), ("a2", "n2")]
    flow = Workflow(nodes, edges[:-1])
    assert flow.shape.meetings == {"a": "start", "b": "one", "c": "one", "m": "merge", "n": "one"}


def test_what_an_irreversible_node_needs_is_checked():
    """An approver, or a terminal; and no second try."""
    flow = chain(start, node(of_lead, irreversible=True))
    with pytest.raises(WorkflowError, match="'of_lead' is irreversible and has nobody to ask"):
        flow.check(terminal=False)
    flow.check(terminal=True)
    chain(start, node(of_lead, irreversible=True, approve=flag)).check(terminal=False)
    with pytest.raises(WorkflowError, match="it is not tried again"):
        chain(start, node(of_lead, irreversible=True, approve=flag, retry=1))

    @tool(irreversible=True)
    def send(to: str) -> str:
        """Send it."""
        return to

    assert chain(send).unapproved() == ("send",)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"timeout": 0}, "timeout must be seconds"),
        ({"pass_mark": 1.5}, "pass_mark must be a grade"),
        ({"verify": True}, "verify must be a function"),
        ({"approve": flag}, "approve= is for a node that is irreversible"),
        ({"output": dict}, "output must be a class of pydantic"),
        ({"retry": -1}, "node 'of_lead': retry: times must be a whole number"),
        ({"retry": True}, "times must be a whole number, 0 or more, not True"),
        ({"retry": "2"}, "retry is '2'; expected a number of further tries"),
        ({"timeout": "3"}, "timeout must be seconds, more than 0, not '3'"),
        ({"pass_mark": "1"}, "pass_mark must be a grade from 0 to 1, not '1'"),
        ({"model": 3}, "model must be a model's name"),
        ({"max_tokens": -1, "model": "m:x"}, "max_tokens must be a whole number of at least 1, not -1"),
        ({"name": 3}, "a node's name is a text"),
        ({"model": ""}, "model must be a model's name, such as 'openai:gpt-4.1-mini', or a Model, not ''"),
        ({"model": "m:x", "system": 123}, "node 'of_lead': system must be a text, not 123"),
        ({"done_by": ["other"]}, "node 'of_lead': done_by must be a text, not ['other']"),
        ({"caps": 3}, "node 'of_lead': caps is 3; expected a dict such as {'max_steps': 3}"),
        ({"caps": {"max_step": 3}}, "node 'of_lead': caps: there is no cap 'max_step'; did you mean max_steps?"),
        ({"caps": {"max_steps": -3}}, "caps: max_steps is -3; expected a whole number, 0 or more"),
        (
            {"caps": {"max_steps": "x", "max_usd": "cheap", "max_seconds": "soon"}},
            "caps: max_steps is 'x'; expected a whole number, 0 or more; max_usd is 'cheap'; expected dollars, 0 or "
            "more, such as '0.05'; max_seconds is 'soon'; expected seconds, 0 or more",
        ),
        ({"caps": {"max_stepz": 1}}, "max_stepz"),
        ({"caps": Limits(max_depth=1)}, "max_depth is the whole run's"),
        ({"name": "a/b"}, "must not be blank or hold a '/'"),
        ({"name": " "}, "must not be blank or hold a '/'"),
    ],
)
def test_what_a_node_can_not_be_is_told(options: Any, told: str):
    """With its name, and what was expected."""
    with pytest.raises(WorkflowError, match=re.escape(told)):
        node(of_lead, **options)


def test_a_join_that_names_one_of_several_takes_none_of_them_for_a_context():
    """What it is given is told: the last node of each section by its name."""
    legal, tone = node(lambda inputs: "", name="legal"), node(lambda inputs: "", name="tone")

    def join(legal: Any, tone: Any) -> str:
        return f"{legal} {tone}"

    assert Ran(parallel(legal, tone, join=join)).result.output == " "
    with pytest.raises(WorkflowError, match="'join' takes legal, tone; it is given upper, tone, each by its name"):
        parallel(chain(legal, node(lambda text: text, name="upper")), tone, join=join)


def test_what_is_built_in_is_a_step():
    """Where Python itself doesn't say what it takes, it is given one value."""
    assert chain(node(lambda inputs: inputs["n"], name="n"), int, str).shape.nodes["str"].returns is str
    assert Ran(chain(node(lambda inputs: inputs["n"], name="n"), int, str), {"n": "07"}).result.output == "7"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: chain(start, name=None), "a workflow's name must be a text, not None"),
        (lambda: Workflow([start], None), "workflow 'workflow': edges must be a list, not None"),
        (lambda: Workflow(None), "workflow 'workflow': nodes must be a list, not None"),
        (lambda: Workflow([start], start="start"), "workflow 'workflow': start must be a list, not 'start'"),
        (
            lambda: Edge("a", "b", passes="inputs"),
            "the edge from 'a': passes must be 'output' or 'input', not 'inputs'",
        ),
        (lambda: Edge("a", ["b"]), "the edge from 'a': target must be a text, not ['b']"),
        (lambda: branch(["a"], {"x": "b"}), "branch: source must be a text, not ['a']"),
        (lambda: branch("a", ["b", "c"]), "the branch after 'a': targets must be a Mapping, not ['b', 'c']"),
        (
            lambda: branch("a", {"x": 5}),
            "the branch after 'a': the target for 'x' must be a node's name, or several",
        ),
        (lambda: branch("a", {"x": "b"}, passes="inputs"), "the branch after 'a': passes must be 'output' or 'input'"),
        (lambda: loop("b", "a", again="x", rounds=2), "the loop from 'b': again must be a function, not 'x'"),
        (lambda: loop("b", "a", again=None, rounds=2), "the loop from 'b': again must be a function, not None"),
        (lambda: loop("b", "a", again=bool, rounds=2, passes="input"), "the loop from 'b': passes must be a function"),
        (lambda: graph.Retry(1, first="1"), "retry: first must be seconds, 0 or more, not '1'"),
        (lambda: graph.Retry(1, factor=None), "retry: factor must be a number of at least 1, not None"),
        (lambda: graph.Retry(1, longest=-1), "retry: longest must be seconds, 0 or more, not -1"),
    ],
)
def test_what_a_graph_can_not_be_made_of_is_told(make: Any, told: str):
    """Where it is made, before any model is asked."""
    with pytest.raises(WorkflowError, match=re.escape(told)):
        make()


def test_an_agent_node_needs_a_task_and_caps():
    """Without an end it would be no node."""
    ann = Agent(Role(name="ann", goal="help"))
    with pytest.raises(WorkflowError, match="task= says what"):
        agent_node(ann, caps={"max_steps": 2})
    with pytest.raises(TypeError, match="caps"):
        agent_node(ann, "x")  # type: ignore[call-arg]
    with pytest.raises(WorkflowError, match="takes an Agent or a Crew"):
        agent_node("ann", "x", caps={"max_steps": 5})  # type: ignore[arg-type]


class Shape(TypedDict):
    side: int


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (int, float, True),
        (float, int, False),
        (bool, int, True),
        (str, Any, True),
        (Any, str, True),
        (list[int], Sequence[int], True),
        (list[str], Sequence[int], False),
        (dict[str, int], Mapping[str, str], False),
        (Shape, Mapping[str, Any], True),
        (str | None, str, False),
        (str, str | None, True),
        (Literal["a"], Literal["a", "b"], True),
        (Literal["a", "c"], Literal["a", "b"], False),
        (Literal["a"], str, True),
        (tuple[int, ...], tuple[int, int], True),
        (tuple[int, str], tuple[int, int], False),
        (type(None), str, False),
    ],
)
def test_what_fits(one: Any, other: Any, expected: bool):
    """Only what is certain is called wrong."""
    assert fits(one, other) is expected


KINDS = st.recursive(
    st.sampled_from([int, str, bool, type(None), Lead, Size]),
    lambda inner: st.one_of(
        inner.map(lambda kind: list[kind]), st.tuples(inner, inner).map(lambda two: two[0] | two[1])
    ),
    max_leaves=5,
)


@given(KINDS, KINDS)
def test_every_type_fits_itself_and_what_holds_it(one: Any, other: Any):
    """Reflexive, and a part of a union fits the union."""
    assert fits(one, one)
    assert fits(one, one | other)
    assert fits(list[one], Sequence[one])


@given(st.lists(st.integers(0, 6), min_size=1, max_size=12))
def test_a_graph_of_edges_forward_is_ordered_along_them(steps: list[int]):
    """Whatever joins whatever, each node comes after those that lead to it."""
    names = [f"n{place}" for place in range(len(steps) + 1)]
    nodes = [node(lambda value: value, name=name) for name in names]
    edges = [(names[max(0, place - step)], names[place + 1]) for place, step in enumerate(steps)]
    order = Workflow(nodes, edges).shape.order
    assert all(order.index(one) < order.index(other) for one, other in edges)


def test_the_structure_has_a_leaf_for_each_node():
    """Chains, what is side by side, loops and retries behind a verifier, votes, repeats; no joins of patterns."""

    def numbers(lead: Lead) -> list[int]:
        return []

    def review(draft: str) -> bool:
        return True

    def write(asked: str | Revision) -> str:
        return ""

    assert chain(start, of_lead, upper).structure() == Chain((Leaf("start"), Leaf("of_lead"), Leaf("upper")))
    a, b = node(of_lead, name="a"), node(of_lead, name="b")
    side = chain(start, parallel(a, b), lambda both: both)
    assert side.structure() == Chain((Leaf("start"), AllOf((Leaf("a"), Leaf("b"))), Leaf("<lambda>")))
    assert chain(start, retry(node(of_lead, verify=review), 3)).structure() == Chain(
        (Leaf("start"), Retry(Leaf("of_lead"), 3))
    )
    assert vote(of_lead, voters=5).structure() == Vote(Leaf("of_lead"), 5)
    assert vote(of_lead, ahead_by=2, most=9).structure() == AheadByK(Leaf("of_lead"), 2, votes=9)
    assert refine(write, review, rounds=3).structure() == Retry(Chain((Leaf("write"), Leaf("review"))), 2)
    work = orchestrate(numbers, lambda n: n, node(lambda all_: all_, name="end"), workers=4)
    assert work.structure() == Chain((Leaf("numbers"), Repeat(Leaf("<lambda>"), 4, icc=0.0), Leaf("end")))


def test_a_graph_is_drawn():
    """As Mermaid and in the terminal, with what is declared about its nodes."""
    from rich.console import Console

    def sort(inputs: Mapping[str, Any]) -> Literal["bill", "other"]:
        return "bill"

    pay = node(lambda x: x, name='pay "now"', irreversible=True, caps={"max_steps": 2, "max_usd": "0.5"})
    flow = chain(
        route(sort, {"bill": pay, "other": node(lambda x: x, name="answer", model="m:x", timeout=3)}), lambda x: x
    )
    drawn = flow.mermaid()
    assert '["pay #quot;now#quot;<br/>irreversible: asks first<br/>max_steps 2<br/>max_usd $0.5"]' in drawn
    assert '|"bill"|' in drawn
    assert "classDef irreversible" in drawn
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115  what is shown is recorded
    console.print(flow)
    shown = console.export_text()
    assert 'bill: pay "now"  irreversible: asks first, max_steps 2, max_usd $0.5' in shown
    assert "other: answer  asks m:x, 3 s at most" in shown
    assert shown.count("↪ <lambda>") == 1
    looped = refine(lambda asked: "", flag_of, rounds=3)
    assert "again, 3 rounds at most" in looped.mermaid()


def flag_of(draft: str) -> bool:
    return True


def test_a_context_is_known_by_its_type_and_its_name():
    """Wherever it stands among the parameters."""

    def first(context: NodeContext, name: str) -> str:
        return name

    def join(a: str, b: str, ctx: Any) -> str:
        return a + b

    assert node(first).signature.parameters == {"name": str}
    assert node(join).signature.context == "ctx"
