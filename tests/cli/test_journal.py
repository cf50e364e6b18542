"""`runs list` and `runs show` over journals that real runs wrote."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from crew_guard import Agent, Crew, Role, Supervisor, Task, Verdict, chain, node, tool
from crew_guard.core.events import Admitted, RunStarted
from crew_guard.core.limits import UNCAPPED
from crew_guard.core.policy import Policy
from crew_guard.core.usage import Usage
from crew_guard.models.scripted import Reply, ScriptedModel
from crew_guard.store import reading
from crew_guard.store.sqlite import SqliteStore
from tests.cli.calls import run


@tool
def search(query: str) -> str:
    """Find something."""
    return f"found {query}"


@node
async def answer(context):
    return "the workflow's answer"


RULES = {"name": "strict", "limits": {"max_steps": 6}, "tools": {"limits": {"search": {"max_tool_calls": 1}}}}


def fell_back(store, run_id="first-run") -> None:
    """A run whose crew is refused a second search, fails its verifier and falls back."""
    ask = Reply(tools=(("search", '{"query": "gz\\u001b[31mip"}'),))
    model = ScriptedModel([ask, ask, "I think so"])
    crew = Crew(
        [Agent(Role(name="writer", goal="Write"), tools=[search])],
        [Task("About {topic}", verify=lambda output, context: Verdict(passed=False, reason="it proves nothing"))],
        fallback=chain(answer, name="fixed"),
        name="brief",
    )
    supervisor = Supervisor(Policy.model_validate(RULES), model=model, store=store)
    assert supervisor.run(crew, {"topic": "gzip"}, run_id=run_id).via == "workflow"


def unfinished(store, run_id: str) -> None:
    with closing(SqliteStore(store)) as journal:
        begun = RunStarted(1, 1_700_000_000.0, "lost", "native", "p", {"topic": "x"}, UNCAPPED, UNCAPPED)
        journal.begin(run_id, begun).result(10)


@pytest.fixture
def store(tmp_path):
    return str(tmp_path / "journal.db")


def test_a_run_is_told_from_its_journal(store):
    """What happened in order, usage by agent, refusals, verdicts, what was stopped, why it fell back, how it ended."""
    fell_back(store)
    out = run("runs", "show", "fir", "--store", store).stdout
    order = [
        "starts: policy strict",
        'think → search("gz',
        "→ found gz",
        "refused search: max_tool_calls of tool:search: the cap is 1, 1 used",
        "think → answer",
        "verdict on task_1: failed: it proves nothing",
        "falls back to its workflow: ",
        "answer done",
        "done, by the workflow",
        "Usage",
        "Status  done",
        "The fixed workflow did it, because the crew did not: ",
        "Verdicts",
        "writer, task_1: failed: it proves nothing",
        "the workflow's answer",
    ]
    places = [out.find(words) for words in order]
    assert -1 not in places, order[places.index(-1)]
    assert places == sorted(places)
    assert "input topic: gzip" in out
    assert "\x1b" not in out


def test_a_run_that_was_stopped_says_which_scope_and_why(store):
    """The latch, and the end without an answer."""
    model = ScriptedModel([Reply(tools=(("search", '{"query": "x"}'),))], repeat=True)
    crew = Crew([Agent(Role(name="writer", goal="Write"), tools=[search])], [Task("Go")])
    rules = Policy.model_validate({"limits": {"max_steps": 2}})
    result = Supervisor(rules, model=model, store=store).run(crew, run_id="short")
    assert result.status == "stopped"
    out = run("runs", "show", "short", "--store", store).stdout
    latched = out[out.index("Stopped for good") : out.index("Usage")]
    assert "max_steps of run: the cap is 2, 2 used, 1 more needed" in latched
    assert "Status  stopped" in out
    assert "Answer" not in out


def test_its_events_are_shown_as_recorded(store):
    """One line each, in order, numbered."""
    fell_back(store)
    out = run("runs", "show", "first-run", "--events", "--store", store).stdout
    with closing(SqliteStore(store)) as journal:
        events = list(journal.read("first-run"))
    lines = [line.split() for line in out.splitlines() if line.strip().split(" ")[0].isdigit()]
    assert [(int(line[0]), line[2]) for line in lines] == [(event.seq, type(event).__name__) for event in events]
    assert "\x1b" not in out


def test_json_holds_the_account_and_on_demand_the_events(store):
    """The result's fields, rebuilt from the journal, beside the inputs."""
    fell_back(store)
    value = json.loads(run("runs", "show", "first-run", "--json", "--store", store).stdout)
    assert (value["status"], value["via"], value["output"]) == ("done", "workflow", "the workflow's answer")
    assert (value["crew"], value["runtime"], value["inputs"]) == ("brief", "native", {"topic": "gzip"})
    assert value["finished"] is True
    assert value["usage"]["steps"] == 3
    assert value["caps"] == {"max_steps": 6}
    assert "events" not in value
    value = json.loads(run("runs", "show", "first-run", "--json", "--events", "--store", store).stdout)
    assert value["events"][0]["type"] == "RunStarted"
    assert value["events"][-1]["type"] == "RunEnded"


def test_a_run_whose_process_died_is_unfinished(store):
    """It says so, and claims neither an end nor an answer."""
    unfinished(store, "lost-run")
    out = run("runs", "show", "lost-run", "--store", store).stdout
    assert "Unfinished: " in out
    assert "Answer" not in out
    assert json.loads(run("runs", "show", "lost-run", "--json", "--store", store).stdout)["finished"] is False
    assert "unfinished" in run("runs", "list", "--store", store).stdout


