"""Whether what a user gave is what was asked for: one sentence with the argument, the value and what was expected.

Said where it is given: later it would be an error of ours in the middle of a run.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from types import UnionType
from typing import Any, TypeAlias, TypeVar, cast

from crew_guard.core.plain import shown

T = TypeVar("T")
Refusal: TypeAlias = Callable[[str], Exception]
"""Makes the error: a class of them, or what says whose argument it is, too."""


def must_be(value: object, kind: type, what: str, hint: str, error: Refusal = TypeError) -> None:
    """Whether it is one of this class."""
    if not isinstance(value, kind):
        raise error(f"{what} must be a {kind.__name__}, not {shown(value)}: {hint}")


def must_be_of(value: object, kinds: type | UnionType, what: str, expected: str, error: Refusal = TypeError) -> None:
    """Whether it is one of these classes, in words of what is expected."""
    if not isinstance(value, kinds):
        raise error(f"{what} must be {expected}, not {shown(value)}")


def text(value: object, what: str, error: Refusal = TypeError) -> str:
    """The text as journals hold it: of a kind of one's own, its plain text."""
    must_be_of(value, str, what, "a text", error)
    return str.__str__(cast("str", value))


def texts(made: object, whose: str, *names: str, error: Refusal = TypeError) -> None:
    """Whether these attributes of what is being made are texts; from now on they are as `text` has them.

    A model needs no name.
    """
    for name in names:
        value: Any = getattr(made, name)
        if type(value) is not str and not (value is None and name == "model"):
            object.__setattr__(made, name, text(value, f"{whose} {name}", error))


def must_name(value: str, what: str, error: Refusal = ValueError, *, default: bool = False) -> None:
    """Whether a name can be seen where it stands, in tables and messages.

    Args:
        default: whether an empty one means that there is a default
    """
    if not value.strip() and not (default and not value):
        raise error(f"{what} must not be blank, like {value!r}: expected a name such as 'research'")


def must_name_model(model: object, what: str, error: Refusal = ValueError) -> None:
    """Whether a model's name says one: a variable of the environment that nobody has set gives an empty one."""
    if isinstance(model, str) and not model:
        raise error(f"{what} is empty: expected a model's name such as 'openai:gpt-4.1-mini', or None")


def listed(values: object, what: str, of: str = "", error: Refusal = TypeError) -> Sequence[Any]:
    """The values, if they come as a list or as what is used like one.

    Args:
        of: what it is a list of, where its name doesn't say
    """
    if isinstance(values, str | bytes) or not isinstance(values, Sequence):
        raise error(f"{what} must be a list{of and f' of {of}'}, not {shown(values)}")
    return cast("Sequence[Any]", values)


def several(values: object, kind: type[T], what: str, hint: str, error: Refusal = TypeError) -> tuple[T, ...]:
    """The values, if each of them is one of this class."""
    every = tuple(listed(values, what, error=error))
    for value in every:
        must_be(value, kind, f"each of {what}", hint, error)
    return every


def must_be_function(value: object, what: str, error: Refusal = TypeError) -> None:
    """Whether it can be called."""
    if not callable(value):
        raise error(f"{what} must be a function, not {shown(value)}")


def must_take(function: Callable[..., object], names: Sequence[str], what: str, error: Refusal = TypeError) -> None:
    """Whether a function can be called with values of these names, by position."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of a builtin, which doesn't say
        return
    try:
        signature.bind(*names)
    except TypeError:
        raise error(f"{what} is called with ({', '.join(names)}); {shown(function)} takes {signature}") from None


def must_be_one_of(value: object, words: Collection[str], what: str, error: Refusal = ValueError) -> None:
    """Whether it is one of these words."""
    if not isinstance(value, str) or value not in words:
        raise error(f"{what} must be {' or '.join(map(repr, words))}, not {shown(value)}")


def must_be_whole(value: object, what: str, least: int = 1, error: Refusal = ValueError) -> None:
    """Whether it is a count."""
    if type(value) is not int or value < least:
        expected = f"of at least {least}" if least else "0 or more"
        raise error(f"{what} must be a whole number{'' if least else ','} {expected}, not {shown(value)}")


def must_be_number(
    value: object, what: str, expected: str, fits: Callable[[float], bool], error: Refusal = ValueError
) -> None:
    """Whether it is a number, and fits."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not fits(value):
        raise error(f"{what} must be {expected}, not {shown(value)}")
