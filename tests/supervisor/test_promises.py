"""A run's future: what is told of its end can't keep the others from being told."""

from __future__ import annotations

import threading

import pytest
from loguru import logger

from crew_guard.promises import Promise


@pytest.fixture
def logged():
    """What is logged, as texts."""
    lines: list[str] = []
    logger.enable("crew_guard")
    sink = logger.add(lambda message: lines.append(str(message)), level="ERROR")
    yield lines
    logger.remove(sink)
    logger.disable("crew_guard")


def fails(_done: object) -> None:
    raise ZeroDivisionError


def test_whoever_raises_when_told_keeps_nobody_else_from_being_told(logged: list[str]):
    """Neither those after it, nor the thread that keeps the promise; the log has the error."""
    promise, told = Promise[int](), []
    promise.add_done_callback(fails)
    promise.add_done_callback(told.append)
    promise.set_result(7)
    promise.add_done_callback(fails)
    assert told == [promise]
    assert len(logged) == 2
    assert "ZeroDivisionError" in logged[0]


def test_a_value_and_an_error_come_to_a_thread_that_waits():
    """result() gives the one and raises the other; None is a value, too."""
    for keep, wanted in ((lambda one: one.set_result(None), None), (lambda one: one.set_result("x"), "x")):
        promise, seen = Promise(), []
        thread = threading.Thread(target=lambda seen=seen, promise=promise: seen.append(promise.result(30)))
        thread.start()
        keep(promise)
        thread.join(30)
        assert seen == [wanted]
        assert promise.exception() is None
    broken = Promise[int]()
    broken.set_exception(KeyError("no"))
    with pytest.raises(KeyError):
        broken.result()
    with pytest.raises(TimeoutError):
        Promise[int]().result(0)


def test_a_wait_that_ended_too_soon_leaves_nothing_behind():
    """A thread may ask twice a second for a day."""
    promise = Promise[int]()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            promise.result(0)
    promise.add_done_callback(fails)
    assert promise._callbacks == [fails]
