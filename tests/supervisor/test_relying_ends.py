"""What a run tells its track record where it doesn't end as planned: kills, late verdicts, lost probes."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task, agent_node, chain, node, parallel, tool, vote
from crew_guard.core.events import Judged
from crew_guard.core.messages import Message, ModelRequest
from crew_guard.core.processes import Turns
from crew_guard.core.reliability.counts import Counts
from crew_guard.core.reliance import reliance_of_host
from crew_guard.core.roles import Verdict
from crew_guard.core.verdicts import Judge
from crew_guard.errors import ModelError, StoreError
from crew_guard.ports import CallTerms, RuntimeResult
from crew_guard.supervisor import relying
from crew_guard.supervisor.acting import RunGate
from crew_guard.supervisor.life import Job, Life
from crew_guard.supervisor.relying import Relied
from crew_guard.testing import FakeClock, MemoryStore, Reply, ScriptedModel

ANN = Role(name="ann", goal="find out")


def policy(**more: Any) -> Policy:
    return Policy.model_validate({"reliability": {"threshold": 0.85}, **more})


def crew_of(verify: Any, workflow: Any) -> Crew:
    return Crew([Agent(ANN)], [Task("Do it.", name="job", verify=verify)], fallback=workflow)


def yes(_output: Any, _context: Any) -> bool:
    return True


def no(_output: Any, _context: Any) -> bool:
    return False


def by_hand(_: Any) -> str:
    return "by hand"


def supervisor(store: Any, rules: Policy | None = None, model: ScriptedModel | None = None) -> Supervisor:
    return Supervisor(rules or policy(), model=model or ScriptedModel(lambda _: "good"), store=store)


def test_in_a_shadow_run_the_workflow_does_what_cant_be_undone():
    """Only the crew is held back: the workflow's answer is the one that counts."""
    sent: list[str] = []

    @tool(irreversible=True)
    def send(text: str) -> str:
        """Send it."""
        sent.append(text)
        return "sent"

    def say(request: Any) -> Reply | str:
        told = [message for message in request.messages if message.speaker == "tool"]
        return told[-1].text if told else Reply(tools=(("send", f'{{"text": "{request.messages[-1].text[:8]}"}}'),))

    poster = Agent(Role(name="poster", goal="post"), tools=[send])
    workflow = chain(agent_node(poster, "workflow", caps={"max_steps": 5}, approve=lambda _: True))
    crew = Crew([Agent(ANN, [send])], [Task("the crew", name="job", verify=yes)], fallback=workflow)
    rules = Policy.model_validate({"reliability": {"threshold": 0.85, "unknown": "shadow"}})
    result = supervisor(MemoryStore(), rules, ScriptedModel(say)).run(crew)
    assert (result.via, result.output) == ("workflow", "sent")
    assert len(sent) == 1
    assert "workflow" in sent[0]


def no_receipt(output: Any, _context: Any) -> Verdict:
    return Verdict(output == "by hand", "there is no receipt", blames="ann")


@pytest.mark.parametrize(
    ("looked", "sent", "whole", "trials", "outcome"),
    [
        (yes, "no receipt", None, [("find", 1.0)], None),
        (yes, "a receipt", None, [("find", 1.0)], None),
        (no, "never", None, [("find", 0.0)], 0.0),
        (yes, "a receipt", no_receipt, [("find", 1.0)], None),
        (yes, "a receipt", yes, [("find", 1.0)], None),
        (yes, ModelError("too long", kind="rejected"), None, [("find", 1.0)], None),
    ],
)
def test_after_what_a_shadow_holds_back_nothing_counts(looked, sent, whole, trials, outcome):
    """What was judged before counts, good and bad; after it neither: what could only count as good is no trial."""

    @tool(irreversible=True)
    def send(text: str) -> str:
        """Send it."""
        return "never"

    answers = iter(["found", Reply(tools=(("send", '{"text": "hi"}'),)), sent])
    tasks = [
        Task("Find.", name="find", verify=looked),
        Task("Send.", name="send", verify=lambda output, _: output == "a receipt"),
    ]
    crew = Crew([Agent(ANN, [send])], tasks, verify=whole, fallback=chain(by_hand))
    rules = Policy.model_validate({"reliability": {"threshold": 0.85, "unknown": "shadow"}})
    store = MemoryStore()
    result = supervisor(store, rules, ScriptedModel(lambda _: next(answers))).run(crew, run_id="r1")
    assert (result.via, result.reliability.outcome) == ("workflow", outcome)
    report = store.track_record().run("r1").report
    assert [(trial.task, trial.grade) for trial in report.trials] == trials
    assert (report.shadow, report.outcome) == (True, outcome)


