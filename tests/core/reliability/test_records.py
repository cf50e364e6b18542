"""A crew's record as the fold of its runs, and the way that follows from it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import takewhile

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from crew_guard.core.reliability.counts import NO_TRIALS, Counts, score
from crew_guard.core.reliability.judging import Judge
from crew_guard.core.reliability.records import CrewRecord, Settings, add, of_version, revise, revise_outcome
from crew_guard.core.reliability.trials import END_TO_END, RunReport, Subject, Trial

HELD = Settings(threshold=0.85, parts=2, agent_target=0.95)
NAMES = ("reader", "writer")


def trial(agent: str, grade: float, version: str = "v1", **more: str) -> Trial:
    """A check's verdict."""
    return Trial(Subject(agent, "model", more.get("kind", ""), version), agent, "task", grade, "check")


def report(run: int, grades: Mapping[str, float], **more: object) -> RunReport:
    """A run of the crew, judged end to end as all of its agents."""
    given_: dict[str, object] = {"version": "1", "outcome": min(grades.values(), default=1.0), **more}
    trials = tuple(trial(agent, grade) for agent, grade in grades.items())
    return RunReport(f"r{run}", "crew", at=float(run), trials=given_.pop("trials", trials), **given_)  # type: ignore[arg-type]


def good(run: int, **more: object) -> RunReport:
    """A run in which all went well."""
    return report(run, dict.fromkeys(NAMES, 1.0), **more)


def after(reports: list[RunReport], held: Settings = HELD, record: CrewRecord | None = None) -> CrewRecord:
    """The fold."""
    for one in reports:
        record = add(record, one, held)
    assert record is not None
    return record


def broken(record: CrewRecord | None = None) -> CrewRecord:
    """A crew whose writer fails until the breaker opens."""
    record = record or after([good(run) for run in range(30)])
    run = 100
    while record.breaker.state == "closed":
        record = add(record, report(run, {"reader": 1.0, "writer": 0.0}), HELD)
        run += 1
    assert run < 120
    return record


def test_a_run_counts_for_each_agent_and_end_to_end() -> None:
    """Grades, money, time and adherence; a record survives JSON."""
    record = after([report(1, {"reader": 1.0, "writer": 0.5}, usd=0.2, seconds=3.0, cost_adherence=0.8)])
    assert record.streams["reader"].counts == Counts(1, 1.0)
    assert record.streams["writer"].counts == Counts(1, 0.5)
    assert record.end_to_end == Counts(1, 0.5)
    assert (record.crew_runs.usd, record.crew_runs.cost_adherence) == (0.2, 0.8)
    assert msgspec.json.decode(msgspec.json.encode(record), type=CrewRecord) == record


def test_an_outage_is_no_failed_trial() -> None:
    """A run that a fault ended has no outcome; faults are a stream of their own that opens nothing."""
    record = after([report(run, {}, faults=2, ended_by_fault=True, outcome=0.0) for run in range(200)])
    assert record.end_to_end == Counts()
    assert record.faults.counts == Counts(200, 0.0)
    assert record.faults.detector is not None
    assert record.faults.detector.evidence > 10_000
    assert record.breaker.state == "closed"
    assert (record.crew_runs.faults, record.crew_runs.outcomes) == (200, NO_TRIALS)


def test_the_workflows_nodes_and_outcomes_are_not_the_crews() -> None:
    """They have sums of their own; a run that the workflow finished counts against the crew where it says so."""
    node = Trial(Subject("send"), "send", "send", 0.0, "check", side="fallback")
    record = after([report(run, {}, via="workflow", outcome=1.0, trials=(node,)) for run in range(50)])
    assert set(record.streams) == set()
    assert record.workflow_runs.outcomes == Counts(50, 50.0)
    record = add(record, report(51, {}, via="workflow", outcome=1.0, crew_grade=0.0), HELD)
    assert record.end_to_end == Counts(1, 0.0)
    assert record.workflow_runs.outcomes == Counts(51, 51.0)


def test_a_policy_without_a_threshold_only_counts() -> None:
    """No detector, no breaker, however bad it is."""
    record = after([report(run, {"writer": 0.0}) for run in range(300)], Settings())
    assert record.streams["writer"].counts == Counts(300, 0.0)
    assert not record.detectors
    assert record.breaker.state == "closed"


def test_an_agent_that_breaks_opens_the_breaker_and_is_named() -> None:
    """Within 20 runs, by name and by the level that it was held to."""
    record = broken()
    assert record.breaker.state == "open"
    assert record.breaker.culprit == "writer"
    assert record.breaker.why == "writer has dropped below 0.95"
    assert set(record.breaker.tests) == {"writer", END_TO_END}


