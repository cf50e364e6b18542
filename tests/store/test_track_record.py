"""The track record in SQLite: several processes, older and newer records, and what its views show."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from crew_guard.core.reliability.counts import Counts, Spent, score
from crew_guard.core.reliability.intervals import clopper_pearson
from crew_guard.core.reliability.records import FORMAT
from crew_guard.core.reliability.trials import RunReport, Trial, is_alone
from crew_guard.errors import ConfigError, StoreError
from crew_guard.store import database, track_sqlite
from crew_guard.store.memory import MemoryStore
from crew_guard.store.sqlite import SqliteStore
from crew_guard.testing.events import moved, started
from crew_guard.testing.track_record_contract import CRITIC, TERMS, WRITER, report, trial
from tests.store.test_sqlite_processes import child


@pytest.fixture
def store(tmp_path):
    store = SqliteStore(tmp_path / "journal.db")
    yield store
    store.close()


def sql(store, statement, *values):
    """Execute a statement on a connection of its own; rows as dictionaries."""
    with contextlib.closing(sqlite3.connect(store.path)) as connection, connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(statement, values)]


def test_every_field_of_a_report_and_of_a_trial_has_its_column(store):
    """A field that is added in core and forgotten here would be lost."""
    runs = {row["name"] for row in sql(store, "SELECT name FROM pragma_table_info('judged_runs')")}
    assert set(RunReport.__struct_fields__) - {"trials", "outcome"} == runs - {"number"}
    trials = {row["name"] for row in sql(store, "SELECT name FROM pragma_table_info('trials')")}
    assert set(Trial.__struct_fields__) - {"subject", "reason"} <= trials


@pytest.mark.parametrize("grade", ["good", None, True, 2, [1]])
def test_a_grade_that_is_no_number_is_said_to_be_none(store, grade):
    with pytest.raises(ConfigError, match=r"a grade must be a number from 0 \(bad\) to 1 \(good\), not "):
        store.track_record().outcome("a", grade)


def test_a_store_in_a_file_says_which_command_shows_its_runs(store):
    """Whoever mistook a run's id finds it there."""
    with pytest.raises(StoreError, match=r"'ghost' is not in the track record.*--store.*runs list"):
        store.track_record().outcome("ghost", 1.0)


def test_a_store_in_memory_sends_nobody_to_a_file():
    with pytest.raises(StoreError, match="run 'a' is not in the track record of memory: it is unknown") as raised:
        MemoryStore().track_record().outcome("a", 1.0)
    assert "--store" not in str(raised.value)


def test_processes_may_add_at_once(tmp_path):
    """Three write eighty reports each, half of them the same: every run counts once, and one has the probe."""
    path = tmp_path / "journal.db"
    SqliteStore(path).close()
    with contextlib.ExitStack() as stack:
        counters = [stack.enter_context(child("count_runs", path, f"p{i}")) for i in range(3)]
        got = [counter.stdout.readline() for counter in counters]
        assert sorted(got) == ["False\n", "False\n", "True\n"]
        for counter in counters:
            counter.stdin.write("go\n")
            counter.stdin.flush()
        assert [counter.stdout.readline() for counter in counters] == ["end\n"] * 3
    track = SqliteStore(path).track_record()
    assert track.subjects() == {WRITER: Counts(160, 160.0), CRITIC: Counts(120, 60.0)}
    assert track.crew("brief").end_to_end == Counts(120, 120.0)
    assert track.crew("brief").crew_runs.runs == 160


def test_a_process_that_dies_leaves_whole_reports_and_a_probe_that_expires(tmp_path):
    """Half a report is none; the probe blocks until its time is over, not longer."""
    path = tmp_path / "journal.db"
    with child("die_in_a_report", path, "until-5000") as process:
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal.SIGKILL)
        process.communicate()
    track = SqliteStore(path).track_record()
    assert track.run("half") is None
    assert track.run("whole") is not None
    assert track.subjects() == {WRITER: Counts(1, 1.0)}
    assert not track.begin_probe("brief", "next", 6000.0, now=4999.0)
    assert track.begin_probe("brief", "next", 6000.0, now=5000.0)