def test_shadows_that_hold_back_a_tool_prove_a_crew_by_a_person_only():
    """However good they look: nobody saw what the crew would have done with it."""

    @tool(irreversible=True)
    def send(text: str) -> str:
        """Send it."""
        return "sent"

    def say(request: Any) -> Reply | str:
        held_back = any(message.speaker == "tool" for message in request.messages)
        return "good" if held_back else Reply(tools=(("send", '{"text": "hi"}'),))

    crew = Crew([Agent(ANN, [send])], [Task("Send.", name="job", verify=yes)], name="posters", fallback=chain(by_hand))
    rules = Policy.model_validate({"reliability": {"threshold": 0.85, "unknown": "shadow"}})
    store = MemoryStore()
    watched, track = supervisor(store, rules, ScriptedModel(say)), store.track_record()
    runs = [f"r{number}" for number in range(19)]
    assert {watched.run(crew, run_id=run_id).reliability.routed for run_id in runs} == {"shadow"}
    assert watched.run(crew).reliability.routed == "shadow"
    assert track.crew("posters").end_to_end.trials == 0
    for run_id in runs:
        track.outcome(run_id, 1.0, agent="posters")
    assert watched.run(crew).reliability.routed == "crew"


def test_an_outcome_of_a_shadow_whose_workflow_failed_is_not_the_crews():
    """That a run gave nothing says nothing of a crew whose answer nobody was going to use."""

    def broken(_: Any) -> str:
        raise ValueError("no such file")

    store = MemoryStore()
    rules = Policy.model_validate({"reliability": {"threshold": 0.85, "unknown": "shadow"}})
    crew = crew_of(yes, chain(broken))
    assert supervisor(store, rules).run(crew, run_id="r1").status == "failed"
    track = store.track_record()
    with pytest.raises(StoreError, match="in a shadow"):
        track.outcome("r1", 0.0)
    assert track.crew("crew").end_to_end == Counts(1, 1.0)
    assert track.outcome("r1", 0.0, agent="crew").end_to_end == Counts(1, 0.0)


def test_a_workflow_makes_anew_what_the_verifier_of_the_whole_refused():
    """Each task passed by itself, and nobody is blamed: the refused draft isn't handed in a second time."""
    workflow = chain(node(lambda _: "facts by hand", name="research"), node(lambda facts: f"on {facts}", name="draft"))
    tasks = [Task("Find.", name="research", verify=yes), Task("Write.", name="draft", verify=yes)]
    crew = Crew([Agent(ANN)], tasks, verify=lambda output, _: output != "good", fallback=workflow)
    result = supervisor(MemoryStore()).run(crew)
    assert (result.status, result.via, result.output) == ("done", "workflow", "on facts by hand")


def test_a_crew_whose_output_passed_is_not_too_dear(monkeypatch):
    """There is nothing to come that could cost anything."""
    asked: list[str] = []
    monkeypatch.setattr(relying, "forecast", lambda _, __, verdicts, *___, **____: asked.append(verdicts[-1].task))
    crew = Crew(
        [Agent(ANN)], [Task("a", name="a"), Task("b", name="b", verify=yes)], verify=yes, fallback=chain(by_hand)
    )
    assert supervisor(MemoryStore()).run(crew).via == "crew"
    assert asked == ["b"]


