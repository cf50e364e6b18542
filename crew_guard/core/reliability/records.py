"""A crew's record: the fold of its RunReports. `add` is a pure step; a store keeps what comes of it.

Each agent has a stream, and so have the outcomes. A stream counts, and has a detector where a policy sets a
threshold. Another version of an agent, or of the crew, begins its stream afresh and sends the crew through half_open.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from crew_guard.core.reliability.breaker import Breaker
from crew_guard.core.reliability.counts import NO_TRIALS, Counts, Spent, Sums
from crew_guard.core.reliability.detector import (
    ALARM_AFTER,
    BASELINE_RUNS,
    Alarm,
    EDetector,
    alarm,
    level_of,
    sprt_for,
)
from crew_guard.core.reliability.intervals import jeffreys
from crew_guard.core.reliability.trials import END_TO_END, RunReport, Subject, Trial, is_alone

FORMAT = 1
"""Version of the record's format."""
_WITHOUT_FAULTS = 0.95
"""The share of runs without an infrastructure failure below which there is something to tell."""
_BASELINE_DOUBT = 0.10
"""The chance that the first baseline is above the truth; halved for each later one."""


_LEVELS = 3
"""Other levels that evidence is kept for."""
_CALM = 100.0
"""Evidence below which a stream may be taken for healthy: what is shown during a drop is no baseline."""


class Settings(Struct, frozen=True, omit_defaults=True):
    """What a policy says about counting."""

    threshold: float | None = None
    """The least end-to-end success; None: nothing is decided by reliability, and no detector runs."""
    confidence: float = 0.95
    alarm_after: float = ALARM_AFTER
    """Mean number of trials to a false alarm, at the least."""
    agent_target: float | None = None
    """What each agent is held to from its first trial on. None: the threshold, and from its 100th trial on
    threshold ** (1 / parts): before, an agent that is weaker than the others would open the breaker of a crew
    that is good enough."""
    parts: int = 1
    """How many agents must succeed."""
    probes: float = 0.2
    """The share of the workflow's runs that have a shadow probe of the crew beside them."""
    judged: tuple[str, ...] | None = None
    """The streams of this version that something judges in every run; None where that isn't known."""

    def judges(self, stream: str) -> bool:
        """Whether something judges this stream, as far as is known."""
        return self.judged is None or stream in self.judged

    def target(self, *, has_baseline: bool) -> float | None:
        """What each agent is held to; None where nothing is decided."""
        if self.threshold is None or self.agent_target is not None:
            return None if self.threshold is None else self.agent_target
        return self.threshold ** (1 / max(1, self.parts)) if has_baseline else self.threshold


class Stream(Struct, frozen=True, omit_defaults=True):
    """What is known of one agent of the crew, or of its outcomes, since its version began."""

    subject: Subject | None = None
    """None for the outcomes."""
    counts: Counts = NO_TRIALS
    detector: EDetector | None = None
    """None where nothing is decided by reliability."""
    baseline: float | None = None
    """The best of Jeffreys' lower bounds of the first 100, 200, 400 … trials, from the first of them on.

    It only rises: a slow decline must not lower what the stream is held to.
    """
    others: tuple[EDetector, ...] = ()
    """The same at other levels, the latest first: policies of several thresholds may take turns with one crew."""

    def observed(self, grade: float, target: float | None) -> Stream:
        """With one trial more. One without a target is evidence, too, for the runs that have one."""
        counts = self.counts.plus(grade)
        detector, others = self._detectors(target)
        detector = None if detector is None else detector.observed(grade)
        calm = detector is None or detector.evidence < _CALM
        baseline = _baseline(counts, self.baseline) if calm else self.baseline
        return Stream(self.subject, counts, detector, baseline, tuple([one.observed(grade) for one in others]))

    def _detectors(self, target: float | None) -> tuple[EDetector | None, tuple[EDetector, ...]]:
        """The one at the target's level, and the others."""
        own = self.detector
        if target is None:
            return own, self.others
        level = level_of(target, self.baseline)
        if own is None:
            return EDetector(level), ()
        if own.level == level:
            return own, self.others
        known = next((one for one in self.others if one.level == level), own.restarted(level))
        return known, (own, *(one for one in self.others if one.level != level))[:_LEVELS]

    def revised(self, before: float | None, after: float, target: float | None) -> Stream:
        """With a later verdict on a trial; before is None where it had none."""
        if before is None:
            return self.observed(after, target)
        detector, others = self._detectors(target)
        detector = None if detector is None else detector.corrected(before, after)
        counts = self.counts.revised(before, after)
        return Stream(
            self.subject, counts, detector, self.baseline, tuple([one.corrected(before, after) for one in others])
        )

    def restarted(self) -> Stream:
        """Its evidence forgotten."""
        return self if self.detector is None else replace(self, detector=self.detector.restarted(), others=())


