"""Every benchmark, one after the other: python -m tests.benchmarks [--crew N]

The exit code is 1 where a cap did not hold, a workflow cited too seldom, rules on arguments did worse
than names of tools, or reliability missed a target. Ratios of times are printed with their bounds; on a
machine that others use too they say more about the machine, so they don't decide.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

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


def main() -> int:
    """Run each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crew", type=int, default=3, help="how many questions the embedded crew is asked (of 40)")
    given = parser.parse_args()
    failed: list[str] = []
    for name, options in (
        ("overshoot", ()),
        ("hosted_overshoot", ()),
        ("loop_detection", ()),
        ("import_cost", ()),
        ("usage_bodies", ()),
        ("chatdev_ledger", ()),
        ("autogen_sessions", ()),
        ("crewai_cassettes", ("--every", "15")),
        ("client_cpu", ()),
        ("overhead", ()),
        ("guarding_overhead", ("--rounds", "5")),
        ("growth", ()),
        ("deadlines", ()),
        ("scale", ()),
        ("agentdojo", ()),
        ("store_floor", ()),
        ("reliability_detection", ()),
        ("reliability_crew", ()),
        ("reliability_closed_loop", ()),
        ("reliability_coverage", ()),
        ("reliability_recorded", ()),
        ("reliability_cost", ()),
        ("research_questions", ("--crew", str(given.crew))),
    ):
        print(f"\n== {name}", flush=True)
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-m", f"tests.benchmarks.{name}", *options], check=False)
        print(f"   {time.monotonic() - began:.0f} s", flush=True)
        if done.returncode and name in DECIDES:
            failed.append(name)
    print(f"\nfailed: {', '.join(failed)}" if failed else "\nevery benchmark that decides is fine")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
