"""Time that is a person's, not the run's: deadlines stand still while nothing but an answer is waited for."""

from __future__ import annotations

from msgspec import Struct

from crew_guard.ports import Clock


class Standstill(Struct, gc=False):
    """Whether a run stands still now, and for how long it did so far."""

    _clock: Clock
    _since: float | None = None
    _before: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether the run waits for nothing but a person."""
        return self._since is not None

    @property
    def seconds(self) -> float:
        """Of standing still so far."""
        since = self._since
        return self._before + (0.0 if since is None else self._clock.monotonic() - since)

    def set(self, *, still: bool) -> None:
        """Stand still from now on, or go on."""
        if still and self._since is None:
            self._since = self._clock.monotonic()
        elif not still and self._since is not None:
            self._before += self._clock.monotonic() - self._since
            self._since = None
