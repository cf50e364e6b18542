"""Observers are told of every event and change nothing: progress on a terminal, lines in a log.

Each folds the events into a state of its own, so none of them reaches into a run.
"""

from __future__ import annotations

from crew_guard.observers.logs import LogObserver
from crew_guard.observers.progress import Progress
from crew_guard.observers.words import Line, Teller, clean

__all__ = ["Line", "LogObserver", "Progress", "Teller", "clean"]
