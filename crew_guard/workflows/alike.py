"""Whether two values are the same through and through.

Equality alone takes an enum's member for its text, 1 for 1.0, and one hour in Berlin for the same hour at +02:00.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Mapping
from datetime import datetime, time
from typing import Any, cast

from pydantic import BaseModel

_ATOMS = frozenset({str, int, float, bool, bytes, type(None)})


def alike(one: Any, other: Any) -> bool:
    """Whether two values are equal, and of the same types all the way down.

    Raises:
        Exception: whatever objects of users raise when they are compared
    """
    if type(one) is not type(other):
        return False
    if type(one) in _ATOMS:
        return one == other
    if isinstance(one, set | frozenset):
        return _same_members(cast("frozenset[Any]", one), other)
    if isinstance(one, datetime | time):
        return one == other and _reckoned(one) == _reckoned(other)
    parts = _parts(one)
    if parts is None:
        return bool(one == other)
    others = cast("list[Any]", _parts(other))
    return len(parts) == len(others) and all(map(alike, parts, others))


def _parts(value: Any) -> list[Any] | None:
    """What a value is made of, in order; None where it can't be looked into."""
    if isinstance(value, list | tuple | deque):
        return list(cast("list[Any]", value))
    if isinstance(value, Mapping):
        return [part for entry in cast("Mapping[Any, Any]", value).items() for part in entry]
    if isinstance(value, BaseModel):
        values = [vars(value).get(name) for name in type(value).model_fields]
        return [*values, value.model_extra, value.__pydantic_private__]
    if dataclasses.is_dataclass(value):
        return [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    return None


def _same_members(some: frozenset[Any], others: frozenset[Any]) -> bool:
    found = {each: each for each in others}
    return len(some) == len(found) and all(each in found and alike(each, found[each]) for each in some)


def _reckoned(moment: datetime | time) -> tuple[Any, ...]:
    """How a moment goes on: a zone with rules of its own has no offset apart from a date."""
    zone = moment.tzinfo
    return moment.fold, zone is None or (moment.utcoffset(), zone.utcoffset(None))
