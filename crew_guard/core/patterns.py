"""Names and patterns such as read_*: whether one covers another, and whether two can ever meet.

A list of patterns lets a name through that matches one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name matches one of these patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def is_name(pattern: str) -> bool:
    """Whether it is a plain name, which only itself matches."""
    return not any(wildcard in pattern for wildcard in "*?[")


def covers(wide: str, narrow: str) -> bool:
    """Whether every name that matches `narrow` surely matches `wide`; where that is hard to tell, False."""
    if wide == narrow or is_name(wide):
        return wide == narrow
    if is_name(narrow):
        return fnmatchcase(narrow, wide)
    # Taken as text, the wildcards of `narrow` meet no letter of `wide`, only its stars, which take anything.
    return "?" not in wide and "[" not in wide and "[" not in narrow and fnmatchcase(narrow, wide)


def implies(narrow: Sequence[str], wide: Sequence[str]) -> bool:
    """Whether whatever the list `narrow` lets through surely passes the list `wide` as well."""
    return all(any(covers(pattern, own) for pattern in wide) for own in narrow)


def can_meet(one: str, other: str) -> bool:
    """Whether some name matches both patterns."""
    if is_name(one) or is_name(other):
        return covers(other, one) if is_name(one) else covers(one, other)
    left, right = _tokens(one), _tokens(other)
    todo, seen = [(0, 0)], {(0, 0)}
    while todo:
        i, j = todo.pop()
        if i == len(left) and j == len(right):
            return True
        for place in _onwards(left, i, right, j):
            if place not in seen:
                seen.add(place)
                todo.append(place)
    return False


def _onwards(left: list[str], i: int, right: list[str], j: int) -> list[tuple[int, int]]:
    """Where two matchers can stand after one more character, or after a star that took none."""
    star_left, star_right = left[i : i + 1] == ["*"], right[j : j + 1] == ["*"]
    places: list[tuple[int, int]] = []
    if star_left:
        places.append((i + 1, j))
    if star_right:
        places.append((i, j + 1))
    if star_left and j < len(right):
        places.append((i, j + 1))
    if star_right and i < len(left):
        places.append((i + 1, j))
    if not star_left and not star_right and i < len(left) and j < len(right) and _share(left[i], right[j]):
        places.append((i + 1, j + 1))
    return places


def _share(one: str, other: str) -> bool:
    """Whether some character matches both: the ends of ranges, and what stands just beside them, tell."""
    candidates = {chr(ord(char) + step) for char in one + other for step in (-1, 0, 1) if ord(char) + step >= 0}
    return any(fnmatchcase(char, one) and fnmatchcase(char, other) for char in (*candidates, "\u1234"))


def _tokens(pattern: str) -> list[str]:
    """The pattern in parts that match one character each, and stars."""
    tokens: list[str] = []
    place = 0
    while place < len(pattern):
        end = _end_of_set(pattern, place) if pattern[place] == "[" else place + 1
        tokens.append(pattern[place:end])
        place = end
    return tokens


def _end_of_set(pattern: str, start: int) -> int:
    """The place after a set such as [a-z] or [!]x]; a bracket that isn't closed is a character."""
    first = start + 2 if pattern[start + 1 : start + 2] == "!" else start + 1
    end = pattern.find("]", first + 1 if pattern[first : first + 1] == "]" else first)
    return start + 1 if end < 0 else end + 1
