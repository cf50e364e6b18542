"""What a later verdict changes of a record, and what it leaves, in memory and in a file."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from crew_guard.core.reliability.counts import Counts
from crew_guard.store.memory import MemoryStore
from crew_guard.store.sqlite import SqliteStore
from crew_guard.testing.track_record_contract import TERMS, WRITER, report, trial


@pytest.fixture(params=["memory", "file"])
def track(request, tmp_path):
    store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "journal.db")
    yield store.track_record()
    store.close()


def test_a_later_verdict_leaves_the_confidence_of_its_subject(track):
    """It stays that of the run that added to the subject last, whichever run is judged."""
    track.add(report("a", trial()), TERMS)
    track.add(report("b", trial(), crew="other"), replace(TERMS, confidence=0.5))
    track.outcome("a", 0.0, agent="writer")
    assert track.counts([WRITER]) == {WRITER: Counts(2, 1.0)}
    assert track.confidences() == {WRITER: 0.5}


@pytest.mark.parametrize("agent", ["writer", None])
def test_a_later_verdict_on_a_run_from_before_the_breaker_opened_is_no_probe(track, agent):
    """It counts, and tests nothing; one on a run since then does."""
    for number in range(40):
        opened = track.add(report(f"r{number}", trial(grade=0.0), outcome=0.0, at=100.0 + number), TERMS)
    assert opened.breaker.state == "open"
    assert {*opened.breaker.tests} == {*opened.streams}
    record = track.outcome("r0", 1.0, agent=agent)
    assert record.breaker == opened.breaker
    assert record.streams != opened.streams
    assert track.outcome("r39", 1.0, agent=agent).breaker != opened.breaker
