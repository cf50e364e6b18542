"""What guard() costs a host's own crew: python -m tests.benchmarks.guarding_overhead [--rounds N]

Each host runs the same loop of model call and tool call on its own and guarded, in pairs, in turns. Models answer
at once, and bill what they are told to; a message's tokens are bounded by a constant, because counting them is not
what is measured here. With a model of 20 ms the wall clock is compared, on disk the turns in raw commits.

A run's start and end are in it, over its steps. What a process does once is not: a model's class is made once, as a
user's is (a class per run would have its stand-in made in each run, too, which takes pydantic milliseconds), and
neither side collects the other's garbage.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib
import io
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

os.environ["CREWAI_DISABLE_TELEMETRY"] = "true"
os.environ["OTEL_SDK_DISABLED"] = "true"

from crew_guard import Policy, Supervisor
from crew_guard.core.usage import FREE
from crew_guard.ports import Store
from crew_guard.store.memory import MemoryStore
from crew_guard.store.sqlite import SqliteStore
from tests.benchmarks.store_floor import RawCommits

STEPS = 40
LATENCY = 0.02
MICROSECONDS_A_STEP = 100.0
TIMES_ITS_OWN = 1.05
POLICY = Policy.model_validate(
    {
        "limits": {"max_tokens": 10**12, "max_steps": 10**9, "max_agents": 10},
        "loops": {"same_call": 10**6, "no_new_information": 10**6},
    }
)


class ConstantFacts:
    """Every message is 1,000 tokens, and so a prompt no less than what is billed: nothing is counted, or learned."""

    rates = FREE

    def bound(self, message: Any) -> int:
        return 1_000

    def bound_request(self, tools: Any, output_schema: Any) -> int:
        return 1_000


@dataclass(frozen=True)
class Loop:
    """One host's crew, fresh: what guard() takes, how it runs on its own, and how often its model was asked."""

    crew: Any
    alone: Callable[[], object]
    asked: Callable[[], int]


def autogen(latency: float) -> Loop:
    """An AssistantAgent with a tool."""
    from autogen_agentchat.agents import AssistantAgent

    from tests.benchmarks.autogen_turns import ZeroLatency, look

    client = ZeroLatency(STEPS - 1, latency)
    agent = AssistantAgent("agent", client, tools=[look], max_tool_iterations=STEPS + 1)
    return Loop(agent, lambda: asyncio.run(agent.run(task="go")), lambda: client.calls)


@cache
def _crewai_model() -> Any:
    from tests.adapters.crewai_doubles import HungryLLM

    class LLM(HungryLLM):
        latency: float = 0.0

        def call(self, *arguments: Any, **options: Any) -> Any:
            if self.latency:
                time.sleep(self.latency)
            return super().call(*arguments, **options)

    return LLM


def crewai(latency: float) -> Loop:
    """An Agent with a tool, whose model calls it natively."""
    from tests.adapters.crewai_doubles import hungry_agent

    llm = _crewai_model()(answer_after=STEPS - 1, latency=latency)
    agent = hungry_agent(llm, max_iter=STEPS + 5)
    return Loop(agent, lambda: agent.kickoff("go"), lambda: llm.served.calls)


@cache
def _langgraph_model() -> Any:
    from tests.adapters.langgraph_doubles import AsyncHungryChat

    class Chat(AsyncHungryChat):
        latency: float = 0.0

        async def _agenerate(self, *arguments: Any, **options: Any) -> Any:
            if self.latency:
                await asyncio.sleep(self.latency)
            return await super()._agenerate(*arguments, **options)

    return Chat


def langgraph(latency: float) -> Loop:
    """create_agent of LangChain with a tool."""
    from tests.adapters.langgraph_doubles import hungry_agent

    model = _langgraph_model()(answer_after=STEPS - 1, latency=latency)
    graph = hungry_agent(model)
    task = {"messages": [("user", "go")]}
    return Loop(graph, lambda: asyncio.run(graph.ainvoke(task)), lambda: model.served.calls)


@cache
def _llama_index_model() -> Any:
    from tests.adapters.llama_index_doubles import HungryLLM

    class LLM(HungryLLM):
        latency: float = 0.0

        async def achat(self, *arguments: Any, **options: Any) -> Any:
            if self.latency:
                await asyncio.sleep(self.latency)
            return self.chat(*arguments, **options)

    return LLM


def llama_index(latency: float) -> Loop:
    """A FunctionAgent with a tool."""
    from tests.adapters.llama_index_doubles import hungry_agent

    llm = _llama_index_model()(answer_after=STEPS - 1, latency=latency)
    agent = hungry_agent(llm)[0]

    async def run() -> None:
        await agent.run(user_msg="go", max_iterations=STEPS + 5)

    return Loop(agent, lambda: asyncio.run(run()), lambda: llm.served.calls)


