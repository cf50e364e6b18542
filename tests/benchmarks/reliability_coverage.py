"""How often does a lower bound lie below the truth? python -m tests.benchmarks.reliability_coverage

Random chains of 2 to 12 agents with random numbers of trials, and random graphs with spares, votes, retries and
branches whose shares are known. The worst chains are looked at again on fresh draws. The exit code is 1 where less than
0.94 are covered.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from crew_guard.core.reliability import bounds
from crew_guard.core.reliability.counts import Counts
from crew_guard.core.reliability.intervals import chain_bound, lindstrom_madden
from crew_guard.core.reliability.structure import (
    AnyOf,
    Chain,
    CommonCause,
    KOfN,
    Leaf,
    OneOf,
    Retry,
    Structure,
    Vote,
    names,
    point,
    series,
)

AT_LEAST = 0.94
CHAINS, DRAWS = 1_500, 20
AGAIN, AGAIN_DRAWS = 15, 600
GRAPHS, GRAPH_DRAWS = 160, 6
"""The coverage is some ten standard errors above what it must be, each of which is told."""
CONFIDENCE = 0.95


class Covered(NamedTuple):
    """Of one configuration."""

    lower: float
    upper: float
    bound: float
    """The mean lower bound ÷ the truth."""


def configuration(draw: Any, index: int) -> tuple[Any, Any]:
    """Rates and trials of a random chain: alike or not, tested alike or not, 5 to 200 times."""
    agents = int(draw.integers(2, 13))
    rates = draw.uniform(0.6, 1.0, agents) if index % 2 else 1.0 - 10 ** draw.uniform(-3, -0.5, agents)
    same = index % 3 == 0
    trials = np.full(agents, draw.choice((5, 10, 20, 50, 200))) if same else 10 ** draw.uniform(0.7, 2.3, agents)
    return rates, np.round(trials).astype(int)


def covered(draw: Any, rates: Any, trials: Any, times: int) -> Covered:
    """How often the chain's bounds hold the product."""
    truth, known = float(np.prod(rates)), dict[bytes, tuple[float, float]]()
    low = high = mean = 0.0
    for _ in range(times):
        good = draw.binomial(trials, rates)
        if (key := good.tobytes()) not in known:
            known[key] = tuple(chain_bound([Counts(int(n), float(g)) for n, g in zip(trials, good, strict=True)]))
        lower, upper = known[key]
        low, high, mean = low + (lower <= truth), high + (upper >= truth), mean + lower / truth
    return Covered(low / times, high / times, mean / times)


def chains() -> bool:
    """Print what chains reach; True if it is enough."""
    draw = np.random.default_rng(1)
    configurations = [configuration(draw, index) for index in range(CHAINS)]
    found = [covered(draw, rates, trials, DRAWS) for rates, trials in configurations]
    lower, upper = (float(np.mean([getattr(one, end) for one in found])) for end in ("lower", "upper"))
    worst = sorted(range(CHAINS), key=lambda index: found[index].lower)[:AGAIN]
    fresh = np.random.default_rng(2)
    again = [covered(fresh, *configurations[index], AGAIN_DRAWS).lower for index in worst]
    print(f"{CHAINS:,} random chains of 2 to 12 agents, {DRAWS} draws each: lower bound {lower:.3f}, upper {upper:.3f}")
    print(f"  mean bound ÷ truth {np.mean([one.bound for one in found]):.3f}")
    for agents in range(2, 13):
        of = [one.lower for one, (rates, _) in zip(found, configurations, strict=True) if len(rates) == agents]
        print(f"  {agents:>2} agents: {np.mean(of):.3f} in {len(of)}")
    print(
        f"  the {AGAIN} that looked worst, {AGAIN_DRAWS} fresh draws each: "
        f"least {min(again):.3f}, mean {np.mean(again):.3f} (±{2 * np.sqrt(0.05 * 0.95 / AGAIN_DRAWS):.3f})"
    )
    return lower >= AT_LEAST and float(np.mean(again)) >= AT_LEAST


