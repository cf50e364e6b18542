"""An object of a derived class that shares all state with the user's own: what CrewAI is given for a run.

CrewAI's models and tools are pydantic objects that it checks by class, and that a run changes
(counters, response ids): so neither a wrapper nor a copy will do. The user's object keeps its class.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")

_SLOT = "_crew_guard"
_STATE = ("__dict__", "__pydantic_private__", "__pydantic_extra__", "__pydantic_fields_set__")


ABSENT: Any = object()
"""No value: what an attribute is where Python finds none, and pydantic's own __getattr__ may."""


class Shown:
    """An attribute of a class of stand-ins that may show something else than the user's object has.

    A method that every attribute goes through would do as well, and make each of them ten times as dear.
    """

    __slots__ = ("_name", "_show")

    def __init__(self, name: str, show: Callable[[Any, str], Any]) -> None:
        """Make one.

        Args:
            show: given the stand-in and the name, what is shown; ABSENT for what the user's object has
        """
        self._name, self._show = name, show

    def __get__(self, double: Any, owner: Any) -> Any:
        name = self._name
        if double is None:
            return getattr(owner.__bases__[0], name)
        value = self._show(double, name)
        if value is ABSENT:
            value = own_value(double, name)
            if value is ABSENT:
                raise AttributeError(name)  # from here pydantic goes on: to what is private, or extra
        return value

    def __set__(self, double: Any, value: Any) -> None:
        object.__getattribute__(double, "__dict__")[self._name] = value


def own_value(double: Any, name: str) -> Any:
    """An attribute as the user's object has it; ABSENT where it is none of its fields, nor of its class."""
    value = object.__getattribute__(double, "__dict__").get(name, ABSENT)
    if value is not ABSENT:
        return value
    return getattr(super(type(double), double), name, ABSENT)  # pyright: ignore[reportUnknownArgumentType]


def stand_in(obj: T, seam: object, methods: Callable[[type[T]], Mapping[str, Any]]) -> T:
    """An object that is like `obj`, shares its attributes, and has other methods.

    Args:
        obj: a pydantic model
        seam: what the methods find with `seam_of`
        methods: those that a class's stand-ins override, by name; and what is a Shown
    """
    double = object.__new__(_derived(type(obj), methods))
    get, put = object.__getattribute__, object.__setattr__
    for name in _STATE:
        put(double, name, get(obj, name))
    put(double, _SLOT, seam)
    return double


def seam_of(double: object) -> Any:
    """What a stand-in was made with."""
    return object.__getattribute__(double, _SLOT)


def is_stand_in(obj: object) -> bool:
    """Whether this is one."""
    return _SLOT in vars(type(obj))  # not hasattr(): what a class of pydantic hasn't takes it microseconds to say


def is_stand_in_class(kind: type) -> bool:
    """Whether this is the class of some."""
    return any(_SLOT in vars(base) for base in kind.__mro__)


@cache
def _derived(kind: type[Any], methods: Callable[[type[Any]], Mapping[str, Any]]) -> type[Any]:
    # Made once for each class: pydantic takes milliseconds, and CrewAI keeps a registry of tool classes.
    own = methods(kind)
    given = {name: method for name, method in own.items() if not isinstance(method, Shown)}
    namespace = {"__slots__": (_SLOT,), "__module__": __name__, "__qualname__": kind.__qualname__, **given}
    metaclass: Any = type(kind)
    made = metaclass(kind.__name__, (kind,), namespace)
    for name in own.keys() - given.keys():
        setattr(made, name, own[name])  # now: pydantic would take it for a field
    return made


def shown(names: Collection[str], show: Callable[[Any, str], Any]) -> dict[str, Shown]:
    """Several attributes that are shown in the same way, as methods of stand-ins."""
    return {name: Shown(name, show) for name in names}
