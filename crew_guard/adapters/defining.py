"""What defines a host's object, as far as it can be read without running anything of it: its version is made of that.

Two processes that make the same object read the same. What raises when it is looked at is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, cast

_DEEPEST = 8
"""Levels of a value that are read."""


def tried(look: Callable[..., Any], *args: Any) -> Any:
    """What a look at a part of the user's gives; None where that raises."""
    try:
        return look(*args)
    except Exception:  # noqa: BLE001  properties and classes of users raise what they like when they are looked at
        return None


def read(part: object, *names: str) -> dict[str, Any]:
    """Attributes of a part, by name, as JSON values; those that there aren't are left out."""
    found = {name: plain(tried(getattr, part, name)) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def each(found: Callable[[Any], Any], items: Any) -> list[Any]:
    """What each of some items comes to, in their order; none where they can't be gone through."""
    several = cast("Iterable[Any]", items.values() if isinstance(items, Mapping) else items or ())  # pyright: ignore[reportUnknownMemberType]
    return [tried(found, item) for item in tried(list, several) or ()]


def names(found: Callable[[Any], Any], items: Any) -> list[str]:
    """What items are called, sorted, each once: their order is often nobody's choice."""
    return sorted({name for name in each(found, items) if isinstance(name, str)})


def plain(value: Any, depth: int = 0) -> Any:
    """A value as JSON values that are the same in every process: data as it is, of others their class.

    Sets are sorted; texts of prompts' templates are taken for them.
    """
    if value is None or isinstance(value, str | int | float):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, type):
        return value.__qualname__
    if depth < _DEEPEST and isinstance(value, Mapping):
        entries = cast("Mapping[Any, Any]", value).items()
        return {str(plain(key, depth + 1)): plain(entry, depth + 1) for key, entry in entries}
    if depth < _DEEPEST and isinstance(value, list | tuple):
        return [plain(entry, depth + 1) for entry in cast("Iterable[Any]", value)]
    if depth < _DEEPEST and isinstance(value, set | frozenset):
        return sorted(str(plain(entry, depth + 1)) for entry in cast("Iterable[Any]", value))
    if isinstance(value, Enum):
        return value.name
    template: Any = tried(getattr, value, "template")
    return template if isinstance(template, str) else type(cast("object", value)).__qualname__


def called(named: object, unless: object, host: object) -> str:
    """What a host's object is called: by its own name where its user gave it one, else by its class.

    Args:
        named: its name, as it has it
        unless: the name that its framework gives what has none
    """
    words = " ".join(named.split()) if isinstance(named, str) else ""
    return words if words and named != unless else type(host).__name__
