"""The way of one execution of a tool: from the entry that was admitted down to its bases, each method once.

What comes the same way once more is another execution: a tool that executes itself, a retry by super() as well.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

Given: TypeAlias = tuple[tuple[Any, ...], Mapping[str, Any]]
"""Arguments by position, and by name."""


class Entry(NamedTuple):
    """A call of one method of a tool, or of whatever executes tools."""

    name: str
    """The method's: those of one name are a class's and its bases'."""
    method: object
    given: Given = ((), {})
    parsed: Callable[[], Mapping[str, Any]] | None = None
    """Gives what the tool makes of them, by name."""
    is_last: bool = False
    """Whether all that comes after it is the work itself, and no method on the way there."""


class Way:
    """The methods that one execution has entered. Its threads and tasks share it: of two at a time one is the first."""

    __slots__ = ("_begin", "_entered", "_is_done", "_is_over", "_lock", "_works")

    def __init__(self, entry: Entry, before: tuple[object, ...] = ()) -> None:
        """Begin one.

        Args:
            entry: what was admitted
            before: the methods of its name that led to it
        """
        self._begin: Entry | None = entry
        self._entered = {entry.name: [*before, entry.method]}
        self._is_over = entry.is_last
        self._works = self._is_done = False
        self._lock = threading.Lock()

    def leads_to(self, entry: Entry) -> bool:
        """Whether this is the next method of the way, which has entered it then.

        One of another name is its twin, as the blocking one of an async one, where it is given the same.
        """
        if self._is_over or (entry.name not in self._entered and not self._may_be(entry)):
            return False
        with self._lock:
            methods = self._entered.setdefault(entry.name, [])
            if self._is_over or entry.method in methods:
                return False
            methods.append(entry.method)
            self._is_over = entry.is_last
            return True

    def another(self, entry: Entry) -> Way:
        """The way of another execution that begins within this one: what leads to its entry doesn't lead on from it."""
        with self._lock:
            methods = self._entered.get(entry.name, [])
            before = methods[: methods.index(entry.method)] if entry.method in methods else ()
        return Way(entry, tuple(before))

    def works(self, entry: Entry) -> bool:
        """Whether what another object is asked for now is the work of this way: the first that is asked for.

        Where that was given something else, a helper say, what is given the same as the way still is.
        """
        same = self._begin is not None and self._may_be(entry)
        with self._lock:
            first = not self._is_done and (same or not self._works)
            self._works, self._is_done = True, self._is_done or same
        return first

    def over(self) -> None:
        """Its execution has ended. What it was given is let go: contexts that tasks have copied keep the way."""
        self._begin = None

    def _may_be(self, entry: Entry) -> bool:
        begin = self._begin
        try:
            return begin is None or _alike(begin, entry)
        except Exception:  # noqa: BLE001  whatever a validator of the user's raises: these are not known to be the same
            return False


def _alike(one: Entry, other: Entry) -> bool:
    """Whether two calls are given the same, as it was written or as the tool reads it."""
    if _agree(one.given, other.given):
        return True
    if one.parsed is None or other.parsed is None:
        return False
    read: Given = ((), one.parsed())
    return _agree(read, other.given) or _agree(read, ((), other.parsed()))


def _agree(one: Given, other: Given) -> bool:
    """Whether all that both have is equal, and both have something, or one of them nothing at all.

    What only one has is a default, or is filled in; what one has by position another may have by name.
    """
    (values, named), (others, also) = one, other
    if not (values or named) or not (others or also):
        return True
    both = [*zip(values, others, strict=False), *((named[name], also[name]) for name in named.keys() & also.keys())]
    alone = [(value, also) for value in values[len(others) :]] + [(value, named) for value in others[len(values) :]]
    if not both and not alone:
        return False
    found = all(any(_equal(value, each) for each in names.values()) for value, names in alone)
    return found and all(_equal(*pair) for pair in both)


def _equal(one: object, other: object) -> bool:
    return one is other or bool(one == other)
