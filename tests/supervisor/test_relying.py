"""A run's reliability end to end: routed before, looked ahead in, judged after, on the real store and the real gate."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task, Verdict, chain, node, tool
from crew_guard.api import calibrated
from crew_guard.cli.summary import reliability_words
from crew_guard.cli.unreported import unreported
from crew_guard.core.events import Routed
from crew_guard.core.reliability.counts import Counts
from crew_guard.core.reliability.judging import judge_of
from crew_guard.core.usage import NANO, Rate, Rates
from crew_guard.core.verdicts import Case, Judge
from crew_guard.errors import ConfigError, ModelError, RunFailedError, StoreError
from crew_guard.observers.words import Teller
from crew_guard.ports import RuntimeResult
from crew_guard.store.sqlite import SqliteStore
from crew_guard.testing import MemoryStore, Reply, ScriptedModel

ANN, BOB = Role(name="ann", goal="find out"), Role(name="bob", goal="write up")
MANY = 150
"""Runs that are tried before a test gives up on a change."""


class Worker:
    """A model whose answers are good or bad as the test says."""

    def __init__(self) -> None:
        self.good = True
        self.model = ScriptedModel(lambda _: "good" if self.good else "bad")

    @property
    def calls(self) -> int:
        return len(self.model.calls)


def is_good(output: Any, _context: Any) -> Verdict:
    return Verdict(passed=output == "good", reason="as it looks")


def by_hand(_: Any) -> str:
    return "by hand"


def crew_of(
    *, fallback: Any = True, role: Role = ANN, verify: Callable[..., Any] | Judge | None = is_good, **more: Any
):
    workflow = chain(node(by_hand)) if fallback is True else fallback
    return Crew([Agent(role)], [Task("Do it.", name="job", verify=verify)], fallback=workflow, **more)


def policy(**reliability: Any) -> Policy:
    limits = reliability.pop("limits", {})
    return Policy.model_validate({"limits": limits, "reliability": {"threshold": 0.85, **reliability}})


def supervisor(model: ScriptedModel, store: Any, rules: Policy | None = None, **more: Any) -> Supervisor:
    return Supervisor(rules or policy(), model=model, store=store, **more)


def until(run: Callable[[], Any], holds: Callable[[Any], bool]) -> list[Any]:
    """Results of runs until one is as wanted."""
    found: list[Any] = []
    for _ in range(MANY):
        found.append(run())
        if holds(found[-1]):
            return found
    raise AssertionError(f"not within {MANY} runs: the last is {found[-1].reliability}")


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    made = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "runs.db")
    yield made
    made.close()


@pytest.mark.parametrize("runtime", ["native", "crewai", "autogen"])
def test_a_crew_that_drops_is_taken_out_and_comes_back_through_probes(runtime):
    """The workflow does the job meanwhile; probes are shadows, and their output is never the result."""
    worker, store = Worker(), MemoryStore()
    rules = policy(alarm_after=100, probes=0.5)
    watched = supervisor(worker.model, store, rules, runtime=runtime)

    def run() -> Any:
        return watched.run(crew_of())

    for _ in range(25):
        assert run().via == "crew"
    worker.good = False
    taken_out = until(run, lambda result: result.reliability.routed != "crew")
    assert len(taken_out) <= 20
    assert all(result.output == "by hand" for result in taken_out)
    out = [run() for _ in range(6)]
    assert {result.reliability.routed for result in out} == {"workflow", "shadow"}
    assert all((result.output, result.via) == ("by hand", "workflow") for result in out)
    worker.good = True
    back = until(run, lambda result: result.reliability.routed == "crew")
    assert back[-1].output == "good"
    assert all(result.output == "by hand" for result in back[:-1])
    asked = [result for result in back[:-1] if result.reliability.outcome is not None]
    assert asked
    assert all(result.reliability.routed == "shadow" for result in asked)


def test_after_a_long_outage_a_crew_that_is_good_again_comes_back():
    """What it failed while it was broken does not keep it out for good."""
    worker, store = Worker(), MemoryStore()
    watched = supervisor(worker.model, store, policy(alarm_after=100, probes=1.0))

    def run() -> Any:
        return watched.run(crew_of())

    for _ in range(20):
        run()
    worker.good = False
    for _ in range(60):
        run()
    worker.good = True
    assert until(run, lambda result: result.via == "crew")


def test_a_later_verdict_of_a_person_changes_the_route(store):
    """Runs that looked fine and were not: with their outcomes the upper bound falls below the threshold."""
    worker = Worker()
    watched = supervisor(worker.model, store)
    ids = [watched.run(crew_of()).run_id for _ in range(24)]
    assert watched.run(crew_of()).via == "crew"
    for run_id in ids:
        store.track_record().outcome(run_id, 0.0, because="the customer complained")
    asked = worker.calls
    result = watched.run(crew_of())
    assert result.via == "workflow"
    assert result.reliability.routed in ("workflow", "shadow")
    assert result.fell_back
    assert worker.calls - asked == (result.reliability.routed == "shadow")


@pytest.mark.parametrize(("unknown", "routed", "via"), [("crew", "crew", "crew"), ("workflow", "workflow", "workflow")])
def test_while_too_little_is_known_the_policy_decides(unknown, routed, via, store):
    """And the journal and the result say where the run went, and why."""
    worker = Worker()
    result = supervisor(worker.model, store, policy(unknown=unknown)).run(crew_of(), run_id="r1")
    assert (result.reliability.routed, result.via, worker.calls) == (routed, via, int(via == "crew"))
    (event,) = [event for event in store.read("r1") if isinstance(event, Routed)]
    assert (event.to, event.why) == (routed, result.reliability.why)
    assert event.figures["threshold"] == 0.85
    assert 0 <= event.figures["lower"] <= event.figures["upper"] <= 1


def test_what_never_runs_is_never_known():
    """Under unknown: workflow a crew works only once its agents have trials elsewhere; policy check warns of it."""
    worker, store = Worker(), MemoryStore()
    careful = supervisor(worker.model, store, policy(unknown="workflow"))
    results = [careful.run(crew_of()) for _ in range(12)]
    assert ({result.reliability.routed for result in results}, worker.calls) == ({"workflow"}, 0)
    elsewhere = supervisor(worker.model, store, policy())
    for _ in range(20):
        elsewhere.run(crew_of(name="another"))
    assert careful.run(crew_of()).reliability.routed == "crew"


def test_a_shadow_is_judged_and_its_output_never_counts(store):
    """Also where it would have been right; the crew's figures grow all the same."""
    worker = Worker()
    result = supervisor(worker.model, store, policy(unknown="shadow")).run(crew_of())
    assert (result.output, result.via, worker.calls) == ("by hand", "workflow", 1)
    assert (result.reliability.outcome, result.reliability.runs) == (1.0, 1)
    assert "shadow" in result.fell_back


