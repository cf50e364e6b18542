"""Whether what one node gives is what the next one takes, as far as both say so.

Only what is certain is called wrong: an unknown type fits everything.
"""

from __future__ import annotations

import collections.abc
import types
from collections.abc import Awaitable, Coroutine, Sequence
from enum import Enum
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, is_typeddict

from pydantic import BaseModel

_UNIONS = (Union, types.UnionType)
_WAITED_FOR = (Awaitable, Coroutine, collections.abc.Awaitable, collections.abc.Coroutine)
_WIDER: dict[type, tuple[type, ...]] = {int: (float, complex), float: (complex,)}


def fits(given: Any, wanted: Any) -> bool:
    """Whether a value of one type may stand where another is wanted."""
    given, wanted = _bare(given), _bare(wanted)
    if _open(given) or _open(wanted):
        return True
    if get_origin(given) in _UNIONS:
        return all(fits(each, wanted) for each in get_args(given))
    if get_origin(wanted) in _UNIONS:
        return any(fits(given, each) for each in get_args(wanted))
    if get_origin(given) is Literal:
        values = get_args(given)
        if get_origin(wanted) is Literal:
            return all(value in get_args(wanted) for value in values)
        return all(fits(cast("Any", type(value)), wanted) for value in values)
    if get_origin(wanted) is Literal:
        # A bool or an Enum may hold others; who says str here means one of these, and is believed.
        return any(fits(cast("Any", type(value)), given) for value in get_args(wanted))
    return _classes_fit(given, wanted)


def item_of(given: Any) -> Any:
    """The type of what a sequence holds; Any where it doesn't say, None where it is no sequence."""
    given = _bare(given)
    if _open(given):
        return Any
    kind = get_origin(given) or given
    if not isinstance(kind, type) or not issubclass(kind, collections.abc.Iterable) or issubclass(kind, str | bytes):
        return None
    arguments = get_args(given)
    return arguments[0] if arguments else Any


def outcomes_of(given: Any) -> tuple[Any, ...] | None:
    """Every value that a type can have; None where there are too many to name."""
    given = _bare(given)
    if get_origin(given) is Literal:
        return get_args(given)
    if given is bool:
        return True, False
    if given is type(None):
        return (None,)
    if isinstance(given, type) and issubclass(given, Enum):
        return tuple(given)
    if get_origin(given) in _UNIONS:
        parts = [outcomes_of(each) for each in get_args(given)]
        return None if None in parts else tuple(value for part in parts for value in part or ())
    return None


def attribute_of(given: Any, name: str) -> Any:
    """The type of an object's attribute; Any where it isn't known, None where it has none."""
    given = _bare(given)
    if _open(given) or not isinstance(given, type):
        return Any
    given = cast("type[Any]", given)
    if issubclass(given, BaseModel):
        field = given.model_fields.get(name)
        return field.annotation if field is not None else Any if hasattr(given, name) else None
    hints: dict[str, Any] = {}
    for kind in reversed(given.__mro__):
        hints |= getattr(kind, "__annotations__", {})
    found = hints.get(name, Any if hasattr(given, name) else None)
    return Any if isinstance(found, str) else found


def named(hint: Any) -> str:
    """A type in words."""
    if isinstance(hint, type) and not get_args(hint):
        return "None" if hint is type(None) else hint.__name__
    return str(hint).replace("typing.", "").replace("collections.abc.", "")


def _bare(hint: Any) -> Any:
    """Without Annotated and NewType, and what an awaitable gives."""
    while True:
        if hint is None:
            return type(None)
        origin = get_origin(hint)
        if origin is Annotated:
            hint = get_args(hint)[0]
        elif origin in _WAITED_FOR and get_args(hint):
            hint = get_args(hint)[-1]
        elif hasattr(hint, "__supertype__"):
            hint = hint.__supertype__
        else:
            return hint


def _open(hint: Any) -> bool:
    return hint is Any or hint is object or isinstance(hint, TypeVar | str) or getattr(hint, "_is_protocol", False)


def _classes_fit(given: Any, wanted: Any) -> bool:
    one, other = get_origin(given) or given, get_origin(wanted) or wanted
    one, other = (cast("Any", dict if is_typeddict(each) else each) for each in (one, other))
    if not isinstance(one, type) or not isinstance(other, type):
        return True
    try:
        if not issubclass(one, other):
            return other in _WIDER.get(one, ())
    except TypeError:
        return True
    return _arguments_fit(one, get_args(given), other, get_args(wanted))


def _arguments_fit(one: type, given: Sequence[Any], other: type, wanted: Sequence[Any]) -> bool:
    if not given or not wanted or (one is not other and len(given) != len(wanted)):
        return True
    if one is tuple:
        given, wanted = _spread(given, len(wanted)), _spread(wanted, len(given))
        if other is tuple and len(given) != len(wanted):
            return False
    if any(isinstance(each, list) for each in (*given, *wanted)):
        return True  # a Callable's parameters
    return all(fits(each, asked) for each, asked in zip(given, wanted, strict=False))


def _spread(arguments: Sequence[Any], count: int) -> Sequence[Any]:
    """A tuple of any length as one of this length."""
    return [arguments[0]] * count if len(arguments) == 2 and arguments[1] is Ellipsis else arguments  # noqa: PLR2004