def test_a_kill_while_the_track_record_is_read_is_a_kill():
    """The result says who ended the run, and it is no trial."""
    store = MemoryStore()
    track = store.track_record()
    watched = supervisor(store)
    read = track.crew

    def slowly(*given: Any) -> Any:
        watched.kill("r1", "by me")
        return read(*given)

    track.crew = slowly  # type: ignore[method-assign]
    rules = Policy.model_validate({"reliability": {"threshold": 0.85, "unknown": "workflow"}})
    watched.policy = rules
    result = watched.run(crew_of(no, chain(by_hand)), run_id="r1")
    assert result.status == "stopped"
    assert result.stopped is not None
    assert result.stopped.reason == "killed"
    assert track.run("r1") is None


def test_a_crew_that_failed_has_failed_though_its_workflow_is_killed():
    """What a person ended is the workflow's part only."""
    store = MemoryStore()
    watched = supervisor(store)

    def killed(_: Any) -> str:
        watched.kill("r1")
        return "never"

    result = watched.run(crew_of(no, chain(killed)), run_id="r1")
    assert result.stopped is not None
    report = store.track_record().run("r1").report
    assert [(trial.agent, trial.grade) for trial in report.trials] == [("ann", 0.0)]
    assert (report.crew_grade, report.outcome) == (0.0, None)
    assert store.track_record().crew("crew").end_to_end.trials == 1


def test_a_refused_output_is_not_given_again():
    """The nodes are named like the tasks, which passed by themselves: the workflow does them again all the same."""
    workflow = chain(node(lambda _: "facts", name="job"), node(by_hand))
    crew = Crew(
        [Agent(ANN)],
        [Task("Do it.", name="job", verify=yes), Task("More.", name="by_hand", verify=yes)],
        verify=lambda output, _: output == "by hand",
        fallback=workflow,
    )
    result = supervisor(MemoryStore()).run(crew)
    assert (result.status, result.via, result.output) == ("done", "workflow", "by hand")


def test_a_verdict_of_the_crew_that_comes_late_is_dropped():
    """It would be taken for one on the workflow."""
    seen: list[RunGate] = []

    class Late:
        name = "late"

        def members(self) -> list[str]:
            return []

        async def run(self, inputs: Any, gate: Any) -> Any:
            seen.append(gate)
            raise RuntimeError("it gave up")

    async def work(_: Any) -> str:
        seen[0].judged("ann", "job", Verdict(passed=False))
        await asyncio.sleep(0)
        return "by hand"

    store = MemoryStore()
    watched = supervisor(store)
    result = watched.run_runtime(Late(), {}, name="host", fallback=chain(work), verify=yes, run_id="r1").wait()
    assert result.output == "by hand"
    assert [(event.task, event.passed) for event in store.read("r1") if isinstance(event, Judged)] == [("output", True)]


def renewed(store: MemoryStore) -> Crew:
    """A new version of a crew that is known: its next run is a probe."""
    supervisor(store).run(crew_of(yes, chain(by_hand)))
    role = Role(name="ann", goal="find out", instructions="Be brief.")
    return Crew([Agent(role)], [Task("Do it.", name="job", verify=yes)], fallback=chain(by_hand))


def test_a_probe_is_given_back_where_the_journal_fails():
    """Else nobody could probe for an hour."""
    store = MemoryStore()
    crew, append = renewed(store), store.append

    def refuse(run_id: str, events: Any) -> Any:
        if any(type(event).__name__ == "RunEnded" for event in events):
            raise StoreError("the disk is full")
        return append(run_id, events)

    store.append = refuse  # type: ignore[method-assign]
    store.write = refuse  # type: ignore[method-assign]
    with pytest.raises(StoreError, match="disk is full"):
        supervisor(store).run(crew)
    assert store.track_record().begin_probe("crew", "the next", 2e12)


