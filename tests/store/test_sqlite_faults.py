"""Files that are no journals, or can't be written: one clear error each, and nothing is left behind."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

from crew_guard.core.events import encode
from crew_guard.errors import StoreError
from crew_guard.store import commits, database
from crew_guard.store.reading import open_to_read
from crew_guard.store.sqlite import SqliteStore
from crew_guard.testing.events import moved, started


@pytest.fixture
def journal(tmp_path):
    """The path of a journal with one run of 300 events."""
    store = SqliteStore(tmp_path / "journal.db")
    store.begin("run", started())
    store.append("run", [moved(seq) for seq in range(2, 301)])
    store.close()
    return store.path


@pytest.fixture
def plain_user():
    """A folder of a user who is not root, as whom the test goes on: root may write anything."""
    folder = Path(tempfile.mkdtemp())
    if os.geteuid() == 0:
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
        yield folder
        os.seteuid(0)
    else:
        yield folder
    folder.chmod(0o700)
    shutil.rmtree(folder)


def refused(path, words, **options):
    with pytest.raises(StoreError, match=words) as caught:
        SqliteStore(path, **options)
    assert str(path) in str(caught.value)
    assert "--store" in str(caught.value)


def migrations_with(monkeypatch, sql):
    known = database.migrations()
    more = (*known, database.Migration(known[-1].number + 1, "next", sql))
    monkeypatch.setattr(database, "migrations", lambda: more)


def test_a_folder_is_no_file(tmp_path):
    """The error says that a file was expected."""
    refused(tmp_path, "is a folder")


def test_what_is_no_regular_file_is_told_as_what_it_is(tmp_path):
    """To write as to read, through a link too; the disk is not to blame."""
    os.mkfifo(pipe := tmp_path / "pipe")
    (link := tmp_path / "link").symlink_to(pipe)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(bound := tmp_path / "socket"))
    kinds = {pipe: "a named pipe", link: "a named pipe", bound: "a socket", Path(os.devnull): "a device"}
    for path, kind in kinds.items():
        refused(path, rf"is {kind}, a regular file was expected: choose another file with --store$")
        with pytest.raises(StoreError, match=rf"is {kind}, a regular file"):
            open_to_read(path)


def test_a_file_above_the_file_is_an_error(tmp_path):
    """A parent that is no folder."""
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file" / "journal.db", "failed|can't")
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to be one" * 100, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path, content):
    """The error says to move it away."""
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    refused(path, "move it away")
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_database_of_another_program_is_left_as_it_is(tmp_path):
    """It is not ours to change."""
    path = tmp_path / "places.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (url)")
    connection.close()
    before = path.read_bytes()
    refused(path, "another program")
    assert path.read_bytes() == before


@pytest.mark.parametrize("statement", range(25))
def test_a_file_that_another_process_makes_meanwhile_is_no_foreign_one(tmp_path, monkeypatch, statement):
    """Just before any statement of ours."""
    path = tmp_path / "journal.db"
    connect, seen = database.connect, []

    def other(sql):
        seen.append(sql)
        if len(seen) == statement + 1:
            monkeypatch.undo()
            with suppress(StoreError):  # ours has a lock
                database.prepare(database.Place(path, "FULL", busy_seconds=0))

    def watched(place, **options):
        connection = connect(place, **options)
        connection.set_trace_callback(other)
        return connection

    monkeypatch.setattr(database, "connect", watched)
    SqliteStore(path).close()
    assert len(seen) > statement
    assert database.is_current(database.Place(path, "FULL", 0))


def test_an_empty_file_becomes_a_journal(tmp_path):
    """As one that was made by mktemp."""
    path = tmp_path / "empty.db"
    path.touch()
    store = SqliteStore(path)
    store.begin("run", started()).result(30)
    store.close()


def test_a_journal_that_lost_its_pages_is_damaged(journal):
    """What can be read is given; the error names the file."""
    content = bytearray(journal.read_bytes())
    pages = len(content) // 4096
    content[4096 * (pages // 2) :] = b"\x7f" * (len(content) - 4096 * (pages // 2))
    journal.write_bytes(content)
    with pytest.raises(StoreError, match=r"journal\.db is damaged"):
        list(SqliteStore(journal).read("run"))


def test_a_newer_journal_names_both_versions(journal, monkeypatch):
    """An older crew_guard must not touch it."""
    with monkeypatch.context() as patch:
        migrations_with(patch, "CREATE TABLE later (x);")
        SqliteStore(journal).close()
    newest = database.migrations()[-1].number
    refused(journal, rf"newer crew_guard.*version {newest + 1}.*up to {newest}")


def test_an_older_journal_is_migrated_once_and_keeps_its_runs(journal, monkeypatch):
    """Each migration is applied and recorded in one transaction."""
    migrations_with(
        monkeypatch,
        "-- a comment; with a semicolon\nALTER TABLE runs ADD COLUMN note TEXT;\nUPDATE runs SET note = ';';",
    )
    for _ in range(2):
        store = SqliteStore(journal)
        assert len(list(store.read("run"))) == 300
        store.close()
    connection = sqlite3.connect(journal)
    assert connection.execute("SELECT note FROM runs").fetchall() == [(";",)]
    recorded = connection.execute("SELECT number, name FROM migrations ORDER BY number").fetchall()
    connection.close()
    assert recorded == [(each.number, each.name) for each in database.migrations()]


def test_a_migration_that_fails_changes_nothing(journal, monkeypatch):
    """Neither the tables nor the record; without it the journal works as before."""
    with monkeypatch.context() as patch:
        migrations_with(patch, "CREATE TABLE half (x);\nINSERT INTO nowhere VALUES (1);")
        refused(journal, "nowhere")
    store = SqliteStore(journal)
    store.append("run", [moved(301)]).result(30)
    store.close()


def test_a_failure_while_a_file_is_made_leaves_nothing_behind(tmp_path, monkeypatch):
    """No file, no log, no folder."""
    migrations_with(monkeypatch, "INSERT INTO nowhere VALUES (1);")
    refused(tmp_path / "a" / "b" / "journal.db", "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_folder_is_an_error(plain_user):
    """No file can be made in it."""
    plain_user.chmod(0o500)
    refused(plain_user / "journal.db", "can't be written")
    refused(plain_user / "a" / "journal.db", "can't be written")
    assert list(plain_user.iterdir()) == []


def test_a_read_only_file_is_an_error(plain_user):
    """It is not opened for reading only, to fail at the first event."""
    path = plain_user / "journal.db"
    SqliteStore(path).close()
    path.chmod(0o400)
    refused(path, "can't be written")


@pytest.mark.parametrize("mode", [0o500, 0o700])
def test_a_read_only_journal_can_be_looked_at(plain_user, mode):
    """Whether its folder is read-only as well or not, and nothing is made beside it; one that can't be read is told."""
    path = plain_user / "journal.db"
    store = SqliteStore(path)
    store.begin("run", started()).result(30)
    store.close()
    path.chmod(0o400)
    plain_user.chmod(mode)
    assert [run.run_id for run in open_to_read(path).runs()] == ["run"]
    assert list(plain_user.iterdir()) == [path]
    path.chmod(0)
    with pytest.raises(StoreError, match=r"can't be read: .*--store"):
        open_to_read(path)


