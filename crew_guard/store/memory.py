"""The cheapest store: events stay the objects they are, and every flush is done before it is returned.

Nothing outlives the process. All that went well are one shared object.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Lock

from crew_guard.core.events import Event, RunEnded, RunStarted
from crew_guard.errors import StoreError
from crew_guard.ports import RunSummary
from crew_guard.store.flush import ON_DISK, Flush, failed
from crew_guard.store.journals import after_failure, already_begun, never_begun, one_of, out_of_order


class MemoryStore:
    """Keeps journals in this process's memory."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._journals: dict[str, list[Event]] = {}
        self._open: dict[str, list[Event]] = {}
        """The journals that may grow: those without a failed append."""
        self._failed: dict[str, StoreError] = {}
        self._closed = False

    def begin(self, run_id: str, first: Event) -> Flush:
        """Create a run's journal with its first event.

        The future raises JournalConflictError where the run exists.
        """
        with self._lock:
            if self._closed:
                return failed(StoreError("the journal in memory is closed: nothing more can be written to it"))
            if run_id in self._journals:
                return failed(already_begun(run_id, "memory"))
            self._journals[run_id] = self._open[run_id] = [first]
        return ON_DISK

    def append(self, run_id: str, events: Sequence[Event]) -> Flush:
        """Append events in the order of calls.

        The future raises JournalConflictError where an event's number is not above the last one's, and
        StoreError where the run was never begun or an earlier append of it failed.
        """
        with self._lock:
            journal = self._open.get(run_id)
            if journal is None:
                return failed(self._refusal(run_id))
            last = journal[-1].seq
            if len(events) == 1 and events[0].seq > last:
                journal.append(events[0])
                return ON_DISK
            for event in events:
                if event.seq <= last:
                    error = out_of_order(run_id, event.seq, last, "memory")
                    del self._open[run_id]
                    self._failed[run_id] = error
                    return failed(error)
                last = event.seq
            journal.extend(events)
        return ON_DISK

    def later(self, run_id: str, events: Sequence[Event]) -> None:
        """The same; where it fails, the run's next append says so."""
        self.append(run_id, events)

    def write(self, run_id: str, events: Sequence[Event]) -> Flush:
        """The same as `append`."""
        return self.append(run_id, events)

    def push(self) -> None:
        """Nothing is left to do."""

    @property
    def crowded(self) -> bool:
        """No: nobody ever waits here."""
        return False

    def read(self, run_id: str) -> Iterator[Event]:
        """A run's events in order, as far as they were written when this was called.

        Raises:
            StoreError: there is no such run
        """
        journal = self._journals.get(run_id)
        if journal is None:
            raise StoreError(f"no run {run_id!r} in memory; `runs` lists those there are")
        return iter(journal[:])

    def runs(self, limit: int = 50) -> Sequence[RunSummary]:
        """The latest runs, the newest first."""
        with self._lock:
            journals = list(self._journals.items())
        summaries = [_summary(run_id, journal) for run_id, journal in reversed(journals)]
        summaries.sort(key=lambda run: run.started, reverse=True)
        return summaries[: max(0, limit)]

    def find(self, prefix: str) -> str:
        """The id of the one run that starts with this prefix, or is exactly it.

        Raises:
            StoreError: none does, or several do
        """
        with self._lock:
            found = sorted(run_id for run_id in self._journals if run_id.startswith(prefix))
        return one_of(found, prefix, "memory")

    def close(self) -> None:
        """Refuse what comes after; what was written can still be read."""
        with self._lock:
            self._closed = True
            self._open.clear()

    def _refusal(self, run_id: str) -> StoreError:
        if self._closed:
            return StoreError("the journal in memory is closed: nothing more can be written to it")
        if cause := self._failed.get(run_id):
            return after_failure(run_id, cause)
        return never_begun(run_id, "memory")


def _summary(run_id: str, journal: list[Event]) -> RunSummary:
    first = journal[0]
    end = next((event for event in reversed(journal) if isinstance(event, RunEnded)), None)
    return RunSummary(
        run_id=run_id,
        crew=first.crew if isinstance(first, RunStarted) else "",
        started=first.at,
        ended=end.at if end else None,
        status=end.status if end else "running",
    )
