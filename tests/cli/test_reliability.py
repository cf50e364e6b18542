"""`reliability`, `reliability explain` and `outcome` over a track record that was built through its port."""

from __future__ import annotations

from contextlib import closing

import pytest
from msgspec.structs import replace

from crew_guard.core.events import Admitted, RunEnded, RunStarted, Settled
from crew_guard.core.limits import UNCAPPED
from crew_guard.core.reliability.records import Settings
from crew_guard.core.reliability.structure import Chain, Leaf
from crew_guard.core.reliability.trials import RunReport, Subject, Trial
from crew_guard.core.usage import NANO, Usage
from crew_guard.store.sqlite import SqliteStore
from tests.cli.calls import run, told

TERMS = Settings(threshold=0.85, parts=2)
RESEARCHER = Subject("researcher", "openai:gpt-4.1-mini", "search", "r1")
WRITER = Subject("writer", "embedded:smollm2", "", "w1")
SHAPE = Chain((Leaf("researcher"), Leaf("writer")))


def report(number, writer=1.0, outcome=None, **more):
    trials = (
        Trial(RESEARCHER, "researcher", "find", 1.0, "schema"),
        Trial(WRITER, "writer", "write", writer, "check", "" if writer else "no proof\x1b[31m [red]"),
    )
    whole = writer if outcome is None else outcome
    given = {"usd": 0.02, "seconds": 3.0, "at": 1_790_000_000.0 + number, **more}
    return RunReport(f"run-{number:03}", "brief", "v1", trials=trials, outcome=whole, **given)


def filled(path, reports, structure=SHAPE):
    with closing(SqliteStore(path, synchronous="NORMAL")) as store:
        for one in reports:
            store.track_record().add(one, TERMS, structure)


@pytest.fixture
def store(tmp_path):
    return str(tmp_path / "journal.db")


def test_an_empty_record_says_how_to_begin(store):
    """Without any file, and with one in which nothing was judged; neither is made by looking."""
    assert "Nothing was judged yet" in run("reliability").stdout
    assert told("reliability")["crews"] == []
    assert "no journal at" in run("reliability", "--store", store, code=5).stderr
    filled(store, [])
    assert "crew-guard outcome RUN" in run("reliability", "--store", store).stdout


def test_all_crews_and_agents_are_listed(store):
    """With what was measured, what the parts say, the score, the tier and the breaker."""
    filled(store, [report(number, writer=float(number % 10 != 9)) for number in range(40)])
    out = run("reliability", "--store", store).stdout
    for expected in ("brief", "40", "0.900 (0.786 to 0.965)", "pilot", "closed", "researcher", "1.000 (0.928", "95%"):
        assert expected in out
    value = told("reliability", "--store", store)
    (crew,), agents = value["crews"], value["agents"]
    assert (crew["crew"], crew["measured"]["trials"], crew["measured"]["good"]) == ("brief", 40, 36.0)
    assert [(one["role"], one["trials"], one["good"]) for one in agents] == [
        ("researcher", 40, 40.0),
        ("writer", 40, 36.0),
    ]


def test_a_crew_is_told_with_its_agents_bounds_and_the_way_to_the_next_tier(store):
    """Each agent's trials by its subject, the chain's point and bounds, and how many straight passes are missing."""
    filled(store, [report(number) for number in range(19)])
    out = run("reliability", "brief", "--store", store).stdout
    for expected in (
        "brief, version v1",
        "internal",
        "production: 40 good outcomes in a row",
        "Threshold",
        "1.000 (0.854 to 1.000): 19 of 19 judged outcomes good",
        "Its parts say",
        "over 19 runs; the crew's part of 19 was judged",
        "19 left to the crew, done or not; 0 ended by its workflow",
        "production: 40 good trials in a row",
        "the breaker opens at 10,000",
    ):
        assert expected in out
    value = told("reliability", "brief", "--store", store)
    assert value["tier"] == "internal"
    assert value["measured"]["next_tier"] == {"tier": "production", "passes": 40}
    assert value["estimate"]["lower"] <= value["estimate"]["point"] == 1.0
    assert [one["name"] for one in value["agents"]] == ["researcher", "writer"]
    assert value["agents"][0]["subject"]["kind"] == "search"
    assert value["agents"][0]["trials"] == 19
    assert value["score"]["runs"] == 19
    assert value["breaker"]["state"] == "closed"
    assert value["detectors"]["alarm_after"] == 10_000


