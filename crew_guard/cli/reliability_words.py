"""The track record for people: tables, and what the numbers mean."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from crew_guard.cli.reliability_json import tier_of_account
from crew_guard.core.reliability.accounts import Account, NextTier, Raise, Rating, rating, rating_of_workflow
from crew_guard.core.reliability.counts import Counts, Score
from crew_guard.core.reliability.records import CrewRecord
from crew_guard.core.reliability.trials import END_TO_END, Subject, alone_version, is_alone
from crew_guard.observers.words import clean, count, seconds
from crew_guard.ports import KeptRun, KeptVerdict

_TIER_STYLES = {"production": "green", "internal": "green", "pilot": "yellow", "do not ship": "red"}
_BREAKER_STYLES = {"closed": "green", "half_open": "yellow", "open": "red"}
_SOURCES = {
    "schema": "its output's schema",
    "check": "a check",
    "judge": "a judge",
    "person": "a person",
    "later": "a later step",
    "outcome": "the end of the run",
}
_WORTH_TELLING = 100
"""The part of an alarm's evidence from which on it is told against whom it is: healthy streams have some, too."""
_AGENTS = "Agents, by their trials in all crews"
_HALF = 0.5
"""From here on down a grade counts as failed when somebody is to blame."""


def overview_parts(
    accounts: Sequence[Account], subjects: Mapping[Subject, Counts], confidences: Mapping[Subject, float]
) -> list[RenderableType]:
    """All crews, and all agents, each by the confidence of its own policy."""
    held = {one.settings.confidence for one in accounts} | {confidences[one] for one in subjects}
    table = _table("Crew", "Runs", "Measured", "Its parts say", "Score", "Tier", "Breaker", *_confidence_of(held))
    for one in accounts:
        runs = one.record.crew_runs.runs + one.record.workflow_runs.runs
        estimate = one.estimate
        parts = "" if estimate is None else _around(estimate.point, estimate.lower, estimate.upper)
        table.add_row(
            Text(clean(one.record.crew, 40)),
            f"{runs:,}",
            _rated(one.measured),
            parts,
            "" if one.score is None else f"{one.score.value:.2f}",
            _tier(tier_of_account(one)),
            _breaker(one),
            *_confidence_of(held, one.settings.confidence),
        )
    return [
        table,
        Text("\nAgents, in all crews", style="bold"),
        _subjects_table(subjects, confidences, held),
        *_bounds_note(*held),
    ]


def agents_parts(
    name: str, subjects: Mapping[Subject, Counts], confidences: Mapping[Subject, float], accounts: Sequence[Account]
) -> list[RenderableType]:
    """One agent: each model, kind of task and version that it had, and where it works."""
    held = {confidences[one] for one in subjects}
    parts: list[RenderableType] = [Text(clean(name, 80), style="bold"), _subjects_table(subjects, confidences, held)]
    for one in accounts:
        for part in one.parts:
            if part.subject in subjects:
                gain = f"a point more of it is {part.leverage:.2f} of a point more of the {_whole(one)}"
                parts.append(Text(f"In {clean(one.record.crew, 40)} as {clean(part.name, 40)}: {gain}"))
    return [*parts, *_bounds_note(*held)]


def crew_parts(found: Account) -> list[RenderableType]:
    """One crew."""
    record = found.record
    head = _named(record.crew, record.version)
    if record.versions:
        head += f", after {count(record.versions, 'other version')}"
    parts: list[RenderableType] = [Text(head, style="bold"), _facts(found)]
    if found.parts:
        who = "Nodes, by their trials wherever they run" if is_alone(record.version) else _AGENTS
        parts += [Text(f"\n{who}", style="bold"), _parts_table(found)]
    return [*parts, *_watch_parts(found), *_bounds_note(found.settings.confidence)]


def _whole(found: Account) -> str:
    """What the parts make up."""
    return "workflow" if is_alone(found.record.version) else "crew"


