"""Votes, counted: which answers are the same, and which of them is ahead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from crew_guard.core.plain import plain


@dataclass(frozen=True, slots=True)
class Ballots:
    """Votes, counted."""

    cast: Sequence[Any]
    same: Callable[[Any], Any]

    @property
    def counts(self) -> list[tuple[Any, int]]:
        """(what makes an answer the same, its votes), the first one's first."""
        return Counter(_hashable(self.same(each)) for each in self.cast).most_common()

    @property
    def votes(self) -> int:
        """Of the leader."""
        return self.counts[0][1]

    @property
    def margin(self) -> int:
        """How far the leader is ahead."""
        counts = self.counts
        return counts[0][1] - (counts[1][1] if len(counts) > 1 else 0)

    @property
    def leader(self) -> Any:
        """The first answer of those that are ahead."""
        first = self.counts[0][0]
        return next(each for each in self.cast if _hashable(self.same(each)) == first)


def _hashable(value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        return repr(plain(value))
    return value
