"""What every Store must do, as pytest tests.

class TestMyStore(StoreContract):
    def make_store(self, folder): return MyStore(folder / "journal")
"""

# ruff: noqa: S101, PLR2004 - these are tests, though they ship in the package

from __future__ import annotations

import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crew_guard.core.events import Event, RunEnded, RunStarted, Settled
from crew_guard.core.limits import UNCAPPED
from crew_guard.core.usage import NOTHING
from crew_guard.errors import JournalConflictError, StoreError
from crew_guard.ports import Flushed, Store
from crew_guard.testing.events import ended, moved, one_of_each, started

SECONDS = 30
"""The longest a future may take in these tests."""


class StoreContract(ABC):
    """Subclass it and give `make_store`; the class's name must start with Test."""

    @abstractmethod
    def make_store(self, folder: Path) -> Store:
        """A new, empty store; what it keeps on disk belongs into this folder."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        """The store under test."""
        store = self.make_store(tmp_path)
        yield store
        store.close()

    def test_events_come_back_in_the_order_of_the_calls(self, store: Store) -> None:
        """Several appends, awaited at the end only, are read back in order."""
        futures = [store.begin("run", started())]
        futures += [store.append("run", [moved(2 * i), moved(2 * i + 1)]) for i in range(1, 100)]
        for future in futures:
            future.result(SECONDS)
        assert [event.seq for event in store.read("run")] == list(range(1, 200))

    def test_the_last_future_is_done_when_all_before_are(self, store: Store) -> None:
        """Whoever waits for the last append may rely on every earlier one."""
        futures = [store.begin("run", started()), *(store.append("run", [moved(i)]) for i in range(2, 200))]
        store.append("run", [moved(200)]).result(SECONDS)
        assert all(future.done() for future in futures)

    def test_what_may_wait_is_written_before_what_may_not(self, store: Store) -> None:
        """Events that were in no hurry, then one that is written at once: all are there, in order."""
        store.begin("run", started()).result(SECONDS)
        for number in range(2, 10):
            store.later("run", [moved(number)])
        last = store.write("run", [moved(10)])
        store.push()
        last.result(SECONDS)
        assert [event.seq for event in store.read("run")] == list(range(1, 11))

    def test_what_may_wait_is_written_before_the_store_is_closed(self, store: Store) -> None:
        """Nobody hurries, and it is written all the same."""
        store.begin("run", started()).result(SECONDS)
        store.later("run", [moved(2)])
        store.close()
        assert len(list(store.read("run"))) == 2

    def test_what_may_wait_and_fails_is_told_by_the_next_append(self, store: Store) -> None:
        """A number that is used: the run's journal takes no more events."""
        store.begin("run", started()).result(SECONDS)
        store.later("run", [moved(1)])
        with pytest.raises(StoreError):
            store.append("run", [moved(2)]).result(SECONDS)

    def test_a_failed_write_is_told_like_a_failed_append(self, store: Store) -> None:
        """A number that is used, a run that was never begun."""
        store.begin("run", started()).result(SECONDS)
        with pytest.raises(JournalConflictError):
            store.write("run", [moved(1)]).result(SECONDS)
        with pytest.raises(StoreError):
            store.write("other", [moved(2)]).result(SECONDS)

    def test_threads_may_write_at_once(self, store: Store) -> None:
        """Eight runs are written by eight threads, each with its own hurry."""

        def work(run_id: str) -> None:
            store.begin(run_id, started()).result(SECONDS)
            for seq in range(2, 40):
                (store.write if seq % 2 else store.append)(run_id, [moved(seq)]).result(SECONDS)

        threads = [threading.Thread(target=work, args=(f"run{i}",)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        for i in range(8):
            assert [event.seq for event in store.read(f"run{i}")] == list(range(1, 40))

    def test_an_empty_append_waits_for_those_before(self, store: Store) -> None:
        """Appending nothing is a barrier, and changes nothing."""
        first = store.begin("run", started())
        store.append("run", []).result(SECONDS)
        assert first.done()
        assert list(store.read("run")) == [started()]

    def test_every_kind_of_event_comes_back_as_it_was(self, store: Store) -> None:
        """Unicode, NUL, line separators, empty and huge texts, nested JSON, big integers, every field."""
        first, *rest = events = one_of_each()
        store.begin("run", first)
        store.append("run", rest).result(SECONDS)
        assert list(store.read("run")) == events

    def test_values_that_are_no_json_do_not_lose_the_run(self, store: Store) -> None:
        """Lone surrogates, bytes, NaN, cycles and objects are kept in some form; the journal can be read."""
        cycle: list[object] = []
        cycle.append(cycle)
        odd = {"s": "\ud800", "b": b"\xff", "n": float("nan"), "o": object(), "c": cycle, "\udfff": {1: {2}}}
        store.begin("run", RunStarted(1, 1.0, "crew \ud800", "r", "p", odd, UNCAPPED, UNCAPPED))
        store.append("run", [Settled(2, 1.0, "a", "ok", NOTHING, 0.1, text="half \ud83e of a thread")])
        store.append("run", [RunEnded(3, 2.0, "done", output=odd)]).result(SECONDS)
        events = list(store.read("run"))
        assert [event.seq for event in events] == [1, 2, 3]
        assert isinstance(events[1], Settled)
        assert events[1].text.startswith("half ")
        assert store.runs()[0].status == "done"

    def test_what_is_appended_may_be_changed_afterwards(self, store: Store) -> None:
        """A store takes the events of a call, not the caller's list."""
        events: list[Event] = [moved(2)]
        store.begin("run", started())
        future = store.append("run", events)
        events.clear()
        future.result(SECONDS)
        assert [event.seq for event in store.read("run")] == [1, 2]

    def test_a_second_beginning_is_a_conflict(self, store: Store) -> None:
        """Who begins a run that exists is told; its owner goes on unharmed."""
        store.begin("run", started()).result(SECONDS)
        with pytest.raises(JournalConflictError, match="'run'"):
            store.begin("run", started(crew="other")).result(SECONDS)
        store.append("run", [moved(2)]).result(SECONDS)
        assert list(store.read("run")) == [started(), moved(2)]

    def test_two_beginnings_at_once_give_one_run(self, store: Store) -> None:
        """Of beginnings that nobody waited for in between, the first counts."""
        futures = [store.begin("run", started(crew=str(i))) for i in range(3)]
        _wait(futures)
        assert [type(future.exception()) for future in futures] == [type(None)] + [JournalConflictError] * 2
        assert list(store.read("run")) == [started(crew="0")]

    @pytest.mark.parametrize("seq", [1, 2, 3])
    def test_a_number_that_is_used_is_a_conflict(self, store: Store, seq: int) -> None:
        """A number at or below the last one was written by someone else, or twice."""
        store.begin("run", started())
        store.append("run", [moved(2), moved(3)]).result(SECONDS)
        with pytest.raises(JournalConflictError, match="'run'"):
            store.append("run", [moved(seq)]).result(SECONDS)

    def test_a_batch_is_written_whole_or_not_at_all(self, store: Store) -> None:
        """Where one of its events is a conflict, none of a batch is kept."""
        store.begin("run", started()).result(SECONDS)
        with pytest.raises(JournalConflictError):
            store.append("run", [moved(2), moved(3), moved(3)]).result(SECONDS)
        assert list(store.read("run")) == [started()]

    def test_after_a_failed_append_a_run_takes_no_more(self, store: Store) -> None:
        """A journal has no holes: what follows a failure fails too, whether it was waited for or not."""
        store.begin("run", started())
        futures = [store.append("run", [moved(seq)]) for seq in (2, 2, 3, 4)]
        _wait(futures)
        assert futures[0].exception() is None
        assert all(isinstance(future.exception(), StoreError) for future in futures[1:])
        with pytest.raises(StoreError, match="no more events"):
            store.append("run", [moved(5)]).result(SECONDS)
        assert list(store.read("run")) == [started(), moved(2)]

    def test_a_failed_run_leaves_the_others_alone(self, store: Store) -> None:
        """Conflicts of one run, in the same breath as appends of others, fail that run only."""
        runs = [f"run{i}" for i in range(8)]
        futures = [store.begin(run, started()) for run in runs]
        clash = store.begin("run3", started())
        futures += [store.append(run, [moved(2)]) for run in runs]
        twice = store.append("run5", [moved(2)])
        futures += [store.append(run, [moved(3)]) for run in runs if run != "run5"]
        _wait([*futures, clash, twice])
        assert isinstance(clash.exception(), JournalConflictError)
        assert isinstance(twice.exception(), JournalConflictError)
        assert [future.exception() for future in futures] == [None] * len(futures)
        assert [len(list(store.read(run))) for run in runs] == [3, 3, 3, 3, 3, 2, 3, 3]

    def test_a_run_that_was_never_begun_takes_nothing(self, store: Store) -> None:
        """An append to an unknown run fails, and does not make one."""
        with pytest.raises(StoreError, match="'ghost'"):
            store.append("ghost", [moved(1)]).result(SECONDS)
        with pytest.raises(StoreError, match="'ghost'"):
            list(store.read("ghost"))

    def test_a_run_that_is_still_written_can_be_read(self, store: Store) -> None:
        """A reader that began before an append sees a prefix; one that begins after it sees it."""
        store.begin("run", started())
        store.append("run", [moved(i) for i in range(2, 1000)]).result(SECONDS)
        reader = iter(store.read("run"))
        seen = [next(reader)]
        store.append("run", [moved(1000)]).result(SECONDS)
        seen += reader
        assert [event.seq for event in seen] == list(range(1, len(seen) + 1))
        assert len(seen) in (999, 1000)
        assert len(list(store.read("run"))) == 1000

    def test_a_reader_that_stops_half_way_blocks_nobody(self, store: Store) -> None:
        """With an unfinished reader about, the run goes on."""
        store.begin("run", started())
        store.append("run", [moved(i) for i in range(2, 1000)])
        store.append("run", []).result(SECONDS)
        reader = iter(store.read("run"))
        next(reader)
        for i in range(1000, 1100):
            store.append("run", [moved(i)]).result(SECONDS)
        assert next(reader) == moved(2)

    def test_a_run_that_does_not_exist_can_not_be_read(self, store: Store) -> None:
        """The error names the run."""
        with pytest.raises(StoreError, match="'nobody'"):
            list(store.read("nobody"))

    def test_runs_are_listed_the_newest_first(self, store: Store) -> None:
        """By the time they started, then by the order in which they were begun."""
        for run, at in (("b", 2.0), ("a", 1.0), ("c", 3.0), ("d", 3.0)):
            store.begin(run, started(at=at, crew=f"crew {run}")).result(SECONDS)
        assert [run.run_id for run in store.runs()] == ["d", "c", "b", "a"]
        assert [run.run_id for run in store.runs(limit=2)] == ["d", "c"]
        assert list(store.runs(limit=0)) == []
        assert store.runs()[-1].crew == "crew a"

    def test_the_list_of_runs_tells_how_each_ended(self, store: Store) -> None:
        """It is running until its RunEnded is there, then that event's status and time."""
        store.begin("run", started(at=5.0)).result(SECONDS)
        (run,) = store.runs()
        assert (run.started, run.ended, run.status) == (5.0, None, "running")
        store.append("run", [moved(2), ended(3, at=7.5), moved(4)]).result(SECONDS)
        (run,) = store.runs()
        assert (run.started, run.ended, run.status) == (5.0, 7.5, "done")

    def test_a_prefix_finds_its_run(self, store: Store) -> None:
        """One match is found; none and several are errors that say so; an exact id wins over longer ones."""
        for run in ("abc", "abd", "abd-2", "x%_*?[", "🧵1"):
            store.begin(run, started()).result(SECONDS)
        assert store.find("abc") == "abc"
        assert store.find("abd") == "abd"
        assert store.find("abd-") == "abd-2"
        assert store.find("x%") == "x%_*?["
        assert store.find("🧵") == "🧵1"
        with pytest.raises(StoreError, match=r"several.*abc.*abd"):
            store.find("ab")
        for nothing in ("b", "%", "abc_", "ABC", "\ud800"):
            with pytest.raises(StoreError, match="no run"):
                store.find(nothing)

    def test_threads_may_share_a_store(self, store: Store) -> None:
        """Runs written from several threads at once are whole, each in its order."""
        problems: list[BaseException] = []

        def write(run: str) -> None:
            try:
                store.begin(run, started())
                futures = [store.append(run, [moved(i)]) for i in range(2, 60)]
                futures[-1].result(SECONDS)
                assert [event.seq for event in store.read(run)] == list(range(1, 60))
            except BaseException as error:  # noqa: BLE001 - handed over to the test's own thread
                problems.append(error)

        threads = [threading.Thread(target=write, args=(f"run{i}",)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        assert problems == []

    def test_closing_twice_is_closing_once(self, store: Store) -> None:
        """Everything appended before is written; everything after is refused, without waiting."""
        futures = [store.begin("run", started()), *(store.append("run", [moved(i)]) for i in range(2, 100))]
        store.close()
        store.close()
        assert [future.exception(0) for future in futures] == [None] * len(futures)
        with pytest.raises(StoreError, match="closed"):
            store.append("run", [moved(100)]).result(0)
        with pytest.raises(StoreError, match="closed"):
            store.begin("other", started()).result(0)

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    @given(
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.booleans(), st.booleans()), min_size=1, max_size=30)
    )
    def test_every_interleaving_leaves_each_run_its_own_events(self, steps: list[tuple[int, int, bool, bool]]) -> None:
        """Runs appended to in any order, some with conflicts: each keeps what its good futures promised, no more."""
        with tempfile.TemporaryDirectory() as folder:
            store = self.make_store(Path(folder))
            promised: dict[str, list[Event]] = {}
            broken: set[str] = set()
            futures = {run: [store.begin(run, started())] for run in ("run0", "run1", "run2", "run3")}
            for number, size, repeat, hurry in steps:
                run = f"run{number}"
                written = promised.setdefault(run, [])
                first = 1 + len(written) + (0 if repeat and size else 1)
                events: list[Event] = [moved(seq) for seq in range(first, first + size)]
                future = store.append(run, events)
                futures[run].append(future)
                if repeat and size:
                    broken.add(run)
                if run not in broken:
                    written += events
                if not hurry:
                    _wait([future])
            _wait([future for each in futures.values() for future in each])
            for run, each in futures.items():
                assert list(store.read(run)) == [started(), *promised.get(run, [])]
                assert any(future.exception() for future in each) == (run in broken)
            store.close()


def _wait(flushes: Iterable[Flushed]) -> None:
    for flush in flushes:
        flush.exception(SECONDS)