def test_the_word_show_may_be_said(store):
    """For a crew with the name of another command, say."""
    filled(store, [report(1)])
    assert told("reliability", "show", "brief", "--store", store) == told("reliability", "brief", "--store", store)
    assert "explain" in run("reliability", "--help").stdout


def test_a_disagreement_says_which_way_and_what_it_means(store):
    """Every agent passes and the outcomes fail: a hand-off that no agent owns."""
    filled(store, [report(number, outcome=float(number % 3 == 0)) for number in range(60)])
    value = told("reliability", "brief", "--store", store)
    assert value["estimate"]["disagreement"] == "hand-off"
    assert value["estimate"]["hand_off"] == pytest.approx(1 / 3)
    out = run("reliability", "brief", "--store", store).stdout
    assert "They disagree" in out
    assert "hand-off" in out


def test_an_open_breaker_says_since_when_and_why(store):
    """The writer drops from always to every other time; its test shows how far the crew is from being let back."""
    reports = [report(n) for n in range(40)] + [report(40 + n, writer=float(n % 2)) for n in range(60)]
    filled(store, reports)
    value = told("reliability", "brief", "--store", store)
    assert value["breaker"]["state"] == "open"
    out = run("reliability", "brief", "--store", store).stdout
    assert "open since" in out
    assert "dropped below" in out
    assert "goes on after" in out
    lines = run("reliability", "explain", "run-098", "--store", store).stdout
    assert "writer failed write, says a check: no proof [red]" in lines
    assert "The breaker was opened by" in lines


def test_an_agent_is_found_by_its_role_and_by_its_name_in_a_crew(store):
    """All its versions, and the crews it works in."""
    newer = Subject("writer", "embedded:smollm2", "", "w2")
    other = RunReport("x", "other", "1", 1.0, (Trial(newer, "author", "t", 0.0, "judge"),))
    filled(store, [report(number) for number in range(5)])
    filled(store, [other], None)
    out = run("reliability", "writer", "--store", store).stdout
    assert "In brief as writer" in out
    assert "In other as author" in out
    assert "w2" in out
    assert "researcher" not in out
    value = told("reliability", "author", "--store", store)
    assert [one["version"] for one in value["agents"]] == ["w2"]
    assert [one["crew"] for one in value["crews"]] == ["other"]


def test_bounds_hold_with_the_confidence_of_their_own_policy(store):
    """In the table of all, of one agent and as JSON the same; where they differ each row says its own."""
    with closing(SqliteStore(store)) as opened:
        for number in range(20):
            for crew, subject, confidence in (("alpha", RESEARCHER, 0.99), ("beta", WRITER, 0.8)):
                trials = (Trial(subject, subject.role, "t", 1.0, "check"),)
                one = RunReport(f"{crew}{number}", crew, "v1", float(number), trials, 1.0)
                opened.track_record().add(one, replace(TERMS, confidence=confidence), Leaf(subject.role))
    table = run("reliability", "--store", store).stdout
    alpha, beta, researcher, writer = (line for line in table.splitlines() if "%" in line and "with" not in line)
    for row, expected in ((alpha, "0.794 to"), (researcher, "0.794 to"), (beta, "0.923 to"), (writer, "0.923 to")):
        assert expected in row
        assert row.rstrip().endswith("99%" if expected == "0.794 to" else "80%")
    assert "the confidence of their row" in table
    one = run("reliability", "writer", "--store", store).stdout
    assert "0.923 to" in one
    assert "with 80% confidence" in one
    agents = told("reliability", "--store", store)["agents"]
    known = [(one["role"], round(one["lower"], 3), one["tier"], one["confidence"]) for one in agents]
    assert known == [("researcher", 0.794, "pilot", 0.99), ("writer", 0.923, "internal", 0.8)]


