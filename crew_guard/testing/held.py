"""Objects that are to be let go of, and who holds them where they are not."""

from __future__ import annotations

import gc
import sys
import threading
from collections import deque
from types import FrameType, ModuleType
from typing import Any, cast
from weakref import ref

_MOST = 300
"""Holders that are looked into."""


class Kept:
    """Objects that are to be let go of, by weak references."""

    def __init__(self) -> None:
        self._held: list[ref[Any]] = []
        self._freed = threading.Event()

    def add(self, one: object) -> None:
        """Look after this one, too."""
        self._held.append(ref(one, lambda _: self._freed.set()))

    def left(self, seconds: float = 30) -> list[str]:
        """Those that are still there, and what holds each; a host's listeners may hold some for a moment.

        Args:
            seconds: that whoever holds some has to let go of them; those in which the collector looks, and they can't,
                don't count
        """
        waited, pause = 0.0, 0.05
        while waited < seconds and any(held() is not None for held in self._held):
            self._freed.clear()
            gc.collect()
            if not self._freed.wait(pause):
                waited += pause
                pause *= 2
        return [held_by(one) for held in self._held for one in [held()] if one is not None]


def held_by(one: object) -> str:
    """The shortest way from what holds an object for good, a module say, or from the last that is known, in words."""
    found: dict[int, object] = {id(one): one}
    holds: dict[int, int] = {}
    line = deque([one])
    ours = {id(found), id(line)}
    last = one
    while line and len(found) < _MOST:
        last = line.popleft()
        if isinstance(last, ModuleType) or last is sys.modules:
            break
        for holder in gc.get_referrers(last):
            if id(holder) not in found and id(holder) not in ours and not _looks(holder):
                found[id(holder)] = holder
                holds[id(holder)] = id(last)
                line.append(holder)
    words = [_named(last)]
    at = id(last)
    while at in holds:
        at = holds[at]
        words.append(_named(found[at]))
    return " > ".join(words)


def _looks(holder: object) -> bool:
    return isinstance(holder, FrameType) and holder.f_code.co_filename == __file__


def _named(each: object) -> str:
    kind = type(each)
    name: object = getattr(each, "__qualname__", None) or getattr(each, "__name__", None)
    if isinstance(each, FrameType):
        name = f"{each.f_code.co_qualname}:{each.f_lineno}"
    elif isinstance(each, dict):
        name = ", ".join(map(str, list(cast("dict[Any, Any]", each))[:6]))
    return f"{kind.__module__}.{kind.__qualname__}{f' {name}'[:120] if isinstance(name, str) else ''}"
