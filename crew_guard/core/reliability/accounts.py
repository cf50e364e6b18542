"""What a crew's record says, all in one value: its parts, the whole, its detectors, and how far the next tier is."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from crew_guard.core.reliability.bounds import Betavariate
from crew_guard.core.reliability.counts import NO_TRIALS, TIERS, Counts, Score, Tier, score, tier_of
from crew_guard.core.reliability.detector import evidence
from crew_guard.core.reliability.intervals import Interval, clopper_pearson
from crew_guard.core.reliability.judging import counted
from crew_guard.core.reliability.planning import Part as Now
from crew_guard.core.reliability.planning import Plan, cheapest_plan
from crew_guard.core.reliability.records import CrewRecord, Settings, Stream
from crew_guard.core.reliability.structure import Chain, Leaf, Structure, leverage, names
from crew_guard.core.reliability.trials import END_TO_END, Subject, is_alone
from crew_guard.core.reliability.verdict import Estimate, estimate

_MOST_PASSES = 1 << 20
_UNTRIED = 0.5
"""The success rate of a part without trials, as the estimate has it."""


class NextTier(Struct, frozen=True):
    """The tier above the one that is proven."""

    tier: Tier
    passes: int | None
    """How many good trials in a row prove it, after those there are; None where no number in reach does."""


class Rating(Struct, frozen=True):
    """What counts are worth."""

    counts: Counts
    bounds: Interval
    """Each end is a one-sided bound."""
    tier: Tier
    next: NextTier | None
    """None at the highest tier."""


class Part(Struct, frozen=True):
    """One leaf of a crew's structure."""

    name: str
    subject: Subject | None
    """None where it has no trials yet."""
    rating: Rating
    """By its subject's trials in all crews."""
    p: float
    """The success rate that the estimate reckons with."""
    leverage: float
    """How much the whole gains for each point that this part gains."""


class Watch(Struct, frozen=True):
    """One stream's detector."""

    name: str
    level: float
    """The success rate that it holds the stream to."""
    evidence: float
    """That the rate is below it; the mean over streams opens the breaker."""
    share: float
    """Of all evidence, in [0, 1]."""
    failures: int
    """In a row."""


class Account(Struct, frozen=True):
    """Everything that is known of one version of a crew."""

    record: CrewRecord
    settings: Settings
    structure: Structure | None
    """None where nothing but outcomes was judged."""
    estimate: Estimate | None
    """From the parts, beside what was measured; None without a structure."""
    measured: Rating
    """The crew's end-to-end outcomes, the errors of their judge taken out where they are known."""
    parts: tuple[Part, ...]
    watches: tuple[Watch, ...]
    """Those with the most evidence first; empty where nothing is decided by reliability."""
    evidence: float
    """Of all streams together."""
    score: Score | None
    """Of all runs: what the crew could not finish, and its workflow did, belongs to them."""

    @property
    def next(self) -> NextTier | None:
        """The tier above the one that the whole has proven, by whatever decided that, as far as outcomes prove it."""
        proven = self.measured.bounds.lower if self.estimate is None else self.estimate.proven
        return _above(proven, self.measured.counts, self.settings.confidence)


def rating(counts: Counts, confidence: float) -> Rating:
    """What counts are worth: their interval, the tier they prove, and how far the next one is."""
    bounds = clopper_pearson(counts, confidence)
    return Rating(counts, bounds, tier_of(bounds.lower), next_tier(counts, confidence))


def rating_of_workflow(found: Account) -> Rating | None:
    """What the outcomes of a crew's workflow are worth; None where none was judged, or it has no crew."""
    counts = found.record.workflow_runs.outcomes
    return rating(counts, found.settings.confidence) if counts.trials and not is_alone(found.record.version) else None


def next_tier(counts: Counts, confidence: float) -> NextTier | None:
    """The tier above the one that these counts prove; None at the highest."""
    return _above(clopper_pearson(counts, confidence).lower, counts, confidence)


def _above(lower: float, counts: Counts, confidence: float) -> NextTier | None:
    above: list[tuple[Tier, float]] = [(tier, least) for tier, least in TIERS.items() if least > lower]
    if not above:
        return None
    tier, least = above[-1]
    return NextTier(tier, passes_to(counts, least, confidence))


def passes_to(counts: Counts, threshold: float, confidence: float) -> int | None:
    """How many good trials in a row, after these, bring the lower bound to a threshold; None where 2**20 don't."""

    def proven(passes: int) -> bool:
        more = Counts(counts.trials + passes, counts.good + passes)
        return clopper_pearson(more, confidence).lower >= threshold

    if proven(0):
        return 0
    high = 1
    while not proven(high):
        high *= 2
        if high > _MOST_PASSES:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if proven(middle) else (middle, high)
    return high


