"""The SQLite store keeps the contract, and what its futures promise is on disk."""

from __future__ import annotations

import gc
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from crew_guard.errors import ConfigError, JournalConflictError, StoreError
from crew_guard.store import commits
from crew_guard.store.sqlite import SqliteStore
from crew_guard.testing.events import ended, moved, one_of_each, started
from crew_guard.testing.store_contract import StoreContract
from crew_guard.testing.track_record_contract import TrackRecordContract
from tests.forks import forked


class TestSqliteStore(StoreContract):
    """The contract."""

    def make_store(self, folder: Path) -> SqliteStore:
        return SqliteStore(folder / "deep" / "journal.db")


class TestSqliteStoreNormal(StoreContract):
    """The contract, with commits that only a power cut can undo."""

    def make_store(self, folder: Path) -> SqliteStore:
        return SqliteStore(folder / "journal.db", synchronous="NORMAL")


class TestSqliteTrackRecord(TrackRecordContract):
    """What runs have shown."""

    def make_store(self, folder: Path) -> SqliteStore:
        return SqliteStore(folder / "journal.db")


@pytest.fixture
def store(tmp_path):
    store = SqliteStore(tmp_path / "journal.db")
    yield store
    store.close()


def sql(store, statement, *values):
    """Execute a statement on a connection of its own."""
    connection = sqlite3.connect(store.path)
    try:
        with connection:
            return connection.execute(statement, values).fetchall()
    finally:
        connection.close()


def test_a_done_future_can_be_seen_by_another_process(store):
    """While the store is open, a reader elsewhere sees everything that is done."""
    first, *rest = one_of_each()
    store.begin("run", first)
    store.append("run", rest).result(30)
    script = (
        "import sys; from crew_guard.store.sqlite import SqliteStore\n"
        "from crew_guard.testing.events import one_of_each\n"
        "assert list(SqliteStore(sys.argv[1]).read('run')) == one_of_each()"
    )
    subprocess.run([sys.executable, "-c", script, str(store.path)], check=True, timeout=60)


def test_a_journal_outlives_its_store(tmp_path):
    """What was written is there when the file is opened again, and can be gone on with."""
    path = tmp_path / "journal.db"
    first = SqliteStore(path)
    first.begin("run", started())
    first.append("run", [moved(2)])
    first.close()
    assert [file.name for file in tmp_path.iterdir()] == ["journal.db"]
    second = SqliteStore(path)
    second.append("run", [ended(3)]).result(30)
    assert list(second.read("run")) == [started(), moved(2), ended(3)]
    assert second.runs()[0].status == "done"
    second.close()


def test_the_table_of_runs_changes_with_the_events(store):
    """One row a run, written in the transaction of its first and of its last event."""
    store.begin("run", started(crew="c", at=4.0)).result(30)
    assert sql(store, "SELECT * FROM runs") == [(1, "run", "c", "native", "policy", 1, 4.0, None, "running", None)]
    store.append("run", [ended(2, at=9.0)]).result(30)
    assert sql(store, "SELECT ended, status, via FROM runs") == [(9.0, "done", "crew")]


@pytest.mark.parametrize("count", [1, 63, 64, 65, 500])
def test_batches_of_any_size_are_whole(store, count):
    """However many rows go into one statement."""
    store.begin("run", started())
    store.append("run", [moved(seq) for seq in range(2, 2 + count)]).result(30)
    assert len(list(store.read("run"))) == 1 + count


def test_two_stores_of_one_run_conflict_and_other_runs_do_not_notice(tmp_path):
    """The second writer of a number is refused for good, in the midst of appends that go through."""
    path = tmp_path / "journal.db"
    one, two = SqliteStore(path), SqliteStore(path)
    for run in ("shared", "mine"):
        one.begin(run, started()).result(30)
    with pytest.raises(JournalConflictError):
        two.begin("shared", started()).result(30)
    three = SqliteStore(path)
    three.append("shared", [moved(2)]).result(30)
    futures = [one.append(run, [moved(seq)]) for seq in (2, 3) for run in ("mine", "shared")]
    for future in futures:
        future.exception(30)
    kinds = [type(future.exception()) for future in futures]
    assert kinds == [type(None), JournalConflictError, type(None), JournalConflictError]
    assert list(one.read("shared")) == [started(), moved(2)]
    assert list(one.read("mine")) == [started(), moved(2), moved(3)]
    for store in (one, two, three):
        store.close()


def test_a_damaged_event_is_named_and_those_before_it_are_given(store):
    """Run, number and file stand in the error; nothing after the damage is given."""
    store.begin("run", started())
    store.append("run", [moved(seq) for seq in range(2, 6)]).result(30)
    sql(store, "UPDATE events SET body = ? WHERE seq = 4", b'{"seq": 4, "\xff')
    reader, seen = store.read("run"), []
    with pytest.raises(StoreError, match=r"event 4 of run 'run' in .*journal\.db is damaged"):
        seen.extend(reader)
    assert seen == [started(), moved(2), moved(3)]


