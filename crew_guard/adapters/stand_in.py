"""An object of a derived class that shares all state with the user's own: what CrewAI is given for a run.

CrewAI's models and tools are pydantic objects that it checks by class, and that a run changes
(counters, response ids): so neither a wrapper nor a copy will do. The user's object keeps its class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")

_SLOT = "_crew_guard"


def stand_in(obj: T, seam: object, methods: Callable[[type[T]], Mapping[str, Any]]) -> T:
    """An object that is like `obj`, shares its attributes, and has other methods.

    Args:
        obj: a pydantic model
        seam: what the methods find with `seam_of`
        methods: those that a class's stand-ins override, by name
    """
    double = object.__new__(_derived(type(obj), methods))
    for name in ("__dict__", "__pydantic_private__", "__pydantic_extra__", "__pydantic_fields_set__"):
        object.__setattr__(double, name, getattr(obj, name))
    object.__setattr__(double, _SLOT, seam)
    return double


def seam_of(double: object) -> Any:
    """What a stand-in was made with."""
    return object.__getattribute__(double, _SLOT)


def is_stand_in(obj: object) -> bool:
    """Whether this is one."""
    return hasattr(type(obj), _SLOT)


def is_stand_in_class(kind: type) -> bool:
    """Whether this is the class of some."""
    return hasattr(kind, _SLOT)


@cache
def _derived(kind: type[Any], methods: Callable[[type[Any]], Mapping[str, Any]]) -> type[Any]:
    # Made once for each class: pydantic takes milliseconds, and CrewAI keeps a registry of tool classes.
    namespace = {"__slots__": (_SLOT,), "__module__": __name__, "__qualname__": kind.__qualname__, **methods(kind)}
    metaclass: Any = type(kind)
    return metaclass(kind.__name__, (kind,), namespace)
