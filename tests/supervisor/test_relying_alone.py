"""A workflow that is run by itself keeps a record: its nodes' verdicts, its outcomes, and nothing is routed."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import Any

import pytest

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task, agent_node, chain, node, parallel, retry, tool
from crew_guard.core.events import Routed
from crew_guard.core.reliability.structure import Chain, Leaf
from crew_guard.core.reliability.trials import is_alone
from crew_guard.core.roles import Verdict
from crew_guard.errors import ConfigError, ModelError, StoreError
from crew_guard.store.sqlite import SqliteStore
from crew_guard.testing import MemoryStore, Reply, ScriptedModel
from crew_guard.workflows.graph import Workflow, branch
from crew_guard.workflows.nodes import Retry


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    made = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "runs.db")
    with closing(made):
        yield made


def policy(**reliability: Any) -> Policy:
    return Policy.model_validate({"reliability": reliability} if reliability else {})


def supervisor(store: Any, rules: Policy | None = None, **more: Any) -> Supervisor:
    return Supervisor(rules or policy(), model=more.pop("model", ScriptedModel(lambda _: "good")), store=store, **more)


def read(_: Any) -> str:
    return "notes"


def draft(value: str) -> str:
    return f"Write about {value}"


def is_good(output: str) -> bool:
    return output == "good"


def follow_up(verify: Any = is_good, **more: Any) -> Workflow:
    return chain(read, node(draft, model="small", verify=verify, **more), name="follow_up")


def watched(store: Any, *answers: str, rules: Policy | None = None) -> Supervisor:
    """A supervisor whose model gives these answers, then good ones."""
    left = list(answers)
    model = ScriptedModel(lambda _: left.pop(0) if left else "good", name="small")
    return supervisor(store, rules, models={"small": model})


def test_a_workflow_by_itself_has_a_record_under_its_name(store):
    """A trial for each node that was judged, and the outcome: what its last node came to."""
    watching = watched(store, "bad")
    first, second = watching.run(follow_up(), run_id="r1"), watching.run(follow_up(), run_id="r2")
    record = store.track_record().crew("follow_up")
    assert (record.end_to_end.trials, record.end_to_end.good) == (2, 1.0)
    assert (record.streams["draft"].counts.trials, record.streams["draft"].counts.good) == (2, 1.0)
    assert "read" not in record.streams
    assert (record.crew_runs.runs, record.workflow_runs.runs) == (0, 2)
    assert (first.reliability.outcome, second.reliability.outcome) == (0.0, 1.0)
    known = second.reliability
    assert (known.measured, known.runs, known.problem, known.routed, known.why) == (0.5, 2, "", None, "")
    assert known.lower is not None
    assert known.lower <= known.estimate <= known.upper


def test_the_record_has_the_workflows_own_structure(store):
    """Leaves are named like the record's streams."""
    watched(store).run(follow_up())
    assert store.track_record().terms("follow_up").structure == Chain((Leaf("read"), Leaf("draft")))
    assert follow_up().structure() == Chain((Leaf("read"), Leaf("draft")))


def test_nothing_is_routed_whatever_its_figures_are(store):
    """It has nowhere to go: it runs, and the record says how it does."""
    rules = policy(threshold=0.85, alarm_after=100, unknown="workflow", require_fallback=True)
    watching = watched(store, *["bad"] * 40, rules=rules)
    results = [watching.run(follow_up(), run_id=f"r{number}") for number in range(40)]
    assert {result.status for result in results} == {"failed"}
    assert {result.reliability.routed for result in results} == {None}
    assert not [event for event in store.read("r39") if isinstance(event, Routed)]
    assert (results[-1].reliability.threshold, results[-1].reliability.breaker) == (0.85, "open")
    assert results[-1].reliability.culprit
    assert watching.run(follow_up()).done


