"""How CrewAI's classes are patched: a method once, and in a family in each class that has it from wherever.

A class may have its method from a mixin that is none of the family, or be given it when it is made already, by a
decorator say; so a family's classes are looked at when they are made, and again with each object of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import wraps
from types import ModuleType
from typing import Any

from crew_guard.adapters.stand_in import is_stand_in_class

MODEL_METHODS = ("call", "acall")
TOOL_METHODS = ("run", "arun", "_run", "_arun")
"""Those that cost something, whoever calls them."""
_Method = Callable[..., Any]
_MARK = "_crew_guard_patch"
_families: dict[type, Callable[[type], None]] = {}


def patch(kind: type | ModuleType, name: str, wrapped: Callable[[_Method], _Method]) -> None:
    """Patch what a class or a module has by itself, once; what is abstract stays."""
    if name in vars(kind):
        _patch(kind, name, vars(kind)[name], wrapped)


def patch_found(kind: type, name: str, wrapped: Callable[[_Method], _Method], *, root: type) -> None:
    """Patch what a class of a family finds by a name, wherever it has that from.

    Args:
        root: the class that the family is of; its own methods stay as they are in the others
    """
    owner = next((base for base in kind.__mro__ if name in vars(base)), None)
    if owner is not None and (owner is not root or kind is root):
        _patch(kind, name, vars(owner)[name], wrapped)


def _patch(kind: type | ModuleType, name: str, own: Any, wrapped: Callable[[_Method], _Method]) -> None:
    # The mark is the patch itself: functools.wraps copies it to a wrapper that need not call what it wraps.
    if getattr(own, "__isabstractmethod__", False) or getattr(own, _MARK, None) is own:
        return
    made: Any = wraps(own)(wrapped(_as_function(own)))
    setattr(made, _MARK, made)
    setattr(kind, name, made)


def _as_function(own: Any) -> _Method:
    """What stands in a class, such that the object may be given first."""
    if inspect.isfunction(own):
        return own

    @wraps(own)
    def found(obj: Any, *args: Any, **kwargs: Any) -> Any:
        bound = own.__get__(obj, type(obj)) if hasattr(own, "__get__") else own
        return bound(*args, **kwargs)

    return found


def gate_family(root: type, gate: Callable[[type], None]) -> None:
    """Have all classes of a family gated: those there are, and each that is made or has objects made from now on."""
    _families[root] = gate
    for kind in _family(root):
        gate(kind)
        if kind is root or "__new__" in vars(kind):
            _look_again(kind)
    born: Any = vars(root)["__init_subclass__"]

    def __init_subclass__(cls: type, **options: Any) -> None:  # noqa: N807  it takes the place of one
        born.__get__(None, cls)(**options)
        ensure_gated(cls)

    changed: Any = root
    changed.__init_subclass__ = classmethod(__init_subclass__)


def _look_again(kind: type) -> None:
    """Have a class that makes objects, or one below it, gated as it is when it makes one."""
    own: Any = vars(kind)["__new__"].__func__ if "__new__" in vars(kind) else None

    def __new__(cls: type, *args: Any, **kwargs: Any) -> Any:  # noqa: N807  it takes the place of one
        ensure_gated(cls)
        new: Any = own or super(kind, cls).__new__
        return new(cls) if new is object.__new__ else new(cls, *args, **kwargs)

    changed: Any = kind
    changed.__new__ = wraps(own)(__new__) if own else __new__


def ensure_gated(kind: type) -> None:
    """Gate a class as it is now; nothing where it is of no family, or is a stand-in's."""
    if is_stand_in_class(kind):
        return
    for root, gate in _families.items():
        if issubclass(kind, root):
            gate(kind)


def _family(root: type) -> Iterator[type]:
    yield root
    for kind in root.__subclasses__():
        if not is_stand_in_class(kind):
            yield from _family(kind)