@pytest.mark.parametrize(
    ("mode", "bad", "via"),
    [("never", True, None), ("on_failure", True, "workflow"), ("on_reliability", True, "workflow")],
)
def test_when_the_workflow_takes_over_is_the_policys_to_say(mode, bad, via, store):
    """Never, where the crew failed, or also where it isn't reliable enough."""
    worker = Worker()
    worker.good = not bad
    result = supervisor(worker.model, store, policy(fallback=mode)).run(crew_of())
    assert result.via == via


def test_on_failure_no_figure_takes_a_crew_out(store):
    """However bad they are, it is asked first."""
    worker = Worker()
    worker.good = False
    watched = supervisor(worker.model, store, policy(fallback="on_failure", alarm_after=100))
    for _ in range(30):
        watched.run(crew_of())
    assert worker.calls == 30


def test_a_crew_without_a_workflow_runs_whatever_its_figures_are(store):
    """There is nothing to go to; the result tells the figures all the same."""
    worker = Worker()
    worker.good = False
    watched = supervisor(worker.model, store, policy(alarm_after=100))
    results = [watched.run(crew_of(fallback=None)) for _ in range(20)]
    assert worker.calls == 20
    assert results[-1].reliability.measured == 0
    assert results[-1].reliability.why == "it has no workflow"


def test_a_workflow_that_the_policy_keeps_out_is_not_said_to_be_missing(store):
    """The reason is the policy's key."""
    result = supervisor(ScriptedModel(["good"]), store, policy(fallback="never")).run(crew_of())
    assert result.reliability.why == "the policy's fallback is never"


