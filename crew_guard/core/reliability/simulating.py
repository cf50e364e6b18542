"""The ways to do a job, played many times over: what comes out, how widely it varies, beside the arithmetic.

Each task draws what goes wrong, what the person who looks catches and how long it takes. Nothing of
the arithmetic is used but the figures of single parts, so that the two can disagree.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from crew_guard.core.reliability.advising import Advice, Rescue, advise
from crew_guard.core.reliability.counts import Counts
from crew_guard.core.reliability.dropping import LEAST_HISTORIES, Watched, tasks_of, watched
from crew_guard.core.reliability.intervals import Interval, clopper_pearson
from crew_guard.core.reliability.jobs import Z95, JobDescription
from crew_guard.core.reliability.ways import Assumption, Time, Way

SPREAD = 0.5
"""Standard deviation of a time over its mean, where only the mean is known."""
_TOLD_EVERY = 2_000
_LEVEL = 0.975
"""Of each end of an interval: 95 % between them."""
_Z = 1.959963984540054


class Draws(Protocol):
    """Where randomness comes from: a random.Random of a fixed seed is one."""

    def random(self) -> float:
        """Uniform in [0, 1)."""
        ...

    def gauss(self, mu: float = 0.0, sigma: float = 1.0) -> float:
        """Normal."""
        ...


class Figure(NamedTuple):
    """One simulated figure beside the arithmetic."""

    value: float
    interval: Interval
    """95 % of the simulation's own error."""
    arithmetic: float

    @property
    def agrees(self) -> bool:
        """Whether the arithmetic lies in the interval."""
        slack = 1e-9 * max(1.0, abs(self.arithmetic))
        return self.interval.lower - slack <= self.arithmetic <= self.interval.upper + slack


class Latency(NamedTuple):
    """How long a task takes, in seconds."""

    mean: Figure
    p50: float
    p95: float
    p95_interval: Interval
    p99: float


class Played(NamedTuple):
    """What one way came to."""

    way: str
    """workflow, hybrid, agent_loop, crew or crew_with_fallback."""
    catches: float | None
    """What the person who looks catches; None: nobody looks."""
    caught: float | None
    """Of a crew with a fallback: the share of its failures that is noticed."""
    success: Figure
    usd: Figure | None
    latency: Latency | None


@dataclass(frozen=True, slots=True)
class Simulation:
    """All that was played."""

    job: str
    runs: int
    played: tuple[Played, ...]
    left_out: tuple[str, ...]
    """Ways that could not be played, each with why."""
    assumed: tuple[Assumption, ...]
    advice: Advice
    watched: Watched | None = None
    """What the breaker did, where a drop is described."""


def simulate(
    job: JobDescription, runs: int, draws: Draws, on_progress: Callable[[int, int], None] | None = None
) -> Simulation:
    """Play a job's ways.

    Args:
        runs: tasks, at least 1
        draws: random.Random(seed)
        on_progress: told (tasks played, of how many) now and then
    Raises:
        ValueError: the description contradicts itself, or there are no runs
    """
    if runs < 1:
        raise ValueError(f"runs must be at least 1, not {runs}")
    advice = advise(job)
    left_out = tuple(_left_out(advice))
    players = [_Player(option.way) for option in advice.options if _playable(option.way)]
    rescued = list(_rescued(advice))
    for done in range(1, runs + 1):
        for player in players:
            player.play(draws)
        for rescue in rescued:
            rescue.play(draws)
        if on_progress is not None and (done % _TOLD_EVERY == 0 or done == runs):
            on_progress(done, runs)
    played = [one for player in players for one in player.played()]
    played += [rescue.played() for rescue in rescued]
    assumed = (*advice.assumed, *_assumed_times(advice))
    dropped = _watched(job, advice, runs, draws, on_progress)
    return Simulation(job.name, runs, tuple(played), left_out, assumed, advice, dropped)


def _watched(
    job: JobDescription, advice: Advice, runs: int, draws: Draws, on_progress: Callable[[int, int], None] | None
) -> Watched | None:
    chosen = advice.options[0].way
    if job.drop is None or chosen.form == "crew":
        return None
    histories = max(LEAST_HISTORIES, math.ceil(runs / tasks_of(job.drop)))
    crew = advice.option("crew").way
    return watched(crew, chosen, job.drop, histories, draws.random, on_progress=on_progress)


def _playable(way: Way) -> bool:
    return any(case.success is not None for case in way.cases)


def _left_out(advice: Advice) -> Iterator[str]:
    for option in advice.options:
        if not _playable(option.way):
            unknown = [part.name for part in option.way.parts if part.reliability is None]
            yield f"{option.way.form}: the reliability of {', '.join(unknown)} is unknown"


def _assumed_times(advice: Advice) -> Iterator[Assumption]:
    ways = [option.way for option in advice.options]
    if any(time.p95 is None and time.mean > 0 for way in ways for time in way.times or ()):
        yield Assumption("seconds_p95", f"unknown: times are drawn with a deviation of {SPREAD:g} of their average")


class Waits:
    """The time that one way takes, part after part, each log-normal."""

    def __init__(self, times: Sequence[Time] | None) -> None:
        """Find each part's distribution from its average and its 95 % point."""
        self.known = times is not None
        self._laws = [_law(time) for time in times or () if time.mean > 0]

    def draw(self, draws: Draws) -> float:
        """Seconds of one task."""
        return sum(math.exp(mu + sigma * draws.gauss()) for mu, sigma in self._laws)