def test_what_was_in_flight_when_a_process_died_is_named_and_charged(store):
    """A model call was admitted and never settled: its reservation counts as used."""
    unfinished(store, "lost-run")
    with closing(SqliteStore(store)) as journal:
        reserved = Usage(steps=1, input_tokens=100, output_tokens=40)
        admitted = Admitted(2, 1_700_000_001.0, "a1", "model_call", "writer", "openai:m", "crew", reserved)
        journal.append("lost-run", [admitted]).result(10)
    out = run("runs", "show", "lost-run", "--store", store).stdout
    assert "in flight: writer → openai:m" in out
    shown = json.loads(run("runs", "show", "lost-run", "--json", "--store", store).stdout)
    assert shown["usage"]["tokens"] == shown["agents"]["writer"]["tokens"] == 140
    assert {scope: used["tokens"] for scope, used in shown["scopes"].items()} == {
        "run": 140,
        "crew": 140,
        "agent:writer": 140,
    }


def test_runs_are_listed_the_newest_first(store):
    """As a table, and as one JSON object."""
    unfinished(store, "a-run")
    fell_back(store, "b-run")
    lines = run("runs", "list", "--store", store).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["Run", "b-run", "a-run"]
    value = json.loads(run("runs", "list", "--json", "--limit", "1", "--store", store).stdout)
    assert [row["run_id"] for row in value["runs"]] == ["b-run"]
    assert value["runs"][0]["status"] == "done"


@pytest.mark.parametrize("limit", ["0", "99999999999999999999", "9" * 5_000])
def test_a_number_of_runs_that_cannot_be_asked_for_is_wrong_usage(store, limit):
    """The option is named, and the journal not opened."""
    unfinished(store, "a-run")
    assert "'--limit'" in run("runs", "list", "--store", store, "--limit", limit, code=2).stderr
    assert len(run("runs", "list", "--store", store, "--limit", "1000000000").stdout.splitlines()) == 2


def test_looking_makes_no_journal(tmp_path, monkeypatch):
    """Where nothing ran yet there is nothing, and nothing is made."""
    monkeypatch.setenv("CREW_GUARD_HOME", str(tmp_path / "home"))
    assert "No runs yet" in run("runs", "list").stdout
    assert json.loads(run("runs", "list", "--json").stdout)["runs"] == []
    assert "there is no journal" in run("runs", "show", "x", code=5).stderr
    assert "there is no journal" in run("runs", "list", "--store", str(tmp_path / "no.db"), code=5).stderr
    assert list(tmp_path.iterdir()) == []


def test_commands_that_only_look_write_nothing(store, tmp_path, monkeypatch):
    """Where the journal can't be written all of them work, and files and folder are as they were."""
    monkeypatch.setattr(reading, "can_write", lambda path: False)
    fell_back(store)
    before = {one.name: (one.stat().st_size, one.stat().st_mtime_ns) for one in tmp_path.iterdir()}
    for command in (("runs", "list"), ("runs", "show", "first"), ("reliability",), ("reliability", "explain", "first")):
        assert "brief" in run(*command, "--store", store).stdout
    assert {one.name: (one.stat().st_size, one.stat().st_mtime_ns) for one in tmp_path.iterdir()} == before


def test_a_run_that_is_not_there_is_told(store):
    """Unknown, ambiguous, or no journal at all: one message, exit code 5."""
    unfinished(store, "lost-1")
    unfinished(store, "lost-2")
    assert "starts with 'found'" in run("runs", "show", "found", "--store", store, code=5).stderr
    assert "lost-1, lost-2" in run("runs", "show", "lost", "--store", store, code=5).stderr
    failed = run("runs", "show", "lost", "--json", "--store", store, code=5)
    assert json.loads(failed.stdout)["error"]["type"] == "StoreError"


def test_a_file_that_is_no_journal_is_told(tmp_path):
    """Not a traceback of the database."""
    file = tmp_path / "text.db"
    file.write_text("this is no database at all, only text" * 50)
    failed = run("runs", "list", "--store", str(file), code=5)
    assert "text.db" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_damaged_journal_is_told_as_far_as_it_goes(store):
    """What can be read is shown; then the damage, with exit code 5."""
    import sqlite3

    fell_back(store)
    with closing(sqlite3.connect(store)) as connection:
        connection.execute("UPDATE events SET body = x'00ff' WHERE seq = 5")
        connection.commit()
    failed = run("runs", "show", "first-run", "--store", store, code=5)
    assert "starts: policy strict" in failed.stdout
    assert "first-run" in failed.stderr
    failed = run("runs", "show", "first-run", "--json", "--store", store, code=5)
    assert json.loads(failed.stdout)["error"]["type"] == "StoreError"


@pytest.mark.parametrize(
    "command", [["runs", "list"], ["runs", "show", "x"], ["reliability", "show"], ["outcome", "x", "good"]]
)
def test_a_place_that_cannot_be_reached_is_told_in_a_sentence(command, tmp_path, monkeypatch):
    """Root may reach everything: so the system's answer is played."""

    def refused(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", refused)
    shown = run(*command, "--store", str(tmp_path / "x.db"), code=5)
    assert "x.db can't be reached: Permission denied" in shown.stderr


def test_hints_say_that_they_are_about_the_same_store(store):
    """As they are written they would lead to another one."""
    fell_back(store)
    shown = run("runs", "show", "nothing", "--store", store, code=5)
    assert "`crew-guard runs list`, with the same --store" in shown.stderr