def _named(crew: str, version: str) -> str:
    alone = is_alone(version)
    what = ", a workflow by itself" if alone else ""
    return f"{clean(crew, 60)}{what}, version {clean(version.removeprefix(alone_version('')), 20) or 'unnamed'}"


def standing_line(found: Account) -> str:
    """Where a crew stands, in one sentence."""
    measured = found.measured
    rate = f"{clean(found.record.crew, 60)} measures {_rated(measured)} over {count(measured.counts.trials, 'outcome')}"
    return f"{rate}; tier: {tier_of_account(found)}; breaker: {found.record.breaker.state.replace('_', '-')}."


def workflow_line(found: Account) -> str:
    """What a crew's workflow measures, and that it is not the crew's, in one sentence."""
    measured = rating_of_workflow(found) or found.measured
    rate = f"measures {_rated(measured)} over {count(measured.counts.trials, 'outcome')}"
    return f"The workflow of {clean(found.record.crew, 60)} {rate}; the crew's own outcomes stay as they were."


def run_parts(run: KeptRun, found: Account, best: Raise | None) -> list[RenderableType]:
    """One run's verdicts, and what they mean for its crew."""
    report = run.report
    alone = is_alone(report.version)
    did = (
        ""
        if alone
        else "; by its workflow"
        if report.via == "workflow"
        else "; by the crew, as a probe beside its workflow"
        if report.shadow
        else "; by the crew"
    )
    facts = f"{_named(report.crew, report.version)}, {_when(report.at)}{did}"
    parts: list[RenderableType] = [
        Text(f"Run {clean(report.run_id, 80)}", style="bold"),
        Text(facts),
        Text(f"Took {seconds(report.seconds)}, cost ${report.usd:.4f}"),
    ]
    if report.faults:
        ended = " and one ended the run, which is no trial" if report.ended_by_fault else ""
        parts.append(Text(f"Infrastructure: {count(report.faults, 'failure')}{ended}: kept apart", style="yellow"))
    parts += [Text("\nVerdicts", style="bold"), _verdicts_table(run.verdicts) if run.verdicts else Text("none")]
    parts += [Text("\nWho is to blame", style="bold"), *(Text(line) for line in blame(run, found))]
    return [*parts, *_watch_parts(found), *_raise_parts(found, best), *_bounds_note(found.settings.confidence)]


def blame(run: KeptRun, found: Account) -> list[str]:
    """In words: who failed in this run, and who holds its crew down."""
    lines: list[str] = []
    for one in run.trials:
        if one.grade < _HALF:
            why = f": {clean(one.because, 300)}" if one.because else ""
            lines.append(f"{clean(one.agent or '', 60)} failed {clean(one.task, 60)}, says {_SOURCES[one.source]}{why}")
    outcome = run.outcome
    if outcome is not None and outcome.grade < _HALF and not lines:
        lines.append(
            "No node's trial failed, and the outcome did: a hand-off between nodes failed, or work that nobody judges"
            if is_alone(run.report.version)
            else "No agent's trial failed, and the outcome did: a hand-off between agents failed, or work that nobody "
            "judges"
        )
    if not lines:
        what = "what was judged was good" if run.verdicts else "nothing was judged"
        lines.append(f"Nobody in this run: {what}")
    breaker, estimate = found.record.breaker, found.estimate
    if breaker.culprit:
        lines.append(f"The breaker was opened by {_stream(breaker.culprit)}: {clean(breaker.why, 300)}")
    elif found.watches and found.evidence * _WORTH_TELLING >= found.settings.alarm_after:
        watch = found.watches[0]
        lines.append(f"Over all runs most evidence is against {_stream(watch.name)}: {watch.share:.0%} of it")
    if estimate is not None and estimate.culprit:
        lines.append(f"Of the parts {clean(estimate.culprit, 60)} holds the {_whole(found)} down most")
    return lines