def test_a_lock_that_stays_is_told(tmp_path):
    """The report is not counted, the error names the file and the process that holds the lock."""
    store = SqliteStore(tmp_path / "journal.db", busy_seconds=0.05)
    with child("hold", store.path) as holder:
        holder.stdout.readline()
        with pytest.raises(StoreError, match=r"journal\.db is locked"):
            store.track_record().add(report("a", trial()), TERMS)
        assert store.track_record().run("a") is None
    store.track_record().add(report("a", trial()), TERMS)
    store.close()


def test_runs_are_written_while_reports_are_added(store):
    """One thread adds reports, another appends to a journal: neither fails, and all is there."""
    store.begin("run", started()).result(30)
    track = store.track_record()
    adding = threading.Thread(target=lambda: [track.add(report(f"r{i}", trial()), TERMS) for i in range(50)])
    adding.start()
    for seq in range(2, 200):
        flushed = store.append("run", [moved(seq)])
        store.push()
        flushed.result(30)
    adding.join(60)
    assert len(list(store.read("run"))) == 199
    assert track.counts([WRITER]) == {WRITER: Counts(50, 50.0)}


def test_the_record_outlives_the_store(tmp_path):
    """It is in the journal's file, and works on after `close`."""
    first = SqliteStore(tmp_path / "journal.db")
    record = first.track_record().add(report("a", trial(), outcome=1.0), TERMS)
    first.close()
    assert first.track_record().crew("brief") == record
    assert SqliteStore(tmp_path / "journal.db").track_record().crew("brief") == record
    assert [file.name for file in tmp_path.iterdir() if file.name == "journal.db"] == ["journal.db"]


def test_a_file_from_before_the_track_record_gets_one(tmp_path, monkeypatch):
    """Its journals stay, and reports can be added."""
    path, before = tmp_path / "old.db", database.migrations()[:2]
    with monkeypatch.context() as patch:
        patch.setattr(database, "migrations", lambda: before)
        old = SqliteStore(path)
        old.begin("run", started()).result(30)
        old.close()
    store = SqliteStore(path)
    assert store.track_record().crews() == []
    store.track_record().add(report("run", trial(), outcome=1.0), TERMS)
    assert store.track_record().outcome("run", 0.0).end_to_end == Counts(1, 0.0)
    assert list(store.read("run")) == [started()]
    store.close()


def test_a_record_of_a_newer_format_is_refused(store):
    """The error names the crew, the file, both formats and the way out; nothing is overwritten."""
    track = store.track_record()
    track.add(report("a", trial()), TERMS)
    sql(store, 'UPDATE crew_records SET format = ?, body = \'{"of": "tomorrow"}\'', FORMAT + 1)
    told = rf"crew 'brief' in .*journal\.db.*newer.*format is {FORMAT + 1}.*up to {FORMAT}.*upgrade"
    for ask in (
        lambda: track.crew("brief"),
        track.crews,
        lambda: track.terms("brief"),
        lambda: track.add(report("b", trial()), TERMS),
        lambda: track.outcome("a", 1.0),
    ):
        with pytest.raises(StoreError, match=told):
            ask()
    assert track.run("b") is None
    assert sql(store, "SELECT body FROM crew_records") == [{"body": '{"of": "tomorrow"}'}]
    assert track.counts([WRITER]) == {WRITER: Counts(1, 1.0)}


YESTERDAYS = '{"crew": "brief", "version": "2", "streams": {}, "updated": 200.0, "versions": 1}'
"""Formats 0 to 3 can be read as this one's, and say less."""


