"""Does a cap hold? What the provider served beside the cap, for every way of running into it.

`over` (served beyond the cap) must be 0, and `unused` (the cap minus what was charged) smaller than what the
refused call needed at the least.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crew_guard import Agent, Crew, Policy, Result, Role, Supervisor, Task
from crew_guard.adapters.native import AgentLoop
from crew_guard.core.limits import Limits
from crew_guard.core.usage import NANO, Rate, Rates
from crew_guard.errors import RefusedError
from crew_guard.ports import Gate, RuntimeResult
from crew_guard.store.memory import MemoryStore
from tests.benchmarks.process_crews import process_rows_of
from tests.benchmarks.served import EXECUTED, Provider, look

PRICES = Rates(Rate(2 * NANO), Rate(8 * NANO))
"""$2 and $8 a million tokens."""
COMPLETION_MIN = 256
PAID = 0.01
"""US dollars of one execution."""
TASK = Task("go on for ever", agent="agent")


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    limit: str
    cap: float
    served: float
    """What the provider, or the tool, counted."""
    charged: float
    """What the run's result says was used."""
    needed: float
    """What the refused call needed at the least."""

    @property
    def over(self) -> float:
        return max(0, self.served - self.cap)

    @property
    def unused(self) -> float:
        return max(0, self.cap - self.charged)

    @property
    def holds(self) -> bool:
        # A count is whole: what is left of a cap of 10 may be less than 1. Dollars are not.
        least = self.needed if self.limit == "max_usd" else max(self.needed, 1)
        return self.over == 0 and self.served <= self.charged and (self.unused < least or self.unused == 0)


@dataclass(frozen=True)
class Many:
    """A runtime of N agents at once, each with a loop of its own; their errors are swallowed."""

    count: int
    provider: Provider
    retries: int = 1
    name: str = "native"

    def members(self) -> Sequence[str]:
        return ()

    async def run(self, inputs: Mapping[str, Any], gate: Gate) -> RuntimeResult:
        async def one(number: int) -> None:
            agent = Agent(Role(name="agent", goal="go on"), (look,), name=f"agent{number}")
            for _ in range(self.retries):
                try:
                    await AgentLoop(agent, TASK, self.provider, gate).run(inputs, {})
                except RefusedError:
                    continue

        await asyncio.gather(*(one(number) for number in range(self.count)))
        return RuntimeResult("looks finished")


def run_many(provider: Provider, count: int, retries: int = 1, **limits: Any) -> Result:
    """Run N agents under these limits."""
    policy = Policy(limits=Limits.model_validate(limits), completion_min=COMPLETION_MIN)
    supervisor = Supervisor(policy, store=MemoryStore())
    return supervisor.run_runtime(Many(count, provider, retries), {}, name="many").wait()


def run_crew(provider: Provider, **limits: Any) -> Result:
    """Run one agent of a crew under these limits."""
    policy = Policy(limits=Limits.model_validate(limits), completion_min=COMPLETION_MIN)
    crew = Crew([Agent(Role(name="agent", goal="go on"), (look,))], [TASK])
    return Supervisor(policy, model=provider, store=MemoryStore()).run(crew)


def run_paid(count: int, tools_a_turn: int, cap: float) -> Row:
    """N agents whose turns ask for several executions at once, at a cent each by the policy."""
    EXECUTED.clear()
    provider = Provider(tools_a_turn=tools_a_turn, talks=10)
    policy = Policy.model_validate(
        {"limits": {"max_usd": cap}, "tools": {"limits": {"look": {"usd": PAID}}}, "completion_min": COMPLETION_MIN}
    )
    supervisor = Supervisor(policy, store=MemoryStore())
    result = supervisor.run_runtime(Many(count, provider), {}, name="many").wait()
    served, charged = len(EXECUTED) * PAID, float(result.usage.usd)
    what = f"{count} x {tools_a_turn} paid tools at once"
    return Row(what, "max_usd", cap, round(served, 9), charged, needed(result))


def token_row(what: str, provider: Provider, result: Result, cap: int) -> Row:
    """A row about tokens."""
    return Row(what, "max_tokens", cap, provider.tokens, result.usage.tokens, needed(result))