def _facts(found: Account) -> Table:
    record, estimate = found.record, found.estimate
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("Tier", _tier(tier_of_account(found)))
    if found.next is not None:
        table.add_row("Next tier", _next(found.next, "outcome"))
    if found.settings.threshold is not None:
        table.add_row("Threshold", f"{found.settings.threshold:g}")
    told = record.end_to_end
    judged = _judged(told)
    if told != found.measured.counts:
        judged += ", the known errors of the judge taken out"
    table.add_row("Measured", f"{_rated(found.measured)}: {judged}")
    if (of_workflow := rating_of_workflow(found)) is not None:
        table.add_row("Its workflow", f"{_rated(of_workflow)}: {_judged(of_workflow.counts)}")
    if estimate is not None:
        table.add_row("Its parts say", _around(estimate.point, estimate.lower, estimate.upper))
        if estimate.words:
            table.add_row("They disagree", Text(clean(estimate.words, 500), style="yellow"))
    table.add_row("Score", _score(found.score, "the end" if is_alone(record.version) else "the crew's part"))
    table.add_row("Breaker", _breaker(found))
    for name, test in record.breaker.tests.items():
        told = {"good": "passed", "bad": "failed", "open": "goes on"}[test.answer]
        table.add_row("", f"test of {_stream(name)}: {told} after {count(test.trials, 'probe')}")
    table.add_row("Runs", _runs(record))
    if faults := record.crew_runs.faults + record.workflow_runs.faults:
        table.add_row("Faults", f"{count(faults, 'run')} met a failure of the infrastructure: no trial of anyone")
    return table


def _judged(counts: Counts) -> str:
    return f"{counts.good:g} of {count(counts.trials, 'judged outcome')} good"


def _runs(record: CrewRecord) -> str:
    if is_alone(record.version):
        return f"{record.workflow_runs.runs:,} by itself"
    shadows = f", {record.shadows:,} more with the crew in its shadow" if record.shadows else ""
    by_crew, by_workflow = record.crew_runs.runs, record.workflow_runs.runs
    return f"{by_crew:,} left to the crew, done or not; {by_workflow:,} ended by its workflow{shadows}"


def _parts_table(found: Account) -> Table:
    who = "Node" if is_alone(found.record.version) else "Agent"
    table = _table(who, "Model", "Kind", "Trials", "Rate", "Tier", "Next tier", "Gain")
    for part in sorted(found.parts, key=lambda part: -part.leverage):
        subject = part.subject or Subject("")
        table.add_row(
            Text(clean(part.name, 40)),
            Text(clean(subject.model, 40)),
            Text(clean(subject.kind, 24)),
            f"{part.rating.counts.trials:,}",
            _rated(part.rating),
            _tier(part.rating.tier),
            "" if part.rating.next is None else _next(part.rating.next),
            f"{part.leverage:.2f}",
        )
    return table


def _subjects_table(
    subjects: Mapping[Subject, Counts], confidences: Mapping[Subject, float], held: Collection[float]
) -> Table:
    columns = ("Role", "Model", "Kind", "Version", "Trials", "Rate", "Tier", "Next tier")
    table = _table(*columns, *_confidence_of(held))
    for subject, counts in subjects.items():
        one = rating(counts, confidences[subject])
        table.add_row(
            *(Text(clean(text, 40)) for text in (subject.role, subject.model, subject.kind, subject.version)),
            f"{counts.trials:,}",
            _rated(one),
            _tier(one.tier),
            "" if one.next is None else _next(one.next),
            *_confidence_of(held, confidences[subject]),
        )
    return table


def _watch_parts(found: Account) -> list[RenderableType]:
    if not found.watches:
        return []
    table = _table("Stream", "Held to", "Evidence", "Share", "Failures in a row")
    for watch in found.watches:
        share = f"{watch.share:.0%}"
        table.add_row(_stream(watch.name), f"{watch.level:.3f}", _evidence(watch.evidence), share, f"{watch.failures}")
    total = f"together {_evidence(found.evidence)}; the breaker opens at {found.settings.alarm_after:,.0f}"
    return [Text("\nDetectors", style="bold"), table, Text(total, style="dim")]


