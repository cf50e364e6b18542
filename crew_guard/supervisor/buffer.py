"""What lies between a run and the reader of its stream: bounded, and never in the run's way.

Where the reader is behind, pieces of text are joined; where that is not enough they are dropped and
counted; events are only let go of, because the reader can take them from the journal.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from msgspec.structs import replace

from crew_guard.alarms import Alarm
from crew_guard.core.events import Admitted, Settled
from crew_guard.core.stream import Budget, Missed, StreamItem, TextDelta

MOST_ITEMS = 1_024
MOST_CHARS = 1_000_000


class Gap(NamedTuple):
    """Events that are in the journal only, by their numbers, both included."""

    first: int
    last: int


class Buffer:
    """Filled under the gate's lock, emptied by one reader on any thread or event loop."""

    def __init__(self, most_items: int = MOST_ITEMS, most_chars: int = MOST_CHARS) -> None:
        """Make an empty one.

        Args:
            most_items: how many items it holds at the most
            most_chars: characters of their texts; a single event may have more
        """
        self.closed = False
        """Nothing comes any more; what is in here can still be taken."""
        self.abandoned = False
        """Nobody reads any more. Set without a lock: the garbage collector does it."""
        self._most_items, self._most_chars = most_items, most_chars
        self._items: deque[StreamItem] = deque()
        self._chars = 0
        self._gap: Gap | None = None
        self._missed = 0
        """Items that were dropped before the gap."""
        self._lock = threading.Lock()
        self._wake: Callable[[], None] | None = None

    def put(self, item: StreamItem) -> None:
        """Add an item. Never waits for the reader, never raises."""
        with self._lock:
            if self.abandoned:
                self._items.clear()
                return
            self._items.append(item)
            self._chars += _chars(item)
            if len(self._items) > self._most_items or self._chars > self._most_chars:
                self._make_room()
            self._tell()

    def close(self) -> None:
        """Say that nothing comes any more."""
        with self._lock:
            self.closed = True
            self._tell()

    def take(self) -> StreamItem | Gap | None:
        """The next item, or the events to be read from the journal first; None where there is nothing now."""
        with self._lock:
            if self._missed:
                missed, self._missed = self._missed, 0
                return Missed(missed)
            if self._gap:
                gap, self._gap = self._gap, None
                return gap
            if not self._items:
                return None
            item = self._items.popleft()
            self._chars -= _chars(item)
            return item

    def wait(self, seconds: float | None) -> None:
        """Block until there is something to take, it is closed, or so many seconds are over."""
        alarm = Alarm()
        self.on_news(alarm.ring)
        alarm.wait(seconds)

    def on_news(self, wake: Callable[[], None]) -> None:
        """Call this once, as soon as there is something to take or it is closed; maybe at once."""
        with self._lock:
            self._wake = wake
            if self._has_news():
                self._tell()

    # Under the lock

    def _has_news(self) -> bool:
        return bool(self._items or self._gap or self._missed or self.closed)

    def _tell(self) -> None:
        wake, self._wake = self._wake, None
        if wake:
            wake()

    def _make_room(self) -> None:
        """Come down to half of the bounds, so that it is seldom called."""
        self._keep(_joined(self._items))
        if self._is_half_full():
            self._keep(_without_news(self._items))
        if self._is_half_full():
            self._let_go()

    def _keep(self, items: Iterable[StreamItem]) -> None:
        self._items = deque(items)
        self._chars = sum(map(_chars, self._items))

    def _is_half_full(self) -> bool:
        return len(self._items) > self._most_items // 2 or self._chars > self._most_chars // 2

    def _let_go(self) -> None:
        while self._is_half_full() and len(self._items) > 1:
            item = self._items.popleft()
            self._chars -= _chars(item)
            if isinstance(item, Missed):
                self._missed += item.count
            elif not isinstance(item, TextDelta | Budget):
                self._gap = Gap(self._gap.first if self._gap else item.seq, item.seq)


def _chars(item: StreamItem) -> int:
    if isinstance(item, TextDelta | Settled):
        return len(item.text)
    return len(item.arguments) if isinstance(item, Admitted) else 0


def _joined(items: Iterable[StreamItem]) -> list[StreamItem]:
    """The same with the pieces of each action joined, where no event stands between them."""
    found: list[StreamItem] = []
    pieces: dict[str, list[str]] = {}
    places: dict[str, int] = {}

    def join() -> None:
        for action_id, texts in pieces.items():
            place = places[action_id]
            first = found[place]
            if len(texts) > 1 and isinstance(first, TextDelta):
                found[place] = replace(first, text="".join(texts))
        pieces.clear()

    for item in items:
        if not isinstance(item, TextDelta):
            join()
            found.append(item)
        elif item.action_id in pieces:
            pieces[item.action_id].append(item.text)
        else:
            pieces[item.action_id], places[item.action_id] = [item.text], len(found)
            found.append(item)
    join()
    return found


def _without_news(items: Iterable[StreamItem]) -> list[StreamItem]:
    """The events only, and how many items were left out, told where the first of them stood."""
    found: list[StreamItem] = []
    place, missed = None, 0
    for item in items:
        if isinstance(item, TextDelta | Budget | Missed):
            missed += item.count if isinstance(item, Missed) else 1
            place = len(found) if place is None else place
        else:
            found.append(item)
    if place is not None:
        found.insert(place, Missed(missed))
    return found
