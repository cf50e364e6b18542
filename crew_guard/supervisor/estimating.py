"""What providers bill beyond what was counted, by model: a margin for the next prompt's estimate.

A count is meant as an upper bound, so the margin starts at none and never lowers an estimate. The first
reply that bills more than was counted raises it, for every run of the supervisor.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left, insort
from collections import deque

from crew_guard.core.actions import ModelCall
from crew_guard.core.plain import shown
from crew_guard.errors import ConfigError

_WINDOW = 200
"""Replies that are remembered of a model."""
_QUANTILE = 0.99
_HEADROOM = 1.02
"""Beyond the highest ratio that was seen: the next prompt may be a little worse."""


def unbounded(call: ModelCall) -> ConfigError:
    """The error for a call whose prompt's bound is no number of tokens: a cap would not hold, nor a journal keep it."""
    return ConfigError(
        f"the model {call.model} bounds a prompt at {shown(call.prompt_tokens)} tokens; its bound() and "
        "bound_request() must give whole numbers of at least 0, such as math.ceil(...)"
    )


class Estimator:
    """Margins of prompt estimates, by model name. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ratios: dict[str, deque[float]] = {}
        self._ordered: dict[str, list[float]] = {}
        """The same, the lowest first."""
        self._margins: dict[str, float] = {}
        self.learned = False
        """Whether some model has a margin: until then every estimate stands."""

    def margin(self, model: str) -> float:
        """What to multiply an estimate with: at least 1."""
        return self._margins.get(model, 1.0)

    def bound(self, model: str, estimated: int) -> int:
        """An estimate with its margin, in tokens."""
        margin = self._margins.get(model)
        return estimated if margin is None else math.ceil(estimated * margin)

    def observe(self, model: str, estimated: int, billed: int) -> None:
        """Compare an estimate with what the provider billed.

        Args:
            model: its name, as policies know it
            estimated: tokens of the prompt before any margin
            billed: tokens of the prompt as reported
        """
        if estimated <= 0 or (billed <= estimated and model not in self._margins):
            return
        with self._lock:
            ratios, ordered = self._ratios.setdefault(model, deque()), self._ordered.setdefault(model, [])
            if len(ratios) == _WINDOW:
                del ordered[bisect_left(ordered, ratios.popleft())]
            # One token more: a ratio that was rounded down must not be a token short at a longer prompt.
            ratio = (billed + 1) / estimated
            ratios.append(ratio)
            insort(ordered, ratio)
            highest = ordered[math.ceil(_QUANTILE * len(ordered)) - 1]
            self._margins[model] = max(1.0, highest * _HEADROOM)
            self.learned = True
