"""What an agent is told of its budget and of its loops, and what the gate says to a loop of any runtime."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from crew_guard import Agent, Crew, Policy, Result, Role, Supervisor, Task, chain, tool
from crew_guard.core.actions import ModelCall, Outcome, ToolCall
from crew_guard.core.usage import Rate, Rates, Usage
from crew_guard.errors import LimitExceededError
from crew_guard.testing import FakeClock, MemoryStore, Reply, ScriptedModel
from tests.supervisor.gates import gate_for

BUDGET = "Of your budget you have left: "


def spend(gate: Any, agent: str = "ann", **usage: int) -> None:
    """One model call that used this much."""

    async def once() -> None:
        prompt = max(1, usage.get("input_tokens", 0))
        grant = await gate.admit(ModelCall(agent, "m", prompt, 10, 1, Rates(Rate(10**9), Rate(10**9))))
        gate.settle(grant, Outcome("ok", Usage(**usage)))

    asyncio.run(once())


def test_an_agent_is_told_once_what_is_left() -> None:
    """When four of five steps are used, and never again; another agent is told for itself."""
    gate = gate_for(limits={"max_steps": 5}, completion_min=1)
    told = []
    for _ in range(5):
        told.append(gate.notices("ann"))
        spend(gate)
    assert told[:4] == [()] * 4
    assert told[4] == (f"{BUDGET}1 of 5 steps. Come to an end: answer with what you have.",)
    assert gate.notices("ann") == ()


@pytest.mark.parametrize(
    ("limits", "used", "said"),
    [
        ({"max_tokens": 1_000}, {"input_tokens": 800}, "200 of 1,000 tokens"),
        ({"max_usd": "0.01"}, {"input_tokens": 8_000}, "$0.002 of $0.01"),
        ({"max_tokens": 1_000, "max_usd": "0.001"}, {"input_tokens": 900}, "100 of 1,000 tokens, $0.0001 of $0.001"),
        ({"max_tokens": 1_001}, {"input_tokens": 800}, None),
        ({"max_steps": 0, "max_tokens": 0}, None, None),
    ],
)
def test_every_limit_is_told_of(limits: Any, used: Any, said: str | None) -> None:
    """In the units of the policy; a cap of 0 is refused, not told."""
    gate = gate_for(limits=limits, completion_min=1)
    if used:
        spend(gate, **used)
    found = gate.notices("ann")
    assert found == () if said is None else said in found[0]


def test_of_several_scopes_the_tightest_is_told() -> None:
    """The agent's own cap of 5 and the run's of 10: one line for steps, and the run's when it is reached."""
    gate = gate_for(limits={"max_steps": 10}, per_agent={"max_steps": 5}, completion_min=1)
    for _ in range(4):
        spend(gate)
    assert "1 of 5 steps" in gate.notices("ann")[0]
    for _ in range(4):
        spend(gate, "bob")
    assert "2 of 10 steps" in gate.notices("ann")[0]
    assert "1 of 5 steps" in gate.notices("bob")[0]


def test_time_that_runs_out_is_told() -> None:
    """At 80 of 100 seconds, once."""
    gate = gate_for(limits={"max_seconds": 100})
    clock = gate.keeper.clock
    assert isinstance(clock, FakeClock)
    spend(gate)
    clock.advance(79)
    assert gate.notices("ann") == ()
    clock.advance(2)
    assert "19 of 100 seconds" in gate.notices("ann")[0]
    assert gate.notices("ann") == ()
    assert gate.remaining("ann").seconds == pytest.approx(19)


def test_a_share_of_1_never_tells() -> None:
    """Nothing is said before all is gone."""
    gate = gate_for(limits={"max_steps": 2}, warn_at=1, completion_min=1)
    spend(gate)
    spend(gate)
    assert gate.notices("ann") == ()


def test_what_remains_is_the_least_of_all_scopes() -> None:
    """Reservations are taken off; what has no cap is huge."""
    gate = gate_for(limits={"max_steps": 9, "max_tokens": 1_000}, agents={"ann": {"max_steps": 3}}, completion_min=1)
    spend(gate, input_tokens=100)

    async def hold() -> None:
        await gate.admit(ModelCall("bob", "m", 100, 100))

    asyncio.run(hold())
    left = gate.remaining("ann")
    assert (left.steps, left.tokens, left.seconds) == (2, 700, None)
    assert left.tool_calls > 10**15


ROLE = Role(name="ann", goal="Work")


@tool
def look(query: str) -> str:
    """Look."""
    return "nothing"


