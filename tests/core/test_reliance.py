"""A crew as it is reckoned: its parts, its structure, its version, and what its verdicts come to."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from pydantic import BaseModel

from crew_guard import Agent, Crew, Policy, Role, Task, tool
from crew_guard.core.decisions import Stop
from crew_guard.core.events import Judged
from crew_guard.core.reliability.breaker import Breaker
from crew_guard.core.reliability.counts import Counts
from crew_guard.core.reliability.judging import judge_of
from crew_guard.core.reliability.records import CrewRecord, add, of_version
from crew_guard.core.reliability.streams import Stream
from crew_guard.core.reliability.structure import AllOf, Chain, Leaf
from crew_guard.core.reliability.trials import END_TO_END, NOBODYS, RunReport, Subject
from crew_guard.core.reliance import declares_verdicts, reliance_of, version_of_host
from crew_guard.core.routing import Known, Left, forecast, routed
from crew_guard.core.tried import (
    costs_of,
    counts_at_all,
    done_and_verified,
    outcome_of,
    trials_of,
    workflow_outcome,
)
from crew_guard.core.usage import Usage
from crew_guard.core.verdicts import Judge

ANN, BOB = Role(name="ann", goal="find out"), Role(name="bob", goal="write up")
MODELS = {"ann": "p:m", "bob": "p:m", "manager": "p:m"}


class Brief(BaseModel):
    """A structured answer."""

    text: str


class LongBrief(BaseModel):
    """Another one."""

    text: str
    sources: list[str]


def fine(_output, _context):
    return True


JUDGED, UNJUDGED = {"verify": fine}, {"verify": None}


def pair(find=JUDGED, write=JUDGED, **crew):
    tasks = [Task("Find.", "ann", name="find", **find), Task("Write.", "bob", name="write", **write)]
    return Crew([Agent(ANN), Agent(BOB)], tasks, **crew)


def reckoned(crew, models=None, **policy):
    return reliance_of(crew, MODELS | (models or {}), Policy.model_validate({"reliability": policy}))


def judged(task, passed=True, grade=None, *, blames="", source="check", agent=""):
    return Judged(1, 1.0, agent, task, passed, grade, "because", blames, source)


def test_a_sequential_crew_is_a_chain_of_its_tasks():
    """Each a leaf named like the stream of its record, which is kept by role, model and kind."""
    known = reckoned(pair({"verify": fine, "kind": "research"}))
    assert known.structure == Chain((Leaf("ann/research"), Leaf("bob/write")))
    assert [(p.subject.role, p.subject.model, p.subject.kind) for p in known.parts] == [
        ("ann", "p:m", "research"),
        ("bob", "p:m", "write"),
    ]


def test_a_parallel_crew_needs_all_that_its_results_need():
    """Nothing of it can be missing."""
    assert reckoned(pair(process="parallel")).structure == AllOf((Leaf("ann/find"), Leaf("bob/write")))


def test_an_agent_with_several_tasks_has_a_leaf_for_each():
    """Their kinds differ, and so do their records."""
    crew = Crew([Agent(ANN)], [Task("Find.", name="find", verify=fine), Task("Sum up.", name="sum", verify=fine)])
    assert [part.key for part in reckoned(crew).parts] == ["ann/find", "ann/sum"]


def test_tasks_of_one_kind_that_read_otherwise_have_streams_of_their_own():
    """A stream is of one version: else each run would find it in another one. The same text is one record."""
    texts = {"a": "Sum up A.", "b": "Sum up B.", "again": "Sum up A."}
    tasks = [Task(text, "ann", name=name, kind="sum", verify=fine) for name, text in texts.items()]
    known = reckoned(Crew([Agent(ANN)], tasks))
    assert [part.key for part in known.parts] == ["ann/sum", "ann/sum/b", "ann/sum"]
    assert [part.subject.kind for part in known.parts] == ["sum", "sum/b", "sum"]
    assert len({part.subject for part in known.parts}) == 2
    assert [trial.stream for trial in trials_of(known, [judged(name) for name in texts])] == [
        part.key for part in known.parts
    ]


def test_a_hierarchical_crew_answers_by_its_manager():
    """Who delegates is answerable for each task."""
    known = reckoned(pair(process="hierarchical"))
    assert [part.agent for part in known.parts] == ["manager", "manager"]
    assert known.parts[0].subject.role == "manager"


def changed():
    """The pair with one thing changed, and what that is."""

    @tool
    def look(query: str) -> str:
        """Look it up."""
        return query

    other = Role(name="ann", goal="find out", instructions="Be brief.")
    tasks = pair().tasks
    yield "the role's text", Crew([Agent(other), Agent(BOB)], tasks), {}
    yield "a tool", Crew([Agent(ANN, [look]), Agent(BOB)], tasks), {}
    yield "a model", pair(), {"ann": "p:larger"}
    yield "an output's schema", pair(write={"output": Brief}), {}
    yield "another schema", pair(write={"output": LongBrief}), {}
    yield "a task's text", Crew([Agent(ANN), Agent(BOB)], [Task("Find more.", "ann", name="find"), tasks[1]]), {}
    yield "the process", pair(process="parallel"), {}


def test_whatever_defines_the_behaviour_makes_another_version():
    """And the same crew, made again, is the same version."""
    versions = {reckoned(pair()).version}
    assert reckoned(pair()).version in versions
    for what, crew, models in changed():
        version = reckoned(crew, models).version
        assert version not in versions, what
        versions.add(version)


def test_a_verifier_or_a_name_for_the_crew_makes_no_other_version():
    """They don't change what it does."""
    judge = Judge("Is it true?")
    assert reckoned(pair(name="other", verify=judge)).version == reckoned(pair()).version


