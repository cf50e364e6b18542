"""Votes, counted: which answers are the same, and which of them is ahead."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Ballots:
    """Votes, counted."""

    cast: Sequence[Any]
    same: Callable[[Any], Any]
    """What of an answer another one must equal to be the same."""

    @property
    def groups(self) -> list[list[Any]]:
        """The answers, those that are the same together: the largest group first, of equal ones the first one's."""
        found: list[tuple[Any, list[Any]]] = []
        for answer in self.cast:
            key = self.same(answer)
            group = next((answers for other, answers in found if _equal(other, key)), None)
            if group is None:
                found.append((key, [answer]))
            else:
                group.append(answer)
        return sorted((answers for _, answers in found), key=len, reverse=True)

    @property
    def votes(self) -> int:
        """Of the leader."""
        return len(self.groups[0])

    @property
    def margin(self) -> int:
        """How far the leader is ahead."""
        first, *others = map(len, self.groups)
        return first - (others[0] if others else 0)

    @property
    def leader(self) -> Any:
        """The first answer of those that are ahead."""
        return self.groups[0][0]


def _equal(one: Any, other: Any) -> bool:
    """Whether two answers are one. Arrays, whose == gives an array, are not, nor is what raises when it is compared."""
    if one is other:
        return True
    try:
        made = one == other
        return not isinstance(made, Sized) and bool(made)
    except Exception:  # noqa: BLE001  objects of users raise what they like when they are compared
        return False
