"""The e-detector, its mean over streams, the SPRT and the breaker."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from crew_guard.core.reliability.breaker import Breaker
from crew_guard.core.reliability.detector import (
    ODDS_RATIOS,
    Alarm,
    EDetector,
    Sprt,
    alarm,
    evidence,
    level_of,
    sprt_for,
)
from crew_guard.core.reliability.trials import END_TO_END

LEVEL = 0.97


def after(grades: Iterable[float], detector: EDetector | None = None) -> EDetector:
    """The detector once it has seen these."""
    found = detector or EDetector(LEVEL)
    for grade in grades:
        found = found.observed(grade)
    return found


def until_alarm(grades: Iterable[float], detector: EDetector) -> int | None:
    """At which of these it alarms, from 1 on."""
    for step, grade in enumerate(grades, 1):
        detector = detector.observed(grade)
        if detector.evidence >= 10_000:
            return step
    return None


@given(level=st.floats(0.05, 0.999), grades=st.lists(st.floats(0, 1), max_size=6))
def test_every_bet_is_fair(level: float, grades: list[float]) -> None:
    """Whatever came before, each term grows by at most (1 + M) on average where the mean is the level: E[x] = level."""
    before = after(grades, EDetector(level))
    good, bad = before.observed(1.0), before.observed(0.0)
    for m, up, down in zip(before.terms, good.terms, bad.terms, strict=True):
        assert level * up + (1 - level) * down <= (1 + m) * (1 + 1e-9)
        assert min(up, down) >= 0


@given(grades=st.lists(st.floats(0, 1), max_size=10), grade=st.floats(0, 1))
def test_a_grade_counts_as_the_mixture_of_a_good_and_a_bad_trial(grades: list[float], grade: float) -> None:
    """The factor is linear in the grade."""
    before = after(grades)
    found, good, bad = before.observed(grade), before.observed(1.0), before.observed(0.0)
    for mixed, up, down in zip(found.terms, good.terms, bad.terms, strict=True):
        assert mixed == pytest.approx(grade * up + (1 - grade) * down)


def test_one_term_is_the_published_recursion() -> None:
    """M ← (1 + M)(1 + λ(m0 - x)) with λ = (m0 - q)/(m0(1 - m0)), for a stream whose failures stand alone."""
    odds = (1 - LEVEL) / LEVEL
    for index, ratio in enumerate(ODDS_RATIOS):
        q = 1 / (1 + ratio * odds)
        stake = (LEVEL - q) / (LEVEL * (1 - LEVEL))
        m = 0.0
        for grade in (1.0, 1.0, 0.0):
            m = (1 + m) * (1 + stake * (LEVEL - grade))
        assert after((1.0, 1.0, 0.0)).terms[index] == pytest.approx(m)


def test_a_good_history_costs_no_delay() -> None:
    """After 20,000 good trials a drop to 0.5 is found as soon as after 200: evidence can't fall below nothing."""
    draw = random.Random(4)
    healthy = [float(draw.random() < LEVEL) for _ in range(500)]
    fresh, old = after(healthy), after([*[1.0] * 20_000, *healthy])
    delays = []
    for seed in range(40):
        drop = random.Random(seed)
        grades = [float(drop.random() < 0.5) for _ in range(200)]
        delays.append((until_alarm(grades, fresh), until_alarm(grades, old)))
    assert all(one is not None and one == other for one, other in delays)


def test_an_agent_that_always_fails_is_told() -> None:
    """However bursty the stream may be, whatever it is held to: at most 20 failures, from the first trial on."""
    for level in (0.99, LEVEL, 0.85, 0.7, 0.5):
        step = until_alarm([0.0] * 100, EDetector(level))
        assert step is not None
        assert step <= 20