def test_agents_of_two_crews_share_a_record_where_they_do_the_same():
    """By what defines the one part, not the whole crew."""
    one = reckoned(pair()).parts[0].subject
    alone = Crew([Agent(ANN)], [Task("Find.", name="find", verify=fine)])
    assert reckoned(alone).parts[0].subject == one
    assert isinstance(one, Subject)


@pytest.mark.parametrize(
    ("crew", "declares", "whole"),
    [
        (pair(UNJUDGED, UNJUDGED), False, False),
        (pair(JUDGED, UNJUDGED), True, False),
        (pair(UNJUDGED, {"output": Brief}), True, True),
        (pair(UNJUDGED, UNJUDGED, verify=fine), True, True),
        (pair(JUDGED, UNJUDGED, process="parallel"), True, False),
    ],
)
def test_the_whole_is_judged_by_its_own_verifier_or_by_those_of_its_results(crew, declares, whole):
    """That nothing was raised is no verdict, so a crew without one has no outcome, not even a bad one."""
    known = reckoned(crew)
    assert declares_verdicts(crew) is declares
    assert known.judged is whole
    assert outcome_of(known, [], done=False) == (0.0 if whole else None)


def test_the_leaves_are_named_like_the_streams_of_the_record():
    """What a trial is counted in is what the structure speaks of."""
    known = reckoned(pair())
    trials = trials_of(known, [judged("find"), judged("write")])
    assert [trial.stream for trial in trials] == [part.key for part in known.parts]


def test_each_judged_part_is_one_trial_the_last_verdict_counting():
    """A grade as it is, a plain yes or no as 1 or 0; what nobody judged is none."""
    known = reckoned(pair())
    trials = trials_of(known, [judged("find", False), judged("find", True, 0.8), judged("else")])
    assert [(trial.agent, trial.task, trial.grade, trial.source) for trial in trials] == [("ann", "find", 0.8, "check")]


