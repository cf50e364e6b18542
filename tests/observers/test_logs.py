"""Events in loguru."""

from __future__ import annotations

import subprocess
import sys

import pytest
from loguru import logger

from crew_guard.core.decisions import Stop
from crew_guard.core.events import Admitted, Refused, RunEnded, RunStarted
from crew_guard.core.limits import UNCAPPED
from crew_guard.core.usage import Usage
from crew_guard.observers import LogObserver


@pytest.fixture
def records():
    kept = []
    sink = logger.add(lambda message: kept.append(message.record), level=0)
    yield kept
    logger.remove(sink)


def test_events_become_records_with_their_run(records):
    """Refusals and ends at INFO, steps at DEBUG, the rest at TRACE; braces and markup are only text."""
    observer = LogObserver()
    observer("r1", RunStarted(1, 100.0, "c{rew}", "native", "p", {}, UNCAPPED, UNCAPPED))
    observer("r1", Admitted(2, 100.0, "a", "model_call", "w", "m:x", "crew", Usage()))
    observer("r1", Refused(3, 100.0, "b", "tool_call", "w", "<red>{0}</red>", "crew", Stop("denied", "run")))
    observer("r1", RunEnded(4, 101.0, "done", "crew"))
    assert [record["level"].name for record in records] == ["DEBUG", "TRACE", "INFO", "INFO"]
    assert [record["extra"]["event"] for record in records] == ["RunStarted", "Admitted", "Refused", "RunEnded"]
    assert {record["extra"]["run_id"] for record in records} == {"r1"}
    assert records[0]["message"].startswith("c{rew}: starts")
    assert records[2]["message"] == "w: refused <red>{0}</red>: run: denied"


def test_the_lines_come_even_where_the_package_is_disabled(records):
    """Passing the observer asks for its lines; nothing else of the package is switched on."""
    logger.disable("crew_guard")
    try:
        LogObserver()("r1", RunStarted(1, 100.0, "crew", "native", "p", {}, UNCAPPED, UNCAPPED))
    finally:
        logger.enable("crew_guard")
    assert len(records) == 1


def test_importing_says_nothing_and_adds_no_sink():
    """An application's log is its own."""
    count = "len(logger._core.handlers)"
    code = f"from loguru import logger; n = {count}; import crew_guard.observers; assert {count} == n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == done.stderr == b""
