"""`advise` and `simulate`: a job from a file or from a crew, the arithmetic on it, and what playing it shows."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from crew_guard.cli.advice import advice_json, advice_parts, simulation_json, simulation_parts
from crew_guard.cli.ends import command
from crew_guard.cli.journal import is_there, no_journal, open_journal
from crew_guard.cli.streams import say
from crew_guard.cli.summary import write
from crew_guard.config import data_dir, load_crew
from crew_guard.config.crew_jobs import Known, describe_crew
from crew_guard.config.jobs import load_job
from crew_guard.core.reliability.advising import advise
from crew_guard.core.reliability.jobs import JobDescription
from crew_guard.core.reliability.records import CrewRecord
from crew_guard.core.reliability.simulating import simulate
from crew_guard.core.usage import FREE, Rates
from crew_guard.errors import ConfigError

_LIVE, _PLAIN = 0.2, 10.0
"""Seconds between two words of progress, on a terminal and elsewhere."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a job is described."""

    target: str
    estimates: str | None = None
    model: str | None = None
    store: Path | None = None


def print_advice(source: Source, *, as_json: bool, debug: bool) -> None:
    """Recommend a way to do a job, and say why."""
    with command(as_json=as_json, debug=debug) as stdout:
        job, sources = job_of(source)
        advice = advise(job)
        if as_json:
            stdout.json(advice_json(advice, sources))
        else:
            write(stdout.stream, *advice_parts(advice, sources))


def print_simulation(source: Source, runs: int, seed: int, *, as_json: bool, debug: bool) -> None:
    """Play a job's ways many times, beside the arithmetic."""
    with command(as_json=as_json, debug=debug) as stdout:
        job, sources = job_of(source)
        found = simulate(job, runs, random.Random(seed), _telling())  # noqa: S311 - a simulation, repeatable by its seed
        if as_json:
            stdout.json(simulation_json(found, seed, sources))
        else:
            write(stdout.stream, *simulation_parts(found, seed, sources))


def job_of(source: Source) -> tuple[JobDescription, tuple[str, ...]]:
    """The job that a target describes, and where figures of a crew's come from.

    Raises:
        ConfigError: the file, the crew or its estimates are wrong
    """
    target = source.target
    if target.lower().endswith((".yaml", ".yml")):
        if source.estimates is not None:
            raise ConfigError(f"--estimates is for crews in Python; {target} says its figures itself")
        return load_job(target), ()
    if ":" not in target:
        raise ConfigError(f"expected a job's FILE.yaml, or a crew as FILE.py:ATTRIBUTE, got {target!r}")
    from crew_guard.models.prices import rates_for
    from crew_guard.models.registry import EMBEDDED, PROVIDERS

    def price(name: str) -> Rates | None:
        own = PROVIDERS.get(name.partition(":")[0])
        if name == EMBEDDED:
            return FREE
        return rates_for(name) if own is None or own.rates is None else own.rates

    crew = load_crew(target)
    estimates = None if source.estimates is None else load_job(source.estimates)
    known = Known(price, source.model or "", _record(crew.name, source.store), estimates)
    described = describe_crew(crew, known)
    return described.job, described.sources


def _record(crew: str, store: Path | None) -> CrewRecord | None:
    """The track record of a crew of this name; None where there is none."""
    file = data_dir() / "crew_guard.db" if store is None else store
    if not is_there(file):
        if store is not None:
            raise no_journal(file)
        return None
    return open_journal(file).track_record().crew(crew, like="")


def _telling() -> Callable[[int, int], None]:
    """Says how far a long simulation is: on a terminal in one line that moves, else every ten seconds."""
    terminal = sys.stderr.isatty()
    told = time.monotonic()
    every = _LIVE if terminal else _PLAIN
    shown = False

    def tell(done: int, total: int) -> None:
        nonlocal told, shown
        if terminal and shown and done == total:
            sys.stderr.write("\r\x1b[K")
        elif time.monotonic() - told >= every:
            told, shown = time.monotonic(), True
            text = f"playing: {done:,} of {total:,} tasks"
            if terminal:
                sys.stderr.write(f"\r{text}")
                sys.stderr.flush()
            else:
                say(text)

    return tell
