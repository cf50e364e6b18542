"""A crew whose reliability drops, played through the detectors and the breaker of real runs."""

from __future__ import annotations

import random
from typing import Any

import pytest

from crew_guard.core.reliability.dropping import LEAST_HISTORIES, Watched, tasks_of
from crew_guard.core.reliability.jobs import JobDescription
from crew_guard.core.reliability.simulating import simulate


def described(**drop: Any) -> JobDescription:
    """A crew of three at 0.97 each, a workflow at 0.93 that takes over."""
    steps = tuple(
        {"name": name, "model": True, "judgement": False, "reliability": right, "usd": "0.1", "seconds": 1.0}
        for name, right in (("read", 1.0), ("weigh", 0.93), ("write", 1.0))
    )
    crew = {"agents": 3, "reliability": 0.97, "usd": "2", "seconds": 5.0}
    told = {"step": "weigh", "to": 0.5, "after": 300, "lasts": 400, **drop}
    return JobDescription.model_validate({"name": "test", "steps": steps, "crew": crew, "drop": told})


def watch(**drop: Any) -> Watched:
    found = simulate(described(**drop), 1, random.Random(11)).watched
    assert found is not None
    return found


def test_a_steep_drop_is_seen_soon_its_step_is_named_and_the_workflow_takes_over() -> None:
    """Within 20 tasks on average, mostly by the step's name, and most of what an oracle saves is saved."""
    found = watch()
    assert found.histories == LEAST_HISTORIES
    assert found.tasks == tasks_of(described().drop)  # type: ignore[arg-type]
    assert found.seen == 1
    assert found.delay is not None
    assert found.delay <= 20
    assert found.delay_interval is not None
    assert found.delay_interval.lower < found.delay < found.delay_interval.upper
    assert found.culprit is not None
    # Else it is the crew's outcomes that give the alarm: no other step is ever named.
    assert found.culprit >= 0.75
    assert found.unwatched + 0.8 * (found.oracle - found.unwatched) < found.success <= found.oracle + 0.01


def test_a_smaller_drop_takes_longer() -> None:
    """The figures of the two differ in the direction that they must."""
    steep, small = watch(), watch(to=0.8)
    assert small.delay is not None
    assert steep.delay is not None
    assert small.delay > steep.delay


def test_no_drop_is_not_seen() -> None:
    """A step that goes on as before opens the breaker in few of the histories."""
    found = watch(to=0.97)
    assert found.seen <= 0.15
    assert found.false_alarms <= 0.15
    assert found.unwatched == pytest.approx(0.97**3)


def test_the_same_seed_gives_the_same_histories() -> None:
    """And progress is told for them, too."""
    told: list[tuple[int, int]] = []
    first = simulate(described(), 1, random.Random(3), lambda done, total: told.append((done, total)))
    assert first == simulate(described(), 1, random.Random(3))
    assert told[-1][0] == told[-1][1] == LEAST_HISTORIES * first.watched.tasks  # type: ignore[union-attr]


def test_without_a_drop_nothing_is_watched() -> None:
    """The job stands as it is."""
    job = described().model_copy(update={"drop": None})
    assert simulate(job, 1, random.Random(3)).watched is None