def _law(time: Time) -> tuple[float, float]:
    """(mu, sigma) of the log-normal time with this average and 95 % point."""
    if time.p95 is None:
        sigma = math.sqrt(math.log(1 + SPREAD**2))
    else:
        # log(p95 / mean) = z sigma - sigma^2 / 2 has two roots; the smaller one is the narrower time.
        sigma = Z95 - math.sqrt(max(0.0, Z95**2 - 2 * math.log(time.p95 / time.mean)))
    return math.log(time.mean) - sigma**2 / 2, sigma


class Chain:
    """The parts of one way, ready to be played."""

    def __init__(self, way: Way) -> None:
        """Take what is known of each part; one whose reliability is unknown counts only where all of it is caught."""
        self._parts = [(part.reliability or 0.0, part.seen) for part in way.parts]

    def worst(self, draws: Draws) -> float:
        """Play one task: what the person who looks must catch of it for it to succeed.

        Returns:
            0 where nothing went wrong; in (0, 1) a draw for each failure that they see, the highest of
            them: they catch it if they catch more than this share; 2 where something went wrong unseen
        """
        needed = 0.0
        for reliability, seen in self._parts:
            if draws.random() >= reliability:
                needed = max(needed, draws.random() or 1e-12) if seen else 2.0
        return needed


class _Player:
    """One way and what came of it so far."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self._cases = [case for case in way.cases if case.success is not None]
        self._good = [0] * len(self._cases)
        self._chain, self._waits = Chain(way), Waits(way.times)
        self._runs = 0
        self._seconds = array("d")

    def play(self, draws: Draws) -> None:
        self._runs += 1
        needed = self._chain.worst(draws)
        for place, case in enumerate(self._cases):
            # What was measured end to end is no product of parts that could be played.
            measured = case.success if case.measured else None
            self._good[place] += needed <= (case.catches or 0.0) if measured is None else draws.random() < measured
        if self._waits.known:
            self._seconds.append(self._waits.draw(draws))

    def played(self) -> Iterator[Played]:
        latency = latency_of(self._seconds, self.way.seconds)
        usd = None if self.way.usd is None else _constant(float(self.way.usd))
        for case, good in zip(self._cases, self._good, strict=True):
            success = success_of(good, self._runs, case.success or 0.0)
            yield Played(self.way.form, case.catches, None, success, usd, latency)


def _rescued(advice: Advice) -> Iterator[_Rescued]:
    for rescue in advice.rescues:
        yield _Rescued(advice.option("crew").way, advice.options[0].way, rescue)


class _Rescued:
    """The crew with a fallback that takes over where a failure is noticed."""

    def __init__(self, crew: Way, fallback: Way, rescue: Rescue) -> None:
        self._rescue, self._looks = rescue, crew.decisive.catches
        self._measured = crew.decisive.success if crew.decisive.measured else None
        self._chains, self._waits = (Chain(crew), Chain(fallback)), (Waits(crew.times), Waits(fallback.times))
        self._costs = (crew.usd, fallback.usd)
        self._runs = self._good = self._moved = 0
        self._seconds = array("d")

    def play(self, draws: Draws) -> None:
        self._runs += 1
        share = self._looks or 0.0
        measured = self._measured
        right = self._chains[0].worst(draws) <= share if measured is None else draws.random() < measured
        moved = not right and draws.random() < self._rescue.caught
        if moved:
            self._moved += 1
            right = self._chains[1].worst(draws) <= share
        self._good += right
        if self._rescue.seconds is not None:
            extra = self._waits[1].draw(draws) if moved else 0.0
            self._seconds.append(self._waits[0].draw(draws) + extra)

    def played(self) -> Played:
        success = success_of(self._good, self._runs, self._rescue.success)
        latency = latency_of(self._seconds, self._rescue.seconds)
        return Played("crew_with_fallback", self._looks, self._rescue.caught, success, self._cost(), latency)

    def _cost(self) -> Figure | None:
        crew, fallback = self._costs
        if crew is None or fallback is None or self._rescue.usd is None:
            return None
        moved = success_of(self._moved, self._runs, 0.0)
        first, more = float(crew), float(fallback)
        ends = Interval(first + more * moved.interval.lower, first + more * moved.interval.upper)
        return Figure(first + more * moved.value, ends, float(self._rescue.usd))


def success_of(good: int, runs: int, arithmetic: float) -> Figure:
    """A simulated rate with its exact 95 % interval."""
    return Figure(good / runs, clopper_pearson(Counts(runs, float(good)), _LEVEL), arithmetic)


def _constant(value: float) -> Figure:
    """What is the same in every task."""
    return Figure(value, Interval(value, value), value)


def latency_of(seconds: Sequence[float], arithmetic: float | None) -> Latency | None:
    """The distribution of times; None where they are unknown."""
    if arithmetic is None or not seconds:
        return None
    ordered, runs = sorted(seconds), len(seconds)
    mean = math.fsum(ordered) / runs
    deviation = math.sqrt(math.fsum((one - mean) ** 2 for one in ordered) / max(1, runs - 1))
    half = _Z * deviation / math.sqrt(runs)

    def at(share: float) -> float:
        return ordered[min(runs - 1, max(0, math.ceil(share * runs) - 1))]

    # The ranks between which the true point lies follow from the binomial distribution alone.
    ranks = _Z * math.sqrt(0.95 * 0.05 / runs)
    ends = Interval(at(0.95 - ranks), at(min(1.0, 0.95 + ranks)))
    figure = Figure(mean, Interval(mean - half, mean + half), arithmetic)
    return Latency(figure, at(0.5), at(0.95), ends, at(0.99))
