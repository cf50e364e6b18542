"""What a turn adds in time, memory and bytes of journal, up to 1,000 turns: as much in the second half as in the first.

A run's fixed cost, and the pages that an empty file holds already, are in neither.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
import tracemalloc
from pathlib import Path

from crew_guard.store.memory import MemoryStore
from crew_guard.store.sqlite import SqliteStore
from tests.benchmarks.overhead import turn_seconds

FIRST, HALF, LAST = 50, 525, 1_000
ROUNDS = 7
BOUND = 1.3


def seconds(turns: int) -> float:
    """CPU of a run of these many turns, the median of some."""
    return statistics.median(turn_seconds(turns, MemoryStore(), time.process_time) * turns for _ in range(ROUNDS))


def kept(turns: int) -> float:
    """Bytes of memory that it leaves behind, its journal in memory included."""
    store = MemoryStore()
    gc.collect()
    tracemalloc.start()
    turn_seconds(turns, store)
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return float(size)


def journal(turns: int) -> float:
    """Bytes of its journal's file."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench_") as folder:
        file = Path(folder) / "growth.db"
        store = SqliteStore(file, synchronous="NORMAL")
        turn_seconds(turns, store)
        store.close()
        return float(file.stat().st_size)


def main() -> bool:
    """Print the table; True if nothing grows."""
    turn_seconds(FIRST, MemoryStore())
    print(f"{'a turn adds':<20}{f'{FIRST} to {HALF}':>14}{f'{HALF} to {LAST:,}':>14}{'ratio':>8}")
    held = True
    for what, unit, measure in (
        ("CPU, µs", 1e6, seconds),
        ("memory, bytes", 1.0, kept),
        ("journal, bytes", 1.0, journal),
    ):
        first, half, last = (measure(turns) * unit for turns in (FIRST, HALF, LAST))
        early, late = (half - first) / (HALF - FIRST), (last - half) / (LAST - HALF)
        ratio = late / early
        held = held and ratio <= BOUND
        verdict = f"at most {BOUND}: {'ok' if ratio <= BOUND else 'MISSED'}"
        print(f"{what:<20}{early:>14,.0f}{late:>14,.0f}{ratio:>8.2f}  {verdict}")
    return held


if __name__ == "__main__":
    raise SystemExit(0 if main() else 1)