def test_a_probe_that_comes_just_too_late_is_given_back(monkeypatch):
    """The thread had looked whether somebody waits, and the run's time was over before it handed the probe on."""
    monkeypatch.setattr(relying, "_LONGEST_WAIT", 0.05)
    store, over = MemoryStore(), threading.Event()
    crew, route = renewed(store), relying.Relying._route

    def slowly(self: Any, *, fallback: bool) -> Any:
        routing = route(self, fallback=fallback)
        over.wait(30)
        return routing

    monkeypatch.setattr(relying.Relying, "_route", slowly)
    try:
        result = supervisor(store, policy(limits={"max_seconds": 0.2})).run(crew)
    finally:
        over.set()
    assert result.stopped is not None
    assert store.track_record().begin_probe("crew", "the next", 2e12)


@pytest.mark.parametrize("method", ["crew", "add"])
def test_a_record_that_doesnt_answer_holds_no_result_up(method, monkeypatch):
    """Before the run its deadline ends it; after it the result says that the record is unknown."""
    monkeypatch.setattr(relying, "_LONGEST_WAIT", 0.05)
    store, answers = MemoryStore(), threading.Event()
    track = store.track_record()
    does = getattr(track, method)

    def hangs(*given: Any) -> Any:
        answers.wait(30)
        return does(*given)

    setattr(track, method, hangs)
    try:
        result = supervisor(store, policy(limits={"max_seconds": 0.3})).run(crew_of(yes, chain(by_hand)))
    finally:
        answers.set()
    if method == "crew":
        assert result.stopped is not None
        assert result.stopped.reason == "deadline"
    else:
        assert result.done
    assert "unknown" in result.reliability.problem or method == "crew"


# Outages


class Calling:
    """A host whose one agent asks a model once; time passes while the provider is asked."""

    name = "calling"

    def __init__(self, model: ScriptedModel) -> None:
        self.model = model

    def members(self) -> list[str]:
        return ["ann"]

    async def run(self, inputs: Any, gate: Any) -> Any:
        request = ModelRequest((Message("user", "Hello"),), prompt_tokens=20)
        await gate.call_model("ann", self.model, request, CallTerms(max_tokens=10))
        return RuntimeResult("good")


@pytest.mark.parametrize(
    ("limits", "seconds", "attempts", "fault"),
    [
        ({"max_seconds": 10}, 9.5, [ModelError("busy", kind="throttled", retry_after=60)], True),
        ({"max_steps": 2, "max_seconds": 10}, 0.1, [ModelError("down", kind="unavailable", retry_after=0)] * 2, True),
        ({"max_seconds": 10}, 9.5, [ModelError("no", kind="rejected")], False),
        ({"max_seconds": 10}, 9.5, ["good"], False),
    ],
)
def test_an_outage_that_lasts_until_a_limit_is_no_failed_trial(limits, seconds, attempts, fault):
    """The crew had nothing but attempts to spend its time and its steps on; who is answered has failed by itself."""
    clock, store, left = FakeClock(), MemoryStore(), iter(attempts)

    def ask(_: Any) -> Any:
        clock.advance(seconds)
        asyncio.get_running_loop().call_later(0.01, clock.advance, 0.1)  # a pause of no seconds is over
        return next(left)

    rules = policy(limits=limits, attempts=3, reserve={"seconds": 1, "steps": 0})
    host = Calling(ScriptedModel(ask))
    reliance = reliance_of_host("crew", "v1", rules, verified=True)
    relied = Relied(reliance, store.track_record(), yes, lambda _: host.model)
    asyncio.run(Life(Job("r1", "crew", rules, host, {}, chain(by_hand), store, relied=relied), clock).live())
    report = store.track_record().run("r1").report
    assert (report.via, report.crew_grade) == ("workflow", None if fault else 0.0)
    assert store.track_record().crew("crew").end_to_end.trials == (0 if fault else 1)


