"""Patterns against patterns: what is claimed of them holds for every name."""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crew_guard.core.patterns import can_meet, covers, implies, matches

PATTERNS = st.text(alphabet="ab*?[]!-", max_size=6)
NAMES = ["".join(letters) for size in range(6) for letters in product("ab-", repeat=size)]


@given(one=PATTERNS, other=PATTERNS)
def test_what_covers_another_pattern_matches_all_that_it_matches(one: str, other: str) -> None:
    """And a list that implies another lets nothing through that the other doesn't."""
    if covers(one, other):
        assert all(fnmatchcase(name, one) for name in NAMES if fnmatchcase(name, other))
    if implies([one, "a"], [other, "b*"]):
        assert all(matches(name, [other, "b*"]) for name in NAMES if matches(name, [one, "a"]))


@given(one=PATTERNS, other=PATTERNS)
def test_patterns_that_cannot_meet_share_no_name(one: str, other: str) -> None:
    """A name that matches both proves that they can."""
    if any(fnmatchcase(name, one) and fnmatchcase(name, other) for name in NAMES):
        assert can_meet(one, other)
        assert can_meet(other, one)


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("read_*", "*_file", True),
        ("read_*", "write_*", False),
        ("[a-m]x", "[k-z]x", True),
        ("[a-c]x", "[x-z]x", False),
        ("[!a]", "a", False),
        ("[!a-y]", "[!b-z]", True),
        ("*", "", True),
        ("?", "", False),
        ("[a", "[a", True),
    ],
)
def test_whether_two_patterns_meet(one: str, other: str, meet: bool) -> None:
    """Ranges, negations, and brackets that aren't closed."""
    assert can_meet(one, other) is meet


@pytest.mark.parametrize(
    ("wide", "narrow", "covered"),
    [
        ("read_*", "read_file", True),
        ("read_*", "read_f*", True),
        ("*", "[ab]?*", False),
        ("?", "*", False),
        ("a?", "ab", True),
        ("*ab]", "[xab]", False),
    ],
)
def test_what_is_surely_covered(wide: str, narrow: str, covered: bool) -> None:
    """Where it is hard to tell the answer is no, which keeps a list that may matter."""
    assert covers(wide, narrow) is covered
