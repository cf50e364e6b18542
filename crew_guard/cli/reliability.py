"""`reliability`, `reliability explain` and `outcome`: the track record, reckoned and told."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from crew_guard.cli.ends import command
from crew_guard.cli.journal import is_there, no_journal, open_journal, store_file
from crew_guard.cli.reliability_json import account_json, agent_json, run_json
from crew_guard.cli.reliability_words import (
    agents_parts,
    crew_parts,
    overview_parts,
    run_parts,
    standing_line,
    workflow_line,
)
from crew_guard.cli.summary import write
from crew_guard.cli.unreported import unreported
from crew_guard.config import secrets
from crew_guard.core.reliability.accounts import Account, account, raising, subjects_of
from crew_guard.core.reliability.records import CrewRecord
from crew_guard.core.reliability.trials import Subject, alone_version, is_alone
from crew_guard.core.usage import NANO
from crew_guard.errors import ConfigError, StoreError
from crew_guard.observers.words import Teller, clean
from crew_guard.ports import KeptRun, TrackRecord

if TYPE_CHECKING:
    from crew_guard.store.reading import SqliteReader

_GRADES = {"good": 1.0, "bad": 0.0}
_SEED = 1
"""Of the draws for structures that are no chains: the same record gives the same figures."""


def show_reliability(name: str | None, store: Path | None, *, as_json: bool, debug: bool) -> None:
    """Print what is known: of one crew, of one agent, or of all."""
    with command(as_json=as_json, debug=debug) as stdout:
        file = store_file(store)
        if name is None and store is None and not is_there(file):
            stdout.json({"store": str(file), "crews": [], "agents": []}) if as_json else stdout.text(_nothing(file))
            return
        track = open_journal(file).track_record()
        record = None if name is None else track.crew(name)
        if record is not None:
            found, other = account_of(track, record), _same_name(track, record)
            if as_json:
                stdout.json({**account_json(found), "same_name": None if other is None else account_json(other)})
            else:
                write(stdout.stream, *crew_parts(found), *([] if other is None else ["", *crew_parts(other)]))
            return
        accounts = [account_of(track, one) for one in track.crews()]
        subjects, confidences = track.subjects(), track.confidences()
        if name is not None:
            known = _by_agent(accounts)
            theirs = [one for one in subjects if one.role == name or name in known.get(one, ())]
            if not theirs:
                raise _unknown(name, accounts, [one.role for one in subjects], file)
            subjects = {one: subjects[one] for one in theirs}
            accounts = [one for one in accounts if not set(theirs).isdisjoint(subjects_of(one.record).values())]
        if as_json:
            crews = [account_json(one) for one in accounts]
            agents = [agent_json(subject, counts, confidences[subject]) for subject, counts in subjects.items()]
            stdout.json({"store": str(file), "crews": crews, "agents": agents})
        elif name is not None:
            write(stdout.stream, *agents_parts(name, subjects, confidences, accounts))
        elif accounts or subjects:
            write(stdout.stream, *overview_parts(accounts, subjects, confidences))
        else:
            stdout.text(_nothing(file))


def explain_reliability(run_id: str, store: Path | None, *, as_json: bool, debug: bool) -> None:
    """Print the verdicts of a run, the state of its crew's detectors, and what would raise its reliability most."""
    with command(as_json=as_json, debug=debug) as stdout:
        opened = open_journal(store_file(store))
        track = opened.track_record()
        run = _run(opened, track, run_id)
        record = track.crew(run.report.crew, run.report.version)
        if record is None:
            raise StoreError(f"crew {run.report.crew!r} of run {run.report.run_id!r} has no record in {opened.path}")
        found = account_of(track, record, run.report.version)
        best = raising(found, _spent(opened, run, found))
        if as_json:
            stdout.json(run_json(run, found, best))
        else:
            write(stdout.stream, *run_parts(run, found, best))


@dataclass(frozen=True, slots=True)
class Given:
    """What a person says of a run."""

    grade: str
    """good, bad or a number."""
    agent: str | None = None
    task: str | None = None
    because: str = ""