def test_the_workflow_works_and_probes_close_the_breaker_again() -> None:
    """A probe beside each fifth run of the workflow; 28 good ones, and the evidence is forgotten."""
    record, probes, runs = broken(), 0, 0
    while record.breaker.state != "closed":
        if record.breaker.due(HELD.probes):
            record, probes = add(record, good(200 + runs, shadow=True), HELD), probes + 1
        record = add(record, report(200 + runs, {}, via="workflow", outcome=1.0), HELD)
        runs += 1
    assert 25 <= probes <= 30
    assert runs == pytest.approx(5 * probes, abs=5)
    assert all(detector.evidence < 100 for detector in record.detectors.values())
    assert record.crew_runs.runs < 60
    assert record.workflow_runs.runs == runs


def test_a_crew_without_a_workflow_is_probed_by_its_own_runs() -> None:
    """It goes on although its breaker is open, and closes it when it is good again."""
    record = broken()
    for run in range(300, 340):
        record = add(record, good(run), HELD)
    assert record.breaker.state == "closed"


def test_a_weak_agent_of_a_good_crew_opens_nothing_before_its_baseline() -> None:
    """0.9 beside 1.0 under a threshold of 0.85: each is held to the threshold first, then to what it has shown."""
    held = Settings(threshold=0.85, parts=2)
    draw, record = random.Random(3), None
    for run in range(400):
        grades = {"reader": 1.0, "writer": float(draw.random() < 0.92)}
        record = add(record, report(run, grades), held)
        level = record.levels["writer"]
        assert record.breaker.state == "closed"
        assert level <= 0.9
    assert record is not None
    assert record.levels["reader"] == pytest.approx(0.85**0.5, abs=0.01)


def test_the_baseline_only_rises() -> None:
    """A slow decline doesn't lower what a stream is held to."""
    record = after([good(run) for run in range(120)], Settings(threshold=0.9, parts=2, agent_target=0.99))
    first = record.streams["reader"].baseline
    assert first is not None
    record = after([good(run) for run in range(120, 210)], Settings(threshold=0.9, parts=2, agent_target=0.99), record)
    assert record.streams["reader"].baseline is not None
    assert record.streams["reader"].baseline > first


def test_another_version_of_an_agent_starts_afresh_through_half_open() -> None:
    """Its counts and its evidence go; the other agent's stay."""
    record = after([good(run) for run in range(40)])
    renewed = (trial("reader", 1.0), trial("writer", 1.0, "v2"))
    record = add(record, report(41, {}, trials=renewed, outcome=1.0), HELD)
    assert record.streams["writer"].counts.trials == 1
    assert record.streams["reader"].counts.trials == 41
    assert record.breaker.state == "half_open"
    assert "writer" in record.breaker.tests


def test_another_version_of_the_crew_is_probed_first() -> None:
    """Its outcomes start afresh; the first version ever isn't probed; without a threshold nothing is."""
    record = after([good(run) for run in range(40)])
    found = of_version(record, "2", 50.0, HELD)
    assert found.end_to_end == Counts()
    assert found.streams["reader"].counts.trials == 40
    assert (found.breaker.state, found.versions, found.breaker.due(0.2)) == ("half_open", 1, True)
    assert of_version(record, "1", 50.0, HELD) is record
    assert of_version(record, "2", 50.0, Settings()).breaker.state == "closed"
    assert of_version(CrewRecord("crew", "1"), "2", 50.0, HELD).breaker.state == "closed"


def test_what_another_version_cost_says_nothing_of_this_one() -> None:
    """Its sums begin afresh, and a later verdict on a run of the old one isn't in them."""
    old = [good(run, usd=1.0, seconds=5.0, cost_adherence=0.1) for run in range(8)]
    record = add(after([*old, good(8, via="workflow", shadow=True)]), good(9, version="2", usd=0.1), HELD)
    assert (record.crew_runs.runs, record.crew_runs.usd, record.runs, record.versions) == (1, 0.1, 1, 1)
    found = score(record.all_runs)
    assert found is not None
    assert found.value == 1.0
    assert revise_outcome(record, old[0], 0.0, HELD) == record
    assert record.faults.counts.trials == 10


def test_kinds_of_tasks_have_streams_of_their_own() -> None:
    """agent/kind, so that versions of two tasks don't take turns."""
    two = (trial("writer", 1.0, kind="draft"), trial("writer", 0.0, kind="edit"))
    record = after([report(run, {}, trials=two, outcome=1.0) for run in range(3)])
    assert record.streams["writer/draft"].counts == Counts(3, 3.0)
    assert record.streams["writer/edit"].counts == Counts(3, 0.0)


def test_a_later_verdict_counts_where_it_belongs() -> None:
    """A correction changes the grade, a first verdict adds a trial, another version's changes nothing."""
    record = after([good(run) for run in range(10)])
    worse = revise(record, trial("writer", 1.0), trial("writer", 0.0), HELD, 5.0)
    assert worse.streams["writer"].counts == Counts(10, 9.0)
    assert worse.detectors["writer"].evidence > record.detectors["writer"].evidence
    assert revise(record, None, trial("writer", 0.0), HELD, 5.0).streams["writer"].counts == Counts(11, 10.0)
    assert revise(record, None, trial("writer", 0.0, "v0"), HELD, 5.0) is record
    assert revise(record, None, trial("new", 0.0), HELD, 5.0).streams["new"].counts == Counts(1, 0.0)