def two_tasks(process: str, verify: Any = yes) -> Crew:
    manager = Agent(Role(name="boss", goal="lead")) if process == "hierarchical" else None
    tasks = [Task("Find.", "ann", name="find", verify=verify), Task("Write.", "bob", name="write", verify=verify)]
    more: dict[str, Any] = {"turns": Turns(max_turns=1)} if process == "conversation" else {}
    return Crew([Agent(ANN), Agent(Role(name="bob", goal="write"))], tasks, process=process, manager=manager, **more)


@pytest.mark.parametrize("error", [ModelError("too long", kind="rejected"), ValueError("a bug of its client")])
@pytest.mark.parametrize("process", ["sequential", "hierarchical", "handoff", "conversation"])
def test_an_agent_whose_error_ends_the_crew_has_failed(process, error):
    """As a node of a workflow has; what was judged before stands, and the next run goes by both."""
    store, answers = MemoryStore(), iter(["good", error])
    result = supervisor(store, model=ScriptedModel(lambda _: next(answers))).run(two_tasks(process), run_id="r1")
    assert result.status == "failed"
    trials = store.track_record().run("r1").report.trials
    assert [(trial.task, trial.grade) for trial in trials] == [("find", 1.0), ("write", 0.0)]
    assert trials[-1].agent == ("boss" if process == "hierarchical" else "bob")


def test_of_agents_at_work_at_once_the_one_whose_error_it_was_has_failed():
    """The other was ended with it."""

    async def look(_output: Any, _context: Any) -> bool:
        return await asyncio.Event().wait()

    def say(request: Any) -> Any:
        return "good" if "Find." in request.messages[-1].text else ModelError("too long", kind="rejected")

    store = MemoryStore()
    supervisor(store, model=ScriptedModel(say)).run(two_tasks("parallel", look), run_id="r1")
    assert [(trial.task, trial.grade) for trial in store.track_record().run("r1").report.trials] == [("write", 0.0)]


@pytest.mark.parametrize("kind", ["unavailable", "rejected"])
def test_an_error_that_is_none_of_the_agents_is_no_trial_of_it(kind):
    """An outage; and what the model of its judge raises."""
    store = MemoryStore()
    answers: Any = {"unavailable": [ModelError("down", kind=kind, retry_after=0)], "rejected": ["good"]}
    left = iter([*answers[kind], ModelError("no", kind="rejected")])
    crew = two_tasks("sequential", Judge("Is it good?", name="judge"))
    supervisor(store, policy(attempts=1), ScriptedModel(lambda _: next(left))).run(crew, run_id="r1")
    assert store.track_record().run("r1").report.trials == ()


# Nodes of the workflow


def nodes_of(workflow: Any, model: ScriptedModel | None = None) -> dict[tuple[str, str], Any]:
    """The trials of the workflow that finishes what the crew failed, by agent and task."""
    store = MemoryStore()
    supervisor(store, model=model).run(crew_of(no, workflow), run_id="r1")
    trials = store.track_record().run("r1").report.trials
    return {(trial.agent, trial.task): trial for trial in trials if trial.side == "fallback"}


def helper(grade: float, instructions: str = "") -> Crew:
    role = Role(name="ann", goal="g", instructions=instructions)
    return Crew([Agent(role)], [Task("x", verify=lambda _output, _context: grade)])


def test_agents_inside_of_two_nodes_have_a_trial_each():
    """Their crews' tasks have the same name."""
    one, two = (
        agent_node(helper(grade), name=name, caps={"max_steps": 3}) for name, grade in [("one", 0.6), ("two", 1.0)]
    )
    found = nodes_of(parallel(one, two))
    assert {who: trial.grade for who, trial in found.items()} == {
        ("one/ann", "task_1"): 0.6,
        ("two/ann", "task_1"): 1.0,
    }
    assert found["one/ann", "task_1"].subject.kind == "one/ann/task_1"