def subjects_of(record: CrewRecord) -> dict[str, Subject]:
    """Whose trials a crew's streams are made of, by stream."""
    return {name: one.subject for name, one in record.streams.items() if one.subject is not None}


def structure_of(record: CrewRecord) -> Structure | None:
    """What is assumed of a crew whose structure nobody gave: each of its agents must succeed."""
    leaves = tuple(Leaf(name) for name in record.streams if name != END_TO_END)
    return Chain(leaves) if leaves else None


def account(
    record: CrewRecord,
    settings: Settings,
    structure: Structure | None,
    shared: Mapping[Subject, Counts],
    beta: Betavariate,
) -> Account:
    """What is known of a crew.

    Args:
        record: of the version in question
        settings: what its policy says about counting
        structure: how its success follows from its parts'; None: see structure_of
        shared: the trials of its subjects in all crews; a subject that is missing has those of this crew only
        beta: draws for structures that are no chains
    """
    structure = structure_of(record) if structure is None else structure
    confidence = settings.confidence
    measured = counted(record.end_to_end, settings.judged_by.get(END_TO_END), confidence)
    found = None
    parts: tuple[Part, ...] = ()
    if structure is not None:
        counts = {name: _counts(record, name, shared, settings) for name in names(structure)}
        found = estimate(structure, counts, measured, confidence, beta)
        parts = _parts(record, structure, counts, confidence)
    return Account(
        record=record,
        settings=settings,
        structure=structure,
        estimate=found,
        measured=rating(measured, confidence),
        parts=parts,
        watches=_watches(record),
        evidence=evidence({name: one.detector for name, one in record.streams.items() if one.detector}),
        score=scored(record, settings),
    )


def scored(record: CrewRecord, settings: Settings) -> Score | None:
    """The Reliability Score of a record, the errors of its outcomes' judge taken out; None where no run was judged."""
    runs = record.all_runs
    outcomes = counted(runs.outcomes, settings.judged_by.get(END_TO_END), settings.confidence)
    return score(replace(runs, outcomes=outcomes), settings.confidence)


def _counts(record: CrewRecord, name: str, shared: Mapping[Subject, Counts], settings: Settings) -> Counts:
    stream = _stream_of(record, name)
    if stream is None:
        return NO_TRIALS
    counts = stream.counts if stream.subject is None else shared.get(stream.subject, stream.counts)
    return counted(counts, settings.judged_by.get(name), settings.confidence)


def _stream_of(record: CrewRecord, name: str) -> Stream | None:
    """The stream behind a leaf: of the same name, or of that name with the kind of its tasks."""
    if name in record.streams:
        return record.streams[name]
    kinds = (one for key, one in record.streams.items() if one.subject and key == f"{name}/{one.subject.kind}")
    return next(kinds, None)


def _parts(
    record: CrewRecord, structure: Structure, counts: Mapping[str, Counts], confidence: float
) -> tuple[Part, ...]:
    p = {name: _UNTRIED if one.rate is None else one.rate for name, one in counts.items()}
    raises = leverage(structure, p)
    streams = {name: _stream_of(record, name) for name in counts}
    return tuple(
        Part(name, stream.subject if stream else None, rating(counts[name], confidence), p[name], raises[name])
        for name, stream in streams.items()
    )


def _watches(record: CrewRecord) -> tuple[Watch, ...]:
    detectors = {name: one.detector for name, one in record.streams.items() if one.detector is not None}
    total = sum(one.evidence for one in detectors.values())
    found = [
        Watch(name, one.level, one.evidence, one.evidence / total if total else 0.0, one.failures)
        for name, one in detectors.items()
    ]
    return tuple(sorted(found, key=lambda watch: -watch.evidence))


class Raise(Struct, frozen=True):
    """What would raise a crew's reliability most."""

    target: float
    plan: Plan | None
    """The cheapest changes that reach the target; None where the parts reach it as they are."""


def raising(found: Account, usd: Mapping[str, float]) -> Raise | None:
    """The cheapest way to what the policy asks of a crew, or to its next tier; None without parts, or at the top.

    Args:
        usd: of one trial, by part; one that is missing costs nothing
    """
    if found.structure is None or found.estimate is None:
        return None
    above = [least for least in TIERS.values() if least > found.estimate.point]
    target = found.settings.threshold if found.settings.threshold is not None else min(above, default=None)
    if target is None:
        return None
    if found.estimate.point >= target:
        return Raise(target, None)
    parts = {part.name: Now(part.p, usd.get(part.name, 0.0)) for part in found.parts}
    return Raise(target, cheapest_plan(found.structure, parts, target))
