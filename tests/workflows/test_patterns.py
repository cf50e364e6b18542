"""The patterns, each bounded, and how they nest."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from crew_guard import (
    Agent,
    Crew,
    Policy,
    Supervisor,
    Task,
    Workflow,
    agent_node,
    chain,
    node,
    orchestrate,
    parallel,
    refine,
    retry,
    route,
    tool,
    vote,
)
from crew_guard.adapters.native import NativeRuntime
from crew_guard.core.events import Admitted, Judged, NodeFinished
from crew_guard.core.limits import AgentLimits, Limits
from crew_guard.core.roles import Role, TaskContext, Verdict
from crew_guard.core.verdicts import Judge
from crew_guard.errors import ConfigError, WorkflowError
from crew_guard.models.scripted import Reply, ScriptedModel
from crew_guard.ports import Means
from crew_guard.store.memory import MemoryStore
from crew_guard.workflows.context import NodeFailedError
from crew_guard.workflows.patterns import Revision, gate
from crew_guard.workflows.votes import Ballots
from tests.workflows.going import AtGate, Ran


def test_a_gate_passes_on_or_ends_the_workflow():
    """Its verdict is recorded like any other."""

    def polite(text: str) -> Verdict:
        return Verdict(passed="please" in text, reason="it never says please")

    flow = chain(node(lambda inputs: inputs["text"], name="read"), gate(polite), lambda text: text.upper())
    assert Ran(flow, {"text": "please"}).result.output == "PLEASE"
    ran = Ran(flow, {"text": "now"})
    assert "the verifier of polite said no: it never says please" in ran.result.error
    assert ran.of(Judged)[0].agent == "polite"


def test_routing_takes_what_the_classifier_says():
    """The ways are given the question itself; several outcomes may share a way; workflows are ways, too."""

    def kind(inputs: Mapping[str, Any]) -> Literal["bill", "money", "other"]:
        return inputs["kind"]

    pay = node(lambda inputs: f"pay {inputs['id']}", name="pay")
    rest = chain(node(lambda inputs: "rest", name="first"), node(lambda text: text + "!", name="second"))
    flow = chain(route(kind, {"bill": pay, "money": pay, "other": rest}), node(lambda text: f"<{text}>", name="end"))
    assert Ran(flow, {"kind": "bill", "id": 1}).result.output == "<pay 1>"
    assert Ran(flow, {"kind": "money", "id": 2}).result.output == "<pay 2>"
    assert Ran(flow, {"kind": "other"}).result.output == "<rest!>"


def test_sections_see_the_same_and_are_joined():
    """As a dict, or by the join's parameters; workflows are sections, too."""
    one, two = node(lambda inputs: inputs["n"] + 1, name="one"), node(lambda inputs: inputs["n"] * 10, name="two")
    assert Ran(parallel(one, two), {"n": 1}).result.output == {"one": 2, "two": 10}

    def total(one: int, three: int) -> int:
        return one + three

    deep = chain(two, node(lambda n: n + 5, name="three"))
    assert Ran(parallel(one, deep, join=total), {"n": 1}).result.output == 17


@pytest.mark.parametrize(
    ("votes", "result"),
    [(["a", "b", "a"], "a"), (["a", "a", "b"], "a"), (["a", "b", "c"], "no majority: the first has 1 of 3 votes")],
)
def test_most_of_the_voters_decide(votes: list[str], result: str):
    """More than half must agree; all are asked at once, and count as one node."""
    model = ScriptedModel(votes)
    ran = Ran(vote(node(lambda _: "which?", name="say", model=model), voters=3))
    assert len(model.calls) == 3
    assert result in (ran.result.output, ran.result.error.removeprefix("node 'say_majority': "))
    assert [event.node for event in ran.of(NodeFinished)] == ["say", "say_majority"]
    assert list(ran.result.agents) == ["say"]


