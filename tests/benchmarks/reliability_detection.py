"""How soon is a drop from 0.97 seen, and how often is there none? python -m tests.benchmarks.reliability_detection

The time to a false alarm of our detector is measured, and the CUSUM that knows the new rate, a window, an EWMA and
a running mean are set so that theirs is the same. The exit code is 1 where a target is missed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tests.benchmarks.reliability_streams import (
    P0,
    Bits,
    Cusum,
    Detectors,
    Ewma,
    RunningMean,
    Watch,
    Window,
    calibrated,
    check,
    delay,
    time_to_false_alarm,
)

SHIFTS = (0.90, 0.85, 0.70, 0.50)
AT_MOST = 1.20
ALARM_AFTER = 10_000
BURSTS_AT_LEAST = 0.4 * ALARM_AFTER
STREAMS = 4_000
LONG = 20_000
CALIBRATE = (500, 20_000)
"""Streams, and trials of each, that a threshold is set by."""


class AtMostTwo(Detectors):
    """What ours replaces: full stakes, and the third and later failures in a row are left out."""

    def step(self, failed: Bits) -> Bits:
        """One trial of each."""
        before = self.terms.copy()
        self.bursts[:] = -math.inf
        super().step(failed)
        self.terms[:, self.failures > 2] = before[:, self.failures > 2]
        return self.evidence >= self.alarm_after


def drift(step: int) -> float:
    """From 0.97 to 0.70 in 400 trials."""
    return max(0.70, P0 - step * (P0 - 0.70) / 400)


def dropped(rate: float) -> Callable[[int], float]:
    """At once, and for good."""
    return lambda _: rate


def delays(make: Callable[[], Watch]) -> list[float]:
    """At each shift, and at the drift."""
    return [delay(make(), STREAMS, dropped(rate)) for rate in SHIFTS] + [delay(make(), STREAMS, drift)]


def rivals(target: float) -> dict[str, Callable[[], Watch]]:
    """The others, at this time to a false alarm; the window's by chance between two numbers."""
    streams, steps = CALIBRATE
    ewma = calibrated(lambda h: Ewma(streams, h), (0.05, 0.5), target, streams, steps)
    window = calibrated(lambda h: Window(streams, h), (3, 15), target, streams, steps)
    mean = calibrated(lambda h: RunningMean(streams, h), (0.03, 0.9), target, streams, steps)
    return {
        "EWMA 0.02": lambda: Ewma(STREAMS, ewma),
        "window of 50": lambda: Window(STREAMS, window),
        "running mean": lambda: RunningMean(STREAMS, mean),
    }


def matched(target: float) -> list[float]:
    """The optimum at each shift."""
    streams, steps = CALIBRATE
    found = []
    for rate in SHIFTS:
        least = calibrated(lambda h, rate=rate: Cusum(streams, h, rate), (2, 12), target, streams, steps)
        found.append(delay(Cusum(STREAMS, least, rate), STREAMS, dropped(rate)))
    return found


def line(name: str, found: list[float]) -> None:
    """One row of the table."""
    print(f"{name:<34}" + "".join(f"{one:>9.1f}" for one in found))


def main() -> bool:
    """Print the tables; True if every target is reached."""
    check()
    false_alarm = time_to_false_alarm(Detectors(2_000), 2_000, LONG)
    bursts = {one: time_to_false_alarm(Detectors(2_000), 2_000, LONG, correlation=one) for one in (0.3, 0.6)}
    ours, best = delays(lambda: Detectors(STREAMS)), matched(false_alarm)
    print(f"mean delay in trials, each at one false alarm in {false_alarm:,.0f} healthy trials (p = {P0})")
    print(f"{'':<34}" + "".join(f"{f'→{rate:.2f}':>9}" for rate in SHIFTS) + f"{'drift':>9}")
    line("matched CUSUM (the optimum)", best)
    line("e-detector", ours)
    others = rivals(false_alarm)
    for name, make in others.items():
        line(name, delays(make))
    line("at most 2 failures in a row counted", delays(lambda: AtMostTwo(STREAMS)))
    gone, capped = (delay(make(1_000), 1_000, dropped(0.0), steps=1_000) for make in (Detectors, AtMostTwo))
    print(f"→0.00: e-detector {gone:.1f}, at most 2 in a row {capped:,.0f} of 1,000: it can't tell")
    late = delay(Detectors(1_000), 1_000, dropped(0.85), healthy=20_000)
    mean_late = delay(others["running mean"](), STREAMS, dropped(0.85), healthy=20_000)
    print(f"→0.85 after 20,000 healthy trials: e-detector {late:.1f}, running mean {mean_late:,.0f}")
    ratios = [one / other for one, other in zip(ours, best, strict=False)]
    worst = max(ratios)
    checks = (
        (f"delay ÷ the optimum's {', '.join(f'{one:.3f}' for one in ratios)}", f"at most {AT_MOST}", worst <= AT_MOST),
        (f"time to a false alarm {false_alarm:,.0f}", f"at least {ALARM_AFTER:,}", false_alarm >= ALARM_AFTER),
        (
            f"with bursts of 0.3 {bursts[0.3]:,.0f} (of 0.6 {bursts[0.6]:,.0f})",
            f"at least {BURSTS_AT_LEAST:,.0f}",
            bursts[0.3] >= BURSTS_AT_LEAST,
        ),
        (f"→0.85 after 20,000 ÷ after 500 healthy trials {late / ours[1]:.3f}", "at most 1.05", late <= 1.05 * ours[1]),
    )
    for text, bound, holds in checks:
        print(f"{text} ({bound}): {'ok' if holds else 'MISSED'}")
    return all(holds for *_, holds in checks)


if __name__ == "__main__":
    raise SystemExit(0 if main() else 1)