@pytest.mark.parametrize(("written", "body"), [*((format_, YESTERDAYS) for format_ in range(4)), (FORMAT, "not JSON")])
def test_a_record_of_an_older_format_is_made_again_from_its_runs(store, written, body):
    """Reports and later verdicts are the truth: the record is as it was, and the next report writes it."""
    track = store.track_record()
    track.add(report("a", trial(), trial("critic", 0.0), outcome=1.0), TERMS)
    track.add(report("b", trial(grade=0.0), version="2", outcome=0.0, at=200.0), TERMS)
    track.outcome("a", 0.5)
    track.outcome("b", 1.0, agent="writer")
    before = track.crew("brief", "1"), track.crew("brief", "2")
    sql(store, "UPDATE crew_records SET format = ?, body = ?", written, body)
    assert (track.crew("brief", "1"), track.crew("brief", "2")) == before
    assert list(track.crews()) == [before[1]]
    after = track.add(report("c", trial(), version="2", outcome=1.0, at=300.0), TERMS)
    assert after.end_to_end == Counts(2, 1.0)
    (row,) = sql(store, "SELECT format, body FROM crew_records WHERE version = '2'")
    assert row["format"] == FORMAT
    assert '"brief"' in row["body"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "add", "agent", "whole"]),
            st.integers(0, 9),
            st.sampled_from(["1", "2", "3"]),
            st.sampled_from([0.0, 0.5, 1.0]),
        ),
        max_size=25,
    )
)
def test_folding_again_gives_the_record_that_was_folded_step_by_step(steps):
    """Whatever the order of versions, reports and later verdicts."""
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder) / "journal.db", synchronous="NORMAL")
        track = store.track_record()
        for number, (what, run, version, grade) in enumerate(steps):
            with contextlib.suppress(StoreError):
                if what == "add":
                    told = report(f"r{run}", trial(grade=grade), version=version, outcome=grade, at=100.0 + number)
                    track.add(told, TERMS)
                else:
                    track.outcome(f"r{run}", grade, agent="writer" if what == "agent" else None)
        before = [track.crew("brief", version) for version in "123"]
        sql(store, "UPDATE crew_records SET format = 0")
        assert [track.crew("brief", version) for version in "123"] == before
        store.close()


KINDS = ["1", "2", "workflow-a", "workflow-b"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "add", "agent", "whole"]),
            st.integers(0, 9),
            st.sampled_from(KINDS),
            st.sampled_from([0.0, 0.5, 1.0]),
        ),
        max_size=25,
    )
)
def test_a_crew_and_a_workflow_of_one_name_never_count_for_each_other(steps):
    """Together they have the records that each has in a store of its own, later verdicts and costs included."""
    with tempfile.TemporaryDirectory() as folder:
        stores = [SqliteStore(Path(folder) / f"{name}.db", synchronous="NORMAL") for name in ("both", "crew", "flow")]
        both, crew, flow = (one.track_record() for one in stores)
        kinds: dict[str, str] = {}
        for number, (what, run, drawn, grade) in enumerate(steps):
            if what == "add":
                version = kinds.setdefault(f"r{run}", drawn)
                alone = is_alone(version)
                judged = replace(trial(grade=grade), side="alone" if alone else "crew")
                more = {"via": "workflow"} if alone else {"costs": {"writer": grade}}
                told = report(f"r{run}", judged, version=version, outcome=grade, at=100.0 + number, **more)
                for track in (both, flow if alone else crew):
                    track.add(told, TERMS)
            elif f"r{run}" in kinds:
                for track in (both, flow if is_alone(kinds[f"r{run}"]) else crew):
                    with contextlib.suppress(StoreError):
                        track.outcome(f"r{run}", grade, agent="writer" if what == "agent" else None)
        own = [(flow if is_alone(version) else crew).crew("brief", version) for version in KINDS]
        assert [both.crew("brief", version) for version in KINDS] == own
        latest = [one for one in (crew.crew("brief"), flow.crew("brief")) if one is not None]
        assert list(both.crews()) == latest
        assert [both.crew("brief", like=version) for version in ("1", "workflow-a")] == [
            crew.crew("brief"),
            flow.crew("brief"),
        ]
        sql(stores[0], "UPDATE crew_records SET format = 0")
        assert [both.crew("brief", version) for version in KINDS] == own
        for one in stores:
            one.close()


