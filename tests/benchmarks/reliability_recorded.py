"""Compounding against recorded runs, estimated on half of the tasks, scored on the rest.

Run it by python -m tests.benchmarks.reliability_recorded. Tasks are split by a hash of their name and a number: the
first split is told by itself, and the mean over all of them, in which the luck of the smaller halves is left out.
Reported as it comes: the exit code is 1 only where nothing could be read. Needs the recorded data: CREW_GUARD_DATA.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import os
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from crew_guard.core.reliability import formulas
from crew_guard.core.reliability.counts import NO_TRIALS, Counts
from crew_guard.core.reliability.intervals import clopper_pearson, wilson
from crew_guard.core.reliability.structure import Chain, Leaf, Repeat, point

DATA = Path(os.environ.get("CREW_GUARD_DATA", Path(__file__).parents[2] / "../shared/data"))
SPLITS = 200
AIM_STEPS, AIM_PASS_4 = 0.04, 0.02
SHRUNK = 4.0
"""Trials' worth of the agent's own rate that each tool's rate begins with."""


WORDED = {"calculate", "transfer_to_human_agents"}
"""Actions whose arguments are words of the agent's own: none is made as it was written down."""


class Run(NamedTuple):
    """One trial of one task."""

    cell: str
    task: str
    steps: tuple[tuple[str, bool], ...]
    """(the tool, whether the action was right) by the official labels."""
    success: bool


def tau2() -> Iterator[Run]:
    """Nine cells, each task once."""
    for path in sorted((DATA / "tau2_action_checks").glob("*.jsonl.gz")):
        with gzip.open(path, "rt") as lines:
            for line in lines:
                run = json.loads(line)
                info = run["reward_info"] or {}
                checks = info.get("action_checks") or ()
                steps = tuple((one["action"]["name"], bool(one["action_match"])) for one in checks)
                yield Run(f"{run['agent']} {run['domain']}", str(run["task_id"]), steps, info.get("reward") == 1)


def tau_bench() -> Iterator[Run]:
    """One cell, each task four times; an action is right where it occurs in the run with the same arguments."""
    path = DATA / "tau_bench_airline_gpt4o/gpt-4o-airline.json.gz"
    with gzip.open(path, "rt") as file:
        for run in json.load(file):
            made = set(_calls(run["traj"]))
            wanted = [one for one in run["info"]["task"]["actions"] if one["name"] not in WORDED]
            steps = tuple((one["name"], (one["name"], _key(one["kwargs"])) in made) for one in wanted)
            yield Run("gpt-4o airline (tau-bench)", str(run["task_id"]), steps, run["reward"] == 1)