@pytest.mark.parametrize("name", ["ann", "find"])
def test_a_later_failure_that_blames_an_agent_fails_its_trial_too(name):
    """By the agent's name or the task's; what passed before is failed later."""
    known = reckoned(pair())
    verdicts = [judged("find"), judged("write", False, blames=name)]
    trials = trials_of(known, verdicts)
    assert [(trial.agent, trial.grade, trial.source) for trial in trials] == [
        ("ann", 0.0, "later"),
        ("bob", 0.0, "check"),
    ]
    assert done_and_verified(known, verdicts) == frozenset()


def test_a_verdict_on_the_whole_may_blame_an_agent():
    """Its trial is failed, and so is the outcome."""
    known = reckoned(pair(verify=fine))
    verdicts = [judged("find"), judged("write"), judged("output", False, 0.2, blames="ann", source="outcome")]
    assert [trial.grade for trial in trials_of(known, verdicts)] == [0.0, 1.0]
    assert outcome_of(known, verdicts, done=False) == 0.0


@pytest.mark.parametrize("side", [outcome_of, workflow_outcome])
def test_an_output_that_was_refused_is_no_part_of_a_success(side):
    """However near it was: it is nobody's answer. One that passed is worth its grade."""
    known = reckoned(pair(verify=fine))
    assert side(known, [judged("output", False, 0.9, source="outcome")], done=False) == 0.0
    assert side(known, [judged("output", True, 0.9, source="outcome")], done=True) == 0.9


def test_an_agent_that_ran_into_its_own_cap_failed_what_it_was_at():
    """A crew's cap fails the crew, and no single agent."""
    known = reckoned(pair())
    (found, stopped) = trials_of(known, [judged("find")], Stop("limit", "agent:bob", "max_steps", 3, 3, 1))
    assert (found.grade, stopped.agent, stopped.grade) == (1.0, "bob", 0.0)
    assert len(trials_of(known, [judged("find")], Stop("limit", "run", "max_steps", 3, 3, 1))) == 1


@pytest.mark.parametrize(
    ("by", "failed"),
    [
        (("bob", "write"), ["write"]),
        (("ann", "write"), ["write"]),
        (("bob", ""), ["write"]),
        (("ann", "find"), []),
        (("ann", ""), []),
        (("judge", ""), []),
        (("", ""), []),
    ],
)
def test_whose_error_ended_the_crew_has_failed_what_it_was_at(by, failed):
    """Its task is counted for whoever answers for it, once; what was judged before stands."""
    found = trials_of(reckoned(pair()), [judged("find")], None, by)
    assert [(trial.agent, trial.task) for trial in found if not trial.grade] == [("bob", task) for task in failed]
    assert [trial.task for trial in found if trial.grade] == ["find"]


@pytest.mark.parametrize(
    ("reason", "counts"),
    [
        ("limit", True),
        ("deadline", True),
        ("idle", True),
        ("loop", True),
        ("denied", True),
        ("killed", False),
        ("cancelled", False),
        ("failed", False),
    ],
)
def test_what_a_person_or_the_journal_ended_says_nothing_of_the_crew(reason, counts):
    """Its own caps do."""
    assert counts_at_all(Stop(reason, "run")) is counts
    assert counts_at_all(None)


@pytest.mark.parametrize(
    ("limit", "counts"), [("models.deny", False), ("models.allow", False), ("max_usd", False), ("tools.deny", True)]
)
def test_a_model_that_the_policy_denies_says_nothing_of_the_crew(limit, counts):
    """Nobody asked it anything; a denied tool was the agent's wish."""
    assert counts_at_all(Stop("denied", "agent:ann", limit)) is counts
    assert counts_at_all(Stop("limit", "agent:ann", limit))


