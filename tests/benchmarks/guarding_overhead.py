"""What guard() costs a host's own crew: python -m tests.benchmarks.guarding_overhead [--rounds N]

Each host runs the same loop of model call and tool call on its own, guarded with prompts that are a constant, and
guarded with prompts that are gone through as for counting, message by message (each of which is a constant, too: no
tokenizer is measured here), in turns. Models answer at once, and bill what they are told to. With a model of 20 ms
the wall clock is compared, on disk the turns in raw commits.

A step is one model call and the tool call that it asks for. What it takes is the difference between a long run and
a short one over the steps that it has more; what is left of the short one are a run's start and end. The bound is kept
or missed with these in it: by all that the two add, over all their steps, which are 40 a run.

Each host has a process of its own: beside the others' libraries, a megabyte of code each, every step is dearer. The
CPU is one core's: what threads pay for handing over to each other depends on which core each happens to be on.

What a process does once is not in it: a model's class is made once, as a user's is (a class per run would have its
stand-in made in each run, too, which takes pydantic milliseconds), and neither side collects the other's garbage.
What a host does beside a run, in threads of its own, is waited for on either side: it is the host's.
"""

from __future__ import annotations

import argparse
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
from functools import partial
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
from tests.benchmarks.hosted_loops import LOOPS
from tests.benchmarks.store_floor import RawCommits

SHORT, LONG = 20, 60
"""Steps of a run."""
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


def alone(loop: str, steps: int, latency: float, timer: Callable[[], float]) -> float:
    """Seconds of so many steps of a host on its own."""
    made = LOOPS[loop](steps, latency)
    gc.collect()
    began = timer()
    made.alone()
    made.quiet()
    spent = timer() - began
    if made.asked() != steps:
        raise RuntimeError(f"{loop} made {made.asked()} of {steps} calls")
    return spent


def guarded(loop: str, steps: int, latency: float, timer: Callable[[], float], store: Store) -> float:
    """Seconds of the same under the guard."""
    made = LOOPS[loop](steps, latency)
    adapter = importlib.import_module(f"crew_guard.adapters.{made.adapter}")
    runtime = adapter.runtime_for(made.crew, lambda _: ConstantFacts())
    supervisor = Supervisor(POLICY, store=store)
    gc.collect()
    began = timer()
    result = supervisor.run_runtime(runtime, made.inputs, name=loop).wait()
    made.quiet()
    spent = timer() - began
    if not result.done or (made.asked(), result.usage.steps) != (steps, steps):
        raise RuntimeError(f"{loop}: {steps} steps were asked for, {made.asked()} made: {result}")
    return spent


class Costs(NamedTuple):
    """What guarding costs: medians of pairs."""

    own: float
    """µs of CPU a step of the host on its own."""
    step: float
    """µs more when guarded."""
    run: float
    """µs more a run, for its start and end."""
    with_run: float
    """µs more a step, a run's start and end among them."""
    counting: float
    """µs more a step where prompts are gone through."""
    at_20_ms: float
    """Guarded ÷ alone, where the model takes 20 ms."""


class Turn(NamedTuple):
    """CPU seconds of one run of each kind."""

    own: float
    besides: float
    """Guarded, and no prompt is gone through."""
    whole: float


def _turn(loop: str, steps: int) -> Turn:
    own = alone(loop, steps, 0, time.process_time)
    with uncounted():
        besides = guarded(loop, steps, 0, time.process_time, MemoryStore())
    return Turn(own, besides, guarded(loop, steps, 0, time.process_time, MemoryStore()))


def _added(turn: Turn) -> float:
    return turn.besides - turn.own


def _ratio_at_20_ms(loop: str) -> float:
    with_guard = guarded(loop, SHORT, LATENCY, time.perf_counter, MemoryStore())
    return with_guard / alone(loop, SHORT, LATENCY, time.perf_counter)


def compare(loop: str, rounds: int) -> Costs:
    """What guarding this one costs."""
    with on_one_core():
        _turn(loop, SHORT)
        turns = [(_turn(loop, SHORT), _turn(loop, LONG)) for _ in range(rounds)]
        slow = [_ratio_at_20_ms(loop) for _ in range(rounds)]
    a_step = [Turn(*((long - short) / (LONG - SHORT) for short, long in zip(*pair, strict=True))) for pair in turns]
    more = [step.besides - step.own for step in a_step]
    runs = [short.besides - short.own - SHORT * step for (short, _), step in zip(turns, more, strict=True)]
    return Costs(
        statistics.median(step.own for step in a_step) * 1e6,
        statistics.median(more) * 1e6,
        statistics.median(runs) * 1e6,
        statistics.median(_added(short) + _added(long) for short, long in turns) / (SHORT + LONG) * 1e6,
        statistics.median(step.whole - step.besides for step in a_step) * 1e6,
        statistics.median(slow),
    )


def commits_a_step(loop: str, rounds: int) -> float:
    """Median: what a guarded step takes longer on disk than in memory, in raw commits of the same file system."""
    found: list[float] = []
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench_") as folder:
        for number in range(rounds):
            raw = RawCommits(Path(folder) / f"raw{number}.db", "FULL")
            raw.seconds(50)
            commit = statistics.median(raw.seconds(200))
            raw.close()
            store = SqliteStore(Path(folder) / f"{number}.db")
            on_disk = guarded(loop, SHORT, 0, time.perf_counter, store)
            store.close()
            in_memory = guarded(loop, SHORT, 0, time.perf_counter, MemoryStore())
            found.append((on_disk - in_memory) / SHORT / commit)
    return statistics.median(found)


def measure(loop: str, rounds: int) -> tuple[Costs, float]:
    """What guarding this one costs, and its commits a step: in a process that has imported no other host."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return compare(loop, rounds), commits_a_step(loop, min(3, rounds))


def main() -> bool:
    """Print the table; True if guarding costs no more than it may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    given = parser.parse_args()
    columns = ("alone µs/step", "guarded", "µs/run", "both", "counting", "at 20 ms", "+raw commits/step")
    print(f"{'':24}" + "".join(f"{name:>{len(name) + 3}}" for name in columns), flush=True)
    found: list[Costs] = []
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as fresh:
        for loop, (costs, commits) in zip(LOOPS, fresh.map(partial(measure, rounds=given.rounds), LOOPS), strict=True):
            found.append(costs)
            print(
                f"{loop:24}{costs.own:>16,.0f}{costs.step:>+10,.0f}{costs.run:>+9,.0f}{costs.with_run:>+7,.0f}{costs.counting:>+11,.0f}"
                f"{costs.at_20_ms:>11.3f}{commits:>20.2f}",
                flush=True,
            )
    dearest, slowest = max(costs.with_run for costs in found), max(costs.at_20_ms for costs in found)
    cheap, fast = dearest <= MICROSECONDS_A_STEP, slowest <= TIMES_ITS_OWN
    for text, bound, holds in (
        (
            f"besides counting, guarding adds {dearest:.0f} µs of CPU a step, with a run's start and end",
            MICROSECONDS_A_STEP,
            cheap,
        ),
        (f"with a model of 20 ms it takes {slowest:.3f} of the host's time", TIMES_ITS_OWN, fast),
    ):
        print(f"{text} at the most (at most {bound:g}): {'ok' if holds else 'MISSED'}")
    return cheap and fast


if __name__ == "__main__":
    raise SystemExit(0 if main() else 1)
