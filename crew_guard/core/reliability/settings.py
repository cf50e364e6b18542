"""What a policy says about counting, as a crew's record is folded by it."""

from __future__ import annotations

from msgspec import Struct, field

from crew_guard.core.reliability.detector import ALARM_AFTER, Sprt, sprt_for
from crew_guard.core.reliability.judging import Judge


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

    judged_by: dict[str, Judge] = field(default_factory=dict[str, Judge])
    """By stream, how often the judge of it is right, where that was measured."""

    def judges(self, stream: str) -> bool:
        """Whether something judges this stream, as far as is known."""
        return self.judged is None or stream in self.judged

    def target(self, *, has_baseline: bool) -> float | None:
        """What each agent is held to; None where nothing is decided."""
        if self.threshold is None or self.agent_target is not None:
            return None if self.threshold is None else self.agent_target
        return self.threshold ** (1 / max(1, self.parts)) if has_baseline else self.threshold

    def as_judged(self, stream: str, level: float) -> float:
        """The share of good verdicts that goes with a success rate: a judge errs, and its stream is held to less."""
        judge = self.judged_by.get(stream)
        return level if judge is None else judge.accepts_at_least(level)

    def test(self, stream: str, level: float) -> Sprt:
        """The test of a stream that is held to this share of good verdicts."""
        judge = self.judged_by.get(stream)
        if judge is None:
            return sprt_for(level)
        true = sprt_for(judge.rate_at_least(level))
        ok, bad = judge.accepts(true.ok), judge.accepts(true.bad)
        return Sprt(ok, bad) if 0 < bad < ok < 1 else sprt_for(level)