class CrewRecord(Struct, frozen=True, omit_defaults=True):
    """Everything that decides about one crew."""

    crew: str
    version: str = ""
    streams: dict[str, Stream] = field(default_factory=dict[str, Stream])
    """By agent (agent/kind), and END_TO_END for the outcomes of the crew's own runs, probes included."""
    faults: Stream = Stream()
    """Runs, those without an infrastructure failure being the good ones. It opens no breaker."""
    crew_runs: Sums = Sums()
    """Runs that the crew finished itself, without probes."""
    workflow_runs: Sums = Sums()
    breaker: Breaker = Breaker()
    versions: int = 0
    """How many versions there were before this one."""
    updated: float = 0.0
    """Unix seconds of the last report."""
    format: int = FORMAT
    shadows: int = 0
    """Runs that the crew worked through beside its workflow: the sums have none of them."""
    costs: dict[str, Spent] = {}
    """By part, of this version's runs that the crew finished; see RunReport."""

    @property
    def runs(self) -> int:
        """All that were reported."""
        return self.crew_runs.runs + self.workflow_runs.runs + self.shadows

    @property
    def end_to_end(self) -> Counts:
        """The crew's own outcomes since its version began."""
        return self.streams.get(END_TO_END, _NO_STREAM).counts

    @property
    def all_runs(self) -> Sums:
        """Every run of the job, its outcomes the crew's own: what a workflow saved doesn't count as its success."""
        return replace(self.crew_runs + self.workflow_runs, outcomes=self.end_to_end)

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


