"""A crew's record: the fold of its RunReports. `add` is a pure step; a store keeps what comes of it.

Each agent has a stream, and so have the outcomes. A stream counts, and has a detector where a policy sets a
threshold. Another version of an agent, or of the crew, begins its stream afresh and sends the crew through half_open.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from crew_guard.core.reliability.breaker import Breaker
from crew_guard.core.reliability.counts import NO_TRIALS, Counts, Spent, Sums
from crew_guard.core.reliability.detector import ALARM_AFTER, Alarm, EDetector, alarm, level_of
from crew_guard.core.reliability.settings import Settings
from crew_guard.core.reliability.streams import Stream
from crew_guard.core.reliability.trials import END_TO_END, RunReport, Trial, is_alone

FORMAT = 4
"""Version of the record's format: one of another is folded again."""
_WITHOUT_FAULTS = 0.95
"""The share of runs without an infrastructure failure below which there is something to tell."""


class CrewRecord(Struct, frozen=True, omit_defaults=True):
    """Everything that decides about one crew."""

    crew: str
    version: str = ""
    streams: dict[str, Stream] = field(default_factory=dict[str, Stream])
    """By agent (agent/kind), and END_TO_END for the outcomes of the crew's own runs, probes included."""
    faults: Stream = Stream()
    """Runs, those without an infrastructure failure being the good ones. It opens no breaker."""
    crew_runs: Sums = Sums()
    """Runs of this version that the crew finished itself, without probes."""
    workflow_runs: Sums = Sums()
    breaker: Breaker = Breaker()
    versions: int = 0
    """How many versions there were before this one."""
    updated: float = 0.0
    """Unix seconds of the last report."""
    format: int = FORMAT
    shadows: int = 0
    """Runs that the crew worked through beside its workflow: the sums have none of them."""
    unscored: Counts = NO_TRIALS
    """The crew's own outcomes in those, and in runs that the infrastructure ended afterwards."""
    costs: dict[str, Spent] = {}
    """By part, of this version's runs that the crew finished; see RunReport."""
    cleared_at: float = 0.0
    """Unix seconds at which it was last found to be fine; 0 where it never was."""

    @property
    def runs(self) -> int:
        """All that this version reported."""
        return self.crew_runs.runs + self.workflow_runs.runs + self.shadows

    @property
    def end_to_end(self) -> Counts:
        """The crew's own outcomes since its version began."""
        return self.streams.get(END_TO_END, _NO_STREAM).counts

    @property
    def all_runs(self) -> Sums:
        """Every run of this version but shadows, the outcomes the crew's own: what a workflow saved is none of its.

        Those of runs that the infrastructure ended are not among them, as these are not among the runs that are scored.
        """
        return replace(self.crew_runs + self.workflow_runs, outcomes=self.end_to_end.without(self.unscored))

    @property
    def detectors(self) -> dict[str, EDetector]:
        """Of the streams that have one."""
        return {name: one.detector for name, one in self.streams.items() if one.detector is not None}

    @property
    def levels(self) -> dict[str, float]:
        """What each of those streams is held to."""
        return {name: detector.level for name, detector in self.detectors.items()}

    def alarm(self, after: float = ALARM_AFTER) -> Alarm | None:
        """The alarm of its streams, where they have reached it."""
        return alarm(self.detectors, after)


_NO_STREAM = Stream()


def add(record: CrewRecord | None, report: RunReport, settings: Settings) -> CrewRecord:
    """The record with one run more; None begins one."""
    record = CrewRecord(report.crew, report.version) if record is None else record
    record = of_version(record, report.version, report.at, settings)
    streams = dict(record.streams)
    breaker, seen = record.breaker, list[tuple[str, float]]()
    for trial in report.trials:
        if trial.side == "fallback":
            continue
        stream = streams.get(trial.stream, _NO_STREAM)
        if stream.subject != trial.subject:
            breaker = _renewed(breaker, stream, trial, report.at, settings)
            stream = Stream(trial.subject)
        streams[trial.stream] = _seen(stream, trial.stream, trial.grade, report.at, settings)
        seen.append((trial.stream, trial.grade))
    grade = crew_grade(report)
    if grade is not None:
        streams[END_TO_END] = _seen(streams.get(END_TO_END, _NO_STREAM), END_TO_END, grade, report.at, settings)
        seen.append((END_TO_END, grade))
    faults, unscored = record.faults, record.unscored
    if grade is not None and (report.shadow or report.ended_by_fault):
        unscored = unscored.plus(grade)
    record = CrewRecord(
        record.crew,
        record.version,
        streams,
        faults.observed(float(not report.faults), level_of(_WITHOUT_FAULTS, faults.baseline), report.at),
        *_summed(record, report),
        breaker,
        record.versions,
        report.at,
        shadows=record.shadows + report.shadow,
        unscored=unscored,
        costs=record.costs | {name: record.costs.get(name, Spent()).plus(usd) for name, usd in report.costs.items()},
        cleared_at=record.cleared_at,
    )
    return _decided(record, report, seen, settings)


