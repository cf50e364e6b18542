"""What keeps the record of runs, who is told of it, and the time that it goes by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from crew_guard.core.events import Event
from crew_guard.ports.tracking import TrackRecord


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One line of the list of runs."""

    run_id: str
    crew: str
    started: float
    """Unix seconds."""
    ended: float | None
    status: str
    """running, done, stopped, denied, failed; a run whose process died stays running."""


class Flushed(Protocol):
    """When something is on disk; a concurrent.futures.Future is one. Done at most once, from any thread."""

    def done(self) -> bool: ...

    def result(self, timeout: float | None = None) -> None:
        """Wait for it; raises what was wrong."""
        ...

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for it; what was wrong, or None."""
        ...

    def add_done_callback(self, fn: Callable[[Any], object], /) -> None:
        """Call this when it is done: on any thread, quick and without blocking."""
        ...


class Store(Protocol):
    """Keeps the journals of runs. Thread-safe; only `push` and reading may block."""

    def begin(self, run_id: str, first: Event) -> Flushed:
        """Create a run's journal with its first event; done when it is on disk.

        The future raises JournalConflictError where the run exists, StoreError where it can't be written.
        """
        ...

    def append(self, run_id: str, events: Sequence[Event]) -> Flushed:
        """Append events in the order of calls; done when they, and all before, are on disk.

        Args:
            run_id: a run that was begun
            events: numbered on from the last one

        The future raises JournalConflictError where another writer has used one of their numbers.
        """
        ...

    def later(self, run_id: str, events: Sequence[Event]) -> None:
        """Append events that nobody waits for: on disk soon, or with the next that somebody waits for.

        Where they can't be written, the run's next append says so.
        """
        ...

    def write(self, run_id: str, events: Sequence[Event]) -> Flushed:
        """The same for a caller that calls `push` before it waits: until then they keep for company, not for long."""
        ...

    def push(self) -> None:
        """Have everything on disk now. May block for one commit, where this thread is quicker than the store's own."""
        ...

    @property
    def crowded(self) -> bool:
        """Whether several runs are being written, so that a moment's wait shares a commit."""
        ...

    def read(self, run_id: str) -> Iterable[Event]:
        """A run's events in order.

        Raises:
            StoreError: there is no such run, or its journal can't be read
        """
        ...

    def runs(self, limit: int = 50) -> Sequence[RunSummary]:
        """The latest runs, the newest first."""
        ...

    def find(self, prefix: str) -> str:
        """The id of the one run that starts with this prefix.

        Raises:
            StoreError: none does, or several do
        """
        ...

    def track_record(self) -> TrackRecord:
        """What runs have shown of crews and agents: kept in the same place as the journals."""
        ...

    def close(self) -> None:
        """Flush, and let go of files and threads."""
        ...


class Observer(Protocol):
    """Is told of every event, in order, after it counts. May look, may not veto."""

    def __call__(self, run_id: str, event: Event) -> None: ...


class Handle(Protocol):
    """A scheduled call that can be taken back."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Time, so that tests can own it."""

    def now(self) -> float:
        """Unix seconds."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Handle:
        """Call once after this many seconds, on any thread."""
        ...