def test_an_unknown_name_lists_those_there_are(store):
    """As an error of its own, in words and as JSON."""
    filled(store, [report(1)])
    error = run("reliability", "briefs", "--store", store, code=5).stderr
    assert "no track record of a crew or an agent 'briefs'; crews there are: brief; agents: researcher, writer" in error
    assert told("reliability", "briefs", "--store", store, code=5)["error"]["type"] == "StoreError"


def test_a_run_is_explained(store):
    """Its verdicts with who gave them, the detectors, and what would raise the crew most."""
    filled(store, [report(number, writer=float(number % 4 != 0)) for number in range(41)])
    out = run("reliability", "explain", "run-040", "--store", store).stdout
    for expected in (
        "Run run-040",
        "its output's schema",
        "the whole run",
        "writer failed write, says a check: no proof [red]",
        "Of the parts writer holds the crew down most",
        "Detectors",
        "writer is at 0.732: a point more is 1.00 of a point of the crew",
        "to 0.85",
    ):
        assert expected in out
    assert "\x1b[31m" not in out
    value = told("reliability", "explain", "run-040", "--store", store)
    assert [one["agent"] for one in value["verdicts"]] == ["researcher", "writer", None]
    assert value["outcome"] == 0.0
    assert value["raise"]["target"] == 0.85
    assert value["raise"]["plan"]["reached"] is True
    assert {step["leaf"] for step in value["raise"]["plan"]["steps"]} == {"writer"}
    assert value["reliability"]["crew"] == "brief"


def test_a_failed_run_without_a_failed_trial_blames_nobody_by_name(store):
    """The outcome is bad and each agent's work was found good."""
    filled(store, [report(1, outcome=0.0)])
    out = run("reliability", "explain", "run-001", "--store", store).stdout
    assert "No agent's trial failed, and the outcome did" in out


def test_what_the_infrastructure_did_is_kept_apart(store):
    """It is told, and nobody is blamed for it."""
    filled(store, [RunReport("run-f", "brief", "v1", 1.0, faults=2, ended_by_fault=True), report(1)])
    out = run("reliability", "explain", "run-f", "--store", store).stdout
    assert "Infrastructure: 2 failures and one ended the run" in out
    assert "Nobody in this run" in out
    assert "1 run met a failure of the infrastructure" in run("reliability", "brief", "--store", store).stdout
    error = run("outcome", "run-f", "bad", "--store", store, code=5).stderr
    assert "ended by a failure of the infrastructure" in error


