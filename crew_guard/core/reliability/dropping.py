"""What the breaker is worth where a crew's reliability drops: the real one, fed with played runs.

A history is healthy, then dropped, then healthy again. Beside it stand a crew that nobody watches and an
oracle that knows the moment of the drop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from crew_guard.core.reliability.detector import ALARM_AFTER
from crew_guard.core.reliability.intervals import Interval
from crew_guard.core.reliability.jobs import Drop
from crew_guard.core.reliability.records import CrewRecord, Settings, add
from crew_guard.core.reliability.trials import RunReport, Subject, Trial
from crew_guard.core.reliability.ways import Way

LEAST_HISTORIES = 20
_RECOVERY = 500
"""Tasks after the drop is over: time enough to find out that it is."""
_Z = 1.959963984540054


class Watched(NamedTuple):
    """What the breaker did over all histories."""

    histories: int
    tasks: int
    """Of each history."""
    seen: float
    """Share of drops that opened the breaker while they lasted."""
    delay: float | None
    """Tasks from the drop to the breaker's opening, on average; None where it never opened."""
    delay_interval: Interval | None
    """95 %."""
    culprit: float | None
    """Share of those openings that named the step that dropped."""
    false_alarms: float
    """Share of histories in which it opened before the drop."""
    success: float
    """Of all tasks, with the breaker and the workflow that takes over."""
    unwatched: float
    """The same by arithmetic, where the crew goes on through the drop."""
    oracle: float
    """The same by arithmetic, where each stretch of time is the better one's."""
    usd: float | None
    """A task, probes included."""


def watched(
    crew: Way,
    fallback: Way,
    drop: Drop,
    histories: int,
    random: Callable[[], float],
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> Watched | None:
    """Play a drop many times over; None where a step's reliability is unknown.

    Args:
        crew: whose step drops
        fallback: what takes over
        drop: which step, to what, when and how long
        histories: how often it is played
        random: uniform in [0, 1)
        on_progress: told (tasks played, of how many)
    """
    rates = {part.name: part.reliability for part in crew.parts}
    others = [part.reliability for part in fallback.parts]
    if None in rates.values() or None in others:
        return None
    healthy = {name: rate or 0.0 for name, rate in rates.items()}
    players = _Rates(healthy, {**healthy, drop.step: drop.to}, [rate or 0.0 for rate in others])
    prices = None if crew.usd is None or fallback.usd is None else (float(crew.usd), float(fallback.usd))
    found: list[_History] = []
    for done in range(1, histories + 1):
        found.append(_history(players, drop, random))
        if on_progress is not None:
            on_progress(done * tasks_of(drop), histories * tasks_of(drop))
    return _summed(found, players, drop, prices)


def tasks_of(drop: Drop) -> int:
    """Tasks of one history."""
    return drop.after + drop.lasts + _RECOVERY


class _Rates(NamedTuple):
    healthy: dict[str, float]
    dropped: dict[str, float]
    fallback: list[float]


class _History(NamedTuple):
    opened: int | None
    """The first task, from the drop on, after which the breaker was not closed."""
    culprit: str
    early: bool
    """Whether it opened before the drop."""
    good: int
    crews: int
    """Runs of the crew, probes included."""
    workflows: int


def _history(rates: _Rates, drop: Drop, random: Callable[[], float]) -> _History:
    settings = _settings(rates.healthy)
    record: CrewRecord | None = None
    opened, culprit, early = None, "", False
    good = crews = workflows = 0
    end = drop.after + drop.lasts
    for task in range(tasks_of(drop)):
        at, now = float(task), rates.dropped if drop.after <= task < end else rates.healthy
        closed = record is None or record.breaker.state == "closed"
        if closed or record is None:
            report = _crew_report(now, task, random, shadow=False)
            good, crews = good + (report.outcome == 1), crews + 1
        else:
            right = all(random() < rate for rate in rates.fallback)
            good, workflows = good + right, workflows + 1
            report = RunReport(f"{task}", "crew", "1", at, outcome=float(right), via="workflow")
            if record.breaker.due(settings.probes):
                crews += 1
                record = add(record, _crew_report(now, task, random, shadow=True), settings)
        record = add(record, report, settings)
        if closed and record.breaker.state != "closed":
            early = early or task < drop.after
            if opened is None and drop.after <= task < end:
                opened, culprit = task, record.breaker.culprit
    return _History(opened, culprit, early, good, crews, workflows)


def _settings(healthy: dict[str, float]) -> Settings:
    """Held to what it shows while it is healthy: a drop is a drop, whatever the level was."""
    return Settings(
        threshold=math.prod(healthy.values()),
        agent_target=min(healthy.values()),
        parts=len(healthy),
        alarm_after=ALARM_AFTER,
    )


def _crew_report(rates: dict[str, float], task: int, random: Callable[[], float], *, shadow: bool) -> RunReport:
    grades = {name: float(random() < rate) for name, rate in rates.items()}
    trials = tuple(Trial(Subject(name), name, name, grade, "check") for name, grade in grades.items())
    run_id = f"{task} probe" if shadow else f"{task}"
    return RunReport(run_id, "crew", "1", float(task), trials, float(all(grades.values())), shadow=shadow)


def _summed(found: Sequence[_History], rates: _Rates, drop: Drop, prices: tuple[float, float] | None) -> Watched:
    tasks = tasks_of(drop)
    delays = [one.opened - drop.after + 1 for one in found if one.opened is not None and not one.early]
    healthy, dropped, other = (
        math.prod(each) for each in (rates.healthy.values(), rates.dropped.values(), rates.fallback)
    )
    calm = (tasks - drop.lasts) / tasks
    every = len(found) * tasks
    crews, workflows = sum(one.crews for one in found), sum(one.workflows for one in found)
    usd = None
    if prices is not None:
        usd = (crews * prices[0] + workflows * prices[1]) / every
    named = sum(one.culprit == drop.step for one in found if one.opened is not None and not one.early)
    return Watched(
        histories=len(found),
        tasks=tasks,
        seen=sum(one.opened is not None for one in found) / len(found),
        delay=math.fsum(delays) / len(delays) if delays else None,
        delay_interval=_mean_interval(delays),
        culprit=named / len(delays) if delays else None,
        false_alarms=sum(one.early for one in found) / len(found),
        success=sum(one.good for one in found) / every,
        unwatched=calm * healthy + (1 - calm) * dropped,
        oracle=calm * max(healthy, other) + (1 - calm) * max(dropped, other),
        usd=usd,
    )


def _mean_interval(values: Sequence[int]) -> Interval | None:
    if len(values) < 2:  # noqa: PLR2004 - one value has no spread
        return None
    mean = math.fsum(values) / len(values)
    half = _Z * math.sqrt(math.fsum((one - mean) ** 2 for one in values) / (len(values) - 1) / len(values))
    return Interval(mean - half, mean + half)
