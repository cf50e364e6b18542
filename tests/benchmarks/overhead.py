"""What a turn (a model call and a tool call) costs in our runtime, beside AutoGen's in the same run.

Models answer at once on both sides, tools are async functions, so that what is left is the framework.
The durable figure stands beside raw commits of the same file system, in the same minute.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OTEL_SDK_DISABLED", "true")

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task
from crew_guard.ports import Store
from crew_guard.store.memory import MemoryStore
from crew_guard.store.sqlite import SqliteStore
from tests.benchmarks.autogen_turns import autogen_turn_seconds
from tests.benchmarks.served import Provider, look
from tests.benchmarks.store_floor import RawCommits

POLICY = Policy.model_validate(
    {
        "limits": {"max_tokens": 10**12, "max_steps": 10**9, "max_tool_calls": 10**9, "max_usd": 1_000},
        "per_agent": {"max_steps": 10**9},
    }
)
ROUNDS = 7
TURNS = 50
LONG = 1_000
COMMITS_A_TURN = 4.0
SHARE_OF_AUTOGEN = 7.0
GROWTH = 1.3


def turn_seconds(turns: int, store: Store, timer: Any = time.process_time) -> float:
    """Seconds of one turn of one agent, run() and all."""
    provider = Provider(talks=20, turns=turns)
    crew = Crew([Agent(Role(name="agent", goal="go on"), (look,))], [Task("go")])
    supervisor = Supervisor(POLICY, model=provider, store=store)
    began = timer()
    result = supervisor.run(crew)
    spent = timer() - began
    if not result.done or result.usage.steps != turns + 1:
        raise RuntimeError(f"{turns} turns were asked for: {result}")
    return spent / turns


def in_memory() -> tuple[float, float, float, float]:
    """Medians: µs of ours, µs of AutoGen's, AutoGen's ÷ ours, ours at 1,000 turns ÷ at 50."""
    turn_seconds(5, MemoryStore())
    autogen_turn_seconds(5)
    rounds = []
    for _ in range(ROUNDS):
        ours, theirs = turn_seconds(TURNS, MemoryStore()), autogen_turn_seconds(TURNS)
        rounds.append((ours * 1e6, theirs * 1e6, theirs / ours, turn_seconds(LONG, MemoryStore()) / ours))
    medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
    return medians[0], medians[1], medians[2], medians[3]


def commit_seconds(path: Path) -> float:
    """Seconds of a raw commit, the median after a warm-up: the stricter yardstick, a turn's own being a mean."""
    raw = RawCommits(path, "FULL")
    try:
        raw.seconds(100)
        return statistics.median(raw.seconds(LONG))
    finally:
        raw.close()


def on_disk() -> tuple[float, float, float]:
    """Medians of wall clock: µs of a raw commit, µs of a turn, turns in raw commits."""
    rounds = []
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench_") as folder:
        for number in range(ROUNDS):
            before = commit_seconds(Path(folder) / f"before{number}.db")
            store = SqliteStore(Path(folder) / f"turns{number}.db")
            turn = turn_seconds(LONG, store, time.perf_counter)
            store.close()
            # Before and after: a disk's speed drifts.
            commit = (before + commit_seconds(Path(folder) / f"after{number}.db")) / 2
            rounds.append((commit * 1e6, turn * 1e6, turn / commit))
    medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
    return medians[0], medians[1], medians[2]


def main() -> bool:
    """Print the table; True if every ratio is where it should be."""
    ours, theirs, share, growth = in_memory()
    commit, turn, commits = on_disk()
    print(f"{'a turn':<44}{'µs':>10}")
    print(f"{'crew_guard, memory store (CPU)':<44}{ours:>10,.0f}")
    print(f"{'AutoGen AssistantAgent (CPU)':<44}{theirs:>10,.0f}")
    print(f"{'a raw SQLite commit, FULL (wall)':<44}{commit:>10,.0f}")
    print(f"{'crew_guard, SQLite write-ahead, FULL (wall)':<44}{turn:>10,.0f}")
    checks = (
        (f"AutoGen's turn is {share:.1f} of ours", "at least", SHARE_OF_AUTOGEN, share >= SHARE_OF_AUTOGEN),
        (f"a turn at {LONG} turns costs {growth:.2f} of one at {TURNS}", "at most", GROWTH, growth <= GROWTH),
        (f"a durable turn is {commits:.2f} raw commits", "at most", COMMITS_A_TURN, commits <= COMMITS_A_TURN),
    )
    for text, bound, value, holds in checks:
        print(f"{text} ({bound} {value:g}): {'ok' if holds else 'MISSED'}")
    return all(check[-1] for check in checks)


if __name__ == "__main__":
    raise SystemExit(0 if main() else 1)