def _calls(messages: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for message in messages:
        for call in message.get("tool_calls") or ():
            yield call["function"]["name"], _key(json.loads(call["function"]["arguments"]))


def _key(arguments: Any) -> str:
    return json.dumps(arguments, sort_keys=True)


def first_half(task: str, split: int) -> bool:
    """Whether a task is one to estimate on."""
    return hashlib.sha256(f"{split}:{task}".encode()).digest()[0] % 2 == 0


def halves(runs: Sequence[Run], split: int) -> tuple[list[Run], list[Run]]:
    """(to estimate on, to score on)."""
    found: tuple[list[Run], list[Run]] = ([], [])
    for run in runs:
        found[0 if first_half(run.task, split) else 1].append(run)
    return found


def rates(runs: Sequence[Run]) -> tuple[float, Mapping[str, float], float]:
    """The agent's rate by step, each tool's drawn towards it, and how alike steps of one run end (ICC)."""
    tools: dict[str, Counts] = defaultdict(lambda: NO_TRIALS)
    pairs = both = 0
    for run in runs:
        good = sum(right for _, right in run.steps)
        for tool, right in run.steps:
            tools[tool] = tools[tool].plus(float(right))
        pairs, both = pairs + math.comb(len(run.steps), 2), both + math.comb(good, 2)
    own = sum(tools.values(), NO_TRIALS)
    rate = (own.good + 0.5) / (own.trials + 1)
    each = {tool: (one.good + SHRUNK * rate) / (one.trials + SHRUNK) for tool, one in tools.items()}
    return rate, each, formulas.icc_of(rate, both / pairs) if pairs else 0.0


ESTIMATES = ("the product, a rate by agent", "a rate by agent and tool", "alike steps (ICC)")


def all_right(known: Sequence[Run], asked: Sequence[Run]) -> tuple[float, ...]:
    """The predicted share of runs with all steps right, by each of ESTIMATES."""
    rate, tools, icc = rates(known)
    found = []
    for run in asked:
        chain = Chain(tuple(Leaf(tool) for tool, _ in run.steps))
        found.append(
            (
                point(chain, dict.fromkeys((tool for tool, _ in run.steps), rate)),
                point(chain, {tool: tools.get(tool, rate) for tool, _ in run.steps}),
                point(Repeat(Leaf("step"), len(run.steps), icc), {"step": rate}),
            )
        )
    return tuple(statistics.mean(column) for column in zip(*found, strict=True))


def share(runs: Sequence[Run]) -> float:
    """Of runs with all steps right."""
    return statistics.mean(all(right for _, right in run.steps) for run in runs)


def steps(cells: Mapping[str, list[Run]]) -> None:
    """Print how well "all steps right" is predicted."""
    print(f"all steps right: {'':<18}" + "".join(f"{name:>32}" for name in ESTIMATES) + f"{'true':>8}")
    first: list[list[float]] = []
    typical: list[list[float]] = []
    mean: list[list[float]] = []
    noise: list[float] = []
    for cell, runs in cells.items():
        errors, predicted, true = list[list[float]](), list[tuple[float, ...]](), list[float]()
        for split in range(SPLITS):
            known, asked = halves(runs, split)
            predicted.append(all_right(known, asked))
            true.append(share(asked))
            errors.append([one - true[-1] for one in predicted[-1]])
        first.append([abs(one) for one in errors[0]])
        typical.append([statistics.mean(map(abs, column)) for column in zip(*errors, strict=True)])
        mean.append([abs(statistics.mean(column)) for column in zip(*errors, strict=True)])
        tasks = len({run.task for run in runs}) / 2
        rate = share(runs)
        noise.append(math.sqrt(2 / math.pi * rate * (1 - rate) / tasks))
        columns = [statistics.mean(column) for column in zip(*predicted, strict=True)]
        print(f"  {cell:<33}" + "".join(f"{one:>32.3f}" for one in columns) + f"{statistics.mean(true):>8.3f}")
    for name, rows in (
        ("the first split", first),
        (f"each of {SPLITS} splits", typical),
        ("their mean by cell", mean),
    ):
        for group, part in (("tau2's nine", rows[:-1]), ("with tau-bench", rows)):
            errors_by = [statistics.mean(column) for column in zip(*part, strict=True)]
            label = f"  mean absolute error, {name}, {group}"
            print(f"{label:<60}" + ", ".join(f"{one:.3f}" for one in errors_by) + f" (aim {AIM_STEPS})")
    print(f"  a half has so few tasks that the truth itself, on one split, would err by {statistics.mean(noise):.3f}")


def pass_k(runs: Sequence[Run], k: int) -> float:
    """The unbiased share of tasks that succeed k times in a row."""
    tasks: dict[str, list[bool]] = defaultdict(list)
    for run in runs:
        tasks[run.task].append(run.success)
    return statistics.mean(math.comb(sum(one), k) / math.comb(len(one), k) for one in tasks.values())


def predicted_pass_4(runs: Sequence[Run]) -> float:
    """From pass^1 and pass^2."""
    p = pass_k(runs, 1)
    return point(Repeat(Leaf("task"), 4, formulas.icc_of(p, pass_k(runs, 2))), {"task": p})


def repeats(runs: Sequence[Run]) -> None:
    """Print how well pass^4 is predicted."""
    true = pass_k(runs, 4)
    p, both, found = pass_k(runs, 1), pass_k(runs, 2), predicted_pass_4(runs)
    icc = formulas.icc_of(p, both)
    print(f"pass^4 of tau-bench, from pass^1 {p:.3f} and pass^2 {both:.3f} (ICC {icc:.2f}): {found:.3f}")
    print(f"  true {true:.3f}, off by {abs(found - true):.3f} (aim {AIM_PASS_4}); independent ones would be {p**4:.3f}")
    errors = []
    for split in range(SPLITS):
        known, asked = halves(runs, split)
        errors.append(predicted_pass_4(known) - pass_k(asked, 4))
    print(
        f"  from half of the tasks for the other half: off by {abs(errors[0]):.3f} in one split, "
        f"by {abs(statistics.mean(errors)):.3f} on average over {SPLITS}"
    )


def end_to_end(cells: Mapping[str, list[Run]]) -> None:
    """Print how often the interval of one half's success holds all tasks' rate, and the other half's."""
    for name, interval in (("Clopper-Pearson, lower bound", clopper_pearson), ("Wilson, lower bound", wilson)):
        of_all = of_rest = seen = 0
        for runs in cells.values():
            everything = statistics.mean(run.success for run in runs)
            for split in range(SPLITS):
                known, asked = halves(runs, split)
                lower = interval(Counts(len(known), float(sum(run.success for run in known)))).lower
                of_all += lower <= everything
                of_rest += lower <= statistics.mean(run.success for run in asked)
                seen += 1
        print(f"end to end, {name} at 0.95 of one half of the tasks lies below")
        print(f"  all tasks' rate in {of_all / seen:.3f}, the other half's in {of_rest / seen:.3f}")
    print("  (the other half is as noisy as the first: a bound that is exact for the truth holds it in some 0.88)")


def main() -> bool:
    """Read and print."""
    if not (DATA / "tau2_action_checks").is_dir():
        print(f"skipped: the recorded data is not at {DATA} (CREW_GUARD_DATA)")
        return True
    cells: dict[str, list[Run]] = defaultdict(list)
    for run in tau2():
        cells[run.cell].append(run)
    repeated = list(tau_bench())
    cells[repeated[0].cell] = repeated
    steps(cells)
    repeats(repeated)
    end_to_end(cells)
    return len(cells) == 10


if __name__ == "__main__":
    raise SystemExit(0 if main() else 1)