def test_a_stream_that_showed_no_bursts_is_judged_at_full_stakes() -> None:
    """Failures that stood alone and were over make the same drop known sooner; bursts make it known later."""
    alone = after(([0.0] + [1.0] * 40) * 12)
    bursty = after(([0.0] * 3 + [1.0] * 120) * 12)
    assert alone.bursts < -1.5 < bursty.bursts
    drop = [0.0] * 30
    sooner, later = until_alarm(drop, alone.restarted()), until_alarm(drop, bursty.restarted())
    assert sooner is not None
    assert later is not None
    assert sooner < later


def test_a_drop_does_not_teach_that_bursts_are_normal() -> None:
    """Failures that aren't followed by ten good trials wait: they say nothing of bursts yet."""
    assert after([0.0, 0.0, 1.0] * 10).bursts == 0
    assert after([0.0, 0.0, *[1.0] * 10]).bursts > 0


def test_a_later_verdict_counts_where_it_belongs() -> None:
    """For the worse as an outcome of now; for the better what the failure had added goes."""
    seen = told([1.0] * 20 + [0.0] + [1.0] * 5)
    assert seen.corrected(1.0, 0.0, 3.0, 26.0) == seen.observed(0.0, 26.0)
    assert seen.corrected(0.5, 0.5, 20.0) == seen
    assert seen.corrected(0.0, 1.0, 20.0).evidence == pytest.approx(told([1.0] * 26).evidence)
    assert seen.corrected(0.0, 1.0, 19.0) is seen


ALONE = EDetector(LEVEL, bursts=-1e6)
"""Its failures stand alone: each bet is made in full, whatever was before it."""
WARY = EDetector(LEVEL)
"""It bets less after a failure."""


def told(grades: Iterable[float], found: EDetector = ALONE) -> EDetector:
    """The same once it has seen these, one a second from 0 on."""
    for at, grade in enumerate(grades):
        found = found.observed(grade, float(at))
    return found


def as_bet(grades: Iterable[float], right: Iterable[float], seen: EDetector) -> list[float]:
    """The terms that the bets made on the grades come to on the right ones."""
    terms = [0.0] * len(ODDS_RATIOS)
    for grade, better in zip(grades, right, strict=True):
        known, seen = seen.terms, seen.observed(grade)
        factors = [new / (1 + old) for old, new in zip(known, seen.terms, strict=True)]
        stakes = [(factor - 1) / (LEVEL - grade) for factor in factors]
        terms = [(1 + m) * (1 + stake * (LEVEL - better)) for m, stake in zip(terms, stakes, strict=True)]
    return terms


@pytest.mark.parametrize("began", [ALONE, WARY])
@given(grades=st.lists(st.sampled_from((0.0, 0.5, 0.9, 1.0, 1.0)), min_size=1, max_size=60), data=st.data())
def test_a_correction_for_the_better_takes_out_what_the_outcome_had_added(
    began: EDetector, grades: list[float], data: st.DataObject
) -> None:
    """No more and no less, in whatever order outcomes are corrected: the same bets, made on the corrected outcomes."""
    found, right = told(grades, began), list(grades)
    for place in data.draw(st.lists(st.integers(0, len(grades) - 1), max_size=12)):
        better = data.draw(st.floats(right[place], 1.0))
        found, right[place] = found.corrected(right[place], better, float(place)), better
    assert found.terms == pytest.approx(as_bet(grades, right, began), rel=1e-9)
    assert replace(found, terms=(), bets=()) == replace(told(grades, began), terms=(), bets=())


@pytest.mark.parametrize("level", [0.85, 0.95])
@pytest.mark.parametrize("failures", [6, 8, 10, 12, 15])
def test_a_drop_is_still_seen_where_one_of_its_failures_was_none(level: float, failures: int) -> None:
    """What is left is what it shows without that outcome, but for what a good one takes from it."""
    seen, without = (told([1.0] * 30 + [0.0] * times, EDetector(level)) for times in (failures, failures - 1))
    kept = seen.corrected(0.0, 1.0, 34.0).evidence
    assert 0.75 * without.evidence < kept < without.evidence


