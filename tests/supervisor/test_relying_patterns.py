"""A workflow by itself that repeats: retries, loops, votes and work on several items count as often as they are."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from crew_guard import (
    Agent,
    Crew,
    Policy,
    Role,
    Supervisor,
    Task,
    agent_node,
    chain,
    node,
    orchestrate,
    refine,
    retry,
    vote,
)
from crew_guard.core.reliability.structure import Chain, Leaf, Retry
from crew_guard.core.tried import blamed_inside
from crew_guard.core.verdicts import Verdict
from crew_guard.errors import ModelError
from crew_guard.testing import MemoryStore, ScriptedModel
from crew_guard.workflows.context import NodeFailedError
from crew_guard.workflows.graph import Workflow

RUNS = 150


def lucky(rng: Random, rate: float) -> Callable[[Any], bool]:
    return lambda _: rng.random() < rate


def draft(value: Any) -> str:
    return f"about {value}"


def review(value: Any) -> bool:
    return True


def ran(flow: Workflow, runs: int = RUNS) -> tuple[Any, Any]:
    """What is known after the last of these runs, and the record."""
    store = MemoryStore()
    supervisor = Supervisor(Policy.model_validate({"reliability": {"threshold": 0.85}}), store=store)
    for _ in range(runs):
        result = supervisor.run(flow, {"topic": "x"})
    return result.reliability, store.track_record()


def retried(rng: Random) -> Workflow:
    return chain(retry(node(draft, verify=lucky(rng, 0.5)), times=2, first=0), name="job")


def refined(rng: Random) -> Workflow:
    return refine(node(draft, verify=lucky(rng, 0.8)), node(review, verify=lambda _: True), name="job")


def ahead(rng: Random) -> Workflow:
    return vote(node(draft, verify=lucky(rng, 0.9)), ahead_by=2, name="job")


@pytest.mark.parametrize(
    ("flow", "planned", "counted", "truth"),
    [
        (retried, Retry(Leaf("draft"), 2), Leaf("draft"), 0.875),
        (refined, Retry(Chain((Leaf("draft"), Leaf("review"))), 2), Chain((Leaf("draft"), Leaf("review"))), 0.8),
        (ahead, None, Leaf("draft"), 0.81),
    ],
)
def test_what_is_tried_again_is_counted_once(flow, planned, counted, truth):
    """A leaf's trial is what its attempts came to: they don't raise its rate again, and the bound is no false one."""
    made = flow(Random(1))
    known, track = ran(made)
    assert planned in (None, made.structure())
    assert track.terms("job").structure == counted
    assert known.estimate == pytest.approx(known.measured, abs=0.02)
    assert known.lower < truth


@pytest.mark.parametrize("seats", [3, 1])
def test_a_vote_that_passed_is_a_success_whoever_was_outvoted(seats):
    """Two of three were right: the answer is, and the share of those who were is the part's record."""
    asked = itertools.count()

    def verify(_: str) -> bool:
        return seats == 1 or next(asked) % seats != 0

    known, track = ran(vote(node(draft, verify=verify), voters=seats, name="job"), runs=4)
    assert (known.measured, known.outcome) == (1.0, 1.0)
    assert track.crew("job").streams["draft"].counts.good == pytest.approx(4 * (2 / 3 if seats > 1 else 1))


def test_a_vote_that_was_lost_is_a_failure():
    """One of three was right."""
    asked = itertools.count()
    known, track = ran(vote(node(draft, verify=lambda _: next(asked) % 3 == 0), voters=3, name="job"), runs=2)
    assert (known.measured, track.crew("job").streams["draft"].counts.good) == (0.0, pytest.approx(2 / 3))


def test_a_copy_that_gave_nothing_has_failed():
    """One of three has no vote; the share of those who were right is two thirds all the same."""
    asked = itertools.count()

    async def sometimes(_: Any) -> str:
        if next(asked) % 3 == 0:
            raise NodeFailedError("nothing to say")
        return "good"

    known, track = ran(vote(node(sometimes, name="draft", verify=lambda _: True), voters=3, name="job"), runs=3)
    assert known.measured == 1.0
    assert track.crew("job").streams["draft"].counts.good == pytest.approx(3 * 2 / 3)


@pytest.mark.parametrize("items", [5, 2])
def test_work_on_several_items_counts_as_all_of_it(items):
    """Not by the mean of those that ended before the first that failed, nor as often as there may be items."""
    good, order = lucky(Random(3), 0.9), itertools.count()

    def plan(_: Any) -> list[int]:
        return [next(order) for _ in range(items)]

    async def work(item: int) -> int:
        for _ in range(item % items):  # one after the other: the first no is before the others are judged
            await asyncio.sleep(0)
        return item

    first, last = node(plan, verify=lambda _: True), node(len, name="count", verify=lambda _: True)
    flow = orchestrate(first, node(work, verify=good), last, workers=5, name="job")
    supervisor = Supervisor(store=MemoryStore())
    results = [supervisor.run(flow, {}) for _ in range(RUNS)]
    done = sum(result.done for result in results) / RUNS
    counts = supervisor.store.track_record().crew("job").streams["work"].counts
    assert counts.rate == pytest.approx(done)
    known = results[-1].reliability
    assert known.estimate == pytest.approx(done, abs=0.03)
    assert known.lower < done < known.upper