def evidence_of(record: CrewRecord, stream: str = "writer") -> float:
    """That a stream has dropped."""
    return record.detectors[stream].evidence


def test_a_later_verdict_on_an_old_run_leaves_the_evidence_of_a_drop() -> None:
    """One on a run of the drop itself takes from it."""
    held = replace(HELD, alarm_after=1e9)
    slip = report(30, {"reader": 1.0, "writer": 0.0})
    record = after([*map(good, range(30)), slip, *map(good, range(31, 60))], held)
    dropped = [report(run, {"reader": 1.0, "writer": 0.0}) for run in range(60, 70)]
    record = after(dropped, held, record)
    bad, right = trial("writer", 0.0), trial("writer", 1.0)
    whole = evidence_of(record)
    assert 0.98 * whole < evidence_of(revise(record, bad, right, held, at=30.0)) < whole
    assert 0.3 * whole < evidence_of(revise(record, bad, right, held, at=65.0)) < 0.7 * whole
    outcomes = revise_outcome(record, slip, 1.0, held)
    assert 0.98 * evidence_of(record, END_TO_END) < evidence_of(outcomes, END_TO_END)
    assert revise_outcome(record, slip, 1.0, held).end_to_end == Counts(70, 60.0)


def test_later_verdicts_open_the_breaker_too() -> None:
    """Outcomes that turn out bad afterwards are evidence as any other."""
    record = after([good(run) for run in range(30)])
    for run in range(30):
        record = revise_outcome(record, good(run), 0.0, HELD)
    assert record.breaker.state == "open"
    assert record.breaker.culprit == END_TO_END
    assert record.end_to_end == Counts(30, 0.0)
    assert record.crew_runs.outcomes == Counts(30, 0.0)


def until_open(record: CrewRecord, held: Settings) -> int:
    """How many failures of the writer more open the breaker."""
    failures = 0
    while record.breaker.state == "closed":
        failures += 1
        record = add(record, report(100 + failures, {"writer": 0.0}, outcome=None), held)
    return failures


@pytest.mark.parametrize("places", [(45,), (45, 48), (42, 45, 48, 50)])
def test_a_drop_opens_the_breaker_though_some_of_its_verdicts_are_corrected(places: tuple[int, ...]) -> None:
    """Each that turns out good asks for a failure in its place, and for little more: it speaks for the crew."""
    held = Settings(threshold=0.85, agent_target=0.9, judged=("writer",))
    grades = [1.0] * 40 + [0.0] * 12
    record = after([report(run, {"writer": grade}, outcome=None) for run, grade in enumerate(grades)], held)
    found = record
    for place in places:
        found = revise(found, trial("writer", 0.0), trial("writer", 1.0), held, float(place))
    asked = until_open(found, held) - until_open(record, held)
    assert len(places) <= asked <= 2 * len(places)


def test_a_correction_counts_for_each_threshold_that_a_crew_is_held_to() -> None:
    """Policies that take turns have evidence of their own, and all of it is of the same verdicts."""
    lax, strict = Settings(threshold=0.5), replace(HELD, alarm_after=1e9)
    reports = [report(run, {"writer": 0.0 if run > 20 else 1.0}) for run in range(26)]
    record = after(reports[5:], strict, after(reports[:5], lax))
    corrected = revise(record, trial("writer", 0.0), trial("writer", 1.0), strict, 23.0)
    stream = record.streams["writer"]
    for level in (0.5, 0.95):
        known = stream.held_to(level)
        assert known is not None
        right = known.corrected(0.0, 1.0, 23.0)
        assert right.evidence < known.evidence
        assert corrected.streams["writer"].held_to(level) == right


def cleared() -> tuple[CrewRecord, float]:
    """A crew whose breaker has opened and closed again, and when its last run was."""
    record, run = broken(), 200
    while record.breaker.state != "closed":
        record, run = add(record, good(run), HELD), run + 1
    record = after([good(run) for run in range(run, run + 10)], record=record)
    return record, float(run + 9)