@pytest.mark.parametrize(
    ("stop", "counts"),
    [
        (Stop("limit", "crew", "max_steps", 0, 0, 1), False),
        (Stop("limit", "run", "max_tokens", 20, 0, 280), False),
        (Stop("limit", "crew", "max_tool_calls", 2, 2, 1), True),
        (Stop("limit", "crew", "max_agents", 1, 1, 1), False),
        (Stop("limit", "node:draft", "max_steps", 0, 0, 1), True),
        (Stop("deadline", "crew", "max_seconds", 0.0, 0.1), False),
        (Stop("deadline", "crew", "max_seconds", 5.0, 5.1), True),
        (Stop("idle", "crew", "max_idle_seconds", 5.0, 5.1), True),
    ],
    ids=str,
)
def test_a_limit_that_leaves_nothing_says_nothing_of_the_crew(stop, counts):
    """Before its first model call, that is: afterwards it had a trial. A cap of a node is a part of its workflow."""
    assert counts_at_all(stop, Usage(agents=1)) is counts
    assert counts_at_all(stop, Usage(steps=1))


@given(st.lists(st.tuples(st.sampled_from(["find", "write"]), st.floats(0, 1)), max_size=8))
def test_the_outcome_of_a_crew_that_is_done_is_that_of_its_result(told):
    """The last task's grade; unknown where it has none."""
    known = reckoned(pair())
    verdicts = [judged(task, grade >= 0.5, grade) for task, grade in told]
    last = [grade for task, grade in told if task == "write"]
    assert outcome_of(known, verdicts, done=True) == (last[-1] if last else None)


def trio(process="sequential", draft_context=None):
    """Research, a draft, a review."""
    draft = {"context": draft_context}
    tasks = [
        Task("Find.", "ann", name="find", **JUDGED),
        Task("Write.", "bob", name="write", **draft, **JUDGED),
        Task("Check.", "ann", name="check", context=["write"], **JUDGED),
    ]
    return reckoned(Crew([Agent(ANN), Agent(BOB)], tasks, process=process))


@pytest.mark.parametrize(
    ("known", "done"),
    [(trio(), set()), (trio(draft_context=[]), {"write"}), (trio("parallel"), {"write"})],
)
def test_what_is_built_on_a_blamed_task_is_not_done(known, done):
    """It passed, on wrong facts; what was not given them stays."""
    verdicts = [judged("find"), judged("write"), judged("check", False, blames="find")]
    assert done_and_verified(known, verdicts) == done


def test_what_is_built_on_a_failed_task_is_not_done():
    """Directly, or through another."""
    assert done_and_verified(trio(), [judged("find", False), judged("write"), judged("check")]) == frozenset()


@pytest.mark.parametrize(
    ("known", "blames", "done"),
    [
        (trio(), "", set()),
        (trio(), "nobody here", set()),
        (trio(), "check", {"find", "write"}),
        (trio(), "write", {"find"}),
        (trio(draft_context=[]), "write", {"find"}),
        (trio(draft_context=[]), "find", set()),
        (reckoned(pair(JUDGED, UNJUDGED)), "", set()),
        (reckoned(pair(verify=fine)), "find", set()),
        (reckoned(pair(verify=fine)), "bob", {"find"}),
    ],
)
def test_of_a_whole_that_was_refused_only_what_others_are_blamed_for_is_left_out(known, blames, done):
    """Where nobody is blamed, or somebody whose work isn't in it, the fault may be anywhere: nothing is taken."""
    verdicts = [judged(part.task) for part in known.parts if part.judged]
    refused = judged("output", False, blames=blames, source="outcome")
    assert done_and_verified(known, [*verdicts, refused]) == done
    passed = judged("output", source="outcome")
    assert done_and_verified(known, [*verdicts, passed]) == {verdict.task for verdict in verdicts}


def test_what_is_judged_in_every_run_is_known():
    """The parts with a verifier or a schema, and the outcomes where something judges the whole."""
    assert reckoned(pair(), threshold=0.5).settings.judged == ("ann/find", "bob/write", END_TO_END)
    assert reckoned(pair(JUDGED, UNJUDGED)).settings.judged == ("ann/find",)


