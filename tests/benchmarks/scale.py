"""A thousand concurrent runs of ten steps in one process: steps a second beside AutoGen's, memory a run, and on disk.

Both sides answer at once and execute an async tool at each step but the last, all runs under way together.
CPU seconds are compared, in turns, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sqlite3
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

os.environ.setdefault("OTEL_SDK_DISABLED", "true")

from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import CreateResult, FunctionExecutionResultMessage

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task
from crew_guard.core.events import encode
from crew_guard.core.messages import ModelReply, ModelRequest, ToolRequest
from crew_guard.core.usage import Usage
from crew_guard.ports import Store
from crew_guard.store.memory import MemoryStore
from crew_guard.store.sqlite import SqliteStore
from crew_guard.testing.events import started
from tests.benchmarks.autogen_turns import ZeroLatency
from tests.benchmarks.autogen_turns import look as autogen_look
from tests.benchmarks.served import Provider, look
from tests.benchmarks.store_floor import event

POLICY = Policy.model_validate(
    {
        "limits": {"max_agents": 5, "max_steps": 25, "max_tokens": 10**9, "max_usd": 5, "max_seconds": 600},
        "per_agent": {"max_steps": 20},
    }
)
RUNS, STEPS, MANY = 1_000, 10, 10_000
TIMES_AUTOGEN = 10.0
KILOBYTES_A_RUN = 50.0
SHARE_OF_GROUP_COMMIT = 0.5
EVENTS_A_CLIENT = 20
ROLE = Role(name="agent", goal="go on")
WANTED = (ToolRequest("t", "look", '{"query": "x"}'),)


class Stateless(Provider):
    """One model for all runs: it knows by a conversation's length when to end it. May hold everyone up once."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = 0
        self.all_there: Callable[[], None] | None = None
        self.go_on: asyncio.Event | None = None

    async def complete(self, request: ModelRequest, max_tokens: int, on_text: Callable[[str], None]) -> ModelReply:
        usage = Usage(input_tokens=request.prompt_tokens, output_tokens=20)
        if len(request.messages) < 2 * STEPS:
            return ModelReply("", WANTED, usage)
        if self.all_there is not None:
            self.go_on = self.go_on or asyncio.Event()
            self.waiting += 1
            if self.waiting == RUNS:
                self.all_there()
            await self.go_on.wait()
        return ModelReply("done", (), usage)


class StatelessAutoGen(ZeroLatency):
    """The same for AutoGen."""

    async def create(self, messages: Any, **options: Any) -> CreateResult:
        answered = sum(isinstance(message, FunctionExecutionResultMessage) for message in messages)
        self.calls = 0 if answered < STEPS - 1 else 1
        return await super().create(messages, **options)


async def ours(store: Store, runs: int, model: Stateless) -> None:
    """These many runs of one crew, all at once."""
    supervisor = Supervisor(POLICY, model=model, store=store)
    crew = Crew([Agent(ROLE, (look,))], [Task("go")])
    for result in await asyncio.gather(*(supervisor.arun(crew) for _ in range(runs))):
        if not result.done or result.usage.steps != STEPS:
            raise RuntimeError(f"{STEPS} steps were asked for: {result}")


async def autogens(runs: int) -> None:
    """The same with an agent a run, which is where AutoGen keeps a conversation."""
    client = StatelessAutoGen(1)

    async def one() -> None:
        agent = AssistantAgent("agent", client, tools=[autogen_look], max_tool_iterations=STEPS)
        result = await agent.run(task="go")
        if result.messages[-1].to_text() != "done":
            raise RuntimeError(f"AutoGen did not come to its end: {result.messages[-1]}")

    await asyncio.gather(*(one() for _ in range(runs)))


def seconds(work: Coroutine[Any, Any, None], timer: Callable[[], float] = time.process_time) -> float:
    """How long it takes on a loop of its own."""
    gc.collect()
    began = timer()
    asyncio.run(work)
    return timer() - began


def beside_autogen(count: int) -> tuple[float, float, float]:
    """Medians: (our steps a second of CPU, AutoGen's, ours ÷ AutoGen's)."""
    seconds(ours(MemoryStore(), 50, Stateless()))
    seconds(autogens(50))
    rounds = [(seconds(ours(MemoryStore(), RUNS, Stateless())), seconds(autogens(RUNS))) for _ in range(count)]
    steps = RUNS * STEPS
    mine, theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
    return steps / mine, steps / theirs, statistics.median(b / a for a, b in rounds)


def kilobytes_a_run() -> float:
    """What a run holds at its last step, its journal in memory included, while all are under way."""
    model = Stateless()
    seconds(ours(MemoryStore(), 50, Stateless()))
    peak: list[int] = []
    tracemalloc.start()
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]

    def measure() -> None:
        peak.append(tracemalloc.get_traced_memory()[0] - before)
        assert model.go_on is not None
        model.go_on.set()

    model.all_there = measure
    asyncio.run(ours(MemoryStore(), RUNS, model))
    tracemalloc.stop()
    return peak[0] / RUNS / 1024