def test_a_voter_that_fails_has_no_vote():
    """Two of three agree, and that is a majority of three."""
    model = ScriptedModel(["a", Reply("cut", finish="length"), "a"])
    assert Ran(vote(node(lambda _: "which?", name="say", model=model), voters=3)).result.output == "a"


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.integers(1, 4))
def test_the_leader_is_the_first_of_those_with_most_votes(cast: list[str], by: int):
    """And its margin is over the next one."""
    ballots = Ballots(cast, lambda value: value)
    counts = sorted((cast.count(each) for each in set(cast)), reverse=True)
    assert cast.count(ballots.leader) == ballots.votes == counts[0]
    assert ballots.margin == counts[0] - (counts[1] if len(counts) > 1 else 0)
    assert ballots.leader == next(each for each in cast if cast.count(each) == counts[0])


@pytest.mark.parametrize(
    ("votes", "asked", "result"),
    [
        ("aa", 2, "a"),
        ("abaa", 4, "a"),
        ("abbb", 4, "b"),
        ("ababa", 5, "a"),  # the bound: the leader, though not ahead by two
    ],
)
def test_first_to_be_ahead_by_k(votes: str, asked: int, result: str):
    """One after the other, no vote more than it needs, within the bound; each sees what the first saw."""
    prompts: list[Any] = []

    def ask(inputs: Mapping[str, Any]) -> str:
        prompts.append(inputs["question"])
        return "which?"

    model = ScriptedModel(list(votes))
    ran = Ran(vote(node(ask, model=model), ahead_by=2, most=5), {"question": "q"})
    assert (ran.result.output, len(model.calls), prompts) == (result, asked, ["q"] * asked)


def test_a_tie_at_the_bound_is_no_answer():
    """Nobody is ahead."""
    model = ScriptedModel(list("abab"))
    assert (
        "a tie after 4 votes"
        in Ran(vote(node(lambda _: "?", name="ask", model=model), ahead_by=2, most=4)).result.error
    )


def test_votes_may_be_the_same_without_being_equal():
    """What makes them the same is said by key=."""
    answers = iter([{"city": "Rome", "n": 1}, {"city": "Oslo", "n": 2}, {"city": "Rome", "n": 3}])
    flow = vote(node(lambda _: next(answers), name="say"), voters=3, key=lambda answer: answer["city"])
    assert Ran(flow).result.output["city"] == "Rome"
    same = vote(node(lambda _: {"n": 1}, name="say"), voters=3)
    assert Ran(same).result.output == {"n": 1}


class Odd:
    """An answer that gives something of its own when it is compared, or raises."""

    def __init__(self, given: Any) -> None:
        self.given = given

    def __eq__(self, other: object) -> Any:
        if isinstance(self.given, Exception):
            raise self.given
        return self.given

    __hash__ = None  # type: ignore[assignment]


class City(BaseModel):
    """An answer with a list in it, in a model that can't be hashed."""

    name: str
    found: list[Any] = []


NAN = float("nan")


@pytest.mark.parametrize(
    ("answers", "votes"),
    [
        ([{"a": 1, "b": [2]}, {"b": [2.0], "a": True}], 2),
        ([City(name="Rome", found=[{1, 8}]), City(name="Rome", found=[{8, 1}])], 2),
        ([City(name="Rome"), City(name="Oslo")], 1),
        ([City(name="Rome"), {"name": "Rome", "found": []}], 1),
        ([[1], "[1]"], 1),
        ([{1}, frozenset({1})], 2),
        ([[float("nan")], [float("nan")]], 1),
        ([NAN, NAN], 2),
        ([[NAN], [NAN]], 2),
        ([Odd(True), Odd(True)], 2),
        ([Odd([True]), Odd([True])], 1),
        ([Odd(OSError("no")), Odd(OSError("no"))], 1),
        ([[Odd(OSError("no"))], [Odd(OSError("no"))]], 1),
    ],
)
def test_answers_are_the_same_that_are_equal(answers: list[Any], votes: int):
    """By ==, and not by how they print; an answer is itself, whatever its == says."""
    ballots = Ballots(answers, lambda value: value)
    assert (ballots.votes, ballots.margin) == (votes, votes if votes == 2 else 0)
    assert ballots.leader is answers[0]


@pytest.mark.parametrize("given", [{"voters": 0}, {"ahead_by": 0}, {"ahead_by": 3, "most": 2}])
def test_a_vote_without_voters_is_told(given: Any):
    """Before it runs."""
    with pytest.raises(WorkflowError, match="at least"):
        vote(lambda value: value, **given)


