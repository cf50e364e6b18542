"""The memory store keeps the contract, and is cheap."""

from __future__ import annotations

from pathlib import Path

from crew_guard.store.memory import MemoryStore
from crew_guard.testing.events import moved, started
from crew_guard.testing.store_contract import StoreContract
from crew_guard.testing.track_record_contract import TrackRecordContract


class TestMemoryStore(StoreContract):
    """The contract."""

    def make_store(self, folder: Path) -> MemoryStore:
        return MemoryStore()


class TestMemoryTrackRecord(TrackRecordContract):
    """What runs have shown."""

    def make_store(self, folder: Path) -> MemoryStore:
        return MemoryStore()


def test_every_good_append_returns_the_same_done_future():
    """Nothing is made for a future that is always done."""
    store = MemoryStore()
    first = store.begin("run", started())
    assert first.done()
    assert all(store.append("run", [moved(seq)]) is first for seq in range(2, 10))


def test_events_are_kept_as_the_objects_they_are():
    """No encoding, no copies."""
    store = MemoryStore()
    event = moved(2)
    store.begin("run", started())
    store.append("run", (event,))
    assert list(store.read("run"))[1] is event
