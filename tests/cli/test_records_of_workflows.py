"""What the commands say of a workflow that ran by itself, and of runs that no record has."""

from __future__ import annotations

from contextlib import closing

import pytest

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task, chain, node
from crew_guard.store.sqlite import SqliteStore
from crew_guard.testing import ScriptedModel
from tests.cli.calls import run, told

FLOW = """\
from crew_guard import chain, node


def read(inputs):
    return "notes"


def write(value):
    return value + " written"


judged = chain(read, node(write, verify=lambda output: output.endswith("written")), name="follow_up")
plain = chain(read, write, name="plain")
"""


@pytest.fixture
def flow(tmp_path):
    file = tmp_path / "flow.py"
    file.write_text(FLOW)
    return file


@pytest.fixture
def store(tmp_path):
    return str(tmp_path / "journal.db")


def test_a_workflow_from_a_file_is_counted_explained_and_judged(flow, store):
    """By itself, and called what it is."""
    value = told("run", f"{flow}:judged", "--run-id", "r1", "--store", store)
    assert (value["via"], value["reliability"]["runs"], value["reliability"]["outcome"]) == ("workflow", 1, 1.0)
    out = run("reliability", "follow_up", "--store", store).stdout
    for expected in ("follow_up, a workflow by itself, version ", "1 of 1 judged outcome", "1 by itself", "write"):
        assert expected in out
    assert "crew" not in out.replace("crew-guard", "")
    assert "workflow-" not in out
    out = run("reliability", "explain", "r1", "--store", store).stdout
    for expected in ("a workflow by itself", "a check", "the whole run", "Nobody in this run"):
        assert expected in out
    assert "its workflow" not in out
    assert "crew" not in out.replace("crew-guard", "")
    shown = told("reliability", "explain", "r1", "--store", store)
    assert (shown["via"], [one["agent"] for one in shown["verdicts"]]) == ("workflow", ["write", None])
    counted = run("outcome", "r1", "bad", "--because", "wrong client", "--store", store).stdout
    assert "Counted: the outcome in run r1 is 0. follow_up measures 0.000" in counted
    run("outcome", "r1", "0.5", "--agent", "write", "--store", store)
    assert told("reliability", "follow_up", "--store", store)["measured"]["good"] == 0.0
    assert "write" in run("reliability", "write", "--store", store).stdout


@pytest.mark.parametrize("command", [("outcome", "RUN", "good"), ("reliability", "explain", "RUN")])
def test_why_a_run_has_no_record_is_said_truly(flow, store, command):
    """Nothing is judged, it was killed, it goes on, it is unknown: each is its own reason."""

    def error(run_id: str) -> str:
        arguments = [run_id if word == "RUN" else word for word in command]
        return run(*arguments, "--store", store, code=5).stderr

    run("run", f"{flow}:plain", "--run-id", "plain", "--store", store)
    said = error("plain")
    assert "nothing of it was judged" in said
    for untrue in ("under way", "unknown", "a person"):
        assert untrue not in said
    assert "no run in" in error("ghost")
    with closing(SqliteStore(store)) as opened:
        supervisor = Supervisor(Policy(), model=ScriptedModel(lambda _: "x"), store=opened)

        def ends_itself(_, context) -> str:
            supervisor.kill("killed", "enough")
            return "late"

        supervisor.run(chain(node(ends_itself, verify=lambda _: True)), run_id="killed")
        crew = Crew([Agent(Role(name="ann", goal="help"))], [Task("Do it.")])
        supervisor.run(crew, run_id="unjudged")
    said = error("killed")
    assert "killed: enough" in said
    assert "no trial" in said
    assert "under way" not in said
    assert "nothing of it was judged" in error("unjudged")


def test_verdicts_that_reached_no_record_are_told_as_that(flow, store):
    """The record could not be written when the run ended: its verdicts stay in its journal."""
    import sqlite3

    run("run", f"{flow}:judged", "--run-id", "r1", "--store", store)
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("DELETE FROM judged_runs")
    said = run("outcome", "r1", "good", "--store", store, code=5).stderr
    assert "its verdicts are in its journal" in said
    assert "nothing of it was judged" not in said


def test_a_crew_and_a_workflow_of_one_name_are_both_shown(store):
    """Each is called what it is."""
    with closing(SqliteStore(store)) as opened:
        supervisor = Supervisor(Policy(), model=ScriptedModel(lambda _: "x"), store=opened)
        task = Task("Do it.", name="job", verify=lambda _output, _context: True)
        supervisor.run(Crew([Agent(Role(name="ann", goal="help"))], [task], name="same"))
        supervisor.run(chain(node(lambda _: "x", name="one", verify=lambda _: False), name="same"))
    out = run("reliability", "same", "--store", store).stdout
    assert "same, version " in out
    assert "same, a workflow by itself, version " in out
    assert [one["measured"]["good"] for one in told("reliability", "--store", store)["crews"]] == [1.0, 0.0]
    value = told("reliability", "same", "--store", store)
    assert (value["measured"]["good"], value["same_name"]["measured"]["good"]) == (0.0, 1.0)


def test_an_agent_is_judged_by_the_name_that_the_tables_show(store):
    """agent/kind, as the record's stream is called; agent/task, and the agent's name alone."""
    with closing(SqliteStore(store)) as opened:
        supervisor = Supervisor(Policy(), model=ScriptedModel(lambda _: "x"), store=opened)
        task = Task("Do it.", name="job", kind="find", verify=lambda _output, _context: True)
        crew = Crew([Agent(Role(name="finder", goal="help"))], [task], name="brief")
        for number in range(3):
            supervisor.run(crew, run_id=f"r{number}")
    assert "finder/find" in run("reliability", "brief", "--store", store).stdout
    for number, name in enumerate(("finder", "finder/find", "finder/job")):
        value = told("outcome", f"r{number}", "bad", "--agent", name, "--store", store)
        assert value["reliability"]["agents"][0]["good"] == 2.0 - number
    assert (
        "no trial of an agent 'find'" in run("outcome", "r0", "bad", "--agent", "find", "--store", store, code=5).stderr
    )


CREW = """\
from crew_guard import Agent, Crew, Role, Task

crew = Crew([Agent(Role(name="ann", goal="help"))], [Task("Do it.", name="job")])
"""


@pytest.mark.parametrize(
    "command",
    [
        ("reliability",),
        ("reliability", "brief"),
        ("reliability", "explain", "r1"),
        ("outcome", "r1", "good"),
        ("runs", "list"),
        ("runs", "show", "r1"),
        ("advise", "crew.py:crew"),
        ("simulate", "crew.py:crew"),
    ],
)
def test_what_is_not_in_the_store_exits_with_5_whichever_command_asks(tmp_path, command):
    """A store that is named and not there, and a run that it hasn't got: the command could not do its job."""
    (tmp_path / "crew.py").write_text(CREW)
    named = [str(tmp_path / word) if word.startswith("crew.py") else word for word in command]
    missing = str(tmp_path / "none.db")
    assert f"there is no journal at {missing}" in run(*named, "--store", missing, code=5).stderr
    if "r1" in command:
        store = str(tmp_path / "journal.db")
        with closing(SqliteStore(store)):
            pass
        assert "no run in" in run(*named, "--store", store, code=5).stderr
