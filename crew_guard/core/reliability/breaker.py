"""Whether a crew may work: closed (it works), open (its workflow does), half_open (probed beside the workflow).

Pure transitions: each returns the next Breaker. One probe at a time is the store's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

from msgspec import Struct

from crew_guard.core.reliability.detector import Alarm, Sprt

BreakerState: TypeAlias = Literal["closed", "open", "half_open"]


class Breaker(Struct, frozen=True, omit_defaults=True):
    """One crew's breaker."""

    state: BreakerState = "closed"
    since: float = 0.0
    """Unix seconds of the last change."""
    why: str = ""
    """What opened it, in words."""
    culprit: str = ""
    """The stream that opened it."""
    fallbacks: int = 0
    """Runs of the workflow since the last probe."""
    probes: int = 0
    """Probes since it opened."""
    tests: dict[str, Sprt] = {}
    """By stream: all must say good to close it, one that says bad opens it again."""

    def opened(self, alarm: Alarm, at: float) -> Breaker:
        """After an alarm of the detectors."""
        raise NotImplementedError

    def renewed(self, streams: Mapping[str, float], why: str, at: float) -> Breaker:
        """half_open, because a new version came: it is probed before it works.

        Args:
            streams: the streams to test, each with the level it is held to
        """
        raise NotImplementedError

    def fell_back(self) -> Breaker:
        """After a run of the workflow in the crew's place."""
        raise NotImplementedError

    def due(self, share: float = 0.2) -> bool:
        """Whether the next run of the workflow should have a shadow probe of the crew beside it."""
        raise NotImplementedError

    def probed(self, outcomes: Iterable[tuple[str, float]], levels: Mapping[str, float], at: float) -> Breaker:
        """After a probe with these (stream, grade): closed, open again, or still half_open."""
        raise NotImplementedError
