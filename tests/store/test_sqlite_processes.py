"""Several processes and one journal: what happens when they die, wait and meet."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from crew_guard.errors import StoreError
from crew_guard.store.sqlite import SqliteStore
from crew_guard.testing.events import moved, started

HERE = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def child(what, path, run="run"):
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.store.children", what, str(path), run],
        cwd=HERE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("lines", [1, 40, 333])
def test_kill_9_leaves_a_prefix_with_all_that_was_promised(tmp_path, lines):
    """A process dies in the midst of appends: no hole, no half event, nothing lost whose future was done."""
    path = tmp_path / "journal.db"
    with child("append_for_ever", path) as process:
        said = [process.stdout.readline() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
        whole = [line for line in (*said, *rest.splitlines(keepends=True)) if line.endswith("\n")]
        promised = int(whole[-1])
    store = SqliteStore(path)
    seqs = [event.seq for event in store.read("run")]
    assert seqs == list(range(1, len(seqs) + 1))
    assert len(seqs) >= promised >= lines
    assert store.runs()[0].status == "running"
    store.append("run", [moved(len(seqs) + 1)]).result(30)
    store.close()


def test_four_processes_that_commit_without_a_pause_all_go_on(tmp_path):
    """Nobody starves: while three others hog the file, each gets its commits through."""
    path = tmp_path / "journal.db"
    with contextlib.ExitStack() as stack:
        hogs = [stack.enter_context(child("hog", path, f"run{i}")) for i in range(4)]
        assert [hog.stdout.readline() for hog in hogs] == ["begun\n"] * 4
        for _ in range(4):
            for hog in hogs:
                assert int(hog.stdout.readline()) % 25 == 0
        ends = [hog.communicate()[0].splitlines()[-1] for hog in hogs]
        assert [hog.returncode for hog in hogs] == [0] * 4
    store = SqliteStore(path)
    for i, end in enumerate(ends):
        assert [event.seq for event in store.read(f"run{i}")] == list(range(1, 1 + int(end.removeprefix("end "))))
    store.close()


def test_two_processes_may_make_the_file_at_once(tmp_path):
    """Whoever is second finds it made, or waits until it is."""
    path = tmp_path / "new" / "journal.db"
    with contextlib.ExitStack() as stack:
        hogs = [stack.enter_context(child("hog", path, f"run{i}")) for i in range(3)]
        assert [hog.stdout.readline() for hog in hogs] == ["begun\n"] * 3


def test_a_lock_that_stays_names_the_process_that_holds_it(tmp_path):
    """After busy_seconds the append fails; when the lock is gone other runs go on, the failed one doesn't."""
    path = tmp_path / "journal.db"
    store = SqliteStore(path, busy_seconds=0.05)
    for run in ("run", "other"):
        store.begin(run, started()).result(30)
    with child("hold", path) as holder:
        pid = holder.stdout.readline().strip()
        future = store.append("run", [moved(2)])
        with pytest.raises(StoreError, match=r"journal\.db is locked") as caught:
            future.result(30)
        assert [event.seq for event in store.read("run")] == [1]
    if sys.platform == "linux":
        assert f"process {pid} " in str(caught.value)
    store.append("other", [moved(2)]).result(30)
    with pytest.raises(StoreError, match="no more events"):
        store.append("run", [moved(3)]).result(30)
    store.close()


def test_what_nobody_waits_for_still_fails_its_run(tmp_path):
    """An event that nobody waits for and that could not be written leaves no hole behind it."""
    store = SqliteStore(tmp_path / "journal.db", busy_seconds=0.05)
    for run in ("run", "other"):
        store.begin(run, started()).result(30)
    with child("hold", store.path) as holder:
        holder.stdout.readline()
        store.later("run", [moved(2)])
        with pytest.raises(StoreError, match="locked"):
            store.append("other", [moved(2)]).result(30)
    with pytest.raises(StoreError, match="no more events"):
        store.append("run", [moved(3)]).result(30)
    assert [event.seq for event in store.read("run")] == [1]
    store.close()


def test_a_lock_that_goes_is_waited_for(tmp_path):
    """An append that meets another process's transaction is written when that is over."""
    store = SqliteStore(tmp_path / "journal.db")
    store.begin("run", started()).result(30)
    with child("hold", store.path) as holder:
        holder.stdout.readline()
        waiting = store.append("run", [moved(2)])
        assert not waiting.done()
        holder.communicate()
    waiting.result(30)
    store.close()


def test_a_process_that_ends_without_close_has_written_everything(tmp_path):
    """The interpreter's exit flushes, and does not hang."""
    path = tmp_path / "journal.db"
    with child("leave", path) as process:
        process.communicate(timeout=60)
        assert process.returncode == 0
    store = SqliteStore(path)
    assert len(list(store.read("run"))) == 1000
    store.close()


def test_a_full_disk_fails_its_runs_and_spares_those_that_come_later(tmp_path):
    """Real limits on the file's size: the append fails whole, and the store works again when there is room."""
    path = tmp_path / "journal.db"
    with child("fill_disk", path) as process:
        first, second, third, last = process.communicate(timeout=60)[0].splitlines()
    assert "journal.db" in first
    assert "disk" in first
    assert "no more events" in second
    assert "no more events" in third
    assert last == "[1] [1, 2]"


def test_a_disk_without_room_leaves_nothing_behind(tmp_path):
    """Neither the file nor the folders that were made for it."""
    with child("no_room", tmp_path / "a" / "b" / "journal.db") as process:
        said = process.communicate(timeout=60)[0]
    assert "journal.db" in said
    assert "disk" in said
    assert list(tmp_path.iterdir()) == []


def test_threads_of_the_writer_do_not_pile_up(tmp_path):
    """Each store has one thread, which ends with it."""
    before = threading.active_count()
    stores = [SqliteStore(tmp_path / f"{i}.db") for i in range(3)]
    assert threading.active_count() == before + 3
    for store in stores:
        store.close()
    assert threading.active_count() == before