def test_while_parts_are_unknown_a_share_of_the_runs_is_probed():
    """Where nothing judges the whole: runs of the workflow come between the shadows."""
    known = reckoned(pair(JUDGED, UNJUDGED), threshold=0.85)
    counts = {known.parts[0].subject: Counts(200, 100.0)}
    record, ways = None, list[str]()
    for run in range(50):
        way = routed(known, Known(record, counts), Random(run).betavariate, fallback=True).to if record else "workflow"
        ways.append(way)
        shadow = way == "shadow"
        told = RunReport(f"r{run}", "crew", known.version, float(run), via="workflow", shadow=shadow)
        record = add(record, told, known.settings)
    assert ways.count("shadow") == 10


@pytest.mark.parametrize(("grade", "stops"), [(0.6, True), (0.9, False), (1.0, False)])
def test_a_crew_is_worth_its_worst_result_and_no_product_of_grades(grade, stops):
    """Several results of 0.9 don't make a crew of 0.81; one of 0.6 can't make one of 0.85."""
    three = [Task(name, "ann", name=name, verify=fine) for name in ("one", "two", "three")]
    known = reckoned(Crew([Agent(ANN)], three, process="parallel"), threshold=0.85)
    verdicts = [judged("one", True, 0.9), judged("two", True, grade)]
    found = forecast(known, Known(), verdicts, Left(), Random(1).betavariate, by_parts=True)
    assert (found is not None) is stops


def test_what_is_to_come_is_priced_by_its_own_tasks_and_a_share_of_what_is_nobodys():
    """From five runs on, of this version; before, by the crew's mean."""
    known = reckoned(pair(), threshold=0.85)
    costs = costs_of(known, {"ann": 0.1, "bob": 0.7}, 1.0)
    assert costs == {"ann/find": 0.1, "bob/write": 0.7, NOBODYS: pytest.approx(0.2)}
    record, asked = None, list[float]()
    for run in range(6):
        told = costs if run else {}
        record = add(record, RunReport(f"r{run}", "crew", known.version, usd=1.0, at=0.0, costs=told), known.settings)
        if run >= 4:
            left = Left(usd=0.1, used_usd=0.1)
            stop = forecast(known, Known(record), [judged("find")], left, Random(1).betavariate, by_parts=True)
            asked.append(stop.asked)
    assert asked == pytest.approx([0.5, 0.8])
    assert of_version(record, "another", 1.0, known.settings).costs == {}


def test_an_agent_with_several_tasks_spent_as_much_on_each():
    """Calls don't say which task they are for."""
    ann = Agent(Role(name="ann", goal="g"))
    crew = Crew([ann], [Task("x", name="one"), Task("y", name="two")])
    assert costs_of(reckoned(crew), {"ann": 0.4}, 0.4) == {"ann/one": 0.2, "ann/two": 0.2, NOBODYS: 0.0}


@pytest.mark.parametrize(
    ("crew", "by_parts", "stops"),
    [
        (pair(), True, True),
        (pair(), False, False),
        (pair(verify=fine), True, False),
        (pair(process="parallel", verify=fine), True, False),
    ],
)
def test_a_grade_that_the_outcome_hasnt_got_stops_nothing(crew, by_parts, stops):
    """Any where the whole has a verifier of its own; where outcomes are measured, that of a task before the result."""
    known = reckoned(crew, threshold=0.85)
    found = forecast(known, Known(), [judged("find", True, 0.6)], Left(), Random(1).betavariate, by_parts=by_parts)
    assert (found is not None) is stops


def test_what_is_finished_costs_nothing_more():
    """Judged or not: after the last verdict nothing is left that could be too dear."""
    known = reckoned(pair(UNJUDGED, JUDGED), threshold=0.85)
    dear = [RunReport(f"r{run}", "crew", known.version, usd=1.0, at=0.0) for run in range(6)]
    record = None
    for one in dear:
        record = add(record, one, known.settings)
    left = Left(usd=0.1, used_usd=0.5)
    stops = [
        forecast(one, Known(record), [judged(task)], left, Random(1).betavariate, by_parts=True)
        for one, task in ((known, "write"), (reckoned(pair(), threshold=0.85), "find"))
    ]
    assert stops[0] is None
    assert stops[1] is not None
    assert (stops[1].limit, stops[1].cap, stops[1].used, stops[1].asked) == ("max_usd", 0.6, 0.5, 0.5)