def test_a_node_that_blames_another_fails_its_trial():
    """As an agent of the crew does."""

    def wrong(_: Any) -> Verdict:
        return Verdict(passed=False, reason="a wrong number", blames="first")

    first = node(by_hand, name="first", verify=lambda _: True)
    found = nodes_of(chain(first, node(by_hand, name="second", verify=wrong)))
    assert [(trial.task, trial.grade, trial.source) for trial in found.values()] == [
        ("first", 0.0, "later"),
        ("second", 0.0, "check"),
    ]
    assert found["first", "first"].reason == "second: a wrong number"


@pytest.mark.parametrize("last", [0, 1, 2])
def test_a_vote_is_one_trial_of_all_of_its_copies(last):
    """Whichever of them ends last: two of three were right."""
    answers, seats, ended = ["bad", "good", "good"], iter(range(3)), set[int]()

    async def asked(_: Any) -> str:
        seat = next(seats)
        while seat == last and len(ended) < 2:
            await asyncio.sleep(0)
        for _ in range(20 * (seat == last)):
            await asyncio.sleep(0)  # those before it are judged
        ended.add(seat)
        return answers[seat]

    voted = vote(node(asked, verify=lambda output: output == "good"), voters=3)
    found = nodes_of(voted)
    assert found["asked", "asked"].grade == pytest.approx(2 / 3)


def test_work_on_several_items_is_one_trial_of_all_of_them():
    """By the least of their grades: all are needed."""

    def parts(_: Any) -> list[float]:
        return [1.0, 0.5, 0.6]

    def done(part: float) -> float:
        return part

    found = nodes_of(chain(parts, replace(node(done, verify=lambda output: output), each=5)))
    assert found["done", "done"].grade == 0.5


def test_another_model_or_prompt_begins_a_nodes_record_afresh():
    """And the same node, made again, goes on with the one it has."""

    def ask(value: Any) -> str:
        return "Say something."

    def subject(model: str = "small", system: str = "") -> Any:
        own = ScriptedModel(lambda _: "said", name=model)
        return nodes_of(chain(node(ask, model=own, system=system, verify=lambda _: True)))["ask", "ask"].subject

    def inside(instructions: str) -> Any:
        made = agent_node(helper(1.0, instructions), name="one", caps={"max_steps": 3})
        return nodes_of(chain(made))["one/ann", "task_1"].subject

    assert subject() == subject()
    assert subject().model == "scripted:small"
    assert len({subject(), subject("large"), subject(system="Be brief.")}) == 3
    assert inside("") == inside("")
    assert inside("") != inside("Be brief.")


@pytest.mark.parametrize("at", ["work", "route"])
def test_a_probe_is_given_back_where_something_blocks_the_loop(at, monkeypatch):
    """The result is taken from another thread, and the next run may probe: also where the route was just found."""
    store, free = MemoryStore(), threading.Event()
    crew, track = renewed(store), store.track_record()

    async def blocks() -> None:
        free.wait(30)

    if at == "route":
        begin = track.begin_probe

        def then_block(*given: Any, **more: Any) -> bool:
            mine = begin(*given, **more)
            loop.call_soon_threadsafe(free.wait, 30)
            return mine

        loop = relying_loop()
        track.begin_probe = then_block  # type: ignore[method-assign]
    model = ScriptedModel([Reply("good", wait=blocks)], repeat=True)
    try:
        result = supervisor(store, policy(limits={"max_seconds": 0.3}), model).run(crew, run_id="r1")
        assert result.stopped is not None
        assert "blocks the event loop" in result.stopped.detail
        assert type(track).begin_probe(track, "crew", "the next", 2e12)
    finally:
        free.set()


def relying_loop() -> asyncio.AbstractEventLoop:
    """The loop that the next run is on."""
    from crew_guard.supervisor.loop import engine_loop

    return engine_loop().loop