def five() -> None:
    """The known table: chains of five whose product is 0.742."""
    patterns = ([0.742**0.2] * 5, [0.742, *[1.0 - 1e-9] * 4], [0.8, 0.742 / 0.8, *[1.0 - 1e-9] * 3])
    print(f"{'chain of five, truth 0.742: least coverage':<44}" + "".join(f"{n:>12}" for n in (5, 10, 20, 50, 200)))
    for name, bound in (
        ("the gate's bound", lambda parts: chain_bound(parts).lower),
        ("Lindström-Madden", lindstrom_madden),
    ):
        row = ""
        for n in (5, 10, 20, 50, 200):
            draw, least, mean = np.random.default_rng(n), 1.0, 0.0
            for rates in patterns:
                lows = [bound([Counts(n, float(good)) for good in draw.binomial(n, rates)]) for _ in range(250)]
                least = min(least, float(np.mean(np.array(lows) <= 0.742 + 1e-6)))
                mean += float(np.mean(lows)) / len(patterns)
            row += f"{f'{least:.2f}, {mean:.2f}':>12}"
        print(f"{name:<44}{row}")


def graph(draw: Any, depth: int, used: list[str]) -> Structure:
    """A random tree; each leaf is a part of its own."""
    kind = int(draw.integers(0, 8)) if depth else 7
    if kind == 0:
        return Chain(tuple(graph(draw, depth - 1, used) for _ in range(int(draw.integers(2, 4)))))
    if kind == 1:
        return AnyOf(tuple(graph(draw, depth - 1, used) for _ in range(2)), float(draw.choice((0.8, 1.0))))
    if kind == 2:
        return KOfN(2, tuple(graph(draw, depth - 1, used) for _ in range(3)))
    if kind == 3:
        return Retry(graph(draw, depth - 1, used), int(draw.integers(1, 3)), 0.8, 0.95)
    if kind == 4:
        return Vote(graph(draw, depth - 1, used), 3)
    if kind == 5:
        return CommonCause(AnyOf((graph(draw, depth - 1, used), graph(draw, depth - 1, used))))
    if kind == 6:
        shares = tuple(float(one) for one in draw.dirichlet((1.0, 1.0, 1.0)))
        return OneOf(tuple(graph(draw, depth - 1, used) for _ in range(3)), shares)
    used.append(f"part{len(used)}")
    return Leaf(used[-1])


def betas(draw: Any) -> bounds.Betavariate:
    """Draws that are made many at once."""
    known: dict[tuple[float, float], Iterator[float]] = {}

    def beta(a: float, b: float) -> float:
        if (a, b) not in known:
            many = (draw.beta(a, b, 500).tolist() for _ in itertools.count())
            known[a, b] = itertools.chain.from_iterable(many)
        return next(known[a, b])

    return beta


def graphs() -> bool:
    """Print what other graphs reach; True if it is enough."""
    draw = np.random.default_rng(4)
    lower, upper = list[float](), list[float]()
    while len(lower) < GRAPHS:
        whole = graph(draw, 2, [])
        leaves = names(whole)
        if series(whole) is not None or not 2 <= len(leaves) <= 12:
            continue
        rates = {name: float(draw.uniform(0.6, 1.0)) for name in leaves}
        trials = {name: int(10 ** draw.uniform(0.7, 2.3)) for name in leaves}
        truth, low, high = point(whole, rates), 0, 0
        for turn in range(GRAPH_DRAWS):
            counts = {name: Counts(trials[name], float(draw.binomial(trials[name], rates[name]))) for name in leaves}
            low += bounds.lower(whole, counts, CONFIDENCE, betas(draw)) <= truth
            if turn % 2:  # told, and no more: half of them will do
                high += bounds.upper(whole, counts, CONFIDENCE, betas(draw)) >= truth
        lower.append(low / GRAPH_DRAWS)
        upper.append(high / (GRAPH_DRAWS // 2))
    error = float(np.std(lower)) / GRAPHS**0.5
    print(
        f"{GRAPHS} random graphs with spares, votes, retries, branches, {GRAPH_DRAWS} draws each: "
        f"lower bound {np.mean(lower):.3f} (standard error {error:.4f}), upper {np.mean(upper):.3f}"
    )
    return float(np.mean(lower)) >= AT_LEAST


def main() -> bool:
    """Print all; True if both are covered."""
    five()
    of_chains = chains()
    # A quarter of the draws of a gate: noisier, so rather too low a coverage than too high.
    bounds.DRAWS = 1_000
    of_graphs = graphs()
    for name, holds in (("chains", of_chains), ("other graphs", of_graphs)):
        print(f"{name}, at least {AT_LEAST}: {'ok' if holds else 'MISSED'}")
    return of_chains and of_graphs


if __name__ == "__main__":
    raise SystemExit(0 if main() else 1)