def judge_run(run_id: str, given: Given, store: Path | None, *, as_json: bool, debug: bool) -> None:
    """Count a person's verdict, and say where the crew stands with it."""
    from crew_guard.store.sqlite import SqliteStore
    from crew_guard.supervisor.redaction import redactor

    with command(as_json=as_json, debug=debug) as stdout:
        grade, agent, because = _grade(given.grade), given.agent, redactor(secrets())(given.because)
        file = store_file(store)
        if not is_there(file):
            raise no_journal(file)
        with closing(SqliteStore(file)) as opened:
            track = opened.track_record()
            report = _run(opened, track, run_id).report
            run_id = report.run_id
            record = track.outcome(run_id, grade, agent=agent, task=given.task, because=because)
            found = account_of(track, record, record.version)
        if as_json:
            value = {"run_id": run_id, "agent": agent, "task": given.task, "grade": grade, "because": because}
            stdout.json({**value, "reliability": account_json(found)})
            return
        of_the_workflow = agent is None and not report.own and not report.shadow
        whole = "the workflow's outcome" if of_the_workflow else "the outcome"
        what = whole if agent is None else f"what {clean(agent, 60)} did"
        stands = workflow_line(found) if of_the_workflow else standing_line(found)
        stdout.text(f"Counted: {what} in run {clean(run_id, 80)} is {grade:g}. {stands}\n")


def _grade(given: str) -> float:
    try:
        grade = _GRADES[given] if given in _GRADES else float(given)
    except ValueError:
        grade = -1.0
    if not 0 <= grade <= 1:
        raise ConfigError(f"an outcome is good, bad or a number from 0 to 1, not {given!r}")
    return grade


def _same_name(track: TrackRecord, record: CrewRecord) -> Account | None:
    """The workflow that runs by itself under a crew's name, or the crew of such a workflow's."""
    other = track.crew(record.crew, like="" if is_alone(record.version) else alone_version(""))
    return None if other is None else account_of(track, other)


def account_of(track: TrackRecord, record: CrewRecord, version: str | None = None) -> Account:
    """What is known of a crew, its parts with their trials in all crews.

    Raises:
        StoreError: the record can't be read
    """
    terms = track.terms(record.crew, record.version if version is None else version)
    if terms is None:
        raise StoreError(f"the record of crew {record.crew!r} says nothing of how it is kept")
    shared = track.counts(set(subjects_of(record).values()))
    return account(record, terms.settings, terms.structure, shared, Random(_SEED).betavariate)  # noqa: S311 - no secret


def _run(opened: SqliteReader, track: TrackRecord, given: str) -> KeptRun:
    run_id = given if track.run(given) else opened.find(given)
    run = track.run(run_id)
    if run is None:
        raise unreported(run_id, opened.read(run_id), str(opened.path))
    return run


def _spent(opened: SqliteReader, run: KeptRun, found: Account) -> dict[str, float]:
    """US dollars of one trial, by part: as the run's journal has it, else the run's cost in equal shares."""
    teller = Teller()
    try:
        for event in opened.read(run.report.run_id):
            teller.tell(event)
    except (StoreError, KeyError, ValueError):
        pass
    used = {agent: usage.nano_usd / NANO for agent, usage in teller.state.usage_by_agent().items()}
    agents = [part.name if part.name in used else part.name.rsplit("/", 1)[0] for part in found.parts]
    even = run.report.usd / max(1, len(agents))
    return {
        part.name: used[agent] / agents.count(agent) if agent in used else even
        for part, agent in zip(found.parts, agents, strict=True)
    }


def _by_agent(accounts: list[Account]) -> dict[Subject, set[str]]:
    """What crews call the agents behind a subject: as a stream, and without its task."""
    found: dict[Subject, set[str]] = {}
    for one in accounts:
        for name, subject in subjects_of(one.record).items():
            found.setdefault(subject, set()).update((name, name.rsplit("/", 1)[0]))
    return found


def _unknown(name: str, accounts: list[Account], roles: list[str], file: Path) -> StoreError:
    crews = ", ".join(sorted(one.record.crew for one in accounts)) or "none"
    agents = ", ".join(sorted(set(roles))) or "none"
    return StoreError(
        f"{file} has no track record of a crew or an agent {name!r}; crews there are: {clean(crews, 300)}; "
        f"agents: {clean(agents, 300)}"
    )


def _nothing(file: Path) -> str:
    return (
        f"Nothing was judged yet in {file}. Give a task an output schema or a verifier and run its crew, or say how a "
        f"run ended: crew-guard outcome RUN good|bad\n"
    )
