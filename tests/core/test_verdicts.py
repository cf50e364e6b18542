"""A verifier's answer, read strictly: what is none counts as "no" and says what came instead."""

import math
from dataclasses import asdict

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crew_guard.core.events import Judged
from crew_guard.core.roles import Task
from crew_guard.core.verdicts import Judge, Verdict, said, verdict_of


@pytest.mark.parametrize("answer", [True, False])
def test_a_truth_value_is_a_verdict(answer):
    """As it is, without a grade."""
    assert verdict_of(answer) == Verdict(answer)


@given(st.floats(0, 1))
def test_a_grade_passes_from_a_half_on(grade):
    """And is kept as it is."""
    verdict = verdict_of(grade)
    assert (verdict.passed, verdict.grade) == (grade >= 0.5, grade)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (None, "gave nothing"),
        (1.7, "gave the grade 1.7"),
        (-0.1, "gave the grade -0.1"),
        (math.nan, "gave the grade nan"),
        (2, "gave the grade 2"),
        ("yes", "gave 'yes'"),
        ([], "gave []"),
        (Verdict(passed="yes"), "a Verdict whose passed is 'yes'"),
        (Verdict(passed=True, grade=1.7), "the grade 1.7"),
        (Verdict(passed=True, grade=math.inf), "the grade inf"),
        (Verdict(passed=True, grade="1"), "the grade '1'"),
        (Verdict(passed=True, grade=np.float64(1.5)), "the grade np.float64(1.5)"),
        (Verdict(passed=True, reason=7), "a Verdict whose reason is 7"),
        (Verdict(passed=False, blames=["ann"]), "a Verdict whose blames is ['ann']"),
        (Verdict(passed=True, source="human"), "a Verdict whose source is 'human'"),
        (Verdict(passed=True, source=["check"]), "a Verdict whose source is ['check']"),
    ],
)
def test_what_is_no_verdict_counts_as_no(answer, told):
    """With what it was, and what was expected."""
    verdict = verdict_of(answer)
    assert not verdict.passed
    assert verdict.grade is None
    assert told in verdict.reason
    assert "expected True, False, a grade in [0, 1] or a Verdict" in verdict.reason


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (np.float64(0.9), Verdict(passed=True, grade=0.9)),
        (np.float32(0.25), Verdict(passed=False, reason="the grade 0.25 is below 0.5", grade=0.25)),
        (np.int64(1), Verdict(passed=True, grade=1.0)),
        (np.bool_(True), Verdict(passed=True)),
        (np.array(0.75), Verdict(passed=True, grade=0.75)),
        (Verdict(np.bool_(False), grade=np.float64(0.25)), Verdict(passed=False, grade=0.25)),
        (Verdict(passed=False, reason=None, blames=None), Verdict(passed=False)),
    ],
)
def test_numbers_of_numpy_and_fields_without_a_text_are_read(answer, verdict):
    """As plain values, which a journal can hold."""
    read = verdict_of(answer)
    assert read == verdict
    assert type(read.passed) is bool
    assert read.grade is None or type(read.grade) is float
    assert msgspec.json.decode(msgspec.json.encode(Judged(1, 1.0, "a", "t", **asdict(read))), type=Judged)


@given(st.text() | st.binary() | st.floats() | st.integers() | st.lists(st.booleans()) | st.none())
def test_whatever_comes_is_read_without_an_error(answer):
    """Only True and grades from a half to 1 pass."""
    passes = isinstance(answer, int | float) and 0.5 <= answer <= 1
    assert verdict_of(answer).passed == passes


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('{"passed": true, "reason": "ok"}', (True, "ok")),
        ('```json\n{"passed": false, "reason": "a\\n b"}\n```', (False, "a b")),
        ('{"passed": "true"}', None),
        ('{"passed": 1}', None),
        ("passed: true", None),
        ("[true]", None),
    ],
)
def test_a_judge_is_heard_in_the_form_asked_for_only(text, answer):
    """Anything else is no verdict."""
    assert said(text) == answer


def test_a_judge_without_a_question_is_an_error():
    """Where it is made."""
    with pytest.raises(ValueError, match="needs a question"):
        Judge(" ")


def test_a_verifier_of_the_wrong_arity_is_refused_where_it_is_given():
    """Not told as a verdict against the agent, at run time."""
    with pytest.raises(TypeError, match=r"a task's verify is called with \(output, context\)"):
        Task("go", verify=lambda: True)
    with pytest.raises(TypeError, match="takes"):
        Task("go", verify=lambda output, context, more: True)
    assert Task("go", verify=lambda output, context, more=1: True).verify is not None