def test_an_orchestrator_plans_and_workers_do_the_parts():
    """Each worker sees its part; what they gave is put together in the plan's order."""

    def plan(inputs: Mapping[str, Any]) -> list[int]:
        return inputs["parts"]

    flow = orchestrate(plan, node(lambda n: n * 10, name="work"), total_of, workers=3)
    assert Ran(flow, {"parts": [1, 2, 3]}).result.output == 60
    assert Ran(flow, {"parts": []}).result.output == 0
    assert "work may work on 3 items at the most; it was given 4" in Ran(flow, {"parts": [1, 2, 3, 4]}).result.error


def total_of(results: Sequence[int]) -> int:
    return sum(results)


def test_an_orchestrator_may_plan_again_within_its_rounds():
    """It sees all results so far, ends by planning nothing, and at the bound goes on with what there is."""
    seen: list[Any] = []

    def plan(value: Any) -> list[int]:
        seen.append(value)
        done = value if isinstance(value, list) else []
        return [len(done) + 1, len(done) + 2] if len(done) < 4 else []

    work = node(lambda n: n, name="work")
    assert Ran(orchestrate(plan, work, total_of, rounds=9), {"a": 1}).result.output == 10
    assert seen == [{"a": 1}, [1, 2], [1, 2, 3, 4]]
    assert Ran(orchestrate(plan, work, total_of, rounds=1), {"a": 1}).result.output == 3
    with pytest.raises(WorkflowError, match="workers and rounds"):
        orchestrate(plan, work, total_of, workers=0)


def test_a_draft_is_refined_until_the_review_is_content():
    """The writer reads what it was asked, its draft and the review; the output is the draft."""
    seen: list[Any] = []

    def write(asked: Any) -> str:
        seen.append(asked)
        return "short" if len(seen) == 1 else "long enough"

    def review(draft: str) -> Verdict:
        return Verdict(passed=len(draft) > 5, reason="too short")

    ran = Ran(chain(refine(write, review), lambda draft: f"<{draft}>"), {"topic": "x"})
    assert ran.result.output == "<long enough>"
    assert seen == [{"topic": "x"}, Revision({"topic": "x"}, "short", Verdict(passed=False, reason="too short"))]


@pytest.mark.parametrize("said", ["No, this is wrong.", 0.1, None, 1.7])
def test_a_review_that_is_no_clear_yes_is_no_yes(said):
    """Whatever stands for truth in Python: words of a model do."""

    def write(_asked: object) -> str:
        return "draft"

    def look(_draft: object) -> object:
        return said

    result = Ran(refine(write, look, accept=lambda review: review, rounds=2)).result
    assert not result.done


def test_what_follows_a_last_round_is_one_of_two_words():
    """A typing error is no third way."""
    with pytest.raises(WorkflowError, match="then must be 'fail' or 'go_on', not 'goon'"):
        refine(node(lambda asked: asked, name="a"), node(lambda draft: True, name="b"), then="goon")


def test_refinement_has_an_end():
    """It fails there, or goes on with the last draft where that is said; a review that is none is a no."""
    bad = node(lambda asked: "bad", name="write")

    def reviewed(review: Any, **options: Any) -> Any:
        return Ran(refine(bad, node(lambda draft: review, name="review"), rounds=2, **options)).result

    assert "review still wants another round after 2" in reviewed(0.2).error
    assert reviewed("?", then="go_on").output == "bad"
    assert reviewed({"ok": True}, accept=lambda found: found["ok"]).output == "bad"


def test_retry_is_a_node_that_is_tried_again():
    """Whatever it was before."""
    again = retry(node(lambda value: value, name="x", timeout=3), 4, first=1)
    assert (again.retry.times, again.retry.first, again.timeout) == (4, 1, 3)  # type: ignore[union-attr]


