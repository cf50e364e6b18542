"""Makes a stream's items of what one run records: events as they are, and what stands between them.

Called under the gate's lock, in the journal's order. It never waits, and calls no code of a user.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from crew_guard.core.events import Admitted, AgentMoved, Event, Settled
from crew_guard.core.stream import Budget, TextDelta
from crew_guard.supervisor.buffer import Buffer
from crew_guard.supervisor.piecewise import PiecewiseRedactor
from crew_guard.supervisor.redaction import Redactor


@dataclass(slots=True)
class _Speech:
    """What one model call writes."""

    agent: str
    task: str
    action_id: str
    attempt: int
    redactor: PiecewiseRedactor
    heard: bool = False

    def delta(self, text: str) -> TextDelta:
        return TextDelta(self.agent, self.task, self.action_id, self.attempt, text)


class Tap:
    """Fills a buffer with one run's items."""

    def __init__(self, buffer: Buffer, redactor: Redactor, budget: Callable[[], Budget]) -> None:
        self._buffer = buffer
        self._redactor = redactor
        self._budget = budget
        self._speeches: dict[str, _Speech] = {}
        """Model calls under way, by action."""
        self._tasks: dict[str, str] = {}
        """What each agent is at."""

    def event(self, event: Event) -> None:
        """Pass an event on that was recorded, and counts."""
        if isinstance(event, Settled):
            self._settled(event)
            return
        if isinstance(event, Admitted) and event.kind == "model_call":
            task, redactor = self._tasks.get(event.agent, ""), PiecewiseRedactor(self._redactor)
            self._speeches[event.action_id] = _Speech(event.agent, task, event.action_id, event.attempt, redactor)
        elif isinstance(event, AgentMoved):
            self._tasks[event.agent] = "" if event.step == "finish" else event.task
        self._buffer.put(event)

    def text(self, action_id: str, text: str) -> None:
        """Pass on what a model has just written; after its action was settled, nothing."""
        speech = self._speeches.get(action_id)
        if speech is None or not text:
            return
        speech.heard = True
        if shown := speech.redactor.feed(text):
            self._buffer.put(speech.delta(shown))

    def _settled(self, event: Settled) -> None:
        speech = self._speeches.pop(event.action_id, None)
        if speech is not None:
            # A model that doesn't stream has said it all at once.
            rest = speech.redactor.end() if speech.heard else event.text if event.status == "ok" else ""
            if rest:
                self._buffer.put(speech.delta(rest))
        self._buffer.put(event)
        self._buffer.put(self._budget())
