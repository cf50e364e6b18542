"""What the code that runs now is a part of: an agent's work, an action, an agent's time."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from crew_guard.core.decisions import Stop
from crew_guard.errors import LimitExceededError

who: ContextVar[str] = ContextVar("crew_guard_who", default="")
"""The agent, or the flow's method, that acts."""
part_of: ContextVar[str | None] = ContextVar("crew_guard_part_of", default=None)
"""The id of the action that the current code is a part of: what it does is charged there, too."""


@dataclass(slots=True, eq=False)
class TimeUp:
    """One agent's max_execution_time at one task."""

    agent: str
    seconds: float
    over: bool = False

    @property
    def stop(self) -> Stop:
        """Why its work has ended."""
        detail = "what it had begun goes on in a thread that can buy nothing more"
        scope = f"agent:{self.agent}"
        return Stop("limit", scope, "max_execution_time", self.seconds, self.seconds, detail=detail)


clocks: ContextVar[tuple[TimeUp, ...]] = ContextVar("crew_guard_clocks", default=())
"""The times that the current code has to keep to."""


def refuse_late_work() -> None:
    """Whether the time of whoever acts is over.

    Raises:
        LimitExceededError: it is
    """
    for clock in clocks.get():
        if clock.over:
            raise LimitExceededError(clock.stop)