def test_agents_inside_of_a_node_have_trials_of_their_own(store):
    """And where the node itself isn't judged they stand in its place."""

    def helper(verify: Any) -> Crew:
        tasks = [Task("Look.", name="look", verify=verify), Task("Say.", name="say", verify=verify)]
        return Crew([Agent(Role(name="ann", goal="help"))], tasks)

    flow = chain(read, agent_node(helper(lambda _output, _context: 0.8), name="ask", caps={"max_steps": 5}), name="job")
    result = supervisor(store).run(flow)
    assert result.done
    record = store.track_record().crew("job")
    assert {name: one.counts.good for name, one in record.streams.items()} == {
        "ask/ann/look": 0.8,
        "ask/ann/say": 0.8,
        "end to end": 0.8,
    }
    structure = store.track_record().terms("job").structure
    assert structure == Chain((Leaf("read"), Chain((Leaf("ask/ann/look"), Leaf("ask/ann/say")))))
    subjects = {name: one.subject for name, one in record.streams.items() if one.subject}
    assert {(name, one.kind, bool(one.model)) for name, one in subjects.items()} == {
        ("ask/ann/look", "ask/ann/look", True),
        ("ask/ann/say", "ask/ann/say", True),
    }


def test_a_node_that_is_judged_itself_is_its_own_leaf(store):
    """Its crew's tasks have streams beside it."""
    inner = Crew([Agent(Role(name="ann", goal="help"))], [Task("Look.", name="look", verify=lambda _o, _c: True)])
    flow = chain(agent_node(inner, name="ask", caps={"max_steps": 5}, verify=is_good), name="job")
    supervisor(store).run(flow)
    record = store.track_record().crew("job")
    assert set(record.streams) == {"ask", "ask/ann/look", "end to end"}
    assert store.track_record().terms("job").structure == Leaf("ask")


def test_of_a_branch_the_end_that_was_reached_decides(store):
    """Each of them is judged, and one of them ran."""

    def other(value: str) -> str:
        return f"other {value}"

    ends = [node(read, name="a", verify=lambda _: 0.6), node(other, name="b", verify=lambda _: 0.9)]
    flow = Workflow([node(read, name="look"), *ends], [branch("look", {"notes": "b"}, otherwise="a")], name="job")
    assert supervisor(store).run(flow).reliability.outcome == 0.9


def test_behind_a_join_of_ours_its_sides_decide(store):
    """A node that a pattern adds can't be wrong by itself."""
    sides = [node(read, name=name, verify=lambda _, grade=grade: grade) for name, grade in [("a", 0.6), ("b", 0.9)]]
    flow = chain(parallel(*sides), name="job")
    assert supervisor(store).run(flow).reliability.outcome == 0.6


def test_a_workflow_whose_end_nobody_judges_has_no_outcome(store):
    """Else failures only would count. A person may give one."""
    flow = chain(node(read, name="one", verify=lambda _: True), node(draft, name="two"), name="job")
    result = supervisor(store).run(flow, run_id="r1")
    assert (result.reliability.outcome, result.reliability.runs) == (None, 0)
    record = store.track_record().outcome("r1", 0.4, because="late")
    assert (record.end_to_end.trials, record.end_to_end.good) == (1, 0.4)
    assert record.workflow_runs.outcomes.good == 0.4


def test_a_person_may_say_how_it_turned_out_and_what_a_node_did(store):
    """In place of the check, in the run's record; a second verdict on the same is refused."""
    watched(store).run(follow_up(), run_id="r1")
    track = store.track_record()
    assert track.outcome("r1", 0.0).end_to_end.good == 0.0
    assert track.outcome("r1", 0.2, agent="draft").streams["draft"].counts.good == 0.2
    with pytest.raises(StoreError, match="before"):
        track.outcome("r1", 1.0)


def test_a_killed_workflow_is_no_trial(store):
    """What a person ends says nothing of it."""
    began, over = threading.Event(), threading.Event()

    def slow(_: Any, context: Any) -> str:
        began.set()
        over.wait(30)
        return "late"

    flow = chain(
        node(read, name="one", verify=lambda _: True), node(slow, name="two", verify=lambda _: True), name="job"
    )
    watching = supervisor(store)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(watching.run(flow, run_id="r1")))
    thread.start()
    assert began.wait(30)
    watching.kill("r1")
    thread.join(30)
    over.set()
    assert found[0].stopped.reason == "killed"
    assert store.track_record().crew("job") is None


def test_an_outage_is_no_failed_trial(store):
    """It is counted apart, and takes no outcome."""

    def down(_: Any) -> Reply:
        raise ModelError("is down", kind="unavailable")

    watching = supervisor(store, models={"small": ScriptedModel(down, name="small")})
    result = watching.run(follow_up(), run_id="r1")
    assert (result.status, result.reliability.outcome) == ("failed", None)
    record = store.track_record().crew("follow_up")
    assert (record.end_to_end.trials, record.workflow_runs.faults) == (0, 1)
    with pytest.raises(StoreError, match="infrastructure"):
        store.track_record().outcome("r1", 0.0)