def test_outcomes_of_one_time_are_corrected_one_after_the_other() -> None:
    """Which is which is unknown: first the larger bet, and in the end both."""
    seen = told([1.0] * 30, WARY).observed(0.0, 30.0).observed(0.0, 30.0)
    once = seen.corrected(0.0, 1.0, 30.0)
    assert once.terms == pytest.approx(as_bet([1.0] * 30 + [0.0, 0.0], [1.0] * 31 + [0.0], WARY))
    twice = once.corrected(0.0, 1.0, 30.0)
    assert twice.terms == pytest.approx(as_bet([1.0] * 30 + [0.0, 0.0], [1.0] * 32, WARY))


def test_what_is_long_over_stays_as_it_was_told() -> None:
    """A detector remembers its latest bets, however long it goes on, and the evidence before them."""
    grades = [0.0 if place % 5 == 0 else 1.0 for place in range(1_000)]
    seen = told(grades)
    assert len(seen.bets) == 64
    assert seen.corrected(0.0, 1.0, 675.0) is seen
    grades[680] = 1.0
    assert seen.corrected(0.0, 1.0, 680.0).evidence == pytest.approx(told(grades).evidence, rel=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_good_words_on_old_runs_take_nothing_from_a_later_drop(seed: int) -> None:
    """What is left is what the corrected history gives from the start."""
    draw = random.Random(seed)
    grades = [float(draw.random() < 0.97) for _ in range(300)]
    old = [place for place, grade in enumerate(grades[:280]) if not grade]
    grades += [float(draw.random() < 0.5) for _ in range(20)]
    found = told(grades)
    for place in old:
        found, grades[place] = found.corrected(0.0, 1.0, float(place), 320.0), 1.0
    assert found.evidence == pytest.approx(told(grades).evidence, rel=1e-9)


def test_the_level_is_the_lesser_of_the_target_and_what_was_shown() -> None:
    """Kept away from 0 and 1, where no bet is possible."""
    assert [level_of(0.95, None), level_of(0.95, 0.9), level_of(0.8, 0.9)] == [0.95, 0.9, 0.8]
    assert (level_of(1.0, None), level_of(0.0, None)) == (0.999, 0.05)


def test_the_mean_over_streams_names_who_dropped() -> None:
    """The largest term is the culprit's; without streams there is nothing to tell."""
    streams = {"a": after([1.0] * 50), "b": after([0.0, 1.0] * 12), "c": after([1.0] * 50)}
    assert evidence(streams) == pytest.approx(sum(one.evidence for one in streams.values()) / 3)
    found = alarm(streams, 10_000)
    assert found is not None
    assert found.culprit == "b"
    assert found.share > 0.99
    assert alarm({}, 0) is None
    assert alarm({"a": streams["a"]}, 10_000) is None


def test_the_sprt_says_good_after_26_straight_passes_and_bad_after_three_failures() -> None:
    """log(0.9 / 0.05) / log(0.95 / 0.85) = 25.99; each failure takes log(3)."""
    test = Sprt()
    for _ in range(26):
        assert test.answer == "open"
        test = test.observed(1.0)
    assert test.answer == "good"
    assert Sprt().observed(0.0).observed(0.0).answer == "open"
    assert Sprt().observed(0.0).observed(0.0).observed(0.0).answer == "bad"


def test_the_sprt_answers_by_all_that_it_has_seen() -> None:
    """What is corrected, judged at last or seen after an answer counts as well: its breaker may wait for another."""
    said = Sprt()
    for _ in range(26):
        said = said.observed(1.0)
    assert said.observed(0.0).answer == "open"
    assert said.revised(None, 0.0) == said.observed(0.0)
    once = said.revised(1.0, 0.0)
    assert (once.answer, once.trials) == ("open", 26)
    assert once.revised(0.0, 1.0).log_ratio == pytest.approx(said.log_ratio)
    for _ in range(26):
        said = said.revised(1.0, 0.0)
    assert said.log_ratio == pytest.approx(26 * math.log(0.05 / 0.15))
    assert said.answer == "bad"


@pytest.mark.parametrize(("rate", "good"), [(0.85, (0.0, 0.05)), (0.70, (0.0, 0.001)), (0.95, (0.88, 1.0))])
def test_the_sprt_keeps_its_error_rates(rate: float, good: tuple[float, float]) -> None:
    """Of 2,000 tests at p_bad at most 5 % say good, at p_ok at least 88 %, at 0.70 next to none."""
    draw, said = random.Random(8), 0
    for _ in range(2_000):
        test = Sprt()
        while test.answer == "open":
            test = test.observed(float(draw.random() < rate))
        said += test.answer == "good"
    assert good[0] <= said / 2_000 <= good[1]


@given(level=st.floats(0.3, 0.999))
def test_the_sprt_of_a_stream_asks_no_more_than_it_is_held_to(level: float) -> None:
    """At most the level; the same odds ratio between fine and not."""
    test = sprt_for(level)
    assert test.ok == pytest.approx(min(0.95, level))
    odds = [p / (1 - p) for p in (test.ok, test.bad)]
    assert odds[0] / odds[1] == pytest.approx((0.95 / 0.05) / (0.85 / 0.15))


def opened() -> Breaker:
    """A breaker that the agent b opened."""
    return Breaker().opened(Alarm("b", 0.9, 20_000), {"b": 0.97, END_TO_END: 0.85, "a": 0.97}, 5.0)


def test_an_open_breaker_is_probed_after_its_share_of_the_workflows_runs() -> None:
    """Five runs of the workflow, and a probe beside each fifth from the sixth on."""
    breaker = opened()
    assert (breaker.state, breaker.culprit, set(breaker.tests)) == ("open", "b", {"b", END_TO_END})
    due = []
    for _ in range(15):
        due.append(breaker.due(0.2))
        if breaker.due(0.2):
            breaker = breaker.probed([("b", 1.0), (END_TO_END, 1.0)], 6.0)
        breaker = breaker.fell_back(0.2, 6.0)
    assert [index for index, one in enumerate(due, 1) if one] == [6, 11]
    assert breaker.state == "half_open"


def test_probes_that_are_good_close_it_and_bad_ones_open_it_again() -> None:
    """All tests must say good; one that says bad is enough."""
    half = opened()
    for _ in range(5):
        half = half.fell_back(0.2, 6.0)
    assert half.state == "half_open"
    good = half
    for _ in range(40):
        good = good.probed([("b", 1.0), (END_TO_END, 1.0), ("a", 0.0)], 7.0)
    assert good == Breaker("closed", 7.0)
    bad = half
    for _ in range(3):
        bad = bad.probed([("b", 0.0), (END_TO_END, 1.0)], 7.0)
    assert bad.state == "open"
    assert all(test.trials == 0 for test in bad.tests.values())
    assert not half.due(0.0)


def test_a_new_version_is_probed_at_once() -> None:
    """half_open without waiting; a breaker that is closed counts nothing."""
    breaker = opened().renewed({END_TO_END: 0.85}, "a new version of the crew is tried", 9.0)
    assert breaker.due(0.2)
    assert breaker.state == "half_open"
    assert Breaker().fell_back(0.2, 1.0) == Breaker()
    assert Breaker().probed([("b", 0.0)], 1.0) == Breaker()
    assert math.isclose(breaker.tests[END_TO_END].ok, 0.85)


def test_evidence_stays_finite_however_long_a_stream_fails() -> None:
    """A record that JSON can't hold would be folded again at every look."""
    detector = EDetector(0.85)
    for at in range(5_000):
        detector = detector.observed(0.0, float(at))
    for at in range(4_990, 5_000):
        detector = detector.corrected(0.0, 1.0, float(at)).corrected(1.0, 0.0, float(at), 5_000.0)
    assert math.isfinite(detector.evidence)
    assert msgspec.json.decode(msgspec.json.encode(detector), type=EDetector) == detector
    assert detector.evidence > 10_000