@pytest.mark.parametrize("at", [20.0, 101.0, 201.0])
@pytest.mark.parametrize("given_before", [None, 1.0, 0.5])
@pytest.mark.parametrize("grade", [0.0, 1.0])
def test_a_later_verdict_on_a_run_from_before_its_breaker_closed_is_no_evidence(
    at: float, given_before: float | None, grade: float
) -> None:
    """Of an agent, of the outcomes, and of an agent that nobody had judged: it is counted, and that is all."""
    record, _ = cleared()
    before = None if given_before is None else trial("writer", given_before)
    told = report(int(at), {}, outcome=given_before)
    for _ in range(30):
        record = revise(record, before, trial("writer", grade), HELD, at)
        record = revise(record, None, trial("new", grade), HELD, at)
        record = revise_outcome(record, told, grade, HELD)
    known, _ = cleared()
    assert record.breaker.state == "closed"
    assert {name: record.detectors[name] for name in known.detectors} == known.detectors
    assert set(record.detectors) == set(known.detectors)
    assert record.streams["new"].counts == Counts(30, 30 * grade)
    assert record.streams["new"].fresh == Counts()
    assert {record.streams[name].fresh for name in ("writer", END_TO_END)} == {Counts(10, 10.0)}


def test_a_later_verdict_on_an_old_run_is_no_evidence_against_a_newer_version() -> None:
    """Though that has the trials of its agents."""
    record, at = cleared()
    record = add(record, good(int(at) + 1, version="2"), HELD)
    assert revise(record, None, trial("writer", 0.0), HELD, 20.0).detectors == record.detectors


def test_a_first_verdict_on_an_old_run_is_a_trial_of_the_baseline() -> None:
    """The hundredth as any other."""
    record, _ = cleared()
    missing = 100 - record.streams["writer"].counts.trials
    for _ in range(missing):
        assert record.streams["writer"].baseline is None
        record = revise(record, None, trial("writer", 1.0), HELD, 20.0)
    assert record.streams["writer"].baseline is not None


def test_what_is_verified_while_the_breaker_is_open_is_fresh_if_its_run_is() -> None:
    """From after it last closed, though from before it opened again."""
    record, at = cleared()
    run = int(at)
    while record.breaker.state == "closed":
        run += 1
        record = add(record, report(run, {"reader": 1.0, "writer": 0.0}), HELD)
    assert record.breaker.since > at
    fresh, whole = record.streams["writer"].fresh, evidence_of(record)
    record = revise(record, trial("writer", 1.0), trial("writer", 0.0), HELD, at)
    assert record.streams["writer"].fresh == Counts(fresh.trials, fresh.good - 1)
    assert evidence_of(record) > whole


def test_a_correction_of_a_probe_counts_until_the_breaker_changes() -> None:
    """One test has said good, the other needs more: then a person calls its probes bad."""
    held = Settings(threshold=0.85, agent_target=0.95)
    record, probes = broken(), list[RunReport]()
    for run in range(200, 400):
        if record.breaker.tests[END_TO_END].answer == "good":
            break
        if record.breaker.due(held.probes):
            probes.append(good(run, via="workflow", shadow=True))
            record = add(record, probes[-1], held)
        record = add(record, report(run, {}, via="workflow", outcome=None), held)
    assert record.breaker.state == "half_open"
    assert record.breaker.tests["writer"].answer == "open"
    for probe in probes:
        record = revise_outcome(record, probe, 0.0, held)
    assert record.breaker.state == "open"
    assert all(test.trials == 0 for test in record.breaker.tests.values())


def test_faults_are_held_to_no_more_than_they_have_shown() -> None:
    """Where one run in ten meets an outage that is no news, once it is known."""
    draw = random.Random(2)
    record = after([report(run, {}, faults=int(draw.random() < 0.1)) for run in range(2_000)])
    assert record.faults.baseline is not None
    assert record.faults.baseline < 0.9
    assert record.faults.detector is not None
    assert record.faults.detector.level == record.faults.baseline
    assert record.faults.detector.evidence < 10_000


def test_a_later_verdict_on_the_workflows_outcome_is_the_workflows() -> None:
    """And one on a run that nobody had judged adds a judged run."""
    flow = report(41, {}, via="workflow", outcome=None)
    record = after([good(1), flow])
    revised = revise_outcome(record, flow, 0.8, HELD)
    assert revised.workflow_runs.outcomes == Counts(1, 0.8)
    assert revised.end_to_end == record.end_to_end
    found = score(revised.workflow_runs)
    assert found is not None
    assert found.value == pytest.approx(0.8)


