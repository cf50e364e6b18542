"""Where the values of a policy come from."""

from __future__ import annotations


class Sources(dict[tuple[str | int, ...], str]):
    """The file and line of each key. Two policies that differ in nothing else are equal."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sources)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # pyright: ignore[reportAssignmentType]  as any dict's
