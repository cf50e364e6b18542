"""What a host's adapter needs to know of a model by its name: what it costs, and bounds of its tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from crew_guard.core.usage import Rates
from crew_guard.models.counting import PromptBound, counter_for
from crew_guard.models.prices import rates_for


class NamedModel(PromptBound):
    """One model's rates and bounds."""

    def __init__(self, name: str, rates: Rates | None) -> None:
        super().__init__(counter_for(name))
        self.rates = rates
        """None if nobody knows what it costs."""


@dataclass(slots=True)
class ModelFacts:
    """Facts by a model's name, each worked out once."""

    prices: Mapping[str, Rates] = field(default_factory=dict[str, Rates])
    """Rates that come before the price table."""
    _known: dict[str, NamedModel] = field(default_factory=dict[str, NamedModel])

    def __call__(self, name: str) -> NamedModel:
        """The facts of provider:name."""
        found = self._known.get(name)
        if found is None:
            found = self._known[name] = NamedModel(name, self.prices.get(name) or rates_for(name))
        return found