def many() -> float:
    """Seconds of CPU that ten thousand runs at once take."""
    return seconds(ours(MemoryStore(), MANY, Stateless()))


def raw_group_commits(path: Path, clients: int) -> float:
    """Events a second of a bare writer: encoded rows, one transaction for all that wait, futures of one loop."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(
        "CREATE TABLE events (run INTEGER, seq INTEGER, at REAL, type TEXT, body TEXT, UNIQUE (run, seq))"
    )
    name, body = encode(event(1))
    waiting: list[tuple[tuple[Any, ...], asyncio.Future[None]]] = []

    async def client(number: int) -> None:
        for seq in range(EVENTS_A_CLIENT):
            future = asyncio.get_running_loop().create_future()
            waiting.append(((number, seq, 1.7e9, name, body.decode()), future))
            await future

    async def main() -> None:
        clients_done = asyncio.gather(*(client(number) for number in range(clients)))
        while not clients_done.done():
            await asyncio.sleep(0)
            group = waiting[:]
            waiting.clear()
            if group:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", [row for row, _ in group])
                connection.execute("COMMIT")
                for _, future in group:
                    future.set_result(None)

    spent = seconds(main(), time.perf_counter)
    connection.close()
    return clients * EVENTS_A_CLIENT / spent


def our_group_commits(path: Path, clients: int) -> float:
    """The same through the store: events are encoded, checked and awaited one by one."""
    from crew_guard.supervisor.wakeups import written

    store = SqliteStore(path)

    async def client(number: int) -> None:
        for seq in range(2, 2 + EVENTS_A_CLIENT):
            future = store.write(f"run-{number}", (event(seq),))
            await written(store, future)
            future.result()

    async def main() -> None:
        await asyncio.gather(*(client(number) for number in range(clients)))

    for number in range(clients):
        begun = store.begin(f"run-{number}", started())
    begun.result()
    spent = seconds(main(), time.perf_counter)
    store.close()
    return clients * EVENTS_A_CLIENT / spent


def group_commits(clients: int, count: int) -> tuple[float, float, float]:
    """Medians: (raw events a second, the store's, the store's ÷ raw) with these many clients that await each event."""
    rounds: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench_") as folder:
        for number in range(count):
            raw = raw_group_commits(Path(folder) / f"raw{number}.db", clients)
            rounds.append((raw, our_group_commits(Path(folder) / f"ours{number}.db", clients)))
    raw, mine = (statistics.median(column) for column in zip(*rounds, strict=True))
    return raw, mine, statistics.median(b / a for a, b in rounds)


def on_disk() -> float:
    """Steps a second of wall clock, each admission on disk before it acts."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench_") as folder:
        store = SqliteStore(Path(folder) / "runs.db")
        spent = seconds(ours(store, RUNS, Stateless()), time.perf_counter)
        store.close()
    return RUNS * STEPS / spent


def main() -> bool:
    """Print the table; True if every ratio is where it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of those whose median counts")
    rounds = parser.parse_args().rounds
    mine, theirs, times = beside_autogen(rounds)
    print(f"{RUNS:,} runs of {STEPS} steps at once")
    print(f"{'crew_guard, memory store':<40}{mine:>10,.0f} steps a second of CPU")
    print(f"{'AutoGen AssistantAgent':<40}{theirs:>10,.0f} steps a second of CPU")
    print(f"{'crew_guard, SQLite write-ahead, FULL':<40}{on_disk():>10,.0f} steps a second of wall clock")
    kilobytes = kilobytes_a_run()
    spent = many()
    print(f"{f'{MANY:,} runs at once, all done':<40}{MANY * STEPS / spent:>10,.0f} steps a second of CPU")
    checks = [
        (f"{times:.1f} times AutoGen's steps a second", "at least", TIMES_AUTOGEN, times >= TIMES_AUTOGEN),
        (f"{kilobytes:.0f} KB a run", "at most", KILOBYTES_A_RUN, kilobytes <= KILOBYTES_A_RUN),
    ]
    for clients in (32, RUNS):
        raw, store, share = group_commits(clients, rounds)
        print(f"{f'group commit, {clients:,} clients, raw':<40}{raw:>10,.0f} events a second")
        print(f"{f'group commit, {clients:,} clients, the store':<40}{store:>10,.0f} events a second")
        text = f"{share:.2f} of the raw group-commit rate with {clients:,} clients"
        checks.append((text, "at least", SHARE_OF_GROUP_COMMIT, share >= SHARE_OF_GROUP_COMMIT))
    for text, bound, value, holds in checks:
        print(f"{text} ({bound} {value:g}): {'ok' if holds else 'MISSED'}")
    return all(check[-1] for check in checks)


if __name__ == "__main__":
    raise SystemExit(0 if main() else 1)