def of_version(record: CrewRecord, version: str, at: float, settings: Settings) -> CrewRecord:
    """The record as a run of this version finds it: outcomes of another one say nothing, and it is probed first."""
    if record.version == version:
        return record
    if is_alone(record.version) != is_alone(version):
        return CrewRecord(record.crew, version)
    streams = {name: one for name, one in record.streams.items() if name != END_TO_END and settings.judges(name)}
    breaker = record.breaker
    if settings.threshold is not None and record.streams:
        why = f"a new version of the {_what(version)} is tried"
        breaker = breaker.renewed(_to_test(record, settings), why, at, settings.test)
        breaker = replace(breaker, threshold=settings.threshold)
    none = Sums()  # what another version cost and took says nothing of this one
    found = CrewRecord(record.crew, version, streams, record.faults, none, none, breaker, record.versions + 1)
    return replace(found, updated=record.updated, cleared_at=record.cleared_at)


def _what(version: str) -> str:
    return "workflow" if is_alone(version) else "crew"


def _to_test(record: CrewRecord, settings: Settings) -> Mapping[str, float]:
    """The streams of a new version that can show that it is fine, each with its level: without one it never could.

    The outcomes, else the agents of the version before it, else its own; where nothing judges any of them, the
    outcomes, which a person may give.
    """
    whole = {END_TO_END: settings.as_judged(END_TO_END, settings.threshold or 0.0)}
    if settings.judges(END_TO_END) and END_TO_END in record.streams:
        return whole
    kept = {name: level for name, level in record.levels.items() if name != END_TO_END and settings.judges(name)}
    target = settings.target(has_baseline=False) or 0.0
    return kept or {name: settings.as_judged(name, target) for name in settings.judged or ()} or whole


def crew_grade(report: RunReport) -> float | None:
    """The crew's own end-to-end grade in a run; None where it has none."""
    if not report.own and not report.shadow:
        return report.crew_grade  # a fault that ended the workflow doesn't change how the crew had ended
    return None if report.ended_by_fault else report.outcome


def revise(record: CrewRecord, before: Trial | None, after: Trial, settings: Settings, at: float) -> CrewRecord:
    """The record after a later verdict on a trial of one of its runs.

    Args:
        before: the verdict that it corrects; None where there was none
        after: of the same agent and subject; where the subject has a newer version since, nothing changes here
        at: Unix seconds of the run: from before the breaker's last change it is no probe, from before its crew was
            last found to be fine it is no evidence, and a correction for the better takes nothing from what is
            evidence of a later drop
    """
    stream = record.streams.get(after.stream)
    if after.side == "fallback" or (stream is not None and stream.subject != after.subject):
        return record
    if stream is None and before is not None:
        return record  # a newer version hasn't got this stream, nor what is corrected
    stream = Stream(after.subject) if stream is None else stream
    given = None if before is None else before.grade
    return _revised(record, (after.stream, stream), (given, after.grade), at, settings)


def revise_outcome(record: CrewRecord, report: RunReport, grade: float, settings: Settings) -> CrewRecord:
    """The record after a later verdict on the outcome of one of its runs.

    Args:
        report: of that run, as it was counted: its outcome is what is corrected
        grade: in [0, 1]
    """
    if report.version != record.version:
        return record
    if report.shadow:
        record = replace(record, unscored=record.unscored.judged(report.outcome, grade))
    else:
        name = "crew_runs" if report.via == "crew" else "workflow_runs"
        sums: Sums = getattr(record, name)
        outcomes = sums.outcomes.judged(report.outcome, grade)
        record = replace(record, **{name: replace(sums, outcomes=outcomes)})
    if not report.own and not report.shadow:
        return record
    stream = record.streams.get(END_TO_END, _NO_STREAM)
    return _revised(record, (END_TO_END, stream), (report.outcome, grade), report.at, settings)


def _revised(
    record: CrewRecord, named: tuple[str, Stream], grades: tuple[float | None, float], at: float, settings: Settings
) -> CrewRecord:
    name, stream = named
    breaker = record.breaker
    fresh = at > record.cleared_at
    stream = stream.revised(grades, _level(stream, name, settings), at, record.updated, fresh=fresh)
    streams = {**record.streams, name: stream}
    if at > breaker.since:
        breaker = breaker.revised(name, *grades, record.updated)
    closes = breaker.state == "closed" != record.breaker.state
    record = replace(record, streams=streams, breaker=breaker)
    return _restarted(record) if closes else _watched(record, settings)


def _seen(stream: Stream, name: str, grade: float, at: float, settings: Settings) -> Stream:
    return stream.observed(grade, _level(stream, name, settings), at)