def spent(known, runs=6, **figures):
    """The record of a crew that has finished so many runs alike."""
    record = None
    for run in range(runs):
        record = add(record, RunReport(f"r{run}", "crew", known.version, at=0.0, **figures), known.settings)
    return Known(record)


def looked_ahead(known, record, left, *tasks):
    """The forecast after good verdicts on these tasks."""
    return forecast(known, record, [judged(task) for task in tasks], left, Random(1).betavariate, by_parts=False)


def test_the_dear_task_that_is_done_is_not_to_come():
    """Of a run of 1.0 on average 0.95 are spent: what is left need not hold half of a run."""
    known = reckoned(pair(), threshold=0.85)
    record = spent(known, usd=1.0, seconds=1.0)
    assert looked_ahead(known, record, Left(usd=0.3, used_usd=0.95), "find") is None
    assert looked_ahead(known, record, Left(seconds=0.3, used_seconds=0.95), "find") is None
    assert looked_ahead(known, record, Left(usd=0.3, used_usd=0.5), "find").limit == "max_usd"


def test_what_is_under_way_beside_it_is_not_to_come():
    """A parallel crew begins all at once; only what waits for another is still to be begun."""
    known = reckoned(pair(process="parallel"), threshold=0.85)
    assert looked_ahead(known, spent(known, usd=1.0), Left(usd=0.01), "find") is None
    tasks = [Task(name, "ann", name=name, verify=fine) for name in ("find", "more")]
    tasks.append(Task("Write.", "bob", name="write", context=["find", "more"], verify=fine))
    joined = reckoned(Crew([Agent(ANN), Agent(BOB)], tasks, process="parallel"), threshold=0.85)
    assert looked_ahead(joined, spent(joined, usd=1.0), Left(usd=0.01, used_usd=0.5), "find").asked == pytest.approx(
        1 / 3
    )


def test_a_crew_that_was_too_dear_may_show_that_it_no_longer_is():
    """In the share of the runs that are probes nothing is forecast, or its mean would stay what it was for ever."""
    known = reckoned(pair(), threshold=0.85, probes=0.2)
    left = Left(usd=0.1, used_usd=0.1)
    stopped = [looked_ahead(known, spent(known, runs, usd=1.0), left, "find") is not None for runs in range(5, 15)]
    assert stopped.count(False) == 2


def test_a_policy_that_asks_for_less_goes_by_the_figures_where_they_prove_it():
    """A crew of 0.85 that one of 0.95 has taken out: 0.7 is proven, 0.84 is not."""
    draw, crew = Random(2), pair(UNJUDGED, JUDGED)
    strict = reckoned(crew, threshold=0.95)
    record, run = None, 0
    while record is None or record.breaker.state == "closed":
        run += 1
        told = RunReport(f"r{run}", "crew", strict.version, at=float(run), outcome=float(draw.random() < 0.85))
        record = add(record, told, strict.settings)
    for number in range(100):
        told = RunReport(f"p{number}", "crew", strict.version, at=1e6, outcome=float(number % 7 > 0), shadow=True)
        record = add(record, told, strict.settings)
    assert record.breaker.state != "closed"
    ways = {
        least: routed(reckoned(crew, threshold=least), Known(record), Random(1).betavariate, fallback=True)
        for least in (0.7, 0.84, 0.95)
    }
    assert ways[0.7].to == "crew"
    assert "at least 0.7: measured" in ways[0.7].why
    assert all("its breaker is" in ways[least].why for least in (0.84, 0.95))


