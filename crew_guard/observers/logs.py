"""Events as lines of loguru. Quiet unless asked: importing adds no sink and says nothing.

Where the lines go is the application's to say, with `logger.add`; each record carries the run's id
and the event's type under `extra`.
"""

from __future__ import annotations

from loguru import logger

from crew_guard.core.events import Event
from crew_guard.observers.words import Teller, Tone

_LEVELS: dict[Tone, str] = {"plain": "DEBUG", "good": "INFO", "bad": "INFO", "warn": "INFO"}
_STATE_ONLY = "TRACE"


class LogObserver:
    """Writes a line for every event: refusals, verdicts and ends at INFO, steps at DEBUG, the rest at TRACE."""

    def __init__(self) -> None:
        # To pass this observer is to ask for its lines, even where the package as a whole is disabled.
        logger.enable(__name__)
        self._runs: dict[str, Teller] = {}

    def __call__(self, run_id: str, event: Event) -> None:
        """See Observer."""
        kind = type(event).__name__
        line = self._runs.setdefault(run_id, Teller()).tell(event)
        if kind == "RunEnded":
            del self._runs[run_id]
        level = _LEVELS[line.tone] if line else _STATE_ONLY
        bound = logger.bind(run_id=run_id, event=kind, seq=event.seq)
        bound.log(level, f"{line.who}: {line.text}" if line else kind)