def test_patterns_nest():
    """A vote inside of a way, beside a section, within a loop."""

    def kind(inputs: Mapping[str, Any]) -> Literal["easy", "hard"]:
        return "hard"

    model = ScriptedModel(["a", "b", "a"])
    hard = vote(node(lambda inputs: "?", name="say", model=model), voters=3)
    easy = node(lambda inputs: "easy", name="easy")
    sure = gate(lambda text: text == "a", name="sure")
    flow = chain(route(kind, {"easy": easy, "hard": hard}), sure, lambda text: text * 2)
    assert Ran(flow).result.output == "aa"


# Agents inside of a node


@tool
def look(query: str) -> str:
    """Look it up."""
    return f"found {query}"


def ann(**more: Any) -> Agent:
    return Agent(Role(name="ann", goal="find things out", **more), [look])


LOOK = Reply(tools=(("look", '{"query": "x"}'),))


def hungry() -> ScriptedModel:
    numbers = iter(range(10_000))
    return ScriptedModel(lambda _: Reply(tools=(("look", f'{{"query": "{next(numbers)}"}}'),)))


def test_an_agent_does_one_node_within_its_caps():
    """What it is given is in its task; it may use tools; the rest of the path is fixed."""
    model = ScriptedModel([LOOK, "all about gzip"])
    step = agent_node(ann(), "Find out about {topic}, {name}: {value}", name="research", caps={"max_steps": 3})
    flow = chain(node(lambda inputs: {"name": "Ann"}, name="read"), step, lambda text: text.upper())
    ran = Ran(flow, {"topic": "gzip"}, models={"embedded:smollm2": model})
    assert ran.result.output == "ALL ABOUT GZIP"
    assert 'Find out about gzip, Ann: {"name": "Ann"}' in model.calls[0].messages[1].text
    assert (ran.result.agents["research/ann"].steps, ran.result.usage.steps) == (2, 2)
    assert next(event.kind for event in ran.of(Admitted)) == "handoff"


@pytest.mark.parametrize(
    ("caps", "policy", "scope", "steps"),
    [
        ({"max_steps": 2}, {}, "node:research", 2),
        ({"max_steps": 9}, {"limits": {"max_steps": 3}}, "run", 3),
        ({"max_steps": 9}, {"per_agent": {"max_steps": 1}}, "node:research/ann", 1),
        ({"max_steps": 9}, {"agents": {"ann": {"max_steps": 2}}}, "node:research/ann", 2),
        ({"max_steps": 9}, {"agents": {"research/ann": {"max_steps": 2}}}, "node:research/ann", 2),
    ],
)
def test_an_agent_in_a_node_never_passes_a_cap(caps: Any, policy: Any, scope: str, steps: int):
    """Its node's, the run's, or its own in the policy: whichever is least, exactly."""
    model = hungry()
    flow = chain(agent_node(ann(), "Find everything", name="research", caps=caps))
    ran = Ran(flow, models={"embedded:smollm2": model}, **policy)
    assert (len(model.calls), ran.result.usage.steps, ran.result.status) == (steps, steps, "stopped")
    assert ran.result.stopped is not None
    assert (ran.result.stopped.scope, ran.result.stopped.limit) == (scope, "max_steps")


@pytest.mark.parametrize("name", ["ann", "research/ann"])
def test_an_agent_in_a_node_whose_dollars_are_capped_needs_a_price(name: str):
    """By either of its names in the policy."""
    unpriced = ScriptedModel(["x"], rates=None)
    flow = chain(agent_node(ann(), "Find", name="research", caps={"max_steps": 3}))
    ran = Ran(flow, models={"embedded:smollm2": unpriced}, agents={name: {"max_usd": "1"}})
    assert (ran.result.status, len(unpriced.calls)) == ("denied", 0)
    assert "no price is known" in str(ran.result.stopped)


def test_a_roles_own_steps_hold_in_a_node():
    """As they do in a crew."""
    model = hungry()
    Ran(chain(agent_node(ann(max_steps=2), "Find", caps={"max_tokens": 10**6})), models={"embedded:smollm2": model})
    assert len(model.calls) == 2