def test_the_price_of_a_part_is_what_its_agent_used_in_the_run(store):
    """As the journal has it: the retry of the writer costs a share of its own calls."""
    filled(store, [report(number, writer=float(number % 4 != 0)) for number in range(41)])
    with closing(SqliteStore(store)) as journal:
        journal.begin("run-040", RunStarted(1, 1.0, "brief", "native", "p", {}, UNCAPPED, UNCAPPED)).result(10)
        used = Usage(nano_usd=NANO // 2, steps=1)
        events = [
            Admitted(2, 1.0, "a", "model_call", "writer", "m", "crew", used, "{}"),
            Settled(3, 1.0, "a", "ok", used, 0.1),
            RunEnded(4, 2.0, "done", "crew", output="x"),
        ]
        journal.append("run-040", events).result(10)
    value = told("reliability", "explain", "run-04", "--store", store)
    assert value["run_id"] == "run-040"
    assert 0.51 < value["raise"]["plan"]["usd"] < 1.5


def test_the_outcome_of_a_run_that_fell_back_is_its_workflows(store):
    """It is said so, and shown beside the crew's own."""
    fell_back = replace(report(1), via="workflow", outcome=None, crew_grade=0.0)
    filled(store, [report(0), fell_back])
    out = run("reliability", "brief", "--store", store).stdout
    assert "Its workflow" not in out
    assert told("reliability", "brief", "--store", store)["workflow"] is None
    out = run("outcome", fell_back.run_id, "good", "--store", store).stdout
    assert (
        f"Counted: the workflow's outcome in run {fell_back.run_id} is 1. The workflow of brief measures 1.000" in out
    )
    assert "over 1 outcome; the crew's own outcomes stay as they were." in out
    out = run("reliability", "brief", "--store", store).stdout
    assert "Its workflow" in out
    assert "1 of 1 judged outcome good" in out
    value = told("reliability", "brief", "--store", store)
    assert (value["workflow"]["rate"], value["measured"]["trials"]) == (1.0, 2)


def test_a_person_says_how_a_run_turned_out(store):
    """good, bad and numbers; the answer says where the crew stands with it."""
    filled(store, [report(number) for number in range(3)])
    out = run("outcome", "run-000", "bad", "--because", "the client was wrong", "--store", store).stdout
    assert "Counted: the outcome in run run-000 is 0." in out
    assert "brief measures 0.667" in out
    run("outcome", "run-001", "0.8", "--store", store)
    value = told("outcome", "run-002", "good", "--agent", "writer", "--store", store)
    assert (value["run_id"], value["agent"], value["grade"]) == ("run-002", "writer", 1.0)
    assert value["reliability"]["measured"]["good"] == pytest.approx(1.8)
    shown = run("reliability", "explain", "run-000", "--store", store).stdout
    assert "a person" in shown
    assert "the client was wrong" in shown
    assert "(replaced)" in shown


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("ghost", "good"), 5, "no run in"),
        (("run-000", "nice"), 2, "an outcome is good, bad or a number from 0 to 1, not 'nice'"),
        (("run-000", "1.7"), 2, "from 0 to 1, not '1.7'"),
        (("run-000", "nan"), 2, "from 0 to 1, not 'nan'"),
        (("run-000", "good", "--agent", "editor"), 5, "no trial of an agent 'editor'"),
        (("run-000", "good", "--task", "write"), 2, "needs the agent"),
        (("run-001", "good"), 5, "a person has judged the outcome in run 'run-001'"),
    ],
)
def test_an_outcome_that_belongs_nowhere_is_an_error(store, arguments, code, said):
    """With an exit code, a sentence on stderr and a JSON object; nothing is counted."""
    filled(store, [report(0), report(1)])
    run("outcome", "run-001", "bad", "--store", store)
    before = told("reliability", "brief", "--store", store)
    assert said in run("outcome", *arguments, "--store", store, code=code).stderr
    error = told("outcome", *arguments, "--store", store, code=code)["error"]
    assert said in error["message"]
    assert told("reliability", "brief", "--store", store) == before


def test_a_run_under_way_has_nothing_to_explain(store):
    """It is in the journal, and added nothing to the record yet."""
    with closing(SqliteStore(store)) as journal:
        journal.begin("lost", RunStarted(1, 1.0, "brief", "native", "p", {}, UNCAPPED, UNCAPPED)).result(10)
    for arguments in (("reliability", "explain", "lost"), ("outcome", "lost", "good")):
        assert "still under way" in run(*arguments, "--store", store, code=5).stderr


def test_a_record_of_a_newer_crew_guard_is_an_error(store):
    """Clear, and with the way out."""
    import sqlite3

    filled(store, [report(1)])
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("UPDATE crew_records SET format = 99")
    assert "upgrade crew_guard" in run("reliability", "--store", store, code=5).stderr


def test_a_reason_never_holds_a_secret(store, monkeypatch):
    """What is configured as a key, or looks like one, is neither kept nor shown."""
    monkeypatch.setenv("SOME_API_KEY", "very-secret-value")
    filled(store, [report(1)])
    given = told("outcome", "run-001", "bad", "--because", "it showed very-secret-value", "--store", store)
    assert given["because"] == "it showed [redacted]"
    with closing(SqliteStore(store)) as opened:
        kept = opened.track_record().run("run-001").verdicts
    assert [one.because for one in kept if one.source == "person"] == ["it showed [redacted]"]
