"""Any value as JSON values, any exception in words. What users put into a run can be looked at, and never ends it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, cast

from pydantic_core import to_json, to_jsonable_python

_LONGEST_SHOWN = 80
"""Characters of a value in a message."""
MOST_ITEMS = 1_000_000
"""Items of an iterator that are taken: one without an end would take all memory."""
_DEEPEST = 100
"""Levels of a value that are kept: JSON readers give up at 200."""
_MOST_INSIDE = 5
"""Exceptions of a group that are named."""


def plain(value: Any) -> Any:
    """A value as JSON values: models and dataclasses become objects. Never raises.

    What has no JSON becomes its text, or its type's name where even that fails; cycles and what is too
    deep are cut.
    """
    try:
        made = to_jsonable_python(value, serialize_unknown=True, bytes_mode="base64", inf_nan_mode="null")
    except Exception:  # noqa: BLE001  objects of users raise what they like when they are looked at
        return _part_by_part(value, ())
    return made if writable(made) else _part_by_part(value, ())


def writable(values: Any) -> bool:
    """Whether JSON can hold these JSON values as they are: it has no lone surrogates, as odd file names have them."""
    try:
        to_json(values)
    except Exception:  # noqa: BLE001  see plain
        return False
    return True


def listed(value: Any) -> Any:
    """An iterator as the list of what it gives, since whoever looks at it uses it up; anything else as it is.

    Raises:
        ValueError: it gives more than MOST_ITEMS
    """
    if not isinstance(value, Iterator):
        return value
    found = list(islice(cast("Iterator[Any]", value), MOST_ITEMS + 1))
    if len(found) > MOST_ITEMS:
        raise ValueError(f"it gives more than {MOST_ITEMS:,} items: give a list, or fewer")
    return found


def all_listed(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same values, an iterator among them as a list. See `listed`."""
    if not any(isinstance(value, Iterator) for value in values.values()):
        return values
    return {name: listed(value) for name, value in values.items()}


def shown(value: Any) -> str:
    """A value in a message, where it is short. Never raises.

    Of a longer one only what it is: messages are redacted as a whole, and what is left of a secret in a text that was
    cut before would not be known as one.
    """
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  see plain
        return f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST_SHOWN else f"a long {type(value).__name__}"


def error_text(error: BaseException) -> str:
    """What an exception says, and of a group what is inside of it. Never raises.

    Empty where it says nothing, or where even asking it fails.
    """
    try:
        text = str.__str__(str(error))
    except Exception:  # noqa: BLE001  exceptions of users raise what they like when they are looked at
        text = ""
    if not isinstance(error, BaseExceptionGroup):
        return text
    inside = list(_leaves(cast("BaseExceptionGroup[BaseException]", error)))
    told = [error_words(one) for one in inside[:_MOST_INSIDE]]
    more = len(inside) - len(told)
    return f"{text}: {'; '.join(told)}{f'; and {more} more' if more else ''}"


def error_words(error: BaseException) -> str:
    """An exception's kind and what it says, as in `KeyError: 'x'`. Never raises."""
    text = error_text(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """The exceptions of a group that are none themselves, however deep; groups may be nested without an end."""
    left: list[BaseException] = [group]
    while left:
        one = left.pop()
        if isinstance(one, BaseExceptionGroup):
            left += reversed(cast("BaseExceptionGroup[BaseException]", one).exceptions)
        else:
            yield one


def _part_by_part(value: Any, above: tuple[int, ...]) -> Any:
    if id(value) in above or len(above) > _DEEPEST:
        return f"<{type(value).__name__}>"
    below = (*above, id(value))
    if isinstance(value, Mapping):
        entries = cast("Mapping[Any, Any]", value).items()
        return {str(key): _part_by_part(entry, below) for key, entry in entries}
    if isinstance(value, list | tuple | set | frozenset):
        return [_part_by_part(entry, below) for entry in cast("Iterable[Any]", value)]
    try:
        return to_jsonable_python(value, serialize_unknown=True, bytes_mode="base64", inf_nan_mode="null")
    except Exception:  # noqa: BLE001  see above
        return f"<{type(cast('object', value)).__name__}>"