def test_an_unknown_kind_of_event_asks_for_an_upgrade(store):
    """A later crew_guard may have written it."""
    store.begin("run", started()).result(30)
    sql(store, "UPDATE events SET type = 'Teleported'")
    with pytest.raises(StoreError, match=r"event 1 of run 'run' .*Teleported.*upgrade"):
        list(store.read("run"))


def test_one_statement_writes_what_queued_up(store, monkeypatch):
    """While a commit runs, appends queue up; then they share one commit."""
    groups = []
    write, entered, go_on = commits.JournalFile.write, threading.Event(), threading.Event()

    def slow_write(self, group, *, patience):
        groups.append(len(group))
        entered.set()
        assert go_on.wait(30)
        return write(self, group, patience=patience)

    monkeypatch.setattr(commits.JournalFile, "write", slow_write)
    first = store.begin("run", started())
    assert entered.wait(30)
    rest = [store.append("run", [moved(seq)]) for seq in range(2, 40)]
    assert not first.done()
    go_on.set()
    for future in (first, *rest):
        future.exception(30)
    assert groups == [1, 38]
    assert len(list(store.read("run"))) == 39


def test_a_forgotten_store_writes_what_it_has_and_ends_its_thread(tmp_path):
    """Without close, the last reference flushes."""
    store = SqliteStore(tmp_path / "forgotten.db")
    store.begin("run", started())
    future = store.append("run", [moved(seq) for seq in range(2, 500)])
    thread = store._writer._thread
    del store
    gc.collect()
    assert future.exception(30) is None
    thread.join(30)
    assert not thread.is_alive()


def test_closing_from_a_callback_does_not_hang(tmp_path):
    """A future's callback runs on the writer's thread and may close the store."""
    store = SqliteStore(tmp_path / "journal.db")
    closed = threading.Event()
    future = store.begin("run", started())
    future.add_done_callback(lambda _: (store.close(), closed.set()))
    assert closed.wait(30)
    store.close()


def test_a_store_that_is_let_go_of_is_not_waited_for(tmp_path, monkeypatch):
    """The garbage collector may come by in any thread, also in one that holds what the writer needs."""
    store = SqliteStore(tmp_path / "journal.db")
    waited: list[float | None] = []
    monkeypatch.setattr(store._writer._thread, "join", waited.append)
    del store
    assert waited == [0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_refused_at_once(store):
    """The thread stays behind in the parent, maybe in the midst of something: the child is told, and never waits."""
    held, go = threading.Event(), threading.Event()

    def holds():
        with store._writer._door:
            held.set()
            go.wait(30)

    def is_refused():
        future = store.append("run", [moved(2)])
        store.close()
        return future.done() and "forked" in str(future.exception(0))

    thread = threading.Thread(target=holds)
    thread.start()
    assert held.wait(30)
    assert forked(is_refused)
    go.set()
    thread.join(30)


def test_an_unknown_synchronous_is_a_config_error(tmp_path):
    """Only two values make sense."""
    with pytest.raises(ConfigError, match="synchronous must be 'FULL' or 'NORMAL', not 'OFF'"):
        SqliteStore(tmp_path / "journal.db", synchronous="OFF")
    assert list(tmp_path.iterdir()) == []


def test_a_slow_disk_is_written_by_the_thread(store, monkeypatch):
    """A write on the caller's thread that took too long hands the next ones to the writer's."""
    from crew_guard.store import writer

    monkeypatch.setattr(writer, "SLOW", -1.0)
    monkeypatch.setattr(writer, "_REST", 1e9)  # a second, at most
    store.begin("run", started()).result(30)
    threads = []
    heard = commits.Batch.resolve
    monkeypatch.setattr(
        commits.Batch,
        "resolve",
        lambda batch, *error: (threads.append(threading.current_thread()), heard(batch, *error)),
    )
    for seq in (2, 3):
        future = store.write("run", [moved(seq)])
        store.push()
        future.result(30)
    assert threads[0] is threading.main_thread()
    assert threads[1] is not threading.main_thread()


def test_a_write_does_not_wait_for_another_process_on_its_callers_thread(store):
    """While somebody else holds the lock it is handed to the writer's thread: the caller goes on at once."""
    store.begin("run", started()).result(30)
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    future = store.write("run", [moved(2)])
    store.push()
    assert not future.done()
    other.execute("COMMIT")
    other.close()
    future.result(30)
    assert len(list(store.read("run"))) == 2


def test_what_nobody_waits_for_is_written_soon(store, monkeypatch):
    """No later call hurries it; again after a pause in which the writer fell asleep."""
    written = threading.Event()
    original = commits.JournalFile.write

    def tell(self, group, *, patience):
        done = original(self, group, patience=patience)
        written.set()
        return done

    store.begin("run", started()).result(30)
    monkeypatch.setattr(commits.JournalFile, "write", tell)
    for seq in (2, 3):
        written.clear()
        store.later("run", [moved(seq)])
        assert written.wait(30)
        assert len(list(store.read("run"))) == seq