def test_a_record_from_before_costs_were_kept_is_read_and_goes_on(tmp_path, monkeypatch):
    """Its runs have none, and the next has."""
    path, before = tmp_path / "old.db", database.migrations()[:3]
    columns = track_sqlite._RUN_COLUMNS
    with monkeypatch.context() as patch:
        patch.setattr(database, "migrations", lambda: before)
        patch.setattr(track_sqlite, "_RUN_COLUMNS", columns.removesuffix(", costs"))
        patch.setattr(track_sqlite, "_run_row", lambda *_: None)
        old = SqliteStore(path)
        old.track_record().add(report("a", trial(), outcome=1.0), TERMS)
        old.close()
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            assert "costs" not in connection.execute("SELECT body FROM crew_records").fetchone()[0]
    store = SqliteStore(path)
    track = store.track_record()
    assert (track.crew("brief").end_to_end, track.crew("brief").costs) == (Counts(1, 1.0), {})
    assert track.run("a").report.costs == {}
    record = track.add(report("b", trial(), outcome=1.0, costs={"writer": 0.5, "": 0.1}), TERMS)
    assert record.costs == {"writer": Spent(1, 0.5), "": Spent(1, 0.1)}
    assert track.crew("brief") == record
    assert track.run("b").report.costs == {"writer": 0.5, "": 0.1}
    with pytest.raises(StoreError, match="the cost of 'writer' is -1"):
        track.add(report("c", costs={"writer": -1.0}), TERMS)
    store.close()


def test_views_show_scores_and_tiers(store):
    """The figures of the crew, its workflow and both, as core reckons them."""
    track = store.track_record()
    for number in range(30):
        good = float(number % 10 != 0)
        track.add(report(f"r{number}", trial(grade=good), outcome=good, usd=0.5, cost_adherence=0.9), TERMS)
    track.add(report("w", via="workflow", outcome=1.0, seconds=2.0), TERMS)
    fell = {"via": "workflow", "crew_grade": 0.0, "faults": 1, "ended_by_fault": True}
    record = track.add(report("down", **fell), TERMS)
    (crew,) = sql(store, "SELECT * FROM reliability_of_crews")
    bounds = clopper_pearson(Counts(31, 27.0), TERMS.confidence)
    assert (crew["judged"], crew["good"], crew["rate"]) == (31, 27.0, 27 / 31)
    assert (crew["lower"], crew["upper"], crew["tier"]) == (*bounds, "pilot")
    assert (crew["crew"], crew["version"], crew["newest"], crew["breaker"]) == ("brief", "1", 1, "closed")
    rows = {row["path"]: row for row in sql(store, "SELECT * FROM reliability_scores")}
    assert set(rows) == {"crew", "workflow", "all"}
    for path, sums in (
        ("crew", record.crew_runs),
        ("workflow", record.workflow_runs),
        ("all", record.all_runs),
    ):
        row, worth = rows[path], score(sums, TERMS.confidence)
        assert (row["runs"], row["judged"], row["good"]) == (sums.runs, sums.outcomes.trials, sums.outcomes.good)
        assert (row["score"], row["score_lower"], row["score_upper"]) == (worth.value, worth.lower, worth.upper)
    assert crew["score"] == rows["all"]["score"]
    assert (rows["all"]["judged"], rows["all"]["good"]) == (30, 27.0)
    assert rows["crew"]["usd_a_run"] == pytest.approx(0.5)
    (agent,) = sql(store, "SELECT * FROM reliability_of_agents")
    assert (agent["role"], agent["trials"], agent["good"], agent["tier"]) == ("writer", 30, 27.0, "pilot")


