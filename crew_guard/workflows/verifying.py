"""What a verifier said, as a Verdict. Whatever is no clear yes counts as no, and says why."""

from __future__ import annotations

import math
from typing import Any

from crew_guard.core.roles import Verdict

_EXPECTED = "it must give True, False, a grade from 0 to 1 or a Verdict"


def verdict_of(given: Any, pass_mark: float = 0.5, who: str = "the verifier") -> Verdict:
    """The verdict that a verifier's value is.

    Args:
        given: what it returned
        pass_mark: the least grade that passes
        who: what reasons call it
    """
    if isinstance(given, bool):
        return Verdict(given)
    if isinstance(given, int | float):
        if math.isnan(given) or not 0 <= given <= 1:
            return _no(f"{who} gave the grade {given!r}: {_EXPECTED}")
        return _graded(float(given), pass_mark)
    if isinstance(given, Verdict):
        grade: Any = given.grade
        if type(given.passed) is not bool:
            return _no(f"{who} gave a Verdict whose passed is {given.passed!r}, neither True nor False")
        sound = grade is None or (isinstance(grade, int | float) and not isinstance(grade, bool) and 0 <= grade <= 1)
        return given if sound else _no(f"{who} gave the grade {grade!r}: {_EXPECTED}")
    if given is None:
        return _no(f"{who} gave nothing: {_EXPECTED}")
    return _no(f"{who} gave {given!r:.80}: {_EXPECTED}")


def raised(error: Exception, who: str = "the verifier") -> Verdict:
    """The verdict where a verifier raised."""
    return _no(f"{who} raised {type(error).__name__}: {error}")


def _graded(grade: float, pass_mark: float) -> Verdict:
    reason = "" if grade >= pass_mark else f"the grade {grade:g} is below {pass_mark:g}"
    return Verdict(grade >= pass_mark, reason, grade)


def _no(reason: str) -> Verdict:
    return Verdict(passed=False, reason=reason)
