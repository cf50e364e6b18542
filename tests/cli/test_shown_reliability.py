"""`runs show` tells how reliable the crew of a run is, from its journal and the track record."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task, chain, node
from crew_guard.store.sqlite import SqliteStore
from crew_guard.testing import ScriptedModel
from tests.cli.calls import run

RULES = Policy.model_validate({"reliability": {"threshold": 0.85}})


def crew(verify=lambda _output, _context: True) -> Crew:
    task = Task("Do it.", name="job", verify=verify)
    return Crew([Agent(Role(name="ann", goal="help"))], [task], fallback=chain(node(lambda _: "x", name="x")), name="c")


@pytest.fixture
def results(tmp_path):
    """Two runs of a crew: a good one, then one that its workflow finished."""
    with closing(SqliteStore(tmp_path / "journal.db")) as store:
        supervisor = Supervisor(RULES, model=ScriptedModel(lambda _: "x"), store=store)
        first = supervisor.run(crew(), run_id="r1")
        return [first, supervisor.run(crew(lambda _output, _context: False), run_id="r2")]


@pytest.fixture
def store(tmp_path):
    return str(tmp_path / "journal.db")


def shown(store: str, run_id: str) -> dict:
    return json.loads(run("runs", "show", run_id, "--store", store, "--json").stdout)["reliability"]


def test_the_latest_run_has_the_reliability_that_its_result_had(results, store):
    """Every figure, the route and why, and the outcome."""
    assert shown(store, "r2") == pytest.approx(results[1].reliability.as_dict())
    out = run("runs", "show", "r2", "--store", store).stdout
    assert "Reliability, as the track record has it now" in out
    assert "measured 0.500" in out
    assert "threshold 0.85" in out
    assert "crew-guard reliability explain r2" in out


def test_an_older_run_has_its_own_outcome_and_the_record_of_now(results, store):
    """The route and the outcome are the run's; the figures have grown since, a person's verdict with them."""
    told = shown(store, "r1")
    assert (told["outcome"], told["routed"], told["runs"], told["measured"]) == (1.0, "crew", 2, 0.5)
    run("outcome", "r1", "0.2", "--store", store)
    assert (shown(store, "r1")["outcome"], shown(store, "r1")["measured"]) == (0.2, pytest.approx(0.1))


def test_a_run_that_no_record_has_tells_what_its_journal_has(results, store):
    """The figures that it was routed by, and that it isn't counted, with the reason."""
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("DELETE FROM judged_runs")
    told = shown(store, "r2")
    assert (told["routed"], told["threshold"], told["runs"]) == ("crew", 0.85, 1)
    assert told["lower"] <= told["estimate"] <= told["upper"]
    assert "did not reach the record" in told["problem"]
    assert "did not reach the record" in run("runs", "show", "r2", "--store", store).stdout


def test_a_record_that_cant_be_read_hides_no_run(results, store):
    """The journal is told, and what is wrong with the record."""
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("UPDATE crew_records SET format = 99")
    out = run("runs", "show", "r2", "--store", store).stdout
    assert "What happened" in out
    assert "upgrade crew_guard" in out


def test_a_run_that_nothing_judged_has_none(tmp_path, store):
    """As its result had none."""
    with closing(SqliteStore(tmp_path / "journal.db")) as opened:
        unjudged = Crew([Agent(Role(name="ann", goal="help"))], [Task("Do it.")])
        assert Supervisor(model=ScriptedModel(["x"]), store=opened).run(unjudged, run_id="r1").reliability is None
    assert shown(store, "r1") is None
    out = run("runs", "show", "r1", "--store", store).stdout
    assert "Reliability" not in out
    assert "explain" not in out