def _baseline(counts: Counts, known: float | None) -> float | None:
    times, rest = divmod(counts.trials, BASELINE_RUNS)
    if rest or not times or times & (times - 1):
        return known
    return max(known or 0.0, jeffreys(counts, 1.0 - _BASELINE_DOUBT / times).lower)


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
        streams[trial.stream] = _seen(stream, trial.stream, trial.grade, settings)
        seen.append((trial.stream, trial.grade))
    grade = crew_grade(report)
    if grade is not None:
        streams[END_TO_END] = _seen(streams.get(END_TO_END, _NO_STREAM), END_TO_END, grade, settings)
        seen.append((END_TO_END, grade))
    record = CrewRecord(
        record.crew,
        record.version,
        streams,
        record.faults.observed(float(not report.faults), _WITHOUT_FAULTS),
        *_summed(record, report),
        breaker,
        record.versions,
        report.at,
        shadows=record.shadows + report.shadow,
        costs=record.costs | {name: record.costs.get(name, Spent()).plus(usd) for name, usd in report.costs.items()},
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
        breaker = breaker.renewed(_to_test(record, settings), f"a new version of the {_what(version)} is tried", at)
    return replace(record, version=version, streams=streams, breaker=breaker, versions=record.versions + 1, costs={})


def _what(version: str) -> str:
    return "workflow" if is_alone(version) else "crew"


def _to_test(record: CrewRecord, settings: Settings) -> Mapping[str, float]:
    """The streams of a new version that can show that it is fine, each with its level: without one it never could.

    The outcomes, else the agents of the version before it, else its own; where nothing judges any of them, the
    outcomes, which a person may give.
    """
    whole, target = {END_TO_END: settings.threshold or 0.0}, settings.target(has_baseline=False) or 0.0
    if settings.judges(END_TO_END) and END_TO_END in record.streams:
        return whole
    kept = {name: level for name, level in record.levels.items() if name != END_TO_END and settings.judges(name)}
    return kept or dict.fromkeys(settings.judged or (), target) or whole


def crew_grade(report: RunReport) -> float | None:
    """The crew's own end-to-end grade in a run; None where it has none."""
    if not report.own and not report.shadow:
        return report.crew_grade  # a fault that ended the workflow doesn't change how the crew had ended
    return None if report.ended_by_fault else report.outcome


def revise(
    record: CrewRecord, before: Trial | None, after: Trial, settings: Settings, at: float = math.inf
) -> CrewRecord:
    """The record after a later verdict on a trial of one of its runs.

    Args:
        before: the verdict that it corrects; None where there was none
        after: of the same agent and subject; where the subject has a newer version since, nothing changes here
        at: Unix seconds of the run: from before the breaker's last change it is no probe
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
    if not report.shadow:
        name = "crew_runs" if report.via == "crew" else "workflow_runs"
        sums: Sums = getattr(record, name)
        known = sums.outcomes
        outcomes = known.plus(grade) if report.outcome is None else known.revised(report.outcome, grade)
        record = replace(record, **{name: replace(sums, outcomes=outcomes)})
    if (not report.own and not report.shadow) or report.version != record.version:
        return record
    stream = record.streams.get(END_TO_END, _NO_STREAM)
    return _revised(record, (END_TO_END, stream), (report.outcome, grade), report.at, settings)


def _revised(
    record: CrewRecord, named: tuple[str, Stream], grades: tuple[float | None, float], at: float, settings: Settings
) -> CrewRecord:
    name, stream = named
    streams = {**record.streams, name: stream.revised(*grades, _target(stream, name, settings))}
    breaker = record.breaker
    if at > breaker.since:
        breaker = breaker.revised(name, *grades, record.updated)
    closes = breaker.state == "closed" != record.breaker.state
    record = replace(record, streams=streams, breaker=breaker)
    return _restarted(record) if closes else _watched(record, settings)


def _seen(stream: Stream, name: str, grade: float, settings: Settings) -> Stream:
    return stream.observed(grade, _target(stream, name, settings))


def _target(stream: Stream, name: str, settings: Settings) -> float | None:
    if name == END_TO_END:
        return settings.threshold
    return settings.target(has_baseline=stream.baseline is not None)


def _renewed(breaker: Breaker, stream: Stream, trial: Trial, at: float, settings: Settings) -> Breaker:
    """The breaker after an agent that had a record came in another version."""
    target = settings.target(has_baseline=False)
    if target is None or not stream.counts.trials or not settings.judges(trial.stream):
        return breaker
    tested = {name: test.ok for name, test in breaker.tests.items() if name != trial.stream}
    return breaker.renewed({**tested, trial.stream: level_of(target, None)}, f"{trial.agent} is new", at)


def _summed(record: CrewRecord, report: RunReport) -> tuple[Sums, Sums]:
    """Of the crew's runs, and of the workflow's."""
    if report.shadow:
        return record.crew_runs, record.workflow_runs
    one = Sums(
        1,
        NO_TRIALS if report.outcome is None else Counts(1, report.outcome),
        report.cost_adherence,
        report.latency_adherence,
        report.usd,
        report.seconds,
        int(report.faults > 0),
    )
    if report.via == "crew":
        return record.crew_runs + one, record.workflow_runs
    return record.crew_runs, record.workflow_runs + one


def _decided(record: CrewRecord, report: RunReport, seen: list[tuple[str, float]], settings: Settings) -> CrewRecord:
    """The breaker's step."""
    breaker = record.breaker
    if breaker.state == "closed":
        return _watched(record, settings)
    if report.shadow or report.own or seen:
        # A crew that works although its breaker is open, having no workflow, is probed by that; and where its workflow
        # had to finish what it began, it was its failure that was seen.
        breaker = breaker.probed(seen, report.at)
    else:
        breaker = breaker.fell_back(settings.probes, report.at)
    record = replace(record, breaker=breaker)
    return _restarted(record) if breaker.state == "closed" else record


def _watched(record: CrewRecord, settings: Settings) -> CrewRecord:
    """The record, its breaker opened where its streams have reached the alarm."""
    if settings.threshold is None or record.breaker.state != "closed":
        return record
    found = record.alarm(settings.alarm_after)
    if found is None:
        return record
    breaker = record.breaker.opened(found, record.levels, record.updated)
    judged = {name: test for name, test in breaker.tests.items() if settings.judges(name)}
    if not judged and END_TO_END not in breaker.tests:
        # It was only ever blamed: those who are judged in every run say when that is over.
        judged = {name: sprt_for(level) for name, level in record.levels.items() if settings.judges(name)}
    return replace(record, breaker=replace(breaker, tests=judged or breaker.tests))


def _restarted(record: CrewRecord) -> CrewRecord:
    """All evidence forgotten: the crew was found to be fine."""
    return replace(record, streams={name: stream.restarted() for name, stream in record.streams.items()})