HOSTS: dict[str, Callable[[float], Loop]] = {
    "autogen": autogen,
    "crewai": crewai,
    "langgraph": langgraph,
    "llama_index": llama_index,
}
"""By the package of the adapter."""


def alone(host: str, latency: float, timer: Callable[[], float]) -> float:
    """Seconds of one step of the host on its own."""
    loop = HOSTS[host](latency)
    gc.collect()
    began = timer()
    loop.alone()
    spent = timer() - began
    return _a_step(host, loop, spent)


def guarded(host: str, latency: float, timer: Callable[[], float], store: Store) -> float:
    """Seconds of one step of the same under the guard."""
    loop = HOSTS[host](latency)
    inputs = {"task": "go", "max_iterations": STEPS + 5} if host == "llama_index" else {"task": "go"}
    adapter = importlib.import_module(f"crew_guard.adapters.{host}")
    runtime = adapter.runtime_for(loop.crew, lambda _: ConstantFacts())
    supervisor = Supervisor(POLICY, store=store)
    gc.collect()
    began = timer()
    result = supervisor.run_runtime(runtime, inputs, name=host).wait()
    spent = timer() - began
    if not result.done or result.usage.steps != STEPS:
        raise RuntimeError(f"{host}: {STEPS} steps were asked for: {result}")
    return _a_step(host, loop, spent)


def _a_step(host: str, loop: Loop, spent: float) -> float:
    if loop.asked() != STEPS:
        raise RuntimeError(f"{host} made {loop.asked()} of {STEPS} calls")
    return spent / STEPS


def compare(host: str, rounds: int) -> tuple[float, float, float]:
    """Medians of pairs: (µs of CPU a step on its own, µs more when guarded, guarded ÷ alone at 20 ms)."""
    alone(host, 0, time.process_time), guarded(host, 0, time.process_time, MemoryStore())
    pairs = [
        (alone(host, 0, time.process_time), guarded(host, 0, time.process_time, MemoryStore())) for _ in range(rounds)
    ]
    slow = [
        guarded(host, LATENCY, time.perf_counter, MemoryStore()) / alone(host, LATENCY, time.perf_counter)
        for _ in range(max(min(3, rounds), rounds // 3))
    ]
    own = statistics.median(one for one, _ in pairs)
    more = statistics.median(other - one for one, other in pairs)
    return own * 1e6, more * 1e6, statistics.median(slow)


def commits_a_step(host: str, rounds: int) -> float:
    """Median: what a guarded step takes longer on disk than in memory, in raw commits of the same file system."""
    found: list[float] = []
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench_") as folder:
        for number in range(rounds):
            raw = RawCommits(Path(folder) / f"raw{number}.db", "FULL")
            raw.seconds(50)
            commit = statistics.median(raw.seconds(200))
            raw.close()
            store = SqliteStore(Path(folder) / f"{host}{number}.db")
            on_disk = guarded(host, 0, time.perf_counter, store)
            store.close()
            found.append((on_disk - guarded(host, 0, time.perf_counter, MemoryStore())) / commit)
    return statistics.median(found)


def main() -> bool:
    """Print the table; True if guarding costs no more than it may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("hosts", nargs="*", choices=[*HOSTS, []], help="by default all")
    given = parser.parse_args()
    rounds = given.rounds
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    rows: list[tuple[str, float, float, float, float]] = []
    for host in given.hosts or HOSTS:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            rows.append((host, *compare(host, rounds), commits_a_step(host, min(3, rounds))))
    print(f"{'host':14}{'alone µs/step':>15}{'guarded +µs/step':>18}{'at 20 ms':>10}{'+raw commits/step':>19}")
    for host, own, more, slow, commits in rows:
        print(f"{host:14}{own:>15,.0f}{more:>18,.0f}{slow:>10.3f}{commits:>19.2f}")
    cheap = max(row[2] for row in rows)
    slowest = max(row[3] for row in rows)
    for text, bound, holds in (
        (f"guarding adds {cheap:.0f} µs of CPU a step", MICROSECONDS_A_STEP, cheap <= MICROSECONDS_A_STEP),
        (f"with a model of 20 ms it takes {slowest:.3f} of the host's time", TIMES_ITS_OWN, slowest <= TIMES_ITS_OWN),
    ):
        print(f"{text} at the most (at most {bound:g}): {'ok' if holds else 'MISSED'}")
    return cheap <= MICROSECONDS_A_STEP and slowest <= TIMES_ITS_OWN


if __name__ == "__main__":
    raise SystemExit(0 if main() else 1)