def _raise_parts(found: Account, best: Raise | None) -> list[RenderableType]:
    if not found.parts:
        return []
    parts: list[RenderableType] = [Text("\nWhat would raise it most", style="bold")]
    for part in sorted(found.parts, key=lambda part: -part.leverage)[:3]:
        gain = f"a point more is {part.leverage:.2f} of a point of the {_whole(found)}"
        parts += [Text(f"{clean(part.name, 40)} is at {part.p:.3f}: {gain}")]
    if best is None:
        return parts
    if best.plan is None:
        return [*parts, Text(f"Its parts reach {best.target:g} as they are")]
    plan = best.plan
    reached = "Cheapest way" if plan.reached else "Nothing known reaches it; the best is a way"
    parts.append(Text(f"{reached} to {best.target:g}: {plan.point:.3f} at ${plan.usd:.4f} a run"))
    return [*parts, *(Text(f"  {clean(step.words, 300)}: ${step.usd:+.4f} a run") for step in plan.steps)]


def _verdicts_table(verdicts: Sequence[KeptVerdict]) -> Table:
    table = _table("Agent", "Task", "Grade", "By", "When", "Because")
    for one in verdicts:
        style = "dim strike" if not one.counts else "green" if one.grade >= _HALF else "red"
        agent = "the whole run" if one.agent is None else clean(one.agent, 40)
        because = clean(one.because, 200) if one.counts else f"{clean(one.because, 200)} (replaced)".strip()
        table.add_row(
            Text(agent),
            Text(clean(one.task, 40)),
            Text(f"{one.grade:g}", style=style),
            _SOURCES[one.source],
            _when(one.at),
            Text(because),
        )
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
    numbers = ("Runs", "Trials", "Gain", "Evidence", "Share", "Held to", "Failures in a row", "Grade", "Score")
    for name in columns:
        table.add_column(name, justify=cast(Any, "right" if name in numbers else "left"), overflow="fold")
    return table


def _rated(one: Rating) -> str:
    rate = one.counts.rate
    return "unknown" if rate is None else _around(rate, one.bounds.lower, one.bounds.upper)


def _around(point: float, lower: float, upper: float) -> str:
    return f"{point:.3f} ({lower:.3f} to {upper:.3f})"


def _score(one: Score | None, what: str) -> str:
    if one is None:
        return "unknown: no run was judged"
    judged = f"{one.runs:,} runs; {what} of {one.judged:,} was judged"
    return f"{_around(one.value, one.lower, one.upper)} over {judged}"


def _next(one: NextTier, what: str = "trial") -> str:
    if one.passes is None:
        return f"{one.tier}: out of reach"
    return f"{one.tier}: {count(one.passes, f'good {what}')} in a row"


def _tier(tier: str) -> Text:
    return Text(tier, style=_TIER_STYLES.get(tier, ""))


def _breaker(found: Account) -> Text:
    breaker = found.record.breaker
    text = Text(breaker.state.replace("_", "-"), style=_BREAKER_STYLES[breaker.state])
    if breaker.since:
        text.append(f" since {_when(breaker.since)}", style="")
    if breaker.why:
        text.append(f": {clean(breaker.why, 200)}", style="")
    return text


def _stream(name: str) -> str:
    return "the outcomes of the whole" if name == END_TO_END else clean(name, 60)


def _evidence(value: float) -> str:
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"  # noqa: PLR2004 - three digits say enough


def _confidence_of(held: Collection[float], one: float | None = None) -> list[str]:
    """A row's own confidence, or the head of its column; nothing where all rows have the same."""
    return [] if len(held) <= 1 else ["Confidence" if one is None else _percent(one)]


def _percent(confidence: float) -> str:
    return f"{100 * confidence:.4g}%"


def _bounds_note(*held: float) -> list[RenderableType]:
    """What the bounds of some tables hold with, whose rows show it where that differs."""
    confidence = f"{_percent(held[0])} confidence" if len(held) == 1 else "the confidence of their row"
    return [Text(f"\nFrom and to hold with {confidence} each. What the figures mean: docs/reliability.md", style="dim")]


def _when(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M")
