"""The future of a commit: whoever adds a callback while it is finished is called, and once."""

from __future__ import annotations

import threading

import pytest

from crew_guard.errors import StoreError
from crew_guard.store.flush import ON_DISK, Flush, failed


def test_callbacks_are_called_once_however_the_two_threads_meet():
    """One thread finishes it while another adds callbacks: each is called exactly once."""
    for _ in range(300):
        flush, called, start = Flush(), [], threading.Barrier(2)

        def finish(flush=flush, start=start):
            start.wait(30)
            flush.finish()

        thread = threading.Thread(target=finish)
        thread.start()
        start.wait(30)
        for number in range(20):
            flush.add_done_callback(lambda _, number=number, called=called: called.append(number))
        thread.join(30)
        assert sorted(called) == list(range(20))


def test_waiting_ends_when_it_is_done_and_tells_how():
    """From a thread that waits already, and from one that comes later."""
    flush, seen = Flush(), []
    thread = threading.Thread(target=lambda: seen.append(flush.exception(30)))
    thread.start()
    error = StoreError("the disk is full")
    flush.finish(error)
    thread.join(30)
    assert seen == [error]
    assert flush.done()
    with pytest.raises(StoreError, match="full"):
        flush.result()
    with pytest.raises(StoreError, match="full"):
        failed(error).result(0)


def test_what_is_not_done_in_time_says_so():
    """It is neither good nor bad yet."""
    with pytest.raises(TimeoutError):
        Flush().result(0)
    assert ON_DISK.result(0) is None
