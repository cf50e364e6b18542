"""Journals that are only looked at: where nothing can be written, nothing is, and what can be read is read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from crew_guard.core.reliability.records import Settings
from crew_guard.core.reliability.trials import RunReport
from crew_guard.errors import StoreError
from crew_guard.store import database
from crew_guard.store.reading import SqliteReader, open_to_read, place_to_read
from crew_guard.store.sqlite import SqliteStore
from crew_guard.testing.events import moved, started


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """An open store with one run of three events and a record, all of it in its log."""
    with_run = SqliteStore(tmp_path / "journal.db")
    with_run.begin("run", started()).result(30)
    with_run.append("run", [moved(2), moved(3)]).result(30)
    with_run.track_record().add(RunReport("run", "crew", "v1", 1.0, outcome=1.0), Settings())
    yield with_run
    with_run.close()


def copied(store: SqliteStore, *suffixes: str) -> Path:
    folder = store.path.parent / "copy"
    folder.mkdir()
    for suffix in suffixes:
        name = store.path.name + suffix
        shutil.copy2(store.path.with_name(name), folder / name)
    return folder / store.path.name


def files(folder: Path) -> dict[str, tuple[int, int]]:
    return {one.name: (one.stat().st_size, one.stat().st_mtime_ns) for one in folder.iterdir()}


def looked_at(reader: SqliteReader) -> None:
    """Everything that a look can ask for."""
    assert [run.run_id for run in reader.runs()] == ["run"]
    assert [event.seq for event in reader.read(reader.find("r"))] == [1, 2, 3]
    assert [one.crew for one in reader.track_record().crews()] == ["crew"]
    assert reader.track_record().run("run") is not None


def test_a_journal_that_cant_be_written_is_read_and_left_as_it_is(store: SqliteStore) -> None:
    """Nothing is made beside it, and nothing of it changes."""
    store.close()
    file = copied(store, "")
    before = files(file.parent)
    looked_at(SqliteReader(place_to_read(file, 1.0, writable=False)))
    assert files(file.parent) == before
    assert list(before) == ["journal.db"]


def test_a_log_that_cant_be_written_is_read_too(store: SqliteStore) -> None:
    """What a run under way has written is there, and neither the log nor its index changes."""
    file = copied(store, "", "-wal", "-shm")
    before = files(file.parent)
    contents = {name: (file.parent / name).read_bytes() for name in before}
    looked_at(SqliteReader(place_to_read(file, 1.0, writable=False)))
    assert files(file.parent) == before
    assert {name: (file.parent / name).read_bytes() for name in before} == contents


def test_a_log_without_its_index_is_told_where_nothing_can_be_written(store: SqliteStore) -> None:
    """Half of the runs would look like all of them: both files are named, and what to do with them."""
    file = copied(store, "", "-wal")
    before = files(file.parent)
    with pytest.raises(StoreError, match=r"journal\.db-wal.* copy both files .* --store"):
        place_to_read(file, 1.0, writable=False)
    assert files(file.parent) == before
    looked_at(open_to_read(file))


def test_an_older_journal_is_brought_up_to_date_only_where_it_can_be_written(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else that is said, and it is left as it is."""
    store.close()
    file, known = copied(store, ""), database.migrations()
    newer = (*known, database.Migration(known[-1].number + 1, "next", "CREATE TABLE more (x);"))
    monkeypatch.setattr(database, "migrations", lambda: newer)
    before = files(file.parent)
    with pytest.raises(StoreError, match=r"older crew_guard.* copy it .* --store"):
        place_to_read(file, 1.0, writable=False)
    assert files(file.parent) == before
    looked_at(open_to_read(file))
    assert files(file.parent) != before


def test_a_look_changes_nothing_where_it_could(store: SqliteStore) -> None:
    """SQLite's own files are gone afterwards, and the connection refuses to write."""
    store.close()
    before = files(store.path.parent)
    reader = open_to_read(store.path)
    looked_at(reader)
    with pytest.raises(StoreError, match="readonly"):
        reader.track_record().add(RunReport("more", "crew", "v1", 1.0, outcome=1.0), Settings())
    assert files(store.path.parent) == before


def test_a_look_goes_on_while_the_run_does(store: SqliteStore) -> None:
    """A reader sees what has come since it was opened."""
    reader = open_to_read(store.path)
    store.append("run", [moved(4)]).result(30)
    assert [event.seq for event in reader.read("run")] == [1, 2, 3, 4]


@pytest.mark.parametrize("content", [b"", b"no database at all " * 100])
def test_what_is_no_journal_is_told(tmp_path: Path, content: bytes) -> None:
    """A file without anything, too, and it stays as it is."""
    file = tmp_path / "x.db"
    file.write_bytes(content)
    with pytest.raises(StoreError, match=r"x\.db .*--store"):
        place_to_read(file, 1.0, writable=False)
    assert file.read_bytes() == content
