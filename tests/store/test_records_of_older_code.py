"""Records that an older crew_guard left in a file: the views show what is read, and nobody is kept waiting for it."""

from __future__ import annotations

import threading

import pytest
from msgspec.structs import replace

from crew_guard.core.reliability.counts import Counts
from crew_guard.core.reliability.records import FORMAT
from crew_guard.store import track as track_rules
from crew_guard.store.reading import open_to_read
from crew_guard.store.sqlite import SqliteStore
from crew_guard.testing.track_record_contract import TERMS, report, trial
from tests.store.test_sqlite_processes import child
from tests.store.test_track_record import sql


@pytest.fixture
def store(tmp_path):
    store = SqliteStore(tmp_path / "journal.db")
    yield store
    store.close()


def written_by_older_code(store):
    """Of the crew `brief` two versions, its figures not as they are counted now; what the views showed before."""
    track = store.track_record()
    track.add(report("a", trial(), outcome=1.0), TERMS)
    track.add(report("b", outcome=1.0, version="2", at=200.0), replace(TERMS, confidence=0.9))
    track.outcome("a", 0.5, at=300.0)
    before = views(store)
    sql(store, "UPDATE crew_records SET format = ?, body = '{}', judged = 99, good = 99, breaker = 'open'", FORMAT - 1)
    sql(store, "UPDATE scores SET judged = 99, score = 0.125")
    assert views(store) != before
    return before


def views(store):
    """What the views of records and of subjects show."""
    names = ("reliability_of_crews", "reliability_scores", "reliability_of_agents")
    return [sql(store, f"SELECT * FROM {name} ORDER BY 1, 2, 3") for name in names]  # noqa: S608 - made of constants


@pytest.mark.parametrize("opened", [SqliteStore, open_to_read])
def test_views_show_a_record_that_older_code_wrote_as_it_is_read(store, opened):
    """Opening the file makes it again, with what it was kept by: the time of its last change, each version's terms."""
    before = written_by_older_code(store)
    read = [store.track_record().crew("brief", version) for version in "12"]
    again = opened(store.path)
    assert views(store) == before
    assert [again.track_record().crew("brief", version) for version in "12"] == read
    assert {row["format"] for row in sql(store, "SELECT format FROM crew_records")} == {FORMAT}


def test_several_may_open_a_file_of_older_code_at_once(store):
    """Each makes the records again, one keeps them, and none fails."""
    before = written_by_older_code(store)
    threads = [threading.Thread(target=store.track_record().bring_up_to_date) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert views(store) == before


@pytest.mark.parametrize("written", [FORMAT, FORMAT - 1])
@pytest.mark.parametrize("change", ["run", "verdict"])
def test_what_is_written_while_a_record_is_made_again_stays(store, monkeypatch, written, change):
    """Nobody waits for the folding, so another may write, an older crew_guard too: his record is not written over."""
    written_by_older_code(store)
    track, made_again = store.track_record(), track_rules._made_again

    def meanwhile(rows, name):
        found = made_again(rows, name)
        if change == "run":
            track.add(report("c", outcome=0.0), TERMS)
        else:
            track.outcome("a", 0.25, agent="writer", at=400.0)
        sql(store, "UPDATE crew_records SET format = ? WHERE version = '1'", written)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(track_rules, "_made_again", meanwhile)
        track.bring_up_to_date()
    kept = {row["version"]: row for row in sql(store, "SELECT version, format, updated FROM crew_records")}
    assert kept["1"] == {"version": "1", "format": written, "updated": 100.0 if change == "run" else 400.0}
    assert kept["2"]["format"] == FORMAT
    counted = track.crew("brief", "1")
    track.bring_up_to_date()
    assert track.crew("brief", "1") == counted


def test_a_lock_or_a_newer_record_keeps_no_file_of_older_code_shut(store):
    """Its records are made again in each look; of a crew that a newer crew_guard knows nothing is touched."""
    before = written_by_older_code(store)
    with child("hold", store.path) as holder:
        holder.stdout.readline()
        for opened in (SqliteStore(store.path, busy_seconds=0.05), open_to_read(store.path, busy_seconds=0.05)):
            assert opened.track_record().crew("brief", "1").end_to_end == Counts(1, 0.5)
    sql(store, "UPDATE crew_records SET format = ? WHERE version = '2'", FORMAT + 1)
    SqliteStore(store.path).close()
    assert views(store) != before
    sql(store, "UPDATE crew_records SET format = ? WHERE version = '2'", FORMAT - 1)
    SqliteStore(store.path).close()
    assert views(store) == before
