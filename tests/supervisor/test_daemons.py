"""The pool of threads of our own loops: it serves as asyncio's own does, and keeps Python from nothing."""

import asyncio
import subprocess
import sys
import threading
from contextvars import ContextVar
from pathlib import Path

import pytest

from crew_guard import daemons
from crew_guard.daemons import DaemonExecutor
from crew_guard.supervisor.loop import engine_loop

SECONDS = 30
var: ContextVar[str] = ContextVar("var", default="none")
EXITS = """
import threading
from crew_guard.supervisor.loop import engine_loop

async def stuck():
    loop, begun = engine_loop().loop, threading.Event()
    loop.run_in_executor(None, lambda: (begun.set(), threading.Event().wait()))
    await loop.run_in_executor(None, begun.wait)

engine_loop().submit(stuck()).result(20)
print("over")
"""


def test_what_is_called_comes_back_or_raises():
    """From a thread of the pool, a free one before another."""
    pool = DaemonExecutor()
    first = pool.submit(threading.current_thread).result(SECONDS)
    assert first.daemon
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda: 1 // 0).result(SECONDS)
    with pytest.raises(SystemExit):
        pool.submit(sys.exit).result(SECONDS)
    assert pool.submit(lambda a, *, b: a + b, 1, b=2).result(SECONDS) == 3
    assert pool._begun <= 2


def test_calls_beyond_the_most_threads_wait(monkeypatch: pytest.MonkeyPatch):
    """And may be cancelled there."""
    monkeypatch.setattr(daemons, "_MOST", 6)
    pool, go = DaemonExecutor(), threading.Event()
    calls = [pool.submit(go.wait, SECONDS) for _ in range(20)]
    last = pool.submit(go.wait, SECONDS)
    assert pool._begun == 6
    assert last.cancel()
    go.set()
    assert all(call.result(SECONDS) for call in calls)


def test_threads_that_are_stuck_hold_up_no_other_call():
    """As many as a machine has cores for, and more: those of runs that have ended, say."""
    pool, go = DaemonExecutor(), threading.Event()
    for _ in range(40):
        pool.submit(go.wait, SECONDS)
    assert pool.submit(int, "7").result(SECONDS) == 7
    go.set()


def test_a_call_has_the_context_of_who_submits_it():
    """And leaves it as it was, for the thread's next call."""
    pool = DaemonExecutor()
    token = var.set("mine")
    assert pool.submit(lambda: (var.get(), var.set("changed"))[0]).result(SECONDS) == "mine"
    var.reset(token)
    assert pool.submit(var.get).result(SECONDS) == "none"


def test_the_engines_loop_calls_on_daemons():
    """Whatever a host hands to the loop's own pool."""

    async def daemons():
        return (await asyncio.to_thread(threading.current_thread)).daemon

    assert engine_loop().submit(daemons()).result(SECONDS)


def test_a_stuck_function_does_not_keep_python_from_exiting():
    """Its thread ends with the process."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", EXITS], capture_output=True, text=True, timeout=60, cwd=root, check=True
    )
    assert done.stdout == "over\n"