def dollar_row(what: str, provider: Provider, result: Result, cap: float) -> Row:
    """A row about dollars."""
    return Row(what, "max_usd", cap, provider.nano_usd / NANO, float(result.usage.usd), needed(result))


def needed(result: Result) -> float:
    """What the refused call asked for at the least; the run must have been stopped by it."""
    if result.status != "stopped" or result.stopped is None or result.output is not None:
        raise RuntimeError(f"the run was not stopped: {result}")
    return result.stopped.asked or 0


def rows() -> Iterable[Row]:
    """Every scenario, one after the other."""
    for cap in (10_000, 8_001, 0):
        provider = Provider()
        yield token_row("one loop", provider, run_crew(provider, max_tokens=cap), cap)
    for count in (8, 64):
        for latency in (0.0, 0.01):
            for cap in (100_000, 80_001):
                provider = Provider(latency=latency)
                result = run_many(provider, count, max_tokens=cap)
                yield token_row(f"{count} agents at {latency * 1000:g} ms", provider, result, cap)
            provider = Provider(latency=latency, rates=PRICES)
            result = run_many(provider, count, max_usd=0.5)
            yield dollar_row(f"{count} agents at {latency * 1000:g} ms", provider, result, 0.5)
    provider = Provider(rates=PRICES)
    yield dollar_row("one loop", provider, run_crew(provider, max_usd=0.05), 0.05)
    provider = Provider()
    yield token_row("error caught 50 times", provider, run_many(provider, 1, 50, max_tokens=10_000), 10_000)
    provider = Provider(reports=False)
    yield token_row("usage not reported", provider, run_crew(provider, max_tokens=10_000), 10_000)
    provider = Provider(reports=False)
    yield token_row("8 agents, usage not reported", provider, run_many(provider, 8, max_tokens=100_001), 100_001)
    EXECUTED.clear()
    result = run_crew(Provider(tools_a_turn=4, talks=10), max_tool_calls=10)
    yield Row("4 tools a turn", "max_tool_calls", 10, len(EXECUTED), result.usage.tool_calls, needed(result))
    EXECUTED.clear()
    result = run_many(Provider(tools_a_turn=4, talks=10), 8, max_tool_calls=33)
    yield Row("8 agents, 4 tools a turn", "max_tool_calls", 33, len(EXECUTED), result.usage.tool_calls, needed(result))
    for count, at_once in ((1, 64), (8, 8), (64, 1)):
        for cap in (0.25, 0.333, 0.0):
            yield run_paid(count, at_once, cap)
    provider = Provider()
    result = run_many(provider, 8, max_steps=13)
    yield Row("8 agents", "max_steps", 13, provider.calls, result.usage.steps, needed(result))
    yield from process_rows()


def process_rows() -> Iterable[Row]:
    """Every process of our own runtime, its provider sound and failing."""
    for name, limit, cap, provider, result in process_rows_of():
        if limit == "max_tokens":
            yield token_row(name, provider, result, int(cap))
        elif limit == "max_usd":
            yield dollar_row(name, provider, result, cap)
        else:
            yield Row(name, limit, cap, provider.calls, result.usage.steps, needed(result))


HEADER = ("scenario", "limit", "cap", "served", "charged", "over", "unused", "< needed")
FORMAT = "{:<44}{:<16}{:>10}{:>12}{:>12}{:>8}{:>10}{:>10}"


def line(row: Row) -> str:
    """The row as a line of the table."""
    figures = (row.cap, row.served, row.charged, row.over, row.unused, row.needed)
    text = FORMAT.format(row.what, row.limit, *(f"{figure:,.7g}" for figure in figures))
    return text if row.holds else f"{text}  DOES NOT HOLD"


def main() -> bool:
    """Print the table; True if every cap held."""
    print(FORMAT.format(*HEADER))
    good = True
    for row in rows():
        print(line(row))
        good &= row.holds
    print("every cap held" if good else "A CAP DID NOT HOLD")
    return good


if __name__ == "__main__":
    raise SystemExit(0 if main() else 1)
