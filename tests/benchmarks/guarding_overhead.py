"""What guard() costs a host's own crew: python -m tests.benchmarks.guarding_overhead [--rounds N]

Each host runs the same loop of model call and tool call on its own, guarded with prompts that are a constant, and
guarded with prompts that are gone through as for counting, message by message (each of which is a constant, too: no
tokenizer is measured here), in turns. Models answer at once, and bill what they are told to. With a model of 20 ms
the wall clock is compared, on disk the turns in raw commits.

Each host has a process of its own: beside the others' libraries, a megabyte of code each, every step is dearer. The
CPU is one core's: what threads pay for handing over to each other depends on which core each happens to be on.

A run's start and end are in it, over its steps. What a process does once is not: a model's class is made once, as a
user's is (a class per run would have its stand-in made in each run, too, which takes pydantic milliseconds), and
neither side collects the other's garbage. What a host does beside a run, in threads of its own, is waited for on
either side: it is the host's.
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
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

os.environ["CREWAI_DISABLE_TELEMETRY"] = "true"
os.environ["OTEL_SDK_DISABLED"] = "true"

from crew_guard import Policy, Supervisor
from crew_guard.adapters.tally import Tally
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


@contextlib.contextmanager
def uncounted() -> Generator[None]:
    """Every prompt is a constant: which of its messages are new, or were changed, is not looked at."""
    of = Tally.of
    Tally.of = _constant
    try:
        yield
    finally:
        Tally.of = of


def _constant(_tally: Tally, _messages: Sequence[Any]) -> tuple[int, int]:
    return 1_000_000, 0


@contextlib.contextmanager
def on_one_core() -> Generator[None]:
    """All threads of this process, and those begun meanwhile, are on one core, where the system lets us say so."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    _put_on({max(cores)})
    try:
        yield
    finally:
        _put_on(cores)


def _put_on(cores: set[int]) -> None:
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(int(thread.name), cores)


@dataclass(frozen=True)
class Loop:
    """One host's crew, fresh: what guard() takes, how it runs on its own, and how often its model was asked."""

    crew: Any
    alone: Callable[[], object]
    asked: Callable[[], int]
    quiet: Callable[[], object] = lambda: None
    """Waits for what the host does beside a run."""


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
    from crewai.events.event_bus import crewai_event_bus

    from tests.adapters.crewai_doubles import hungry_agent

    llm = _crewai_model()(answer_after=STEPS - 1, latency=latency)
    agent = hungry_agent(llm, max_iter=STEPS + 5)
    return Loop(agent, lambda: agent.kickoff("go"), lambda: llm.served.calls, crewai_event_bus.flush)


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
    loop.quiet()
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
    loop.quiet()
    spent = timer() - began
    if not result.done or result.usage.steps != STEPS:
        raise RuntimeError(f"{host}: {STEPS} steps were asked for: {result}")
    return _a_step(host, loop, spent)


def _a_step(host: str, loop: Loop, spent: float) -> float:
    if loop.asked() != STEPS:
        raise RuntimeError(f"{host} made {loop.asked()} of {STEPS} calls")
    return spent / STEPS


class Costs(NamedTuple):
    """Medians of pairs."""

    own: float
    """µs of CPU a step of the host on its own."""
    more: float
    """µs more when guarded."""
    counting: float
    """µs more than that where prompts are gone through."""
    at_20_ms: float
    """Guarded ÷ alone, where the model takes 20 ms."""


def compare(host: str, rounds: int) -> Costs:
    """What guarding this host costs."""

    def turn() -> tuple[float, float, float]:
        own = alone(host, 0, time.process_time)
        with uncounted():
            besides = guarded(host, 0, time.process_time, MemoryStore())
        return own, besides, guarded(host, 0, time.process_time, MemoryStore())

    with on_one_core():
        turn()
        turns = [turn() for _ in range(rounds)]
    slow = [
        guarded(host, LATENCY, time.perf_counter, MemoryStore()) / alone(host, LATENCY, time.perf_counter)
        for _ in range(max(min(3, rounds), rounds // 3))
    ]
    return Costs(
        statistics.median(own for own, _, _ in turns) * 1e6,
        statistics.median(besides - own for own, besides, _ in turns) * 1e6,
        statistics.median(whole - besides for _, besides, whole in turns) * 1e6,
        statistics.median(slow),
    )


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


def measure(host: str, rounds: int) -> tuple[Costs, float]:
    """What guarding this host costs, and its commits a step: in a process that has imported no other host."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return compare(host, rounds), commits_a_step(host, min(3, rounds))


def main() -> bool:
    """Print the table; True if guarding costs no more than it may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("hosts", nargs="*", choices=[*HOSTS, []], help="by default all")
    given = parser.parse_args()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as fresh:
        began = [(host, fresh.submit(measure, host, given.rounds)) for host in given.hosts or HOSTS]
        rows = [(host, *costs.result()) for host, costs in began]
    print(f"{'host':14}{'alone µs/step':>15}{'guarded':>10}{'counting':>10}{'at 20 ms':>10}{'+raw commits/step':>19}")
    for host, costs, commits in rows:
        print(
            f"{host:14}{costs.own:>15,.0f}{costs.more:>+10,.0f}{costs.counting:>+10,.0f}{costs.at_20_ms:>10.3f}"
            f"{commits:>19.2f}"
        )
    cheap = max(costs.more for _, costs, _ in rows)
    slowest = max(costs.at_20_ms for _, costs, _ in rows)
    for text, bound, holds in (
        (
            f"besides counting, guarding adds {cheap:.0f} µs of CPU a step",
            MICROSECONDS_A_STEP,
            cheap <= MICROSECONDS_A_STEP,
        ),
        (f"with a model of 20 ms it takes {slowest:.3f} of the host's time", TIMES_ITS_OWN, slowest <= TIMES_ITS_OWN),
    ):
        print(f"{text} at the most (at most {bound:g}): {'ok' if holds else 'MISSED'}")
    return cheap <= MICROSECONDS_A_STEP and slowest <= TIMES_ITS_OWN


if __name__ == "__main__":
    raise SystemExit(0 if main() else 1)