def test_where_both_fail_the_result_says_both(store):
    """What was wrong with the crew, and what with the workflow."""

    def broken(_: Any) -> str:
        raise RuntimeError("the printer is on fire")

    worker = Worker()
    worker.good = False
    result = supervisor(worker.model, store).run(crew_of(fallback=chain(node(broken), name="fixed")))
    assert result.status == "failed"
    assert "as it looks" in result.error
    assert "then the workflow fixed" in result.error
    assert "printer is on fire" in result.error


def test_a_new_version_is_probed_before_it_works_alone(store):
    """Another text of its role: it starts afresh, in a shadow."""
    worker = Worker()
    watched = supervisor(worker.model, store)
    for _ in range(5):
        assert watched.run(crew_of()).via == "crew"
    renewed = crew_of(role=Role(name="ann", goal="find out", instructions="Be brief."))
    result = watched.run(renewed)
    assert (result.reliability.routed, result.via, result.output) == ("shadow", "workflow", "by hand")
    assert "new" in result.reliability.why
    assert result.reliability.runs == 1
    assert result.reliability.breaker == "half_open"


def test_two_tasks_of_one_agent_and_kind_are_no_new_version_of_each_other():
    """The crew works in every run, and each task is counted by itself."""
    store = MemoryStore()
    watched = supervisor(Worker().model, store)
    tasks = [Task(f"Sum up {name}.", name=name, kind="sum", verify=is_good) for name in ("a", "b")]
    for _ in range(6):
        assert watched.run(Crew([Agent(ANN)], tasks, fallback=chain(node(by_hand)))).reliability.routed == "crew"
    streams = store.track_record().crew("crew").streams
    assert {name: one.counts.trials for name, one in streams.items()} == {
        "ann/sum": 6,
        "ann/sum/b": 6,
        "end to end": 6,
    }


def test_another_model_is_another_version():
    """The figures of the one say nothing of the other."""
    store = MemoryStore()
    for name, routed in (("small", "crew"), ("large", "shadow")):
        model = ScriptedModel(lambda _: "good", name=name)
        assert supervisor(model, store).run(crew_of()).reliability.routed == routed


def test_one_probe_at_a_time(store):
    """While another run has it, the workflow does the job alone."""
    worker = Worker()
    watched = supervisor(worker.model, store)
    watched.run(crew_of())
    renewed = crew_of(role=Role(name="ann", goal="find out", instructions="Be brief."))
    track = store.track_record()
    now = watched_now()
    assert track.begin_probe("crew", "another run", now + 1_000, now=now)
    result = watched.run(renewed)
    assert (result.reliability.routed, result.via, worker.calls) == ("workflow", "workflow", 1)
    assert "a probe is under way" in result.reliability.why
    track.end_probe("crew", "another run")
    assert watched.run(renewed).reliability.routed == "shadow"
    assert track.begin_probe("crew", "the next", now + 1_000, now=now)  # it was given back


def watched_now() -> float:
    import time

    return time.time()


