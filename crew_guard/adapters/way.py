"""The way of one execution of a tool: from the entry that was admitted down to its bases, each method once.

What comes the same way once more is another execution: a tool that executes itself, a retry by super() as well.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple


class Entry(NamedTuple):
    """A call of one method of a tool, or of whatever executes tools."""

    name: str
    """The method's: those of one name are a class's and its bases'."""
    method: object
    given: Callable[[], object] = object
    """Gives its arguments, in the form that the methods of other names have in common."""
    is_last: bool = False
    """Whether all that comes after it is the work itself, and no method on the way there."""


class Way:
    """The methods that one execution has entered. Its threads and tasks share it: of two at a time one is the first."""

    __slots__ = ("_entered", "_given", "_is_over", "_lock", "_works")

    def __init__(self, entry: Entry, before: tuple[object, ...] = ()) -> None:
        """Begin one.

        Args:
            entry: what was admitted
            before: the methods of its name that led to it
        """
        self._given = entry.given
        self._entered = {entry.name: [*before, entry.method]}
        self._is_over = entry.is_last
        self._works = False
        self._lock = threading.Lock()

    def leads_to(self, entry: Entry) -> bool:
        """Whether this is the next method of the way, which has entered it then.

        One of another name is its twin, as the blocking one of an async one, where it is given the same.
        """
        if self._is_over or (entry.name not in self._entered and not self._is_given(entry)):
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

    def works(self) -> bool:
        """Whether what another object is asked for now is the work of this way: the first that is asked for."""
        with self._lock:
            first, self._works = not self._works, True
        return first

    def _is_given(self, entry: Entry) -> bool:
        try:
            return bool(self._given() == entry.given())
        except Exception:  # noqa: BLE001  whatever a validator of the user's raises: these are not known to be the same
            return False