@pytest.mark.parametrize(("inside", "steps"), [(None, 3), (2, 2)])
@pytest.mark.parametrize("nested", [False, True], ids=["agent", "crew"])
def test_a_roles_own_steps_hold_for_its_agent_only(inside: int | None, steps: int, nested: bool):
    """An agent of the crew's fallback that is called the same is another one, alone or in a crew of the node's."""
    own = ann() if inside is None else ann(max_steps=inside)
    worker = Crew([own], [Task("Find", name="find")]) if nested else own
    words = () if nested else ("Find",)
    fallback = chain(agent_node(worker, *words, name="read", caps={"max_steps": 3}), name="by hand")
    outer = Crew([ann(max_steps=1)], [Task("Answer", verify=lambda *_: False)], fallback=fallback)
    rules = Policy.model_validate({"limits": {"max_steps": 20}})
    result = Supervisor(rules, models={"embedded:smollm2": hungry()}, store=MemoryStore()).run(outer)
    assert {name: usage.steps for name, usage in result.agents.items()} == {"ann": 1, "read": 0, "read/ann": steps}


def test_an_agent_in_a_node_is_told_and_stopped_when_it_goes_in_circles():
    """A fixed path may repeat itself, an agent inside of it may not."""
    model = ScriptedModel([LOOK], repeat=True)
    flow = chain(agent_node(ann(), "Find", name="research", caps={"max_steps": 99}))
    ran = Ran(flow, models={"embedded:smollm2": model}, loops={"same_call": 3})
    assert ran.result.stopped is not None
    assert (ran.result.stopped.reason, ran.result.stopped.scope) == ("loop", "node:research/ann")
    assert any("Do something else" in message.text for message in model.calls[-1].messages)


def test_a_whole_crew_may_do_a_node():
    """Under a manager: a node is no delegation, so that max_depth counts what it counts in a crew."""
    replies = [Reply(tools=(("delegate", '{"agent": "ann", "task": "look"}'),)), "ann's answer", "the end"]
    model = ScriptedModel(replies)
    crew = Crew([ann()], [Task("About {topic}", name="about")], process="hierarchical", name="team")
    flow = chain(agent_node(crew, name="team", caps={"max_steps": 5}))
    ran = Ran(flow, {"topic": "x"}, models={"embedded:smollm2": model}, limits={"max_depth": 1})
    assert (ran.result.output, set(ran.result.agents)) == ("the end", {"team", "team/manager", "team/ann"})


def test_a_crews_verifier_and_its_guardrails_hold_in_a_node():
    """Its no ends the node, and is tried again where that is said."""
    verdicts = iter([False, True])
    task = Task("Write", name="write", verify=lambda *_: next(verdicts), guardrails=[lambda text: (True, text.upper())])
    model = ScriptedModel(["one", "two"])
    flow = chain(agent_node(Crew([ann()], [task]), name="team", caps={"max_steps": 5}, retry=1))
    ran = Ran(flow, models={"embedded:smollm2": model})
    assert ran.result.output == "TWO"
    assert [(event.agent, event.task, event.passed) for event in ran.of(Judged)] == [
        ("team/ann", "write", False),
        ("team/ann", "write", True),
    ]


def test_what_a_crew_in_a_node_lacks_is_told():
    """Its variables, by name."""
    flow = chain(agent_node(ann(), "About {topic}", name="research", caps={"max_steps": 1}))
    assert "the crew 'ann' needs {topic}; given: value" in Ran(flow, models={"embedded:smollm2": hungry()}).result.error


def test_an_agent_in_a_node_is_ended_with_its_time():
    """Its loop would hand over what it has; the node's time is over all the same, and it isn't asked again."""
    model = ScriptedModel([Reply("late", wait=asyncio.Event())])
    step = agent_node(ann(), "Find", name="research", caps={"max_steps": 5}, timeout=7)
    flow = chain(step).equipped(Means(lambda _: model, lambda crew: NativeRuntime(crew, lambda _: model)))
    at = AtGate(flow, fire=lambda _: bool(model.calls) or at.waited == [])
    with pytest.raises(NodeFailedError, match="research was ended after 7 s, its timeout"):
        at.run()
    assert len(model.calls) <= 1


