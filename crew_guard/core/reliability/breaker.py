"""Whether a crew may work: closed (it works), open (its workflow does), half_open (probed beside the workflow).

Pure transitions: each returns the next Breaker. One probe at a time is the store's business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, TypeAlias

from msgspec import Struct, field
from msgspec.structs import replace

from crew_guard.core.reliability.detector import Alarm, Sprt, sprt_for
from crew_guard.core.reliability.trials import END_TO_END

BreakerState: TypeAlias = Literal["closed", "open", "half_open"]
Test: TypeAlias = Callable[[str, float], Sprt]
_LEAST_SHARE = 1e-9


def _plain(_stream: str, level: float) -> Sprt:
    return sprt_for(level)


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
    """Runs of the workflow since its state changed, or since the last probe and that one with it."""
    probes: int = 0
    """Probes since its state changed."""
    tests: dict[str, Sprt] = field(default_factory=dict[str, Sprt])
    """By stream: all must say good to close it, one that says bad opens it again."""
    given: tuple[str, ...] = ()
    """Those of them that nothing judges: what a person says of them opened it, and closes it."""
    threshold: float | None = None
    """What was asked of the crew by the run that opened it; None: it holds for every policy."""

    def is_for_more(self, threshold: float | None) -> bool:
        """Whether it was opened by more than this run's policy asks of the crew."""
        if self.state == "closed" or self.threshold is None or threshold is None:
            return False
        return self.threshold > threshold

    def opened(self, alarm: Alarm, levels: Mapping[str, float], at: float, test: Test = _plain) -> Breaker:
        """After an alarm of the detectors.

        Args:
            levels: what each stream with trials is held to; the culprit and the outcomes will be tested
            at: Unix seconds
            test: of a stream that is held to a level
        """
        tested = [name for name in (alarm.culprit, END_TO_END) if name in levels]
        why = f"{alarm.culprit} has dropped below {levels.get(alarm.culprit, 0.0):.3g}"
        tests = {name: test(name, levels[name]) for name in tested}
        return Breaker("open", at, why, alarm.culprit, tests=tests)

    def renewed(self, streams: Mapping[str, float], why: str, at: float, test: Test = _plain) -> Breaker:
        """half_open, because a new version came: it is probed before it works, and at once.

        Args:
            streams: the streams to test, each with the level it is held to
            why: what is new, in words
            at: Unix seconds of its first run, which is a probe already: later verdicts on it count
            test: of a stream that is held to a level
        """
        tests = {name: test(name, level) for name, level in streams.items()}
        return Breaker("half_open", math.nextafter(at, -math.inf), why, tests=tests)

    def fell_back(self, share: float, at: float) -> Breaker:
        """After a run of the workflow in the crew's place: open becomes half_open when a probe is due."""
        if self.state == "closed":
            return self
        after = replace(self, fallbacks=self.fallbacks + 1)
        if self.state == "open" and share > 0 and after.fallbacks >= every(share):
            return replace(after, state="half_open", since=at)
        return after

    def due(self, share: float = 0.2) -> bool:
        """Whether the next run of the workflow should have a shadow probe of the crew beside it.

        Args:
            share: of the workflow's runs that are probed, in (0, 1]; 0 never probes
        """
        if self.state != "half_open" or share <= 0:
            return False
        return self.probes == 0 or self.fallbacks >= every(share)

    def probed(self, outcomes: Iterable[tuple[str, float]], at: float, *, runs: int = 0) -> Breaker:
        """After a run of the crew, in the shadow or not, with these (stream, grade): closed, open again, or as it was.

        A stream that isn't tested says nothing here.

        Args:
            runs: 1 where the probe is one of the workflow's runs itself, and 0 where that is told besides
        """
        if self.state == "closed":
            return self
        tests = dict(self.tests)
        for stream, grade in outcomes:
            if stream in tests:
                tests[stream] = tests[stream].observed(grade)
        return self._answered(tests, at) or replace(self, fallbacks=runs, probes=self.probes + 1, tests=tests)

    def revised(self, stream: str, before: float | None, after: float, at: float) -> Breaker:
        """After a later verdict on one of its probes; before is None where it had none."""
        test = self.tests.get(stream)
        if self.state == "closed" or test is None:
            return self
        tests = {**self.tests, stream: test.revised(before, after)}
        return self._answered(tests, at) or replace(self, tests=tests)

    def _answered(self, tests: Mapping[str, Sprt], at: float) -> Breaker | None:
        """What follows from the tests; None where they need more trials."""
        answers = [test.answer for test in tests.values()]
        if "bad" in answers:
            fresh = {name: test.restarted() for name, test in tests.items()}
            return replace(self, state="open", since=at, fallbacks=0, probes=0, tests=fresh)
        if answers and all(answer == "good" for answer in answers):
            return Breaker("closed", at)
        return None


def every(share: float) -> int:
    """Of how many runs one is a probe, so that at most this share of them is, in (0, 1]."""
    return math.ceil(1 / max(share, _LEAST_SHARE) - 1e-9)