def test_what_rest_of_a_crew_costs_is_compared_with_what_is_left():
    """On average 5 cents a task; with 2 left the second task is not begun."""
    store, rates = MemoryStore(), Rates(Rate(0), Rate(1_000 * NANO))
    tasks = [Task("Find.", "ann", name="find", verify=is_good), Task("Write.", "bob", name="write", verify=is_good)]
    crew = Crew([Agent(ANN), Agent(BOB)], tasks, fallback=chain(node(by_hand)))

    def model() -> ScriptedModel:
        return ScriptedModel(lambda _: Reply("good", tokens=50), rates=rates)

    dear = supervisor(model(), store, policy(limits={"max_usd": "10"}))
    assert [dear.run(crew).usage.nano_usd for _ in range(6)] == [NANO // 10] * 6
    asked = model()
    rules = Policy.model_validate(
        {"limits": {"max_usd": "0.07"}, "completion_min": 1, "reliability": {"threshold": 0.85}}
    )
    result = supervisor(asked, store, rules).run(crew)
    assert (result.via, len(asked.calls)) == ("workflow", 1)
    assert "won't fit its budget: it takes $0.05 on average, $0.02 is left" in result.fell_back


def test_what_is_left_is_compared_with_what_the_tasks_to_come_cost(store):
    """Not with the crew's mean: the first task costs 1 cent, the second 9. Both ways round, with 6 cents left."""
    rates = Rates(Rate(0), Rate(1_000 * NANO))

    def crew(first: str, second: str) -> Crew:
        tasks = [Task("Go.", first, name="find", verify=is_good), Task("Go.", second, name="write", verify=is_good)]
        fallback = chain(node(by_hand))
        return Crew([Agent(ANN), Agent(BOB)], tasks, fallback=fallback, name=f"{first} first")

    def model() -> ScriptedModel:
        said = {"ann": 10, "bob": 90}
        return ScriptedModel(
            lambda request: Reply("good", tokens=said["ann" if "You are ann" in str(request.messages) else "bob"]),
            rates=rates,
        )

    def ends(made: Crew, usd: str) -> str | None:
        for _ in range(6):
            result = supervisor(model(), store, policy(limits={"max_usd": "10"})).run(made)
            assert result.usage.nano_usd == NANO // 10
        given = {"limits": {"max_usd": usd}, "completion_min": 1, "completion_default": 90}
        rules = Policy.model_validate({**given, "reliability": {"threshold": 0.85}})
        result = supervisor(model(), store, rules).run(made)
        return result.fell_back

    told = ends(crew("ann", "bob"), "0.095")
    assert "won't fit its budget: it takes $0.09 on average, $0.085 is left" in told
    assert ends(crew("bob", "ann"), "0.12") == ""


def test_the_cap_of_one_agent_is_not_what_the_others_have_left():
    """Ann has used all of her own: Bob's cap is his, and the crew has enough."""
    store, rates = MemoryStore(), Rates(Rate(0), Rate(1_000 * NANO))
    tasks = [Task("Find.", "ann", name="find", verify=is_good), Task("Write.", "bob", name="write", verify=is_good)]
    crew = Crew([Agent(ANN), Agent(BOB)], tasks, fallback=chain(node(by_hand)))
    capped = {"per_agent": {"max_usd": "0.05"}, "completion_min": 1, "completion_default": 50}
    rules = Policy.model_validate(
        {"limits": {"max_usd": "10"}, "reliability": {"threshold": 0.85, "probes": 0.01}, **capped}
    )
    model = ScriptedModel(lambda _: Reply("good", tokens=50), rates=rates)
    watched = supervisor(model, store, rules)
    assert [watched.run(crew).via for _ in range(8)] == ["crew"] * 8


# What counts, and what doesn't


def test_a_killed_run_is_no_trial():
    """A person ended it: that says nothing of the crew."""
    store = MemoryStore()
    holder: list[Supervisor] = []

    def kill(_output: Any, _context: Any) -> bool:
        holder[0].kill("r1")
        return False

    holder.append(supervisor(Worker().model, store))
    result = holder[0].run(crew_of(verify=kill), run_id="r1")
    assert result.stopped is not None
    assert result.stopped.reason == "killed"
    assert store.track_record().run("r1") is None


@pytest.mark.parametrize("fallback", [True, None])
@pytest.mark.parametrize("kind", ["throttled", "unavailable", "unreachable", "broken"])
def test_an_outage_is_no_failed_trial(kind, fallback):
    """It is counted apart, and the outcome stays unknown, whether a workflow did the job or nobody."""
    store = MemoryStore()
    model = ScriptedModel(lambda _: ModelError("busy", kind=kind, retry_after=0))
    rules = Policy.model_validate({"attempts": 1, "reliability": {"threshold": 0.85}})
    result = supervisor(model, store, rules).run(crew_of(fallback=fallback), run_id="r1")
    assert result.via == ("workflow" if fallback else None)
    report = store.track_record().run("r1").report
    assert (report.outcome, report.crew_grade, report.trials) == (None, None, ())
    assert (report.faults, report.ended_by_fault) == (1, fallback is None)
    assert result.reliability.measured is None


def test_a_crew_that_ran_into_its_own_cap_failed():
    """As did the agent, where the cap was its own."""
    store = MemoryStore()

    @tool
    def look(query: str) -> str:
        """Look it up."""
        return query

    numbers = iter(range(1_000))
    model = ScriptedModel(lambda _: Reply(tools=(("look", json.dumps({"query": f"x{next(numbers)}"})),)))
    rules = Policy.model_validate({"per_agent": {"max_steps": 2}, "reliability": {"threshold": 0.85}})
    crew = Crew([Agent(ANN, [look])], [Task("Do it.", name="job", verify=is_good)], fallback=chain(node(by_hand)))
    result = supervisor(model, store, rules).run(crew, run_id="r1")
    report = store.track_record().run("r1").report
    assert result.via == "workflow"
    assert (report.crew_grade, [trial.grade for trial in report.trials]) == (0.0, [0.0])
    assert result.reliability.measured == 0.0


@pytest.mark.parametrize(
    "rules",
    [
        {"limits": {"max_steps": 3}, "reserve": {"steps": 3}},
        {"limits": {"max_tokens": 9_000}, "reserve": {"tokens": 9_000}},
        {"limits": {"max_tokens": 20}},
        {"limits": {"max_seconds": 60}, "reserve": {"seconds": 60}},
        {"per_agent": {"max_steps": 0}},
        {"limits": {"max_agents": 0}},
    ],
    ids=str,
)
def test_a_crew_that_a_limit_let_ask_no_model_was_not_tried(rules):
    """However often: its breaker stays closed, and the next run is the crew's again. Whoever asks is told why."""
    store, worker = MemoryStore(), Worker()
    made = Policy.model_validate({**rules, "reliability": {"threshold": 0.85}})
    results = [supervisor(worker.model, store, made).run(crew_of(), run_id=f"r{number}") for number in range(20)]
    assert worker.calls == 0
    last = results[-1]
    assert (last.via, last.reliability.routed, last.reliability.breaker) == ("workflow", "crew", "closed")
    assert (last.reliability.measured, store.track_record().run("r1")) == (None, None)
    assert "is no trial of anyone" in str(unreported("r1", store.read("r1"), "memory"))


def test_a_crew_that_is_larger_than_its_policy_allows_was_not_tried():
    """Nobody began: neither the first agent nor the one too many has failed."""
    store = MemoryStore()
    tasks = [Task("Find.", "ann", name="find", verify=is_good), Task("Write.", "bob", name="write", verify=is_good)]
    crew = Crew([Agent(ANN), Agent(BOB)], tasks, fallback=chain(node(by_hand)))
    rules = Policy.model_validate({"limits": {"max_agents": 1}, "reliability": {"threshold": 0.85}})
    result = supervisor(Worker().model, store, rules).run(crew, run_id="r1")
    assert "bob would be one too many" in result.fell_back
    assert store.track_record().run("r1") is None


def test_a_crew_whose_end_nobody_judges_has_no_outcome():
    """Not a good one where it ends well, and not a bad one where it doesn't."""
    store = MemoryStore()
    worker = Worker()
    watched = supervisor(worker.model, store)
    tasks = [Task("Find.", "ann", name="find", verify=is_good), Task("Write.", "bob", name="write")]
    crew = Crew([Agent(ANN), Agent(BOB)], tasks)
    watched.run(crew, run_id="r1")
    worker.good = False
    watched.run(crew, run_id="r2")
    reports = [store.track_record().run(run_id).report for run_id in ("r1", "r2")]
    assert [report.outcome for report in reports] == [None, None]
    assert [[trial.grade for trial in report.trials] for report in reports] == [[1.0], [0.0]]


def test_adherence_is_the_target_over_the_actual():
    """A tenth of a dollar where a twentieth was the target: a half."""
    store, rates = MemoryStore(), Rates(Rate(0), Rate(1_000 * NANO))
    model = ScriptedModel(lambda _: Reply("good", tokens=100), rates=rates)
    supervisor(model, store, policy(targets={"usd": "0.05", "seconds": 1_000})).run(crew_of(), run_id="r1")
    report = store.track_record().run("r1").report
    assert (report.usd, report.cost_adherence, report.latency_adherence) == (0.1, 0.5, 1.0)


# What it is to others


def test_runs_without_verdicts_and_section_never_touch_the_track_record():
    """They pay nothing for it."""

    class Guarded(MemoryStore):
        def track_record(self):
            raise AssertionError("nobody asked for it")

    crew = Crew([Agent(ANN)], [Task("Say.")])
    result = Supervisor(model=ScriptedModel(["said"]), store=Guarded()).run(crew)
    assert result.done
    assert result.reliability is None


def test_a_record_that_cant_be_read_is_told_before_anything_runs():
    """And the run is closed in its journal."""
    store = broken_store("crew")
    worker = Worker()
    with pytest.raises(StoreError, match="older version"):
        supervisor(worker.model, store).run(crew_of(), run_id="r1")
    assert worker.calls == 0
    assert [one.status for one in store.runs()] == ["failed"]


def test_a_record_that_cant_be_written_costs_no_result():
    """The job is done; the result says that it isn't counted."""
    result = supervisor(Worker().model, broken_store("add")).run(crew_of())
    assert (result.done, result.output) == (True, "good")
    assert "older version" in result.reliability.problem


def broken_store(method: str) -> MemoryStore:
    store = MemoryStore()

    def refuse(*_: Any, **__: Any) -> Any:
        raise StoreError("the record is of an older version")

    setattr(store.track_record(), method, refuse)
    return store


def test_a_result_tells_its_reliability_in_words_and_as_json(store):
    """Estimate, bounds, measured rate, tier, breaker, route and why."""
    watched = supervisor(Worker().model, store)
    results = [watched.run(crew_of()) for _ in range(3)]
    known = json.loads(json.dumps(results[-1].as_dict()))["reliability"]
    assert (known["threshold"], known["measured"], known["runs"], known["breaker"]) == (0.85, 1.0, 3, "closed")
    assert known["routed"] == "crew"
    assert 0 < known["lower"] < known["estimate"] <= known["upper"] <= 1
    assert known["measured_lower"] == pytest.approx(0.05 ** (1 / 3), abs=0.05)
    words = reliability_words(results[-1])
    assert "measured 1.000" in words
    assert "threshold 0.85" in words
    teller = Teller()
    lines = [line for event in store.read(results[-1].run_id) if (line := teller.tell(event))]
    assert any("the crew does it" in line.text for line in lines)


# Judges


def test_a_judge_is_measured_on_its_labelled_cases():
    """Right about two of three good ones and about both bad ones; each case is a step."""
    cases = [Case("good", True), Case("fine", True), Case("odd", True), Case("bad", False), Case("worse", False)]
    words = {"good": True, "fine": True, "odd": False, "bad": False, "worse": False}

    def say(request: Any) -> str:
        text = request.messages[-1].text.splitlines()[1]
        return json.dumps({"passed": words[text], "reason": "so it seems"})

    model, store = ScriptedModel(say), MemoryStore()
    judge = calibrated(Judge("It must be good.", cases=cases), Supervisor(model=model, store=store), run_id="cases")
    assert (judge.sensitivity, judge.specificity) == (1.0, pytest.approx(2 / 3))
    assert len(model.calls) == 5
    assert judge.record == judge_of([(True, True), (True, True), (True, False), (False, False), (False, False)])


def test_a_judges_cases_are_no_crew():
    """They need no fallback where a policy demands one of every crew, and leave no record; its caps hold."""
    model, store = ScriptedModel(lambda _: '{"passed": true, "reason": "so"}'), MemoryStore()
    judge = Judge("Good?", cases=[Case("good", True), Case("bad", False)])
    strict = supervisor(model, store, policy(require_fallback=True, limits={"max_steps": 2}))
    assert calibrated(judge, strict).record == judge_of([(True, True), (False, True)])
    assert not store.track_record().crews()
    short = supervisor(model, store, policy(require_fallback=True, limits={"max_steps": 1}))
    with pytest.raises(RunFailedError, match="max_steps"):
        calibrated(judge, short)


@pytest.mark.parametrize("cases", [[], [Case("good", True)], [Case("bad", False)]])
def test_a_judge_needs_good_and_bad_cases(cases):
    """One kind alone says nothing of its errors with the other."""
    with pytest.raises(ConfigError, match="good and cases that are bad"):
        calibrated(Judge("It must be good.", cases=cases), Supervisor(model=ScriptedModel([]), store=MemoryStore()))


def test_what_a_judge_says_is_corrected_by_its_errors():
    """One that accepts a fifth of what is bad: the estimate is below the rate that it tells."""
    sure = Counts(200, 200.0)
    weak = Judge(
        "Good?", name="critic", record=judge_of([(True, True)] * 200 + [(False, i % 2 == 0) for i in range(200)])
    )
    store = MemoryStore()
    told: list[float] = []
    for judge in (Judge("Good?", name="critic"), weak):
        replies = iter(range(100))

        def say(request: Any, replies: Any = replies) -> str:
            if "judge one text" not in request.messages[0].text:
                return "an answer"
            return json.dumps({"passed": next(replies) % 5 > 0, "reason": "so it seems"})

        watched = supervisor(ScriptedModel(say), MemoryStore())
        results = [watched.run(crew_of(verify=judge, fallback=None)) for _ in range(20)]
        told.append(results[-1].reliability.estimate)
    assert told[1] < told[0]
    assert sure.rate == 1.0
    assert not store.runs()


# A host's own crew


class HostRuntime:
    """A runtime that nobody looks into."""

    name = "host"

    def __init__(self) -> None:
        self.answer = "good"
        self.down = False
        self.runs = 0

    def members(self) -> list[str]:
        return []

    async def run(self, inputs: Any, gate: Any) -> RuntimeResult:
        self.runs += 1
        if self.down:
            raise ConnectionError("refused")
        return RuntimeResult(self.answer)


def test_a_hosts_own_crew_is_counted_by_what_a_person_says():
    """Without a verifier its outcome is unknown until somebody tells."""
    store = MemoryStore()
    watched = supervisor(ScriptedModel([]), store)
    runtime = HostRuntime()

    def run() -> Any:
        return watched.run_runtime(runtime, {}, name="host crew", fallback=chain(node(by_hand))).wait()

    first = run()
    assert first.via == "crew"
    assert (first.reliability.lower, first.reliability.upper, first.reliability.measured) == (0, 1, None)
    store.track_record().outcome(first.run_id, 0.0)
    assert store.track_record().crew("host crew").end_to_end == Counts(1, 0.0)
    for _ in range(20):
        store.track_record().outcome(run().run_id, 0.0)
    assert run().reliability.routed == "workflow"


def test_a_hosts_own_crew_that_drops_is_taken_out_and_probed_by_runs_that_count():
    """What of its tools can't be undone is unknown, so it can't work in a shadow."""
    store, runtime = MemoryStore(), HostRuntime()
    watched = supervisor(ScriptedModel([]), store, policy(alarm_after=100, probes=0.5))

    def run() -> Any:
        workflow = chain(node(by_hand))
        return watched.run_runtime(runtime, {}, name="host crew", fallback=workflow, verify=good_or_by_hand).wait()

    for _ in range(20):
        assert run().via == "crew"
    runtime.answer = "bad"
    until(run, lambda result: result.reliability.routed == "workflow")
    out = [run() for _ in range(8)]
    assert {result.reliability.routed for result in out} == {"workflow", "crew"}
    assert all("this run is its probe" in one.reliability.why for one in out if one.reliability.routed == "crew")
    runtime.answer = "good"
    back = until(run, lambda one: one.via == "crew" and "probe" not in one.reliability.why)
    assert len(back) > 2


def test_a_host_whose_provider_is_down_is_not_tried_in_each_run():
    """Its probe has no outcome, and is one all the same: the workflow does the runs until the next is due."""
    store, runtime = MemoryStore(), HostRuntime()
    watched = supervisor(ScriptedModel([]), store, policy(alarm_after=100))

    def run() -> Any:
        workflow = chain(node(by_hand))
        return watched.run_runtime(runtime, {}, name="host crew", fallback=workflow, verify=good_or_by_hand).wait()

    runtime.answer = "bad"
    until(run, lambda one: one.reliability.breaker == "half_open")
    runtime.down, before = True, runtime.runs
    assert [run().via for _ in range(20)] == ["workflow"] * 20
    assert runtime.runs - before == 4
    assert store.track_record().crew("host crew").workflow_runs.faults == 4


def good_or_by_hand(output: Any, _context: Any) -> bool:
    return output in ("good", "by hand")


def test_a_model_without_a_price_takes_no_crew_out():
    """The policy let it ask nobody: that is mended there, and says nothing of the crew."""
    store = MemoryStore()
    rules = policy(limits={"max_usd": 1})
    for _ in range(3):
        result = supervisor(ScriptedModel(["good"], rates=None), store, rules).run(crew_of())
        assert (result.via, result.output) == ("workflow", "by hand")
    assert store.track_record().crew("crew") is None
    assert supervisor(ScriptedModel(["good"]), store, rules).run(crew_of()).via == "crew"
