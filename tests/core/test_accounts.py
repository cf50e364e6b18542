"""What a crew's record says: how far the next tier is, whose trials count for a leaf, what would raise it."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crew_guard.core.reliability import records
from crew_guard.core.reliability.accounts import NextTier, account, next_tier, passes_to, raising, rating, structure_of
from crew_guard.core.reliability.counts import NO_TRIALS, Counts, straight_passes
from crew_guard.core.reliability.intervals import clopper_pearson
from crew_guard.core.reliability.judging import Judge
from crew_guard.core.reliability.records import CrewRecord, Settings
from crew_guard.core.reliability.structure import Chain, Leaf, names
from crew_guard.core.reliability.trials import END_TO_END, RunReport, Subject, Trial

TERMS = Settings(threshold=0.85, parts=2)
FINDER = Subject("finder", "m", "search", "1")
WRITER = Subject("writer", "m", "", "1")


def told(runs, *, settings=TERMS, structure=None, shared=None):
    record = None
    for number, (finder, writer, outcome) in enumerate(runs):
        trials = (Trial(FINDER, "finder", "find", finder, "check"), Trial(WRITER, "writer", "write", writer, "check"))
        record = records.add(record, RunReport(f"r{number}", "c", "1", 1.0, trials, outcome), settings)
    return account(record or CrewRecord("c"), settings, structure, shared or {}, Random(1).betavariate)


@pytest.mark.parametrize(
    ("tier", "least", "passes"), [("production", 0.95, 59), ("internal", 0.85, 19), ("pilot", 0.7, 9)]
)
def test_from_nothing_the_passes_are_those_of_the_formula(tier, least, passes):
    """59, 19 and 9 at 95 %."""
    assert passes_to(NO_TRIALS, least, 0.95) == straight_passes(least) == passes
    reached = next_tier(Counts(passes - 1, passes - 1), 0.95)
    assert reached is not None
    assert (reached.tier, reached.passes) == (tier, 1)


@given(st.integers(0, 60), st.floats(0, 1), st.sampled_from([0.7, 0.85, 0.95]), st.sampled_from([0.8, 0.95]))
def test_so_many_passes_are_enough_and_one_less_is_not(trials, rate, threshold, confidence):
    """Whatever is known before."""
    counts = Counts(trials, trials * rate)
    passes = passes_to(counts, threshold, confidence)
    assert passes is not None

    def lower(more):
        return clopper_pearson(Counts(trials + more, counts.good + more), confidence).lower

    assert lower(passes) >= threshold
    assert passes == 0 or lower(passes - 1) < threshold


def test_nothing_proves_certainty():
    """No number of passes does."""
    assert passes_to(NO_TRIALS, 1.0, 0.95) is None


def test_the_highest_tier_has_none_above_it():
    """Nothing is missing."""
    assert rating(Counts(100, 100.0), 0.95).next is None
    assert rating(NO_TRIALS, 0.95).tier == "do not ship"


def test_a_leaf_has_the_trials_of_its_subject_in_all_crews():
    """Also where its stream is named with the kind of its tasks; a leaf that nobody judged has none."""
    structure = Chain((Leaf("finder"), Leaf("writer"), Leaf("critic")))
    found = told([(1.0, 1.0, 1.0)] * 5, structure=structure, shared={FINDER: Counts(50, 45.0)})
    parts = {part.name: part for part in found.parts}
    assert parts["finder"].rating.counts == Counts(50, 45.0)
    assert parts["finder"].subject == FINDER
    assert parts["writer"].rating.counts == Counts(5, 5.0)
    assert parts["critic"].rating.counts == NO_TRIALS
    assert parts["critic"].subject is None
    assert found.estimate is not None
    assert found.estimate.point == pytest.approx(0.9 * 1.0 * 0.5)
    assert found.estimate.lower < 0.1


def test_without_a_structure_each_agent_must_succeed():
    """All streams but that of the outcomes make a chain."""
    found = told([(1.0, 0.0, 0.0), (1.0, 1.0, 1.0)])
    assert found.structure is not None
    assert names(found.structure) == ("finder/search", "writer")
    assert found.estimate is not None
    assert found.estimate.point == pytest.approx(0.5)
    assert found.measured.counts == Counts(2, 1.0)
    assert structure_of(CrewRecord("c")) is None


def test_a_record_of_outcomes_alone_has_no_estimate():
    """What was measured stands by itself, and nothing can be said of raising it."""
    record = records.add(None, RunReport("r", "c", "1", 1.0, (), 1.0), Settings())
    found = account(record, Settings(), None, {}, Random(1).betavariate)
    assert (found.estimate, found.parts, found.watches) == (None, (), ())
    assert found.measured.counts == Counts(1, 1.0)
    assert raising(found, {}) is None


def test_detectors_are_told_with_the_most_evidence_first():
    """Their shares are of all evidence; without a threshold there are none."""
    runs = [(1.0, float(number % 2), float(number % 2)) for number in range(12)]
    found = told(runs)
    assert [watch.name for watch in found.watches][-1] == "finder/search"
    assert sum(watch.share for watch in found.watches) == pytest.approx(1.0)
    assert found.evidence == pytest.approx(sum(watch.evidence for watch in found.watches) / 3)
    assert told(runs, settings=Settings()).watches == ()


@pytest.mark.parametrize(
    ("outcomes", "trials", "expected"),
    [
        (2, 500, None),
        (2, 30, NextTier("production", 57)),
        (2, 0, NextTier("pilot", 7)),
        (59, 0, None),
        (20, 500, None),
    ],
)
def test_the_next_tier_is_above_whatever_decides(outcomes, trials, expected):
    """The parts may have proven one that the outcomes have not; good outcomes in a row prove the one above."""
    shared = {WRITER: Counts(trials, float(trials))}
    found = told([(1.0, 1.0, 1.0)] * outcomes, structure=Leaf("writer"), shared=shared)
    assert found.next == expected


def test_what_raises_a_crew_is_planned_for_its_threshold_or_its_next_tier():
    """The weak part is mended; a crew whose parts reach the threshold needs nothing."""
    runs = [(1.0, float(number % 4 != 0), 1.0) for number in range(40)]
    best = raising(told(runs), {"writer": 0.01})
    assert best is not None
    assert best.plan is not None
    assert best.target == 0.85
    assert best.plan.reached
    assert {step.leaf for step in best.plan.steps} == {"writer"}
    fine = raising(told([(1.0, 1.0, 1.0)] * 5), {})
    assert fine is not None
    assert fine.plan is None
    tier = raising(told(runs, settings=Settings()), {})
    assert tier is not None
    assert tier.target == 0.85


def test_a_judges_known_errors_are_taken_out_of_every_figure():
    """Of what was measured, of a part and of the score: the record itself keeps the verdicts as they were given."""
    lenient = Judge(Counts(200, 60.0), Counts(200, 190.0))
    settings = Settings(threshold=0.5, judged_by={END_TO_END: lenient, "finder/search": lenient})
    found = told([(1.0, 1.0, 1.0)] * 56 + [(0.0, 1.0, 0.0)] * 24, settings=settings)
    plain = told([(1.0, 1.0, 1.0)] * 56 + [(0.0, 1.0, 0.0)] * 24)
    assert found.record.end_to_end == plain.record.end_to_end == Counts(80, 56.0)
    assert found.measured.counts.trials < 80
    assert found.measured.bounds.lower < plain.measured.bounds.lower
    assert found.score.value < plain.score.value
    (finder,) = [part for part in found.parts if part.name == "finder/search"]
    assert finder.rating.counts == found.measured.counts