@pytest.mark.parametrize("asks", [True, False])
def test_a_workflow_that_a_limit_let_do_nothing_was_not_tried(store, asks):
    """By itself and in its crew's place: what counts is what it did, not what a crew did that never began."""

    @tool
    def send(text: str) -> str:
        """Send it."""
        return text

    async def sent(value: str, context: Any) -> str:
        return (await context.call_tool(send, {"text": value})).text

    steps = [read, node(draft, model="small", verify=is_good)] if asks else [read]
    flow = chain(*steps, node(sent, name="send", verify=is_good), name="job")
    crew = Crew(
        [Agent(Role(name="ann", goal="find out"))],
        [Task("Do it.", verify=lambda output, _: is_good(output))],
        fallback=flow,
    )
    rules = Policy.model_validate(
        {"limits": {"max_tool_calls": 0}, "reliability": {"threshold": 0.85, "unknown": "workflow"}}
    )
    watching = watched(store, rules=rules)
    for run_id, work in (("r1", flow), ("r2", crew)):
        result = watching.run(work, run_id=run_id)
        assert (result.status, result.stopped.limit) == ("stopped", "max_tool_calls")
        kept = store.track_record().run(run_id)
        assert (kept and [(trial.agent, trial.grade) for trial in kept.report.trials]) == (
            [("draft", 1.0)] if asks else None
        )


# Versions


def version_of(flow: Workflow, model: str = "small") -> str:
    store = MemoryStore()
    own = ScriptedModel(lambda _: "good", name=model)
    return supervisor(store, models={"small": own}).run(flow).reliability.version


def test_what_changes_its_behaviour_makes_another_version():
    """Its nodes, their order, models, prompts, retries and functions; made again the same it goes on."""

    def other(value: str) -> str:
        return f"Write more about {value}"

    one = follow_up()
    others = [
        chain(node(read, name="look"), node(draft, model="small", verify=is_good), name="follow_up"),
        follow_up(system="Be brief."),
        follow_up(retry=Retry(times=1, first=0)),
        chain(read, node(other, name="draft", model="small", verify=is_good), name="follow_up"),
        Workflow(
            [read, node(draft, model="small", verify=is_good)],
            [branch("read", {"notes": "draft"}, otherwise="draft")],
            "follow_up",
        ),
    ]
    versions = [version_of(one), version_of(one, "large"), *map(version_of, others)]
    assert version_of(follow_up()) == versions[0]
    assert len(set(versions)) == len(versions)
    assert all(map(is_alone, versions))


def asking_for(what: str) -> Workflow:
    """A prompt that a closure holds, and a number that it counts."""
    asked = 0

    def prompt(value: str) -> str:
        nonlocal asked
        asked += 1
        return f"Name the {what} of {value}"

    return chain(read, node(prompt, name="draft", model="small", verify=is_good), name="follow_up")


def test_a_closures_prompt_is_part_of_its_version():
    """Not what it counts."""
    facts = asking_for("facts")
    assert version_of(facts) == version_of(facts) == version_of(asking_for("facts")) != version_of(asking_for("tone"))


def test_a_new_version_begins_its_outcomes_afresh(store):
    """The old one's record stays beside it."""
    watching = watched(store, "bad")
    watching.run(follow_up())
    watching.run(follow_up(system="Be brief."))
    record = store.track_record().crew("follow_up")
    assert (record.end_to_end.trials, record.end_to_end.good, record.versions) == (1, 1.0, 1)


def test_a_callable_that_cant_be_told_apart_is_no_error(store):
    """An object that compares by value has no hash."""
    from dataclasses import dataclass

    @dataclass
    class Adds:
        by: int

        def __call__(self, value: Any) -> str:
            return f"{value} {self.by}"

    flow = chain(node(Adds(1), name="adds", verify=lambda _: True), name="job")
    assert supervisor(store).run(flow).reliability.outcome == 1.0


