"""Every benchmark, one after the other: python -m tests.benchmarks [--crew N] [--short]

The exit code is 1 where a cap did not hold, a workflow cited too seldom, rules on arguments did worse
than names of tools, or reliability missed a target. Ratios of times are printed with their bounds; on a
machine that others use too they say more about the machine, so they don't decide.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

DECIDES = {
    "overshoot",
    "hosted_overshoot",
    "loop_detection",
    "research_questions",
    "agentdojo",
    "usage_bodies",
    "chatdev_ledger",
    "autogen_sessions",
    "crewai_cassettes",
    "reliability_detection",
    "reliability_crew",
    "reliability_closed_loop",
    "reliability_coverage",
    "reliability_recorded",
}


Benchmark = tuple[str, tuple[str, ...]]


def main() -> int:
    """Run each in a process of its own: two at a time of those that count, and alone those that are timed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crew", type=int, default=3, help="how many questions the embedded crew is asked (of 40)")
    parser.add_argument("--short", action="store_true", help="fewer rounds of what doesn't decide, as in CI")
    given = parser.parse_args()
    short = given.short
    counted: tuple[Benchmark, ...] = (
        ("hosted_overshoot", ()),
        ("reliability_coverage", ()),
        ("reliability_crew", ()),
        ("reliability_detection", ()),
        ("reliability_closed_loop", ()),
        ("overshoot", ()),
        ("loop_detection", ()),
        ("usage_bodies", ()),
        ("chatdev_ledger", ()),
        ("autogen_sessions", ()),
        ("crewai_cassettes", ("--every", "30" if short else "15")),
        ("agentdojo", ()),
        ("reliability_recorded", ()),
    )
    timed: tuple[Benchmark, ...] = (
        ("import_cost", ()),
        ("client_cpu", ("--calls", "30") if short else ()),
        ("overhead", ()),
        ("guarding_overhead", ("--rounds", "1") if short else ()),
        ("growth", ()),
        ("deadlines", ()),
        ("scale", ("--rounds", "1") if short else ()),
        ("store_floor", ()),
        ("reliability_cost", ()),
        ("research_questions", ("--crew", str(1 if short else given.crew))),  # its model takes every core
    )
    with ThreadPoolExecutor(2) as both:
        ended = [*both.map(run, counted)]
    ended += map(run, timed)
    failed = [name for (name, _), well in zip((*counted, *timed), ended, strict=True) if name in DECIDES and not well]
    print(f"\nfailed: {', '.join(failed)}" if failed else "\nevery benchmark that decides is fine")
    return 1 if failed else 0


def run(one: Benchmark) -> bool:
    """Print what one benchmark says; whether its bounds hold."""
    name, options = one
    began = time.monotonic()
    command = [sys.executable, "-m", f"tests.benchmarks.{name}", *options]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(f"\n== {name}\n{done.stdout}   {time.monotonic() - began:.0f} s", flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    raise SystemExit(main())
