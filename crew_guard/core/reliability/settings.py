"""What a policy says about counting, as a crew's record is folded by it."""

from __future__ import annotations

from msgspec import Struct

from crew_guard.core.reliability.detector import ALARM_AFTER


class Settings(Struct, frozen=True, omit_defaults=True):
    """What a policy says about counting."""

    threshold: float | None = None
    """The least end-to-end success; None: nothing is decided by reliability, and no detector runs."""
    confidence: float = 0.95
    alarm_after: float = ALARM_AFTER
    """Mean number of trials to a false alarm, at the least."""
    agent_target: float | None = None
    """What each agent is held to from its first trial on. None: the threshold, and from its 100th trial on
    threshold ** (1 / parts): before, an agent that is weaker than the others would open the breaker of a crew
    that is good enough."""
    parts: int = 1
    """How many agents must succeed."""
    probes: float = 0.2
    """The share of the workflow's runs that have a shadow probe of the crew beside them."""
    judged: tuple[str, ...] | None = None
    """The streams of this version that something judges in every run; None where that isn't known."""

    def judges(self, stream: str) -> bool:
        """Whether something judges this stream, as far as is known."""
        return self.judged is None or stream in self.judged

    def target(self, *, has_baseline: bool) -> float | None:
        """What each agent is held to; None where nothing is decided."""
        if self.threshold is None or self.agent_target is not None:
            return None if self.threshold is None else self.agent_target
        return self.threshold ** (1 / max(1, self.parts)) if has_baseline else self.threshold