def test_an_output_model_without_a_schema_is_no_error(store):
    """A function's value may be anything that pydantic validates."""
    from pydantic import BaseModel, ConfigDict

    class Odd(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        lock: threading.Event

    flow = chain(node(lambda _: {"lock": threading.Event()}, name="odd", output=Odd, verify=lambda _: True), name="job")
    assert supervisor(store).run(flow).reliability.outcome == 1.0


def test_a_crew_of_the_same_name_has_a_record_of_its_own(store):
    """Neither is a version of the other: the crew isn't probed because its workflow was tried by itself."""
    rules = policy(threshold=0.85)

    def crew(instructions: str = "") -> Crew:
        role = Role(name="ann", goal="find out", instructions=instructions)
        task = Task("Do it.", name="job", verify=lambda output, _: output == "good")
        return Crew([Agent(role)], [task], fallback=follow_up(), name="follow_up")

    watching = watched(store, rules=rules)
    watching.run(follow_up(), run_id="w1")
    first = watching.run(crew(), run_id="c1")
    assert (first.via, first.reliability.routed, first.reliability.breaker) == ("crew", "crew", "closed")
    track = store.track_record()
    assert set(track.crew("follow_up").streams) == {"ann/job", "end to end"}
    watching.run(follow_up(system="Be brief."), run_id="w2")
    second = watching.run(crew("Be brief."), run_id="c2")
    assert second.reliability.routed == "shadow"  # it is a new version of the crew that is known
    assert track.crew("follow_up").versions == 1
    names = [(one.crew, is_alone(one.version), one.versions) for one in track.crews()]
    assert names == [("follow_up", False, 1), ("follow_up", True, 1)]
    before = track.crew("follow_up", first.reliability.version)
    assert track.outcome("w1", 0.0).end_to_end.good == 0.0
    assert track.crew("follow_up", first.reliability.version) == before
    assert track.outcome("c1", 0.0).crew_runs.outcomes.good == 0.0
    assert track.crew("follow_up").crew_runs.outcomes.good == 0.0


# Whose record nobody asked for


def test_a_workflow_that_nothing_judges_never_touches_the_track_record():
    """It is as quick as before."""
    store = MemoryStore()

    def refuse(*_: Any) -> Any:
        raise AssertionError("the track record was touched")

    store.track_record = refuse  # type: ignore[method-assign]
    result = supervisor(store).run(chain(read, name="job"))
    assert (result.output, result.reliability) == ("notes", None)


def test_a_policy_that_speaks_of_reliability_asks_for_a_record(store):
    """Then a person judges its runs."""
    result = supervisor(store, policy(threshold=0.85)).run(chain(read, name="job"), run_id="r1")
    assert (result.reliability.runs, result.reliability.routed) == (0, None)
    assert store.track_record().outcome("r1", 1.0).end_to_end.trials == 1


def test_a_record_that_cant_be_written_costs_no_result():
    """The result says so."""
    store = MemoryStore()
    track = store.track_record()

    def refuse(*_: Any) -> Any:
        raise StoreError("the disk is full")

    track.add = refuse  # type: ignore[method-assign]
    result = watched(store).run(follow_up())
    assert (result.output, result.reliability.problem) == ("good", "the disk is full")


def test_a_judge_that_blames_a_node_fails_its_trial(store):
    """As in a crew."""

    def wrong(_: Any) -> Verdict:
        return Verdict(passed=False, reason="a wrong number", blames="one")

    flow = chain(node(read, name="one", verify=lambda _: True), node(read, name="two", verify=wrong), name="job")
    supervisor(store).run(flow, run_id="r1")
    trials = store.track_record().run("r1").report.trials
    assert [(one.task, one.grade, one.source) for one in trials] == [("one", 0.0, "later"), ("two", 0.0, "check")]


def test_patterns_and_what_they_repeat_are_reckoned(store):
    """A retry behind its verifier counts the last verdict of the run."""
    answers = ["bad", "good"]
    model = ScriptedModel(lambda _: answers.pop(0), name="small")
    flow = chain(read, retry(node(draft, model="small", verify=is_good), times=1, first=0), name="again")
    result = supervisor(store, models={"small": model}).run(flow)
    assert result.done, result.error
    record = store.track_record().crew(flow.name)
    assert record.streams["draft"].counts.good == 1.0


def test_the_name_of_a_model_that_cant_be_had_is_still_an_error(store):
    """As before."""
    with pytest.raises(ConfigError):
        supervisor(store).run(chain(node(draft, model="nobody:knows", verify=is_good)))
