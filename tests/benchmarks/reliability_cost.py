"""What reliability costs: a run's update, and a gate's bounds. python -m tests.benchmarks.reliability_cost

CPU time, the best of many rounds; beside the chain's bound the same posterior by 4,000 draws of numpy.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import msgspec
import numpy as np

from crew_guard.core.reliability.bounds import lower
from crew_guard.core.reliability.counts import Counts
from crew_guard.core.reliability.intervals import chain_bound, clopper_pearson
from crew_guard.core.reliability.records import CrewRecord, Settings, add
from crew_guard.core.reliability.structure import AnyOf, Chain, Leaf, Retry, Vote
from crew_guard.core.reliability.trials import RunReport, Subject, Trial
from crew_guard.core.reliability.verdict import estimate

UPDATE_AT_MOST, BOUND_AT_MOST = 200.0, 2_000.0
AGENTS = tuple("abcde")
SETTINGS = Settings(threshold=0.85, parts=5)


def microseconds(work: Callable[[], object], times: int, rounds: int = 25) -> float:
    """Of one call, the best round's mean."""
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(times):
            work()
        best = min(best, (time.process_time() - began) / times)
    return best * 1e6


def report(draw: random.Random, run: int) -> RunReport:
    """One run of five agents, each judged once, and its outcome."""
    grades = [float(draw.random() < 0.97) for _ in AGENTS]
    trials = tuple(
        Trial(Subject(name, "openai:gpt-4o", "task", "v1"), name, "task", grade, "check")
        for name, grade in zip(AGENTS, grades, strict=True)
    )
    return RunReport(f"run{run}", "crew", "v1", float(run), trials, min(grades), 0.01, 2.0)


def updates() -> float:
    """Of one `add`, over records of 150 to 350 runs: baselines fall into it."""
    draw, record = random.Random(1), None
    for run in range(150):
        record = add(record, report(draw, run), SETTINGS)
    reports, start = [report(draw, run) for run in range(150, 350)], record

    def fold() -> None:
        folded = start
        for one in reports:
            folded = add(folded, one, SETTINGS)

    return microseconds(fold, 1) / len(reports)


def drawn(parts: list[Counts]) -> float:
    """The peer: the same posterior by numpy's draws."""
    draw = np.random.default_rng(1)
    product = np.prod([draw.beta(one.good, one.bad + 1 / len(parts), 4_000) for one in parts], axis=0)
    return float(np.quantile(product, 0.05))


def main() -> bool:
    """Print the table; True if both are cheap enough."""
    five = [Counts(60, 57.0), Counts(80, 77.0), Counts(50, 48.0), Counts(200, 195.0), Counts(60, 58.0)]
    twelve = [*five, *five, Counts(40, 39.0), Counts(30, 29.0)]
    chain, counts = Chain(tuple(Leaf(name) for name in AGENTS)), dict(zip(AGENTS, five, strict=True))
    graph = Chain((Leaf("a"), AnyOf((Leaf("b"), Leaf("c"))), Vote(Leaf("d"), 3), Retry(Leaf("e"), 1, 0.8, 0.95)))
    beta, record = random.Random(1).betavariate, add(None, report(random.Random(1), 1), SETTINGS)
    body = msgspec.json.encode(record)
    update, bound = updates(), microseconds(lambda: chain_bound(twelve), 50)
    rows = {
        "a run's update: 6 detectors, counts, sums, breaker": update,
        "the chain's bounds, 5 agents": microseconds(lambda: chain_bound(five), 50),
        "the chain's bounds, 12 agents": bound,
        "  by 4,000 draws of numpy, 12 agents, one bound": microseconds(lambda: drawn(twelve), 5),
        "Clopper-Pearson, both bounds": microseconds(lambda: clopper_pearson(five[0]), 50),
        "a whole estimate, measured rate included, 5 agents": microseconds(
            lambda: estimate(chain, counts, Counts(80, 70.0), 0.95, beta), 20
        ),
        "a graph's lower bound, 4,000 draws of 5 agents": microseconds(lambda: lower(graph, counts, 0.95, beta), 1, 5),
        "a record to JSON and back": microseconds(
            lambda: msgspec.json.decode(msgspec.json.encode(record), type=CrewRecord), 100
        ),
    }
    print(f"{'CPU, best round':<56}{'µs':>10}")
    for name, found in rows.items():
        print(f"{name:<56}{found:>10,.1f}")
    print(f"a record of five agents is {len(body):,} bytes of JSON")
    checks = (("update", update, UPDATE_AT_MOST), ("chain's bounds", bound, BOUND_AT_MOST))
    for name, found, most in checks:
        print(f"{name} {found:,.0f} µs (at most {most:,.0f}): {'ok' if found <= most else 'MISSED'}")
    return all(found <= most for _, found, most in checks)


if __name__ == "__main__":
    raise SystemExit(0 if main() else 1)
