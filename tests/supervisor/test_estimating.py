"""The estimator: what a provider bills beyond the count is reserved from the next call on."""

from __future__ import annotations

import asyncio
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task, tool
from crew_guard.core.usage import NOTHING
from crew_guard.supervisor.estimating import Estimator
from crew_guard.testing import MemoryStore, Reply, ScriptedModel


@tool
async def look(query: str) -> str:
    """Look it up."""
    return "found " + query * 40


def talkative(model_share: float) -> ScriptedModel:
    """Always wants a tool, and bills its prompt this much higher than it was counted."""

    def answer(request):
        billed = math.ceil(request.prompt_tokens * model_share)
        return Reply(tools=(("look", '{"query": "x"}'),), prompt_tokens=billed, tokens=100)

    return ScriptedModel(answer)


def crew(agents: int = 1) -> Crew:
    """Agents that go on until they are stopped."""
    return Crew([Agent(Role(name=f"a{i}", goal="go"), (look,)) for i in range(agents)], [Task("go", agent="a0")])


def capped(tokens: int) -> Policy:
    """A policy with nothing but a cap on tokens."""
    return Policy.model_validate({"limits": {"max_tokens": tokens}, "completion_default": 300, "completion_min": 50})


@settings(max_examples=25, deadline=None)
@given(st.integers(2_000, 40_000), st.sampled_from([1.1, 1.33, 1.9]))
def test_an_estimate_that_is_too_low_is_never_over_from_the_second_call_on(tokens: int, share: float):
    """Whatever the cap: the first call teaches the margin, and everything after stays below."""
    supervisor = Supervisor(capped(tokens), model=talkative(share), store=MemoryStore())
    result = supervisor.run(crew())
    assert result.stopped is not None
    assert result.usage.tokens <= tokens
    assert result.usage.steps > 1
    again = supervisor.run(crew())
    assert again.overshoot == NOTHING
    assert again.usage.tokens <= tokens


def test_what_one_run_taught_holds_for_many_at_once():
    """Eight runs at the same time, after one that taught the margin: none has an overshoot."""
    supervisor = Supervisor(capped(9_001), model=talkative(1.1), store=MemoryStore())
    supervisor.run(crew())

    async def many():
        return await asyncio.gather(*(supervisor.arun(crew()) for _ in range(8)))

    assert [result.overshoot for result in asyncio.run(many())] == [NOTHING] * 8


def test_a_count_that_holds_needs_no_margin():
    """A provider that bills less than was counted changes nothing, and a margin never lowers an estimate."""
    estimator = Estimator()
    for billed in (10, 50, 100):
        estimator.observe("m", 100, billed)
    assert estimator.margin("m") == 1.0
    assert estimator.bound("m", 77) == 77
    estimator.observe("m", 100, 110)
    assert estimator.bound("m", 1_000) > 1_100
    for _ in range(500):
        estimator.observe("m", 100, 20)
    assert estimator.margin("m") == 1.0


@given(st.lists(st.integers(1, 5_000), min_size=1, max_size=50), st.floats(1.0, 3.0), st.integers(1, 10**6))
def test_a_steady_error_is_covered_at_any_length(lengths: list[int], share: float, next_length: int):
    """However the provider rounds: the bound is at least what it bills for the next prompt."""
    estimator = Estimator()
    for length in lengths:
        estimator.observe("m", length, math.floor(length * share))
    if estimator.margin("m") > 1.0:
        assert estimator.bound("m", next_length) >= math.floor(next_length * share)


def test_models_have_margins_of_their_own():
    """One model's provider says nothing about another's."""
    estimator = Estimator()
    estimator.observe("one", 100, 200)
    assert estimator.margin("one") > 2
    assert estimator.margin("two") == 1.0