GRADES = st.dictionaries(st.sampled_from(NAMES), st.sampled_from((0.0, 0.5, 1.0)))
REPORTS = st.lists(
    st.builds(
        report,
        st.integers(0, 99),
        GRADES,
        via=st.sampled_from(("crew", "workflow")),
        shadow=st.booleans(),
        faults=st.integers(0, 1),
        version=st.sampled_from(("1", "1", "1", "2")),
        outcome=st.sampled_from((None, 0.0, 1.0)),
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=60)
@given(reports=REPORTS)
def test_whatever_is_reported_the_record_stays_sound(reports: list[RunReport]) -> None:
    """Counts within their trials, evidence not negative, a breaker with a state; JSON gives the same record."""
    record = after(reports)
    for stream in record.streams.values():
        assert 0 <= stream.counts.good <= stream.counts.trials
        assert stream.detector is None or stream.detector.evidence >= 0
    assert record.faults.counts.trials == len(reports)
    latest = list(takewhile(lambda one: one.version == record.version, reversed(reports)))
    assert record.crew_runs.runs + record.workflow_runs.runs == sum(not one.shadow for one in latest)
    assert record.runs == len(latest)
    assert msgspec.json.decode(msgspec.json.encode(record), type=CrewRecord) == record


def test_what_is_shown_during_a_drop_is_no_baseline() -> None:
    """An agent that fails from its 90th trial on has none at its 100th."""
    held = Settings(threshold=0.85, parts=2, agent_target=0.95, alarm_after=1e9)
    record = after([good(run) for run in range(90)], held)
    record = after([report(run, {"reader": 1.0, "writer": 0.0}) for run in range(90, 110)], held, record)
    assert record.streams["writer"].baseline is None
    assert record.streams["reader"].baseline is not None


# What may close the breaker again


def probed(record: CrewRecord, held: Settings, reports: int = 400, **more: object) -> CrewRecord:
    """Good shadows whenever one is due, and runs of the workflow between them."""
    for run in range(1_000, 1_000 + reports):
        if record.version != "2" or record.breaker.due(held.probes):
            record = add(record, good(run, version="2", via="workflow", shadow=True, **more), held)
        else:
            record = add(record, report(run, {}, version="2", via="workflow", outcome=None), held)
    return record


def test_an_agent_that_a_new_version_dropped_is_not_waited_for() -> None:
    """Nobody could ever say that it is fine; its stream is gone, too."""
    held = Settings(threshold=0.85, parts=2, judged=("reader",))
    before = after([report(run, {"reader": 1.0, "old": 1.0}, outcome=None) for run in range(30)], Settings(0.85))
    assert set(of_version(before, "2", 50.0, held).breaker.tests) == {"reader"}
    record = probed(before, held, outcome=None, trials=(trial("reader", 1.0),))
    assert record.breaker.state == "closed"
    assert set(record.streams) == {"reader"}


def test_a_new_version_that_is_no_longer_judged_as_a_whole_is_probed_by_its_agents() -> None:
    """And one with other agents by those; where nothing is judged a person's outcomes are waited for."""
    held = Settings(threshold=0.85, parts=2, judged=NAMES)
    before = after([good(run) for run in range(30)], held)
    assert probed(before, held, outcome=None).breaker.state == "closed"
    other = of_version(before, "2", 50.0, Settings(threshold=0.85, judged=("editor",)))
    assert set(other.breaker.tests) == {"editor"}
    assert set(of_version(before, "2", 50.0, Settings(threshold=0.85, judged=())).breaker.tests) == {END_TO_END}


def test_an_agent_that_is_only_ever_blamed_is_not_what_is_tested() -> None:
    """It has no good trials: those who are judged say when the drop is over."""
    held = Settings(threshold=0.85, parts=2, judged=("writer", END_TO_END))
    record = after([report(run, {"writer": 1.0}) for run in range(20)], held)
    while record.breaker.state == "closed":
        record = add(record, report(30, {"writer": 1.0, "reader": 0.0}, outcome=1.0), held)
    assert record.breaker.culprit == "reader"
    assert set(record.breaker.tests) == {END_TO_END}


def left(record: CrewRecord, held: Settings, told: Mapping[str, object], runs: int = 300) -> CrewRecord:
    """Good runs told like this whenever one is due, and runs of the workflow between them."""
    for run in range(1_000, 1_000 + runs):
        if record.breaker.due(held.probes):
            record = add(record, report(run, {}, via="workflow", shadow=True, **told), held)
        else:
            record = add(record, report(run, {}, via="workflow", outcome=None), held)
    return record


def test_what_is_no_longer_judged_is_not_waited_for() -> None:
    """A verifier moved to the whole, or a kind was renamed: that is the same version, and the stream gets no trials."""
    moved = Settings(threshold=0.85, judged=(END_TO_END,))
    assert left(broken(), moved, {"outcome": 1.0}).breaker.state == "closed"
    renamed = Settings(threshold=0.85, judged=("writer/new",))
    trials = (trial("writer", 1.0, kind="new"),)
    record = left(broken(), renamed, {"outcome": None, "trials": trials})
    assert record.breaker.state == "closed"


def test_a_run_without_a_threshold_leaves_nothing_to_wait_for() -> None:
    """The first of a version without the agent that opened the breaker: the next one with a threshold tests what is."""
    opened = after([report(run, {"old": float(run < 30)}, outcome=None) for run in range(50)], Settings(0.85))
    assert opened.breaker.state == "open"
    told = {"outcome": None, "version": "2", "trials": (trial("reader", 1.0),)}
    record = add(opened, report(60, {}, **told), Settings(judged=("reader",)))
    held = Settings(threshold=0.85, judged=("reader",))
    for run in range(100, 400):
        due = record.breaker.due(held.probes)
        more = {"shadow": True} if due else {"trials": ()}
        record = add(record, report(run, {}, via="workflow", **{**told, **more}), held)
        if record.breaker.state == "closed":
            break
    assert record.breaker.state == "closed"


def test_a_persons_outcomes_are_waited_for_beside_agents_that_are_judged() -> None:
    """They opened the breaker: that each agent is fine by itself was not enough before, either."""
    held, record, run = Settings(threshold=0.85, judged=("writer",)), None, 0
    while record is None or record.breaker.state == "closed":
        run += 1
        told = report(run, {"writer": 1.0}, outcome=None)
        record = revise_outcome(add(record, told, held), told, 0.0, held)
    found = left(record, held, {"outcome": None, "trials": (trial("writer", 1.0),)}, 100)
    assert (found.breaker.state, set(found.breaker.tests)) == ("half_open", {END_TO_END})


def test_a_persons_outcomes_close_the_breaker() -> None:
    """Where nothing else judges the crew; those of runs from before it opened are no probes."""
    held, record, run = Settings(threshold=0.85, judged=()), None, 0
    while record is None or record.breaker.state == "closed":
        run += 1
        told = report(run, {}, outcome=None)
        record = revise_outcome(add(record, told, held), told, 0.0, held)
    assert revise_outcome(record, report(1, {}, outcome=0.0), 1.0, held).breaker == record.breaker
    for run in range(100, 400):
        if record.breaker.state == "closed":
            break
        if record.breaker.due():
            told = report(run, {}, outcome=None, via="workflow", shadow=True)
            record = revise_outcome(add(record, told, held), told, 1.0, held)
        else:
            record = add(record, report(run, {}, outcome=None, via="workflow"), held)
    assert record.breaker.state == "closed"
    assert all(detector.evidence < 100 for detector in record.detectors.values())


def test_a_later_verdict_on_the_first_probe_of_a_new_version_counts() -> None:
    """On the outcome and on an agent's task; one on a run from before it is none of its probe."""
    held = Settings(threshold=0.85, judged=())
    first = report(2, {}, version="2", outcome=None, via="workflow", shadow=True)
    record = add(after([good(1)], held), first, held)
    assert revise_outcome(record, first, 1.0, held).breaker.tests[END_TO_END].trials == 1
    judged = Settings(threshold=0.85)
    renewed = add(after([good(1)], judged), report(2, {}, trials=(trial("writer", 1.0, "v2"),)), judged)
    log_ratio = renewed.breaker.tests["writer"].log_ratio
    found = revise(renewed, trial("writer", 1.0, "v2"), trial("writer", 0.0, "v2"), judged, at=2.0)
    assert found.breaker.tests["writer"].log_ratio < log_ratio
    assert (
        revise(renewed, trial("writer", 1.0, "v2"), trial("writer", 0.0, "v2"), judged, at=1.0).breaker.tests["writer"]
        == renewed.breaker.tests["writer"]
    )


def test_a_probe_that_failed_and_fell_back_is_a_probe() -> None:
    """A host's own crew works itself: what its workflow had to finish was its failure, and no wait for the next."""
    record = broken()
    while not record.breaker.due(HELD.probes):
        record = add(record, report(200, {}, via="workflow", outcome=None), HELD)
    failed = report(201, {}, via="workflow", outcome=1.0, crew_grade=0.0)
    found = add(record, failed, HELD).breaker
    assert (found.probes, found.fallbacks) == (1, 1)
    assert not found.due(HELD.probes)
    assert found.tests[END_TO_END].log_ratio < 0


def test_a_probe_that_an_outage_ended_is_waited_for_like_any_other() -> None:
    """A host's own crew, whose provider is down, isn't tried in each run: its workflow does them meanwhile."""
    record, tried = broken(), 0
    while not record.breaker.due(HELD.probes):
        record = add(record, report(200, {}, via="workflow", outcome=None), HELD)
    for run in range(201, 251):
        tried += record.breaker.due(HELD.probes)
        record = add(record, report(run, {}, via="workflow", outcome=None, faults=1), HELD)
    assert tried == 10


@pytest.mark.parametrize(
    ("share", "probes"), [(1.0, 100), (0.5, 50), (0.4, 34), (0.34, 34), (0.2, 20), (0.1, 10), (1e-320, 1)]
)
@pytest.mark.parametrize("shadow", [True, False])
def test_the_share_of_probes_is_that_of_all_runs(share: float, probes: int, shadow: bool) -> None:
    """The probe's own run is one of them: at most the share that is declared, as near to it as whole runs come."""
    held, found = replace(HELD, probes=share), 0
    record = of_version(after([good(1)]), "2", 2.0, held)
    for run in range(100):
        if record.breaker.due(share):
            found += 1
            via = "workflow" if shadow else "crew"
            told = report(run, {}, version="2", outcome=None, via=via, shadow=shadow)
        else:
            told = report(run, {}, version="2", outcome=None, via="workflow")
        record = add(record, told, held)
    assert found == probes


def test_a_fault_of_the_workflow_leaves_the_crews_failure() -> None:
    """The crew had ended before it."""
    failed = report(1, {}, via="workflow", outcome=None, crew_grade=0.0, ended_by_fault=True, faults=1)
    assert after([failed]).end_to_end == Counts(1, 0.0)


@pytest.mark.parametrize("other", [Settings(), Settings(threshold=0.9), Settings(threshold=0.7)])
def test_policies_that_take_turns_lose_no_evidence(other: Settings) -> None:
    """Neither one without a threshold nor one with another."""
    held, record, run = Settings(threshold=0.85), None, 0
    while record is None or record.breaker.state == "closed":
        record = add(record, report(run, {"writer": float(run % 3 == 0)}), held if run % 2 else other)
        run += 1
        assert run < 60


def test_a_threshold_of_next_to_nothing_is_no_error() -> None:
    """A new version is probed under it as under any other."""
    held = Settings(threshold=1e-9)
    assert after([good(1), good(2, version="2")], held).breaker.state == "half_open"


def test_shadows_are_counted_as_runs() -> None:
    """Else the share of runs that are probes would never be over."""
    record = after([good(1), good(2, via="workflow", shadow=True), good(3, via="workflow")])
    assert (record.runs, record.shadows) == (3, 1)


def test_a_correction_of_a_trial_that_a_newer_version_has_not_got_changes_nothing() -> None:
    """Its stream is not there to be corrected."""
    record = after([good(1)])
    assert revise(record, trial("old", 1.0), trial("old", 0.0), HELD, 1.0) is record


def test_a_breaker_that_more_was_asked_for_opens_again_where_a_drop_is_below_less() -> None:
    """Then it holds for the policy that asks for less, too; by evidence at that one's level, and no other."""
    strict, lax, draw = Settings(threshold=0.95), Settings(threshold=0.5), random.Random(4)
    record, run = after([good(0)], strict), 0
    while record.breaker.state == "closed":
        run += 1
        record = add(record, report(run, {"writer": float(draw.random() < 0.8)}), strict)
    assert (record.breaker.threshold, record.breaker.is_for_more(0.5)) == (0.95, True)
    for run in range(1_000, 1_020):
        record = add(record, report(run, {"writer": 1.0}), lax)
    assert record.breaker.is_for_more(0.5)
    run = 2_000
    while record.breaker.is_for_more(0.5):
        record, run = add(record, report(run, {"writer": 0.0}), lax), run + 1
        assert run < 2_040
    assert (record.breaker.state, record.breaker.threshold, record.breaker.culprit) == ("open", 0.5, "writer")


CRITIC = Judge(Counts(200, 198.0), Counts(200, 160.0))
"""It flags a fifth of what is good."""


def judged_runs(record: CrewRecord | None, held: Settings, accepted: float, runs: int = 600) -> CrewRecord:
    """Runs of which the judge accepts this share, probes while the breaker isn't closed."""
    draw = random.Random(5)
    for run in range(runs):
        closed = record is None or record.breaker.state == "closed"
        told = report(run, {}, outcome=float(draw.random() < accepted), shadow=not closed)
        record = add(record, told, held)
    assert record is not None
    return record


def test_the_known_errors_of_a_judge_open_no_breaker() -> None:
    """A crew that is always right and four fifths accepted is good; one that drops is seen, and comes back."""
    held = Settings(threshold=0.95, judged=(END_TO_END,), judged_by={END_TO_END: CRITIC})
    record = judged_runs(None, held, 0.8)
    assert record.breaker.state == "closed"
    assert 0.6 < record.levels[END_TO_END] < 0.8
    bad = judged_runs(record, held, 0.3, 60)
    assert bad.breaker.state != "closed"
    test = bad.breaker.tests[END_TO_END]
    assert (test.ok, test.bad) == (pytest.approx(0.95 * 0.8 + 0.05 * 0.01), pytest.approx(0.85 * 0.8 + 0.15 * 0.01))
    assert judged_runs(bad, held, 0.8, 400).breaker.state == "closed"


def test_a_new_version_is_tested_as_its_judge_sees_it() -> None:
    """Of the outcomes, and of an agent that is new."""
    held = Settings(threshold=0.95, judged_by={END_TO_END: CRITIC, "writer": CRITIC})
    record = after([good(run) for run in range(3)], held)
    assert of_version(record, "2", 5.0, held).breaker.tests[END_TO_END].ok < 0.8
    renewed = add(record, report(5, {}, trials=(trial("writer", 1.0, "v2"),)), held)
    assert renewed.breaker.tests["writer"].ok < 0.8


def test_the_outcomes_are_held_to_the_threshold_whatever_they_have_shown() -> None:
    """Agents to no more than what they have shown; a crew that is below from the start is told of in the end."""
    held, draw = Settings(threshold=0.85, alarm_after=1e9), random.Random(7)
    record = after([report(run, {"writer": float(draw.random() < 0.82)}) for run in range(300)], held)
    assert record.levels[END_TO_END] == 0.85
    assert record.levels["writer"] < 0.82


def test_an_agent_that_fails_is_named_before_the_outcomes_that_fail_with_it() -> None:
    """They are held to more, and have more evidence; where no agent's work fails it is they."""
    for name, grade in (("writer", 0.0), (END_TO_END, 1.0)):
        held, draw = Settings(threshold=0.93), random.Random(1)
        record = after([report(run, {"writer": float(draw.random() < 0.93)}) for run in range(300)], held)
        assert record.breaker.state == "closed"
        assert record.levels["writer"] < record.levels[END_TO_END]
        for run in range(300, 330):
            record = add(record, report(run, {"writer": grade}, outcome=0.0), held)
        assert record.breaker.culprit == name


def test_what_was_before_its_breaker_closed_can_be_told_from_what_came_after() -> None:
    """Later verdicts count where their run belongs."""
    record, run = broken(), 200
    while record.breaker.state != "closed":
        record, run = add(record, good(run), HELD), run + 1
    assert all(stream.fresh == Counts() for stream in record.streams.values())
    record = after([report(run + 1, {"writer": 0.0}), good(run + 2)], record=record)
    assert record.streams["writer"].fresh == record.streams[END_TO_END].fresh == Counts(2, 1.0)
    old, new = report(1, {"writer": 1.0}), report(run + 1, {}, outcome=0.0)
    assert revise_outcome(record, old, 0.0, HELD).streams[END_TO_END].fresh == Counts(2, 1.0)
    assert revise_outcome(record, new, 1.0, HELD).streams[END_TO_END].fresh == Counts(2, 2.0)
    unjudged = replace(old, outcome=None)
    assert revise_outcome(record, unjudged, 0.0, HELD).streams[END_TO_END].fresh == Counts(2, 1.0)
    first = revise(record, None, trial("writer", 1.0), HELD, at=run + 3.0)
    assert first.streams["writer"].fresh == Counts(3, 2.0)
    assert revise(record, None, trial("writer", 1.0), HELD, at=1.0).streams["writer"].fresh == Counts(2, 1.0)


def test_runs_that_an_outage_ended_are_no_part_of_the_score() -> None:
    """Not for better nor for worse; what they cost and took counts."""
    slow = [report(run, {"writer": 1.0}, latency_adherence=0.25, usd=1.0, seconds=4.0) for run in range(10)]
    down = [report(run, {}, outcome=None, faults=1, ended_by_fault=True, seconds=1.0) for run in range(10, 100)]
    before, record = after(slow), after([*slow, *down])
    assert score(record.all_runs) == score(before.all_runs)
    runs = record.all_runs
    assert (runs.runs, runs.scored, runs.faults, runs.ended, runs.usd, runs.seconds) == (100, 10, 90, 90, 10.0, 130.0)
    assert score(after(down).all_runs) is None


def test_how_a_crew_had_failed_before_an_outage_is_no_part_of_the_score() -> None:
    """It is the crew's outcome, of a run that the score is not about: never more are judged than scored."""
    fell = {"via": "workflow", "outcome": None, "crew_grade": 0.0, "faults": 1, "ended_by_fault": True}
    down = [report(run, {}, **fell) for run in range(10, 20)]
    before, record = after([good(run) for run in range(10)]), after([*(good(run) for run in range(10)), *down])
    assert record.end_to_end == Counts(20, 10.0)
    assert record.all_runs.outcomes == Counts(10, 10.0)
    assert score(record.all_runs) == score(before.all_runs)
    assert score(after(down).all_runs) is None
    assert msgspec.json.decode(msgspec.json.encode(record), type=CrewRecord) == record


def test_the_score_is_of_runs_whose_sums_are_known() -> None:
    """A shadow's outcome is the crew's, and no run's: neither its own nor what a person says of it is in the score."""
    shadows = [good(run, via="workflow", shadow=True) for run in range(40)]
    record = after(shadows)
    assert record.end_to_end == Counts(40, 40.0)
    assert score(record.all_runs) is None
    record = revise_outcome(after([good(41), report(42, {"writer": 0.0})], record=record), shadows[0], 0.0, HELD)
    assert (record.end_to_end, record.all_runs.outcomes) == (Counts(42, 40.0), Counts(2, 1.0))
    unjudged = replace(shadows[1], outcome=None)
    assert revise_outcome(record, unjudged, 1.0, HELD).all_runs.outcomes == Counts(2, 1.0)
    assert of_version(record, "2", 50.0, HELD).all_runs.outcomes == Counts()
