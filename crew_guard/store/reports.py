"""What every store asks of reports and of later verdicts, and the words for what is wrong with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from shlex import quote

from msgspec.structs import asdict, replace

from crew_guard.core.given import must_be_number
from crew_guard.core.reliability.trials import RunReport, Subject
from crew_guard.errors import ConfigError, StoreError
from crew_guard.store.journals import storable
from crew_guard.store.rows import VerdictRow

_FIGURES = ("usd", "seconds", "faults")
_SHARES = ("cost_adherence", "latency_adherence")
IN_MEMORY = "memory"
"""What messages call a record that no file has."""


def checked_grade(grade: float) -> float:
    """A person's grade.

    Raises:
        ConfigError: it is not a number from 0 to 1
    """
    must_be_number(grade, "a grade", "a number from 0 (bad) to 1 (good)", lambda each: 0 <= each <= 1, ConfigError)
    return float(grade)


def checked_report(report: RunReport) -> RunReport:
    """A report whose figures can be counted and whose texts can be stored.

    Raises:
        StoreError: a figure is out of range
    """
    for trial in report.trials:
        _share(report, f"the grade of {trial.agent!r} on {trial.task!r}", trial.grade)
    if report.outcome is not None:
        _share(report, "the outcome", report.outcome)
    for name in _SHARES:
        _share(report, name, getattr(report, name))
    for name in _FIGURES:
        value = getattr(report, name)
        if not (math.isfinite(value) and value >= 0):
            raise _uncountable(report, name, value, "a finite number from 0 on")
    for name, usd in report.costs.items():
        if not (math.isfinite(usd) and usd >= 0):
            raise _uncountable(report, f"the cost of {name!r}", usd, "a finite number from 0 on")
    if not math.isfinite(report.at):
        raise _uncountable(report, "at", report.at, "Unix seconds")
    trials = tuple(
        replace(
            trial,
            subject=storable_subject(trial.subject),
            agent=storable(trial.agent),
            task=storable(trial.task),
            reason=storable(trial.reason),
        )
        for trial in report.trials
    )
    texts = {name: storable(getattr(report, name)) for name in ("run_id", "crew", "version")}
    costs = {storable(name): usd for name, usd in report.costs.items()}
    return replace(report, trials=trials, costs=costs, **texts)


def storable_subject(subject: Subject) -> Subject:
    """A subject whose texts can be stored."""
    return Subject(**{name: storable(text) for name, text in asdict(subject).items()})


def _share(report: RunReport, what: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise _uncountable(report, what, value, "a number from 0 to 1")


def _uncountable(report: RunReport, what: str, value: float, expected: str) -> StoreError:
    return StoreError(f"the report of run {report.run_id!r} can't be counted: {what} is {value!r}, expected {expected}")


def judged_before(
    run_id: str, verdicts: Sequence[VerdictRow], agent: str | None, task: str | None, place: str
) -> VerdictRow | None:
    """The verdict that a person's later one takes the place of; None for a run that nobody judged as a whole.

    Raises:
        StoreError: the run has no trial of this agent, or of several tasks and none is named; a person judged it
    """
    if agent is None:
        theirs = [row for row in verdicts if row.agent is None and row.replaced_by is None]
    else:
        theirs = _of_task(run_id, verdicts, agent, task, place)
    for row in theirs:
        if row.source == "person":
            raise _given_twice(run_id, row, place)
    return theirs[-1] if theirs else None


def _of_task(run_id: str, verdicts: Sequence[VerdictRow], agent: str, task: str | None, place: str) -> list[VerdictRow]:
    theirs = [row for row in verdicts if _is_of(row, agent) and row.replaced_by is None]
    if not theirs:
        agents = list(dict.fromkeys(row.agent for row in verdicts if row.agent is not None))
        there = f"there are trials of {_listed(agents)}" if agents else "nothing was judged in it"
        raise StoreError(f"run {run_id!r} in {place} has no trial of an agent {agent!r}: {there}")
    tasks = list(dict.fromkeys(row.task for row in theirs))
    if task is None and len(tasks) > 1:
        raise StoreError(
            f"agent {agent!r} has trials of several tasks in run {run_id!r} ({_listed(tasks)}): "
            "say which one is meant with --task"
        )
    found = [row for row in theirs if task is None or row.task == task]
    if not found:
        raise StoreError(f"agent {agent!r} has no trial of a task {task!r} in run {run_id!r}, but of {_listed(tasks)}")
    return found


def _is_of(row: VerdictRow, agent: str) -> bool:
    """Whether it is this agent's work: by its name, as agent/task, or as the record's stream is called, agent/kind."""
    if row.agent is None:
        return False
    return agent in (row.agent, f"{row.agent}/{row.task}", row.trial.stream) or row.agent == f"{agent}/{row.task}"


def not_reported(run_id: str, place: str) -> StoreError:
    """The error for a verdict on a run that the track record doesn't know."""
    why = (
        f"run {run_id!r} is not in the track record of {place}: it is unknown or still under way, a person or an error "
        "of its own ended it, or nothing of it is judged (no verifier, no output schema, and no reliability section in "
        "its policy)"
    )
    if place == IN_MEMORY:
        return StoreError(why)
    return StoreError(
        f"{why}; `crew-guard reliability explain {run_id}`, with the same --store, says which, and "
        "`crew-guard runs list` shows the runs there are"
    )


def ended_by_fault(run_id: str, place: str) -> StoreError:
    """The error for an outcome of a run that says nothing about its crew."""
    return StoreError(
        f"run {run_id!r} in {place} was ended by a failure of the infrastructure, which is no trial of what ran: "
        "it takes no outcome; judge what an agent or a node did with --agent"
    )


def of_the_workflow(run_id: str, place: str) -> StoreError:
    """The error for an outcome that would count as the crew's, and is about its workflow's answer."""
    return StoreError(
        f"the answer of run {run_id!r} in {place} came from its workflow, and the record has what its crew did: "
        "an outcome would count as the crew's; judge what an agent did with --agent"
    )


def of_a_shadow(report: RunReport, place: str) -> StoreError:
    """The error for an outcome of a shadow that doesn't name the crew, whose answer was not the run's."""
    return StoreError(
        f"the crew of run {report.run_id!r} in {place} worked in a shadow, so its answer was not the run's: judge what "
        f"it did there with --agent {quote(report.crew)}, or what one of its agents did with that one's name"
    )


def newer_record(crew: str, found: int, known: int, place: str) -> StoreError:
    """The error for a record that a newer crew_guard wrote."""
    return StoreError(
        f"the track record of crew {crew!r} in {place} was written by a newer crew_guard: its format is {found}, "
        f"this crew_guard knows formats up to {known}; upgrade crew_guard, or choose another file with --store"
    )


def _given_twice(run_id: str, row: VerdictRow, place: str) -> StoreError:
    what = "the outcome" if row.agent is None else f"what {row.agent!r} did on {row.task!r}"
    why = f" ({row.because})" if row.because else ""
    return StoreError(
        f"a person has judged {what} in run {run_id!r} of {place} before, with {row.grade:g}{why}: a second verdict "
        "would count one trial twice"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
