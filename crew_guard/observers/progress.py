"""What a run does, while it does it: a live view on a terminal, else a line a step.

All of it goes to stderr, so that stdout stays the answer's. Events may come from any thread; the
view is drawn by another one, at most eight times a second.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from crew_guard.core.events import ApprovalAsked, ApprovalGiven, Event
from crew_guard.observers.words import Line, Teller

if TYPE_CHECKING:
    from rich.live import Live

_RECENT = 6
_REFRESHES = 8


class Progress:
    """Shows runs on a stream; start and stop come by themselves, or by `with`."""

    def __init__(
        self, stream: TextIO | None = None, *, live: bool | None = None, now: Callable[[], float] = time.time
    ) -> None:
        """Show nothing yet.

        Args:
            stream: stderr by default
            live: a view that is redrawn, or plain lines; by default a view where the stream is a terminal
            now: Unix seconds
        """
        self._stream = sys.stderr if stream is None else stream
        self._is_live = _is_terminal(self._stream) if live is None else live
        self._now = now
        self._runs: dict[str, Teller] = {}
        self._recent: deque[Line] = deque(maxlen=_RECENT)
        self._lock = threading.Lock()
        self._view: Live | None = None
        self._asking = 0
        """Questions to a person that are open: a view that is redrawn would run over them."""
        self.run_id = ""
        """The latest run that began."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __call__(self, run_id: str, event: Event) -> None:
        """See Observer."""
        with self._lock:
            if run_id not in self._runs:
                self.run_id = run_id
            teller = self._runs.setdefault(run_id, Teller())
            line = teller.tell(event)
            if line:
                self._recent.append(line)
            self._asking += isinstance(event, ApprovalAsked) - isinstance(event, ApprovalGiven)
            over = all(told.state.ended for told in self._runs.values())
            self._asking = 0 if over else self._asking
        if self._is_live:
            self._show(over=over)
        elif line:
            self._write(f"{line}\n")

    def close(self) -> None:
        """Take the view off the terminal, e.g. where a run ended with an exception."""
        view, self._view = self._view, None
        if view:
            view.stop()

    def _show(self, *, over: bool) -> None:
        if over or self._asking:
            self.close()
            if over:
                self._runs.clear()
        elif self._view is None:
            from rich.console import Console
            from rich.live import Live

            from crew_guard.observers.view import draw

            def render() -> object:
                with self._lock:
                    return draw(self._runs, tuple(self._recent), self._now())

            console = Console(file=self._stream, force_terminal=True, highlight=False, markup=False, emoji=False)
            self._view = Live(get_renderable=render, console=console, refresh_per_second=_REFRESHES, transient=True)  # pyright: ignore[reportArgumentType]
            self._view.start()

    def _write(self, text: str) -> None:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        try:
            self._stream.write(text.encode(encoding, "replace").decode(encoding))
            self._stream.flush()
        except (OSError, ValueError):
            # Nobody reads any more: the run goes on without a word.
            self._write = _silence


def _silence(text: str) -> None:
    del text


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")
    except ValueError:
        return False
