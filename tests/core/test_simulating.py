"""Playing the ways: the same figures for the same seed, beside the arithmetic, and apart from it where it is wrong."""

from __future__ import annotations

import random
from typing import Any

import pytest

from crew_guard.core.reliability.jobs import STEEPEST, JobDescription
from crew_guard.core.reliability.simulating import Simulation, Waits, simulate, success_of
from crew_guard.core.reliability.ways import Time

RUNS = 20_000


def described(**more: Any) -> JobDescription:
    steps = (
        {"name": "read", "deterministic": True, "reliability": 0.97, "usd": "0.02", "seconds": 1.0},
        {"name": "weigh", "judgement": True, "reliability": 0.9, "usd": "0.5", "seconds": 20.0, "seconds_p95": 50.0},
        {"name": "write", "model": True, "judgement": False, "reliability": 0.95, "usd": "0.1", "seconds": 5.0},
        {"name": "send", "deterministic": True, "reliability": 1.0, "usd": "0", "seconds": 0.0},
    )
    crew = {"agents": 3, "reliability": 0.85, "usd": "3", "seconds": 60.0, "caught": 0.6}
    return JobDescription.model_validate({"name": "test", "steps": steps, "crew": crew, **more})


def played(runs: int = RUNS, seed: int = 3, **more: Any) -> Simulation:
    return simulate(described(**more), runs, random.Random(seed))


def test_the_same_seed_gives_the_same_figures() -> None:
    """And another one gives others."""
    assert played(500).played == played(500).played
    assert played(500).played != played(500, seed=4).played


def test_every_way_agrees_with_the_arithmetic() -> None:
    """Success, cost and mean time of each, within the simulation's own error."""
    approval = {"who": "Ann", "before": "send", "catches": 0.7}
    found = played(approval=approval)
    assert {one.way for one in found.played} == {"hybrid", "agent_loop", "crew", "crew_with_fallback"}
    for one in found.played:
        assert one.success.value == pytest.approx(one.success.arithmetic, abs=0.012)
        assert one.usd is not None
        assert one.usd.value == pytest.approx(one.usd.arithmetic, rel=0.01)
        assert one.latency is not None
        assert one.latency.mean.value == pytest.approx(one.latency.mean.arithmetic, rel=0.02)
        assert one.latency.p50 < one.latency.p95 < one.latency.p99


def test_wrong_arithmetic_would_show() -> None:
    """A figure that is off by two points lies outside the interval."""
    success = played().played[0].success
    assert success.agrees
    assert not success._replace(arithmetic=success.arithmetic + 0.02).agrees


def test_of_intervals_most_hold_the_truth() -> None:
    """At least 93 % of 200 simulations of 400 tasks: 95 % is what they say."""
    inside = sum(played(400, seed=seed).played[0].success.agrees for seed in range(200))
    assert inside >= 186


@pytest.mark.parametrize("p95", [None, 10.0, 15.0, 25.0, 10.0 * STEEPEST])
def test_times_have_the_average_and_the_late_point_that_were_said(p95: float | None) -> None:
    """Of 40,000 draws: the mean within 5 %, and 5 % of them above the 95 % point."""
    draws = random.Random(1)
    waits = Waits([Time(10.0, p95)])
    found = [waits.draw(draws) for _ in range(40_000)]
    assert sum(found) / len(found) == pytest.approx(10.0, rel=0.05)
    if p95 is not None:
        late = sum(one > p95 * (1 + 1e-9) for one in found) / len(found)
        assert late == pytest.approx(0.0 if p95 == 10.0 else 0.05, abs=0.006)


def test_what_is_unknown_is_left_out_and_said() -> None:
    """A way with a step of unknown reliability is not played; unknown times and costs are none."""
    base = described()
    steps = (*base.steps[:2], base.steps[2].model_copy(update={"reliability": None, "seconds": None}), base.steps[3])
    found = simulate(base.model_copy(update={"steps": steps}), 100, random.Random(1))
    assert found.left_out == ("hybrid: the reliability of write is unknown",)
    crew = next(one for one in found.played if one.way == "crew")
    assert crew.latency is not None


def test_progress_is_told_to_the_end() -> None:
    """Rising, and at last all of them."""
    told: list[tuple[int, int]] = []
    simulate(described(), 5_000, random.Random(1), lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == (5_000, 5_000)
    assert len(told) > 1


def test_no_runs_are_refused() -> None:
    """Nothing can be said of none."""
    with pytest.raises(ValueError, match="at least 1"):
        played(0)


def test_a_rate_of_one_has_an_interval_below_it() -> None:
    """Ten of ten proves no certainty."""
    figure = success_of(10, 10, 1.0)
    assert figure.interval.lower < 0.75


def test_what_was_measured_end_to_end_is_played_as_such() -> None:
    """The crew alone and behind its fallback: the simulation agrees with an arithmetic that is no product."""
    steps = tuple({"name": name, "judgement": True, "reliability": 0.99, "usd": 1} for name in ("find", "write"))
    crew = {"agents": 2, "reliability": 0.95, "usd": 2, "caught": 0.5, "measured": {"tasks": 100, "good": 70}}
    job = JobDescription.model_validate({"name": "job", "steps": steps, "crew": crew})
    played = simulate(job, 20_000, random.Random(1)).played
    alone = next(one for one in played if one.way == "crew")
    assert (alone.success.arithmetic, alone.success.agrees) == (0.7, True)
    behind = next(one for one in played if one.way == "crew_with_fallback")
    assert behind.success.arithmetic == pytest.approx(0.7 + 0.3 * 0.5 * 0.99**2)
    assert behind.success.agrees
