"""A workflow by itself that repeats: retries, loops, votes and work on several items are counted as often as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest

from crew_guard import Policy, Supervisor, chain, node, refine, retry, vote
from crew_guard.core.reliability.structure import Chain, Leaf, Retry
from crew_guard.testing import MemoryStore
from crew_guard.workflows.graph import Workflow

RUNS = 150


def lucky(rng: Random, rate: float) -> Callable[[Any], bool]:
    return lambda _: rng.random() < rate


def draft(value: Any) -> str:
    return f"about {value}"


def review(value: Any) -> bool:
    return True


def ran(flow: Workflow, runs: int = RUNS) -> tuple[Any, Any]:
    """What is known after the last of these runs, and the record."""
    store = MemoryStore()
    supervisor = Supervisor(Policy.model_validate({"reliability": {"threshold": 0.85}}), store=store)
    for _ in range(runs):
        result = supervisor.run(flow, {"topic": "x"})
    return result.reliability, store.track_record()


def retried(rng: Random) -> Workflow:
    return chain(retry(node(draft, verify=lucky(rng, 0.5)), times=2, first=0), name="job")


def refined(rng: Random) -> Workflow:
    return refine(node(draft, verify=lucky(rng, 0.8)), node(review, verify=lambda _: True), name="job")


def ahead(rng: Random) -> Workflow:
    return vote(node(draft, verify=lucky(rng, 0.9)), ahead_by=2, name="job")


@pytest.mark.parametrize(
    ("flow", "planned", "counted", "truth"),
    [
        (retried, Retry(Leaf("draft"), 2), Leaf("draft"), 0.875),
        (refined, Retry(Chain((Leaf("draft"), Leaf("review"))), 2), Chain((Leaf("draft"), Leaf("review"))), 0.8),
        (ahead, None, Leaf("draft"), 0.81),
    ],
)
def test_what_is_tried_again_is_counted_once(flow, planned, counted, truth):
    """A leaf's trial is what its attempts came to, so its rate isn't raised by them again: the bound is no false one."""
    made = flow(Random(1))
    known, track = ran(made)
    assert planned in (None, made.structure())
    assert track.terms("job").structure == counted
    assert known.estimate == pytest.approx(known.measured, abs=0.02)
    assert known.lower < truth
