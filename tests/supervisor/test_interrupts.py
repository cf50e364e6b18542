"""Ctrl-C at any moment of a wait: it comes out, and whoever is waited for is never held up by what it left behind."""

import sys
import threading
from collections.abc import Callable
from types import FrameType

import pytest

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task
from crew_guard.core.stream import TextDelta
from crew_guard.promises import Promise
from crew_guard.supervisor import running
from crew_guard.supervisor.buffer import Buffer
from crew_guard.testing import MemoryStore, Reply, ScriptedModel
from crew_guard.testing.crews import never

MOST = 60
"""More moments than a wait has."""


def interrupted(moment: int, work: Callable[[], object]) -> bool:
    """Do this with a KeyboardInterrupt where Python heeds one, at this moment of it; whether there is such a moment."""
    seen = 0
    raised = False

    def heeded(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal seen, raised
        if event in ("call", "c_return"):  # where a function begins, and after one of C's
            seen += 1
            if seen == moment:
                raised = True
                raise KeyboardInterrupt

    before = sys.getprofile()
    try:
        sys.setprofile(heeded)
        work()
    except (KeyboardInterrupt, TimeoutError):
        pass
    finally:
        sys.setprofile(before)
    return raised


def ends(work: Callable[[], object]) -> bool:
    """Whether another thread does this, and isn't held up."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(10)
    return not thread.is_alive()


def test_a_promise_is_kept_whenever_its_waiter_was_interrupted() -> None:
    """And the next one who waits has what it is worth."""
    moments = 0
    for moment in range(1, MOST):
        promise: Promise[int] = Promise()
        moments += interrupted(moment, lambda promise=promise: promise.result(0.0))
        assert ends(lambda promise=promise: promise.set_result(7)), moment
        assert promise.result(0) == 7
    assert 5 < moments < MOST - 1


def test_a_stream_is_fed_whenever_its_reader_was_interrupted() -> None:
    """The run behind it, and with it all others, would hang."""
    moments = 0
    for moment in range(1, MOST):
        buffer = Buffer()
        moments += interrupted(moment, lambda buffer=buffer: (buffer.wait(0.0), buffer.take()))
        assert ends(lambda buffer=buffer: buffer.put(TextDelta("ann", "go", "a1", 1, "x"))), moment
        assert isinstance(buffer.take(), TextDelta)
    assert 5 < moments < MOST - 1


def test_who_leaves_a_stream_is_not_held_up_by_the_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that hangs holds its lock: the reader goes its way, and the run ends when it can."""
    monkeypatch.setattr(running, "_TIDY", 0.01)
    crew = Crew([Agent(Role(name="ann", goal="work"))], [Task("go")])
    supervisor = Supervisor(Policy(), model=ScriptedModel([Reply("late", wait=never)]), store=MemoryStore())
    stream = supervisor.stream(crew)
    for item in stream:
        if getattr(item, "kind", "") == "model_call":
            break
    gate = stream._reader.running.life.gate
    with gate._lock:
        assert ends(stream.close)
    assert stream._reader.running.wait().status == "stopped"