def run(script: Any, fallback: Any = None, **policy: Any) -> tuple[Result, ScriptedModel]:
    model = ScriptedModel(script)
    crew = Crew([Agent(ROLE, (look,))], [Task("Work")], fallback=fallback)
    return Supervisor(Policy.model_validate(policy), model=model, store=MemoryStore()).run(crew), model


def looks(count: int) -> list[Any]:
    return [*[Reply(tools=(("look", '{"query": "x"}'),)) for _ in range(count)], "done"]


def test_the_warning_stands_in_the_prompt_and_its_tokens_are_counted() -> None:
    """After the tool's result, before the next answer; what is billed is what is charged."""
    result, model = run(looks(3), limits={"max_steps": 5}, warn_at=0.4)
    assert result.output == "done"
    assert [BUDGET in call.messages[-1].text for call in model.calls] == [False, False, True, False]
    assert model.calls[2].messages[-1].speaker == "user"
    assert result.usage.tokens == model.billed.tokens


def test_a_loop_is_told_to_the_agent_which_may_go_on() -> None:
    """After the fifth look; it does something else, and the run is done."""
    result, model = run(looks(5))
    assert result.output == "done"
    assert model.calls[5].messages[-1].text == (
        "You go in circles: the same call with the same result, 5 times. "
        "Do something else, or answer with what you have."
    )


def test_a_loop_that_goes_on_is_refused_and_then_stopped() -> None:
    """Ten executions, no more; then the agent's stop says which rule it was, and the fallback does the job."""
    result, model = run(looks(40))
    assert (result.status, result.usage.tool_calls, result.usage.steps) == ("stopped", 10, 16)
    assert "look was refused: loops.same_call of tool:look: the cap is 10, 11 used" in model.calls[11].messages[-1].text
    assert result.stopped is not None
    assert (result.stopped.reason, result.stopped.scope, result.stopped.limit) == (
        "loop",
        "agent:ann",
        "loops.same_call",
    )
    again, _ = run(looks(40), fallback=chain(lambda _: "fixed", name="fixed"), limits={"max_steps": 99})
    assert (again.output, again.via) == ("fixed", "workflow")


def test_a_policy_says_how_often() -> None:
    """Two: told at the second, refused from the fifth on."""
    result, model = run(looks(5), loops={"same_call": 2})
    assert (result.output, result.usage.tool_calls) == ("done", 4)
    assert "2 times" in model.calls[2].messages[-1].text


def test_the_gate_refuses_a_loop_of_any_runtime() -> None:
    """By admit and settle alone, as the adapters of hosts do it; other agents and other calls go on."""
    gate = gate_for()

    async def host() -> None:
        for _ in range(10):
            gate.settle(await gate.admit(ToolCall("ann", "look", "{}")), Outcome("ok", text="nothing"))
        with pytest.raises(LimitExceededError, match=r"loops\.same_call of tool:look"):
            await gate.admit(ToolCall("ann", "look", "{}"))
        gate.settle(await gate.admit(ToolCall("bob", "look", "{}")), Outcome("ok", text="nothing"))
        gate.settle(await gate.admit(ToolCall("ann", "look", '{"x": 1}')), Outcome("ok", text="new"))
        gate.settle(await gate.admit(ToolCall("ann", "look", "{}")), Outcome("ok", text="nothing"))

    asyncio.run(host())


def test_an_agent_that_says_the_same_for_ever_is_stopped_at_the_gate() -> None:
    """Eight times the same message in a conversation that grows: its agent is latched."""
    gate = gate_for()
    message = "I have nothing to add to what I have said about this before."

    async def host() -> None:
        for number in range(8):
            grant = await gate.admit(ModelCall("ann", "m", 100 + number, 100))
            gate.settle(grant, Outcome("ok", Usage(input_tokens=1), text=message))
        with pytest.raises(LimitExceededError, match=r"loops\.same_message of agent:ann"):
            await gate.admit(ModelCall("ann", "m", 200, 100))
        await gate.admit(ModelCall("bob", "m", 200, 100))

    asyncio.run(host())


def test_a_workflow_may_repeat_itself() -> None:
    """It is a fixed path: its nodes decide nothing, so they can't go in circles."""
    gate = gate_for()
    gate.keeper.fall_back("test", None)
    fixed = type(gate)(gate.keeper, "fallback")

    async def node() -> None:
        for _ in range(50):
            fixed.settle(await fixed.admit(ToolCall("node", "look", "{}")), Outcome("ok", text="nothing"))

    asyncio.run(node())