@pytest.mark.parametrize(
    "make",
    [
        retry,
        vote,
        lambda flow: vote(flow, ahead_by=2),
        lambda flow: route(flow, {"x": str}),
        lambda flow: orchestrate(list, flow, str),
        lambda flow: refine(flow, bool),
        lambda flow: Workflow([flow]),
    ],
)
def test_what_takes_one_step_says_so_of_a_workflow(make: Any):
    """In a sentence, with a way out."""
    flow = chain(*(node(lambda v: v, name=f"n{place}") for place in range(4)), name="long")
    with pytest.raises(TypeError, match=r"takes one step, .* and not <workflow 'long': n0, n1, n2, n3>; .*") as raised:
        make(flow)
    assert len(str(raised.value)) < 220


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: vote(str, voters="3"), "at least one must vote, not '3'"),
        (lambda: vote(str, ahead_by="3"), "ahead_by must be a whole number"),
        (lambda: orchestrate(str, str, str, workers="3"), "workers and rounds must be whole numbers"),
        (lambda: vote(str, key="field"), "workflow 'vote': key must be a function, not 'field'"),
        (lambda: refine(str, bool, accept="ok"), "workflow 'refine': accept must be a function, not 'ok'"),
        (lambda: gate(None), "gate: its check must be a function, not None"),
        (
            lambda: route(str, {"x": node(str, name="a")}, otherwise=node(str, name="b"), passes="inputs"),
            "the branch after 'str': passes must be 'output' or 'input', not 'inputs'",
        ),
        (lambda: route(str, {}), "routes is {}; expected a dict"),
        (lambda: route(str, [str]), "expected a dict"),
        (lambda: retry(node(lambda v: v, name="ask"), "2"), "node 'ask': retry: times must be a whole number"),
        (
            lambda: agent_node(Agent(Role(name="ann", goal="help")), "x", caps=None),
            "caps is None; expected what bounds",
        ),
    ],
)
def test_arguments_that_are_none_are_told(make: Any, words: str):
    """By what was expected."""
    with pytest.raises(WorkflowError) as raised:
        make()
    assert words in str(raised.value)


def test_a_list_of_steps_is_no_chain():
    """It says how to write it."""
    with pytest.raises(TypeError, match=r"chain takes steps one by one, chain\(a, b\), and no list"):
        chain([str, str])  # type: ignore[arg-type]


def test_an_agent_node_takes_a_crew_or_a_task_not_both():
    """A crew has its own."""
    with pytest.raises(WorkflowError, match="a crew has tasks of its own"):
        agent_node(Crew([ann()], [Task("x")]), "x", caps={"max_steps": 5})


def test_an_agent_node_takes_no_crew_with_a_fallback():
    """It would never run there, and nobody would be told."""
    crew = Crew([ann()], [Task("x")], name="team", fallback=chain(node(lambda v: v, name="by_hand")))
    with pytest.raises(WorkflowError, match=r"agent_node\('team'\): .* no fallback of its own"):
        agent_node(crew, caps={"max_steps": 5})


def yes_or_no(passed: bool) -> str:
    return f'{{"passed": {str(passed).lower()}, "reason": "because"}}'


def test_a_crews_judge_gives_its_verdict_in_a_node():
    """It has a model as in a crew, and what it uses counts for the node."""
    model = ScriptedModel(["text", yes_or_no(True)])
    crew = Crew([ann()], [Task("Write", name="write", verify=Judge("Is it good?", name="critic"))])
    ran = Ran(chain(agent_node(crew, name="team", caps={"max_steps": 5})), models={"embedded:smollm2": model})
    assert ran.result.output == "text"
    assert (ran.result.agents["team/critic"].steps, ran.of(Judged)[0].source) == (1, "judge")
    capped = chain(agent_node(crew, name="team", caps={"max_steps": 1}))
    ran = Ran(capped, models={"embedded:smollm2": ScriptedModel(["text", yes_or_no(True)])})
    assert (ran.result.usage.steps, ran.result.stopped and ran.result.stopped.scope) == (1, "node:team")
    crew = Crew([ann()], [Task("Write", name="write")], verify=Judge("Is it good?"))
    capped = chain(agent_node(crew, name="team", caps={"max_steps": 1}))
    ran = Ran(capped, models={"embedded:smollm2": ScriptedModel(["text", yes_or_no(True)])})
    assert (ran.result.usage.steps, ran.result.stopped and ran.result.stopped.scope) == (1, "node:team")


