"""What a durable event costs: raw commits of SQLite on this disk, and the stores beside them.

python tests/benchmarks/store_floor.py [FOLDER] prints a table. Raw and awaited appends take turns in
short rounds, so that a busy disk slows both.
"""

from __future__ import annotations

import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from crew_guard.core.events import Settled, encode
from crew_guard.core.usage import Usage
from crew_guard.ports import Store
from crew_guard.store.database import Synchronous
from crew_guard.store.memory import MemoryStore
from crew_guard.store.sqlite import SqliteStore
from crew_guard.testing.events import started

ROUNDS, COMMITS, CLIENTS = 8, 150, 32
USED = Usage(steps=1, input_tokens=1000, output_tokens=20, nano_usd=123_456)


def event(seq: int) -> Settled:
    """An event of some 300 bytes."""
    return Settled(seq, 1.7e9, f"action-{seq}", "ok", USED, 0.123, text="x" * 120)


class RawCommits:
    """A loop of INSERT and COMMIT on a table of its own in this file: the floor."""

    def __init__(self, path: Path, synchronous: Synchronous) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute(f"PRAGMA synchronous = {synchronous}")
        self._connection.execute("CREATE TABLE raw (seq INTEGER PRIMARY KEY, type TEXT, body TEXT)")

    def seconds(self, count: int) -> list[float]:
        """How long each of this many commits took."""
        name, body = encode(event(1))
        row, took = (name, body.decode()), []
        for _ in range(count):
            begun = time.perf_counter()
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("INSERT INTO raw (type, body) VALUES (?, ?)", row)
            self._connection.execute("COMMIT")
            took.append(time.perf_counter() - begun)
        return took

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


def raw_commits_per_second(path: Path, synchronous: Synchronous = "FULL") -> float:
    """How many commits of one 300-byte event a second this disk takes, from the median of 600.

    Args:
        path: a file that isn't there yet; it stays
        synchronous: FULL or NORMAL
    """
    raw = RawCommits(path, synchronous)
    try:
        raw.seconds(100)
        return 1 / statistics.median(raw.seconds(600))
    finally:
        raw.close()


def awaited(store: Store, run_id: str, first: int, count: int) -> list[float]:
    """How long each append took of a client who waits for each."""
    took: list[float] = []
    for seq in range(first, first + count):
        begun = time.perf_counter()
        store.append(run_id, (event(seq),)).result()
        took.append(time.perf_counter() - begun)
    return took


def together(store: Store, count: int) -> tuple[float, list[float]]:
    """(events a second, seconds of each append) of CLIENTS threads that each wait for each of `count` appends."""
    took: list[float] = []
    start = threading.Barrier(CLIENTS + 1)

    def client(number: int) -> None:
        run_id = f"client-{number}"
        store.begin(run_id, started()).result()
        start.wait()
        took.extend(awaited(store, run_id, 2, count))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    start.wait()
    begun = time.perf_counter()
    for thread in threads:
        thread.join()
    return CLIENTS * count / (time.perf_counter() - begun), took


def pipelined(store: Store, count: int) -> tuple[float, list[float]]:
    """The same from one thread, as an event loop does it: CLIENTS runs with one append in flight each."""
    flying: dict[int, tuple[float, int, Callable[[], None]]] = {}
    for number in range(CLIENTS):
        store.begin(f"task-{number}", started()).result()
    took: list[float] = []
    begun = time.perf_counter()
    for seq in range(2, 2 + count):
        for number in range(CLIENTS):
            if number in flying:
                sent, _, wait = flying.pop(number)
                wait()
                took.append(time.perf_counter() - sent)
            flying[number] = (time.perf_counter(), seq, store.append(f"task-{number}", (event(seq),)).result)
    for sent, _, wait in flying.values():
        wait()
        took.append(time.perf_counter() - sent)
    return CLIENTS * count / (time.perf_counter() - begun), took


def memory_seconds(count: int = 50_000) -> float:
    """Seconds of one append to the memory store, the building of the event left out."""
    store, events = MemoryStore(), [(event(seq),) for seq in range(2, 2 + count)]
    store.begin("run", started())
    append = store.append
    begun = time.perf_counter()
    for each in events:
        append("run", each)
    return (time.perf_counter() - begun) / count


def line(what: str, took: list[float], rate: float, ratio: str = "") -> None:
    """One row of the table."""
    took = sorted(took)
    p50, p99 = (took[int(len(took) * part)] * 1e6 for part in (0.5, 0.99))
    print(f"{what:38} {p50:10,.0f} {p99:10,.0f} {rate:12,.0f}   {ratio}")


def measure(folder: Path, synchronous: Synchronous) -> None:
    """Print the rows of one durability."""
    raw = RawCommits(folder / f"raw-{synchronous}.db", synchronous)
    store = SqliteStore(folder / f"store-{synchronous}.db", synchronous=synchronous)
    store.begin("run", started()).result()
    raw.seconds(100)
    awaited(store, "run", 2, 100)
    floor: list[float] = []
    alone: list[float] = []
    for number in range(ROUNDS):
        floor += raw.seconds(COMMITS)
        alone += awaited(store, "run", 102 + number * COMMITS, COMMITS)
    raw.close()
    base = statistics.median(floor)
    line(f"raw commit, {synchronous}", floor, len(floor) / sum(floor))
    line(f"append awaited, {synchronous}", alone, len(alone) / sum(alone), f"{statistics.median(alone) / base:.2f} raw")
    for what, work in ((f"{CLIENTS} threads", together), (f"{CLIENTS} runs, one thread", pipelined)):
        rate, took = work(store, 200)
        line(f"{what}, {synchronous}", took, rate, f"{rate * base:.1f} events a raw commit")
    store.close()


def main() -> None:
    """Print the table."""
    parent = sys.argv[1] if len(sys.argv) > 1 else None
    print(f"{'':38} {'p50 µs':>10} {'p99 µs':>10} {'a second':>12}")
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        for synchronous in ("FULL", "NORMAL"):
            measure(Path(folder), synchronous)
    seconds = memory_seconds()
    print(f"{'memory append':38} {seconds * 1e6:10.2f} {'':10} {1 / seconds:12,.0f}")


if __name__ == "__main__":
    main()