def test_a_record_that_doesnt_answer_holds_up_no_blocked_runs_result(monkeypatch):
    """It gets a moment; then the probe's own end has to do."""
    store, free, over = MemoryStore(), threading.Event(), threading.Event()
    crew, track = renewed(store), store.track_record()

    async def blocks() -> None:
        free.wait(30)

    def hangs(**_: Any) -> None:
        free.wait(30)
        over.set()

    track.end_probe = hangs  # type: ignore[method-assign]
    model = ScriptedModel([Reply("good", wait=blocks)], repeat=True)
    try:
        assert supervisor(store, policy(limits={"max_seconds": 0.3}), model).run(crew).stopped is not None
        assert not over.is_set()
    finally:
        free.set()


class Thing:
    """What pydantic has no schema for."""


class Odd(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    thing: Thing


@dataclass
class Step:
    """A callable that can't be hashed."""

    def __call__(self, _value: Any) -> str:
        return "by step"


@pytest.mark.parametrize(
    "workflow",
    [chain(node(lambda _: {"thing": Thing()}, name="odd", output=Odd)), chain(node(Step(), name="step"))],
)
def test_a_node_that_cant_be_described_costs_no_result(workflow):
    """The job was done, and the crew's trial counts."""
    store = MemoryStore()
    result = supervisor(store).run(crew_of(no, workflow), run_id="r")
    assert (result.status, result.via, result.reliability.problem) == ("done", "workflow", "")
    assert [(trial.task, trial.grade) for trial in store.track_record().run("r").report.trials] == [("job", 0.0)]


def test_a_report_that_cant_be_made_costs_no_result(monkeypatch):
    """Whatever it is: the result says what is missing of the record."""
    monkeypatch.setattr(relying, "node_trials", lambda *_: 1 / 0)
    result = supervisor(MemoryStore()).run(crew_of(no, chain(node(by_hand))))
    assert (result.status, result.output) == ("done", "by hand")
    assert result.reliability.problem == "ZeroDivisionError: division by zero"


def test_a_judge_is_asked_about_what_has_no_json():
    """Its parts are shown by their names."""
    asked: list[str] = []

    def says(request: Any) -> str:
        asked.append(request.messages[-1].text)
        return '{"passed": true, "reason": "fine"}'

    odd = node(lambda _: {"thing": Thing()}, name="odd", output=Odd, verify=Judge("Is it a thing?"))
    result = supervisor(MemoryStore(), model=ScriptedModel(says)).run(chain(odd))
    assert result.status == "done", result.error
    assert "Thing" in asked[0]


class Tone(BaseModel):
    words: str


class Client:
    """What a partial may give besides data: another one in each process."""


def asked(tone: Any, client: Client, _value: Any) -> str:
    return "by hand"


def named(_value: Any, tone: str) -> str:
    return "by hand"


def version_of(function: Any) -> str:
    workflow = chain(node(function, name="ask", verify=lambda _: True))
    (trial,) = [one for place, one in nodes_of(workflow).items() if place == ("ask", "ask")]
    return trial.subject.version


@pytest.mark.parametrize(
    "other",
    [
        partial(asked, "rude", Client()),
        partial(asked, ["brief"], Client()),
        partial(asked, {"tone": "brief"}, Client()),
        partial(asked, Tone(words="brief"), Client()),
        partial(asked, by_hand, Client()),
        partial(partial(asked, "brief"), "brief"),
    ],
)
def test_what_a_partial_gives_begins_a_nodes_record_afresh(other):
    """Another prompt is another behaviour; an object that only this process has is none."""
    brief = partial(asked, "brief", Client())
    assert version_of(brief) == version_of(partial(asked, "brief", Client()))
    assert version_of(other) != version_of(brief)
    assert version_of(other) == version_of(partial(other.func, *other.args))
    assert version_of(partial(named, tone="rude")) != version_of(partial(named, tone="brief"))