@pytest.mark.parametrize("judge", [False, True])
def test_a_crews_verifier_of_the_whole_is_heard_in_a_node(judge: bool):
    """A function or a judge: its no is the node's, which is tried again where that is said."""
    seen: list[Any] = []

    def whole(output: str, context: TaskContext) -> bool:
        seen.append((output, dict(context.outputs)))
        return output == "two"

    model = ScriptedModel(["one", yes_or_no(False), "two", yes_or_no(True)] if judge else ["one", "two"])
    verify = Judge("Is it two?", model="m:judge") if judge else whole
    crew = Crew([ann()], [Task("Write", name="write")], verify=verify)
    flow = chain(agent_node(crew, name="team", caps={"max_steps": 5}, retry=1))
    ran = Ran(flow, models={"embedded:smollm2": model, "m:judge": model})
    assert ran.result.output == "two"
    assert [(event.agent, event.task, event.passed) for event in ran.of(Judged)] == [
        ("team", "team", False),
        ("team", "team", True),
    ]
    assert seen == ([] if judge else [("one", {"write": "one"}), ("two", {"write": "two"})])


@pytest.mark.parametrize("passed", [False, True])
def test_a_judge_may_verify_a_node(passed: bool):
    """By a model of its own, found before the run; its calls are the node's."""
    model = ScriptedModel([yes_or_no(passed)])
    made = node(lambda _: "text", name="make", verify=Judge("Is it good?", model="m:judge"), caps={"max_steps": 1})
    ran = Ran(chain(made), models={"m:judge": model})
    verdict = ran.of(Judged)[0]
    assert (verdict.agent, verdict.task, verdict.passed, verdict.source) == ("make", "make", passed, "judge")
    assert (ran.result.done, ran.result.agents["make/judge"].steps) == (passed, 1)
    assert "The rule: Is it good?" in model.calls[0].messages[0].text
    with pytest.raises(ConfigError, match=r"node 'make': .*nonsense"):
        Ran(chain(node(lambda _: "text", name="make", verify=Judge("x", model="nonsense"))))
    ran = Ran(chain(node(lambda _: "text", name="make", verify=Judge("x"), caps={"max_steps": 0})))
    assert (ran.result.status, ran.result.stopped and ran.result.stopped.scope) == ("stopped", "node:make")


def test_a_judge_may_be_a_gate():
    """Its name in drawings, too."""
    flow = chain(node(lambda _: "text", name="make"), gate(Judge("x", name="critic"), name="good"))
    assert "verified by the judge critic" in flow.mermaid()
    assert Ran(flow, models={"embedded:smollm2": ScriptedModel([yes_or_no(True)])}).result.output == "text"


@pytest.mark.parametrize("error", [OSError("no line"), ValueError("no number"), TimeoutError()])
def test_a_voter_that_raises_has_no_vote(error: Exception):
    """Whatever it raises: the others decide."""
    asked: list[int] = []

    def ask(_: Any) -> str:
        asked.append(1)
        if len(asked) == 1:
            raise error
        return "yes"

    assert Ran(vote(ask, voters=3)).result.output == "yes"


def test_what_makes_no_sense_of_a_vote_or_an_agents_caps_is_refused():
    """Rather than ignored."""
    with pytest.raises(WorkflowError, match="give one of both"):
        vote(lambda _: 1, voters=5, ahead_by=2)


@pytest.mark.parametrize(
    "caps", [{}, {"max_steps": None}, AgentLimits(), Limits(), {"max_agents": 1}, {"max_seconds": None}]
)
def test_caps_that_bound_nothing_are_no_caps(caps: Any):
    """How many agents there are is no end, either."""
    with pytest.raises(WorkflowError, match=r"agent_node: caps is .*; expected what bounds it"):
        agent_node(ann(), "x", caps=caps)
    for bound in ({"max_seconds": 5}, {"max_usd": 1}, {"max_tool_calls": 0}):
        agent_node(ann(), "x", caps=bound)