def test_views_follow_later_verdicts(store):
    """And the view of verdicts shows both, and which one counts."""
    track = store.track_record()
    track.add(report("a", trial(), outcome=1.0), TERMS)
    track.outcome("a", 0.0, because="wrong")
    track.outcome("a", 0.0, agent="writer")
    (crew,) = sql(store, "SELECT good, score FROM reliability_of_crews")
    assert crew == {"good": 0.0, "score": 0.0}
    assert sql(store, "SELECT good FROM reliability_of_agents") == [{"good": 0.0}]
    rows = sql(store, "SELECT agent, grade, source, counts FROM verdicts WHERE run_id = 'a'")
    assert [tuple(row.values()) for row in rows] == [
        ("writer", 1.0, "check", 0),
        (None, 1.0, "outcome", 0),
        (None, 0.0, "person", 1),
        ("writer", 0.0, "person", 1),
    ]


def test_the_newest_version_is_marked(store):
    """By the order of reports."""
    track = store.track_record()
    track.add(report("a", outcome=1.0, version="old"), TERMS)
    track.add(report("b", outcome=1.0, version="new"), TERMS)
    rows = sql(store, "SELECT version, newest FROM reliability_of_crews ORDER BY version")
    assert [tuple(row.values()) for row in rows] == [("new", 1), ("old", 0)]


def test_a_workflow_of_a_crews_name_has_a_newest_version_of_its_own(store):
    """Neither is a version of the other, whichever ran last; only the beginning of a version says which it is."""
    track = store.track_record()
    for version in ("1", "workflow-a", "Workflow-b", "workflow-c"):
        track.add(report(version, outcome=1.0, version=version), TERMS)
    newest = {"Workflow-b", "workflow-c"}
    assert {row["version"] for row in sql(store, "SELECT version FROM reliability_of_crews WHERE newest")} == newest
    track.add(report("last", outcome=1.0), TERMS)
    newest = {"1", "workflow-c"}
    assert {row["version"] for row in sql(store, "SELECT version FROM reliability_of_crews WHERE newest")} == newest
    assert {record.version for record in track.crews()} == newest


def test_nothing_is_written_where_folding_fails(store, monkeypatch):
    """An error in the midst of a transaction takes all of it back, and the lock with it."""
    track = store.track_record()

    def broken(*_):
        raise StoreError("this can't be counted")

    with monkeypatch.context() as patch:
        patch.setattr(track_sqlite.SqliteRows, "save_crew", broken)
        with pytest.raises(StoreError, match="can't be counted"):
            track.add(report("a", trial()), TERMS)
    assert track.run("a") is None
    assert track.subjects() == {}
    assert track.add(replace(report("a"), outcome=1.0), TERMS).end_to_end == Counts(1, 1.0)


def test_the_queries_of_the_docs_work(store):
    """Each statement of docs/reliability.md, on a record with something to find."""
    text = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text()
    queries = [line for line in text.split("```sql\n")[1].split("```")[0].splitlines() if line]
    track = store.track_record()
    for number in range(25):
        track.add(report(f"r{number}", trial(grade=float(number > 0)), outcome=1.0), TERMS)
    crews, agents, verdicts = [sql(store, query) for query in queries]
    assert [(row["crew"], row["tier"]) for row in crews] == [("brief", "internal")]
    assert [(row["role"], row["trials"]) for row in agents] == [("writer", 25)]
    assert verdicts == [{"run_id": "r0", "agent": "writer", "because": "looked at"}]


def test_what_a_crew_did_in_a_shadow_is_judged_by_its_name(store):
    """The run's answer was its workflow's, so an outcome without a name is still refused."""
    track = store.track_record()
    shadow = report("s", trial(), via="workflow", shadow=True)
    record = track.add(shadow, TERMS)
    assert record.end_to_end.trials == 0
    with pytest.raises(StoreError, match=r"run 's' in .* in a shadow.*--agent brief"):
        track.outcome("s", 0.0)
    assert track.outcome("s", 0.0, agent="brief").end_to_end == Counts(1, 0.0)
    with pytest.raises(StoreError, match="has judged the outcome"):
        track.outcome("s", 1.0, agent="brief")
    track.add(report("c", trial(), outcome=1.0), TERMS)
    with pytest.raises(StoreError, match="no trial of an agent 'brief'"):
        track.outcome("c", 0.0, agent="brief")