def blaming(*whom: str) -> Crew:
    """A crew of two tasks that pass; of what it gives in turn these are to blame, nobody at ""."""
    left = iter(whom)

    def verify(_output: Any, _context: Any) -> Verdict:
        name = next(left)
        return Verdict(passed=not name, reason="a wrong number", blames=name)

    def fine(_output: Any, _context: Any) -> bool:
        return True

    tasks = [Task("x", name=name, verify=fine) for name in ("one", "two")]
    return Crew([Agent(Role(name="ann", goal="help"))], tasks, verify=verify)


def trials_of(flow: Workflow) -> dict[str, float]:
    supervisor = Supervisor(model=ScriptedModel(lambda _: "good"), store=MemoryStore())
    supervisor.run(flow, {}, run_id="r")
    return {trial.task: trial.grade for trial in supervisor.store.track_record().run("r").report.trials}


@pytest.mark.parametrize(("name", "failed"), [("one", "one"), ("ann", "two")])
def test_whom_the_verifier_of_a_nodes_crew_blames_has_failed(name, failed):
    """A task, or an agent's last one."""
    asking = agent_node(blaming(name), name="ask", caps={"max_steps": 9})
    assert trials_of(chain(asking, name="job")) == {"one": 1.0, "two": 1.0, "ask": 0.0, failed: 0.0}


def test_a_node_that_is_called_like_its_task_blames_itself():
    """By its own name nobody inside is meant."""
    assert blamed_inside("ask", "ask", [("ask/ann", "ask")]) is None
    assert blamed_inside("ask", "ask/bob", [("ask/ann", "ask")]) == ("ask/ann", "ask")


def test_whom_a_copy_blames_has_failed_in_that_copy_alone():
    """Whichever of the copies ends last: two of three were right."""
    for whom in (("one", "", ""), ("", "", "one")):
        asking = agent_node(blaming(*whom), name="ask", caps={"max_steps": 20})
        found = trials_of(vote(asking, voters=3, name="job"))
        assert found == {"one": pytest.approx(2 / 3), "two": 1.0, "ask": pytest.approx(2 / 3)}


def boom(_: Any) -> str:
    raise ValueError("no such file")


async def forever(_: Any) -> str:
    await asyncio.Event().wait()
    return ""


def greedy() -> Any:
    crew = Crew([Agent(Role(name="ann", goal="help"))], [Task("x", name=n, verify=lambda _o, _c: True) for n in "ab"])
    return agent_node(crew, name="ask", caps={"max_steps": 1})


@pytest.mark.parametrize(
    ("last", "found"),
    [
        (node(boom, name="two", verify=lambda _: True), {"one": 1.0, "two": 0.0}),
        (node(forever, name="two", verify=lambda _: True, timeout=0.01), {"one": 1.0, "two": 0.0}),
        (node(boom, name="two"), {"one": 1.0}),
        (greedy(), {"one": 1.0, "a": 1.0, "b": 0.0}),
    ],
)
def test_a_node_that_ends_its_workflow_unjudged_has_failed(last, found):
    """It raised, it took too long, its agent's caps were used up: the run's failure is its own, not nobody's."""
    assert trials_of(chain(node(draft, name="one", verify=lambda _: True), last, name="job")) == found


@pytest.mark.parametrize("approve", [lambda _: False, None])
@pytest.mark.parametrize("alone", [True, False])
def test_a_persons_no_is_no_failure(alone, approve):
    """By itself or after a crew: what its nodes did before counts, and nobody knows how it would have ended."""
    send = node(draft, name="send", irreversible=True, approve=approve, verify=lambda _: True)
    flow = chain(node(draft, name="one", verify=lambda _: True), send, name="job")
    store = MemoryStore()
    if alone:
        work: Any = flow
    else:
        task = Task("x", name="t", verify=lambda _o, _c: False)
        work = Crew([Agent(Role(name="ann", goal="help"))], [task], verify=lambda _o, _c: True, fallback=flow)
    rules = Policy.model_validate({"reliability": {"threshold": 0.85}})
    Supervisor(rules, model=ScriptedModel(lambda _: "good"), store=store).run(work, run_id="r1")
    report = store.track_record().run("r1").report
    assert (report.outcome, report.crew_grade) == (None, None if alone else 0.0)
    assert [trial.agent for trial in report.trials] == ([] if alone else ["ann"]) + (["one"] if approve else [])


def test_an_item_that_is_never_judged_fails_the_work_on_all():
    """The others passed."""

    def work(item: int) -> int:
        return 1 // item

    flow = chain(lambda _: [1, 0], replace(node(work, verify=lambda _: True), each=5), name="job")
    assert trials_of(flow) == {"work": 0.0}


@pytest.mark.parametrize("kind", ["unavailable", "rejected"])
def test_what_an_outage_ends_has_not_failed(kind):
    """Another error of its model is the node's."""

    def out(_: Any) -> str:
        raise ModelError("down", kind=kind)

    model = ScriptedModel(out, name="small")
    flow = chain(node(draft, name="one", model=model, verify=lambda _: True), name="job")
    assert trials_of(flow) == ({} if kind == "unavailable" else {"one": 0.0})
