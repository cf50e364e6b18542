"""A tool's own cost and time, and the policy's: the greater cost and the lesser time count."""

from decimal import Decimal
from typing import Any

import pytest

from crew_guard import Agent, Crew, Policy, Result, Role, Supervisor, Task, tool
from crew_guard.core.actions import Outcome, ToolCall
from crew_guard.core.run import replay
from crew_guard.core.usage import nano_price
from crew_guard.models.scripted import Reply, ScriptedModel
from crew_guard.store.memory import MemoryStore
from tests.supervisor.gates import gate_for

CENT = 10_000_000


@tool(cost="0.01")
async def paid(query: str) -> str:
    """Look it up for a cent."""
    if query == "fail":
        raise ValueError("nothing there")
    return "found"


def run(store: MemoryStore, *asks: str, **policy: Any) -> Result:
    script = [Reply(tools=tuple(("paid", f'{{"query": "{ask}"}}') for ask in asks)), "done"]
    crew = Crew([Agent(Role(name="buyer", goal="buy"), (paid,))], [Task("buy")])
    return Supervisor(Policy.model_validate(policy), model=ScriptedModel(script), store=store).run(crew, run_id="r")


def test_a_tools_cost_is_charged_however_it_ends() -> None:
    """A failed execution costs as much; the journal folds to the same sum, by run and by agent."""
    store = MemoryStore()
    result = run(store, "a", "fail", limits={"max_usd": "0.02"})
    assert result.done
    assert (result.usage.usd, result.usage.tool_calls) == (Decimal("0.02"), 2)
    state = replay(store.read("r"))
    assert state.used("run").nano_usd == state.used("tool:paid").nano_usd == 2 * CENT
    assert state.usage_by_agent()["buyer"].nano_usd == 2 * CENT


def test_a_tool_that_does_not_fit_the_dollars_is_not_executed() -> None:
    """Refused by max_usd, with what it would have cost; the crew ends, nothing is overspent."""
    result = run(MemoryStore(), "a", "b", "c", limits={"max_usd": "0.025"})
    assert result.status == "stopped"
    assert result.stopped is not None
    assert (result.stopped.limit, result.stopped.asked) == ("max_usd", 0.01)
    assert result.usage.usd == Decimal("0.02")


@pytest.mark.parametrize(("usd", "charged"), [("0.5", "0.5"), ("0.001", "0.01"), (None, "0.01")])
def test_the_greater_of_the_tools_and_the_policys_cost_counts(usd: str | None, charged: str) -> None:
    """A policy can make a tool dearer, not cheaper."""
    result = run(MemoryStore(), "a", tools={"limits": {"paid": {"usd": usd}}})
    assert result.usage.usd == Decimal(charged)


def test_a_policys_cost_applies_to_a_hosts_own_tools() -> None:
    """Whoever asks the gate: an adapter names no cost."""
    gate = gate_for(tools={"limits": {"search": {"usd": "0.01"}}})
    grant = gate.admit_blocking(ToolCall("ann", "search"))
    assert grant.reserved.nano_usd == CENT
    gate.settle(grant, Outcome("ok"))
    free = gate.admit_blocking(ToolCall("ann", "read"))
    gate.settle(free, Outcome("ok"))
    assert gate.keeper.state.used().nano_usd == CENT
    begun_not = gate.admit_blocking(ToolCall("ann", "search"))
    gate.settle(begun_not, Outcome("withdrawn"))
    assert gate.keeper.state.used().nano_usd == CENT
    assert gate.keeper.state.ledgers["run"].reserved.nano_usd == 0


@pytest.mark.parametrize(("own", "policys", "least"), [(0.05, None, "0.05"), (9.0, 0.06, "0.06"), (0.07, 9.0, "0.07")])
def test_the_lesser_of_the_tools_and_the_policys_time_counts(own: float, policys: float | None, least: str) -> None:
    """A tool that never ends is ended after the shorter of both."""

    @tool(max_seconds=own)
    async def wait() -> str:
        """Wait for ever."""
        import asyncio

        await asyncio.Event().wait()
        return ""

    model = ScriptedModel([Reply(tools=(("wait", "{}"),)), "done"])
    crew = Crew([Agent(Role(name="waiter", goal="wait"), (wait,))], [Task("wait")])
    policy = Policy.model_validate({"tools": {"limits": {"wait": {"max_seconds": policys}}}})
    result = Supervisor(policy, model=model, store=MemoryStore()).run(crew)
    assert result.done
    said = next(message.text for message in model.calls[-1].request.messages if message.speaker == "tool")
    assert said == f"wait was ended after {least} s, its max_seconds"


@pytest.mark.parametrize("cost", [-1, "a cent", float("nan"), float("inf"), "-0.01"])
def test_a_cost_must_be_dollars(cost: Any) -> None:
    """When the tool is made; a price is rounded up, never down."""
    with pytest.raises(ValueError, match="a tool's cost is US dollars"):
        tool(cost=cost)
    with pytest.raises(ValueError, match="max_seconds must be seconds, more than 0"):
        tool(max_seconds=0)
    assert nano_price("0.0000000001") == 1
    assert nano_price("0.01") == CENT