def test_what_is_known_of_judges_goes_with_the_streams_that_they_judge():
    """That of the crew's verifier with the outcomes, else that of its only result's."""
    critic = Judge("Good?", record=judge_of([(True, True)] * 9 + [(True, False), (False, False)]))
    whole = reckoned(pair(verify=critic)).settings.judged_by
    assert whole == {END_TO_END: critic.record}
    result = reckoned(pair(write={"verify": critic})).settings.judged_by
    assert result == {"bob/write": critic.record, END_TO_END: critic.record}
    assert reckoned(pair(write={"verify": critic}, verify=fine)).settings.judged_by == {"bob/write": critic.record}
    assert reckoned(pair(verify=Judge("Good?"))).settings.judged_by == {}


def test_a_threshold_of_0_takes_no_crew_out():
    """Neither a new version nor one that always fails."""
    known = reckoned(pair(), threshold=0)
    record = None
    for run in range(300):
        version = known.version if run else "before"
        record = add(record, RunReport(f"r{run}", "crew", version, float(run), outcome=0.0), known.settings)
    assert record.breaker.state == "closed"
    assert routed(known, Known(record), Random(1).betavariate, fallback=True).to == "crew"


def test_figures_from_after_its_breaker_closed_send_a_crew_to_its_workflow_again():
    """Those from before don't; while it is below, a share of its runs are probes."""
    known = reckoned(pair(UNJUDGED, JUDGED), threshold=0.85, alarm_after=10**9)
    record, run = None, 0

    def played(runs, grade):
        """Where runs went that came out like this, in the shadow or not, and what is said of the next one."""
        nonlocal record, run
        ways = list[str]()
        for _ in range(runs):
            run += 1
            found = routed(known, Known(record), Random(run).betavariate, fallback=True)
            ways.append(found.to)
            # Until its breaker opens a policy without a threshold lets it work.
            worked = found.to if record and record.breaker.since else "crew"
            told = RunReport(f"r{run}", "crew", known.version, float(run), shadow=worked == "shadow")
            told = replace(told, via="crew" if worked == "crew" else "workflow")
            record = add(record, replace(told, outcome=None if worked == "workflow" else grade(run)), known.settings)
        return ways, routed(known, Known(record), Random(run).betavariate, fallback=True)

    played(60, lambda _: 0.0)
    while record.breaker.state != "closed":
        _, found = played(1, lambda _: 1.0)
    assert (found.to, found.by_parts) == ("crew", False)
    assert found.estimate.measured.upper < 0.85
    ways, found = played(200, lambda run: float(run % 3 > 0))
    assert "crew" in ways[:20]
    assert ways[100:].count("crew") == 0
    assert ways[100:].count("shadow") == 20
    assert "since its probes closed the breaker" in found.why
    assert found.estimate.measured.counts.trials < 100


def test_what_its_parts_did_before_its_breaker_closed_sends_no_crew_to_its_workflow():
    """Whoever's trials they are in all: those of its own since then decide."""
    known = reckoned(pair(), threshold=0.85)
    old, new = Counts(60, 0.0), Counts(40, 40.0)
    streams = {part.key: Stream(part.subject, old + new, cleared=old) for part in known.parts}
    shared = {part.subject: old + new for part in known.parts}
    record = CrewRecord(known.crew, known.version, streams, breaker=Breaker("closed", 100.0))
    found = routed(known, Known(record, shared), Random(1).betavariate, fallback=True)
    assert (found.to, found.by_parts) == ("crew", False)
    assert "its probes have closed the breaker" in found.why
    streams = {part.key: Stream(part.subject, new + old, cleared=new) for part in known.parts}
    found = routed(known, Known(replace(record, streams=streams), shared), Random(1).betavariate, fallback=True)
    assert found.to == "workflow"
    assert found.estimate.upper < 0.1


def test_who_takes_part_in_a_hosts_crew_is_part_of_its_version():
    """In whatever order they are named: a crew with one more is another one."""
    versions = {version_of_host("host", members, {}, None) for members in (["ann"], ["ann", "bob"], ["ann", "eve"])}
    assert len(versions) == 3
    assert version_of_host("host", ["bob", "ann"], {}, None) in versions
