"""Journals' files that are open in this process: one store a file, which its last holder closes, or lets go of.

A supervisor is a holder, and so is each run under way: its journal is whole, whoever has gone. A few that nobody
holds stay open, because whoever makes a supervisor for each run would open a file for each.
"""

from __future__ import annotations

import gc
import os
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crew_guard.errors import StoreError
from crew_guard.ports import Store

if TYPE_CHECKING:
    from crew_guard.store.sqlite import SqliteStore


@dataclass(slots=True, eq=False)
class _Opened:
    store: SqliteStore
    holders: int = 0
    shut: bool = False
    """Whether one of them asked for its end: it isn't kept open then."""


class Lease:
    """One holder's share in an open store: given back once, at the latest when nobody holds the lease any more."""

    __slots__ = ("_opened", "_process", "store")

    def __init__(self, opened: _Opened) -> None:
        self._opened: _Opened | None = opened
        self._process = _process
        self.store: Store = opened.store

    @property
    def holds(self) -> bool:
        """Whether the store is still open here: not given back, nor another process's, which this one was forked of."""
        return self._opened is not None and self._process is _process

    def another(self) -> Lease | None:
        """A further share for another holder; None where this one was given back."""
        with _lock:
            opened = self._opened
            if opened is None or not self.holds or not opened.holders:
                return None
            opened.holders += 1
        _settle()
        return Lease(opened)

    def give_back(self, *, wait: bool = False) -> None:
        """Let go of it; it is closed where nobody else holds it.

        Args:
            wait: until its thread has ended and its files are closed
        """
        opened, self._opened = self._opened, None
        if opened is None or self._process is not _process:
            return
        opened.shut = opened.shut or wait
        _returned.append(opened)
        _settle()
        if wait and opened.holders == 0:
            opened.store.close()

    def __del__(self) -> None:
        self.give_back()


class Holder:
    """What one supervisor holds: a share in each store that it has opened. Usable from any thread."""

    __slots__ = ("_leases",)

    def __init__(self) -> None:
        self._leases: dict[Path, Lease] = {}

    def store(self, path: Path) -> Store:
        """The store of this file.

        Raises:
            StoreError: it can't be opened
        """
        held = self._leases.get(path)
        if held is None or not held.holds:
            held = self._leases[path] = lease(path)
        return held.store

    def share(self, store: Store) -> Lease | None:
        """A further share in a store that it has opened; None of one that somebody else has."""
        held = next((one for one in tuple(self._leases.values()) if one.store is store), None)
        return None if held is None else held.another()

    def give_back(self, *, wait: bool) -> None:
        """Let go of all; what is asked for later is opened anew."""
        while self._leases:
            self._leases.popitem()[1].give_back(wait=wait)


_process = object()
"""Another one in each process: a child that was forked has none of its parent's threads."""
_lock = threading.Lock()
_open: dict[Path, _Opened] = {}
_idle: dict[Path, _Opened] = {}
"""Of those, the ones that nobody holds, the longest first."""
_MOST_IDLE = 8
_returned: deque[_Opened] = deque()
"""Shares that were given back: by whom the garbage collector interrupts, too, who may hold the lock just then."""
_closing: list[SqliteStore] = []
"""Stores that end by themselves; kept until they have, so that nobody waits for them but the process at its exit."""


def lease(path: Path) -> Lease:
    """A share in the store of this file, which is opened where nobody holds it.

    Raises:
        StoreError: it can't be opened
    """
    with _lock:
        found = _shared(path)
    if found is None:
        # Outside of the lock: another process's lock may be in the way for seconds.
        made = _make(path)
        with _lock:
            found = _shared(path)
            if found is None:
                _open[path] = _Opened(made, 1)
                found = Lease(_open[path])
            else:
                _let_go(made)
    _settle()
    return found


def _shared(path: Path) -> Lease | None:
    opened = _open.get(path)
    if opened is None:
        return None
    _idle.pop(path, None)
    opened.holders += 1
    opened.shut = False
    return Lease(opened)


def _settle() -> None:
    """Take back what was given back, unless another thread is at it: then it does."""
    while _returned and _lock.acquire(blocking=False):
        try:
            while _returned:
                opened = _returned.popleft()
                opened.holders -= 1
                if opened.holders == 0 and opened.shut:
                    _let_go(_open.pop(opened.store.path).store)
                elif opened.holders == 0:
                    _idle[opened.store.path] = opened
            _keep(_MOST_IDLE)
        finally:
            _lock.release()


def _keep(most: int) -> None:
    """Let go of those that nobody holds but so many. Under the lock."""
    while len(_idle) > most:
        path = next(iter(_idle))
        del _idle[path]
        _let_go(_open.pop(path).store)


def _let_go(store: SqliteStore) -> None:
    _closing[:] = [one for one in _closing if not one.closed]
    store.let_go()
    _closing.append(store)


def _make(path: Path) -> SqliteStore:
    from crew_guard.store.faults import out_of_files
    from crew_guard.store.sqlite import SqliteStore

    try:
        return SqliteStore(path)
    except StoreError:
        if not out_of_files():
            raise
    # Supervisors that are garbage may hold files for as long as the collector doesn't come by.
    gc.collect()
    _settle()
    with _lock:
        _keep(0)
    for store in tuple(_closing):
        store.close()
    return SqliteStore(path)


def _forked() -> None:
    global _process, _lock, _open, _closing
    _inherited.extend((_open, _closing))
    _process, _lock, _open, _closing = object(), threading.Lock(), {}, []
    _returned.clear()
    _idle.clear()


_inherited: list[object] = []
"""The parent's stores, kept in a child for ever: to close one here would take the parent's locks away."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