def _level(stream: Stream, name: str, settings: Settings) -> float | None:
    """What a stream is held to: an agent to no more than it has shown, the outcomes to the threshold."""
    is_agents = name != END_TO_END
    target = settings.target(has_baseline=stream.baseline is not None) if is_agents else settings.threshold
    if target is None:
        return None
    return level_of(settings.as_judged(name, target), stream.baseline if is_agents else None)


def _renewed(breaker: Breaker, stream: Stream, trial: Trial, at: float, settings: Settings) -> Breaker:
    """The breaker after an agent that had a record came in another version."""
    target = settings.target(has_baseline=False)
    if target is None or not stream.counts.trials or not settings.judges(trial.stream):
        return breaker
    level = level_of(settings.as_judged(trial.stream, target), None)
    found = breaker.renewed({trial.stream: level}, f"{trial.agent} is new", at, settings.test)
    others = {name: test.restarted() for name, test in breaker.tests.items()}
    return replace(found, tests=others | found.tests, threshold=settings.threshold, given=breaker.given)


def _summed(record: CrewRecord, report: RunReport) -> tuple[Sums, Sums]:
    """Of the crew's runs, and of the workflow's."""
    if report.shadow:
        return record.crew_runs, record.workflow_runs
    one = Sums(1, usd=report.usd, seconds=report.seconds, faults=int(report.faults > 0), ended=1)
    if not report.ended_by_fault:
        outcomes = NO_TRIALS if report.outcome is None else Counts(1, report.outcome)
        kept_to = {"cost_adherence": report.cost_adherence, "latency_adherence": report.latency_adherence}
        one = replace(one, ended=0, outcomes=outcomes, **kept_to)
    if report.via == "crew":
        return record.crew_runs + one, record.workflow_runs
    return record.crew_runs, record.workflow_runs + one


def _decided(record: CrewRecord, report: RunReport, seen: list[tuple[str, float]], settings: Settings) -> CrewRecord:
    """The breaker's step."""
    if record.breaker.state == "closed":
        return _watched(record, settings)
    breaker = _testable(record, settings)
    if report.shadow or report.own or seen:
        # A crew that works although its breaker is open, having no workflow, is probed by that; and where its workflow
        # had to finish what it began, it was its failure that was seen.
        breaker = breaker.probed(seen, report.at, runs=int(report.via == "workflow" or not report.shadow))
    elif report.faults and breaker.due(settings.probes):
        # It may be a probe that an outage ended before anything was to be seen: the next run needn't try again.
        breaker = breaker.probed((), report.at, runs=1)
    else:
        breaker = breaker.fell_back(settings.probes, report.at)
    record = replace(record, breaker=breaker)
    return _restarted(record) if breaker.state == "closed" else _watched(record, settings)


def _watched(record: CrewRecord, settings: Settings) -> CrewRecord:
    """The record, its breaker opened where its streams have reached the alarm.

    One that is open already is opened again where they have reached it by less: it holds for more policies then.
    """
    detectors, is_open = record.detectors, record.breaker.state != "closed"
    if settings.threshold is None or (is_open and not record.breaker.is_for_more(settings.threshold)):
        return record
    if is_open:
        known = {name: one.held_to(_level(one, name, settings)) for name, one in record.streams.items()}
        detectors = {name: one for name, one in known.items() if one is not None}
    found = alarm(detectors, settings.alarm_after)
    if found is None:
        return record
    levels = {name: detector.level for name, detector in detectors.items()}
    breaker = record.breaker.opened(found, levels, record.updated, settings.test)
    tests = {name: test for name, test in breaker.tests.items() if settings.judges(name)}
    if not tests and END_TO_END not in breaker.tests:
        # It was only ever blamed: those who are judged in every run say when that is over.
        tests = {name: settings.test(name, level) for name, level in levels.items() if settings.judges(name)}
    tests = tests or breaker.tests
    given = tuple(name for name in tests if not settings.judges(name))
    return replace(record, breaker=replace(breaker, tests=tests, given=given, threshold=settings.threshold))


def _testable(record: CrewRecord, settings: Settings) -> Breaker:
    """The breaker without tests of what is no longer judged: a verifier may move, and a kind be renamed."""
    breaker = record.breaker
    kept = {name: test for name, test in breaker.tests.items() if settings.judges(name) or name in breaker.given}
    if settings.threshold is None or (kept and len(kept) == len(breaker.tests)):
        return breaker
    if not kept:
        known = _to_test(record, settings).items()
        kept = {name: breaker.tests.get(name) or settings.test(name, level) for name, level in known}
    return replace(breaker, tests=kept)


def _restarted(record: CrewRecord) -> CrewRecord:
    """All evidence forgotten: the crew was found to be fine."""
    streams = {name: stream.restarted() for name, stream in record.streams.items()}
    return replace(record, streams=streams, cleared_at=record.breaker.since)