def test_a_file_that_is_deleted_under_a_run_fails_that_run_only(journal, monkeypatch):
    """Events are not written to a file that nobody can find; new runs get a new file."""
    monkeypatch.setattr(commits, "_LOOK_SECONDS", 0.0)
    store = SqliteStore(journal)
    store.append("run", [moved(301)]).result(30)
    for suffix in ("", "-wal", "-shm"):
        journal.with_name(journal.name + suffix).unlink()
    with pytest.raises(StoreError, match="moved or deleted"):
        store.append("run", [moved(302)]).result(30)
    store.begin("new", started()).result(30)
    assert [run.run_id for run in store.runs()] == ["new"]
    store.close()


def test_a_reader_without_a_file_makes_none(journal):
    """Reading never creates."""
    store = SqliteStore(journal)
    store.close()
    journal.unlink()
    with pytest.raises(StoreError, match=r"journal\.db"):
        store.runs()
    assert not journal.exists()


def test_a_journal_of_the_first_schema_keeps_its_events_and_takes_more(tmp_path, monkeypatch):
    """Runs were rows of a clustered table; each keeps its events, and one that was under way goes on."""
    journal, first = tmp_path / "old.db", database.migrations()[:1]
    with monkeypatch.context() as patch:
        patch.setattr(database, "migrations", lambda: first)
        database.prepare(database.Place(journal, "FULL", 1.0))
    connection = sqlite3.connect(journal)
    for run, crew in (("b-done", "one"), ("a-open", "two")):
        row = (run, crew, "native", "policy", 1, 4.0, "running")
        connection.execute(
            "INSERT INTO runs (run_id, crew, runtime, policy, format, started, status) VALUES (?,?,?,?,?,?,?)", row
        )
        for event in (started(crew=crew), moved(2), moved(3)):
            name, body = encode(event)
            connection.execute(
                "INSERT INTO events VALUES (?, ?, ?, ?, ?)", (run, event.seq, event.at, name, body.decode())
            )
    connection.commit()
    connection.close()
    store = SqliteStore(journal)
    store.append("a-open", [moved(4)]).result(30)
    assert [event.seq for event in store.read("a-open")] == [1, 2, 3, 4]
    assert list(store.read("b-done")) == [started(crew="one"), moved(2), moved(3)]
    assert [run.run_id for run in store.runs()] == ["a-open", "b-done"]
    store.close()
