"""Progress: lines where nobody watches, a live view on a terminal."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import textwrap

import pytest

from crew_guard.core.events import Admitted, Event, RunEnded, RunStarted, Settled
from crew_guard.core.limits import NO_CAP, Caps
from crew_guard.core.usage import Usage
from crew_guard.observers import Progress

CAPS = Caps(NO_CAP, 25, NO_CAP, 20_000, 100_000_000)


def run_of(at: float = 100.0) -> list[Event]:
    return [
        RunStarted(1, at, "research", "native", "p", {}, CAPS, CAPS, 60.0, None, ("writer",)),
        Admitted(2, at, "a1", "model_call", "writer", "embedded:smollm2", "crew", Usage(1, 0, 10, 10)),
        Settled(3, at + 1, "a1", "ok", Usage(1, 0, 4_000, 8, 30_000_000), 1.0, text="[bold]hi[/bold]"),
        RunEnded(4, at + 2, "done", "crew"),
    ]


def test_a_stream_that_is_no_terminal_gets_a_line_a_step():
    """Plain lines, no escapes, in the order of events."""
    stream = io.StringIO()
    progress = Progress(stream)
    for event in run_of():
        progress("r1", event)
    lines = stream.getvalue().splitlines()
    assert [line.split("s ", 1)[1].split()[0] for line in lines] == ["research", "writer", "research"]
    assert "\x1b" not in stream.getvalue()
    assert progress.run_id == "r1"


def test_a_stream_that_cannot_encode_or_is_gone_ends_nothing():
    """ASCII terminals get question marks; a closed pipe gets silence."""
    raw = io.BytesIO()
    progress = Progress(io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    progress("r", run_of()[0])
    progress("r", run_of()[1])
    progress("r", run_of()[2])
    assert b"think ? answer" in raw.getvalue()
    closed = io.StringIO()
    closed.close()
    progress = Progress(closed, live=False)
    for event in run_of():
        progress("r", event)


def test_the_live_view_shows_agents_and_budgets_and_goes_away():
    """Who asks what, bars against caps, money and time; nothing of it is left at the end."""
    stream = io.StringIO()
    with Progress(stream, live=True, now=lambda: 103.0) as progress:
        for event in run_of()[:2]:
            progress("r1", event)
        progress._view.refresh()
        drawn = stream.getvalue()
        assert "asks embedded:smollm2" in drawn
        assert "0 of 25" in drawn
        progress("r1", run_of()[2])
        progress._view.refresh()
        drawn = stream.getvalue()
        assert "4,008 of 20,000" in drawn
        assert "$0.03 of $0.10" in drawn
        assert "3.0s of 60s" in drawn
        progress("r1", run_of()[3])
        assert progress._view is None
    assert stream.getvalue().endswith("\x1b[2K")


def test_an_exception_takes_the_view_down():
    """The cursor is shown again whatever ended the run."""
    stream = io.StringIO()
    progress = Progress(stream, live=True)

    def interrupted():
        with progress:
            progress("r1", run_of()[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert progress._view is None
    assert stream.getvalue().count("\x1b[?25l") == stream.getvalue().count("\x1b[?25h") == 1


def test_on_a_real_terminal_the_view_is_on_stderr_alone():
    """With stderr on a terminal and stdout on a pipe, prints of a tool don't reach stdout's reader broken."""
    code = """
        from test_progress import run_of
        from crew_guard.observers import Progress
        import time
        with Progress() as progress:
            for event in run_of(time.time())[:3]:
                progress("r1", event)
            progress._view.refresh()
        print("the answer")
    """
    master, slave = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "PYTHONPATH": f"{os.getcwd()}{os.pathsep}{os.path.dirname(__file__)}"}  # noqa: PTH109, PTH120 - plain strings for the environment
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stderr=slave, env=env, check=True
    )
    os.close(slave)
    drawn = os.read(master, 100_000).decode()
    os.close(master)
    assert done.stdout == b"the answer\n"
    assert "embedded:smollm2" in drawn
    assert "━" in drawn
