"""What a model costs, from the price table of genai-prices. Resolved once a model, never from the network.

What a chat can't incur is left out: hours of audio, pages, video that is made, searches in files, code
execution, storage and service tiers. Of prices that hold at some hours of the day the dearest holds, so
that a reservation is never too small.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache
from typing import TYPE_CHECKING

from crew_guard.core.usage import FREE_RATE, NANO, PartRates, Rate, Rates
from crew_guard.errors import MissingDependencyError

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

_ALIASES = {"gemini": "google", "bedrock": "aws", "xai": "x-ai"}


@lru_cache(maxsize=256)
def rates_for(model_name: str) -> Rates | None:
    """The rates of a model, in nano-dollars for a million tokens; None if the table has no price for it.

    Args:
        model_name: provider:model, e.g. openai:gpt-4.1-mini. The provider must be one that the
            table knows: what an unknown server charges is not guessed from its model's name.
    """
    return rates_at(model_name, datetime.now(tz=UTC))


def rates_at(model_name: str, when: datetime) -> Rates | None:
    """The rates that hold at a point in time. Not cached.

    Args:
        model_name: provider:model
        when: with a time zone; decides between prices that begin on a date
    """
    found = _find(model_name)
    if found is None:
        return None
    candidates = [rates for price in _prices(found, when) if (rates := _rates(price)) is not None]
    return dearest(candidates) if candidates else None


def _find(model_name: str) -> ModelInfo | None:
    try:
        from genai_prices.data_snapshot import get_snapshot
    except ImportError:
        raise MissingDependencyError("the price table", "providers") from None
    provider_id, _, model = model_name.partition(":")
    snapshot = get_snapshot()
    wanted = _ALIASES.get(provider_id, provider_id)
    provider = next((known for known in snapshot.providers if known.id == wanted), None)
    if provider is None or not model:
        return None
    return provider.find_model(model, all_providers=snapshot.providers)


def _prices(model: ModelInfo, when: datetime) -> Iterable[ModelPrice]:
    """The prices that hold at some hour of this day, as the table chooses them: the last that applies."""
    from genai_prices.types import ModelPrice, TimeOfDateConstraint

    if isinstance(model.prices, ModelPrice):
        return [model.prices]
    found: list[ModelPrice] = []
    for entry in reversed(model.prices):
        if isinstance(entry.constraint, TimeOfDateConstraint):
            found.append(entry.prices)
        elif entry.constraint is None or entry.constraint.active(when):
            return [*found, entry.prices]
    return [*found, model.prices[0].prices]


def _rates(price: ModelPrice) -> Rates | None:
    base, output = _rate(price, "input_mtok"), _rate(price, "output_mtok")
    request = _each(price, "requests_kcount")
    if base is None and output is None and not request:
        return None
    own = PartRates(
        **{name: _rate(price, key) for name, key in _PARTS.items()}, search=_each(price, "web_searches_kcount")
    )
    return Rates(
        input=base or FREE_RATE,
        output=output or FREE_RATE,
        cached_input=_rate(price, "cache_read_mtok"),
        cache_write=_rate(price, "cache_write_mtok"),
        request=request,
        parts=None if own == _NONE else own,
    )


_PARTS = {
    "kept_an_hour": "cache_write_1h_mtok",
    "input_audio": "input_audio_mtok",
    "cached_audio": "cache_audio_read_mtok",
    "input_image": "input_image_mtok",
    "cached_image": "cache_image_read_mtok",
    "input_video": "input_video_mtok",
    "output_audio": "output_audio_mtok",
    "output_image": "output_image_mtok",
    "reasoning": "output_reasoning_mtok",
    "citations": "output_citation_mtok",
}
"""By a part's name: its key in the table."""
_NONE = PartRates()


def _each(price: ModelPrice, key: str) -> int:
    value: object = getattr(price, key)
    return _nano(value / 1000) if isinstance(value, Decimal) else 0


def _rate(price: ModelPrice, key: str) -> Rate | None:
    value: object = getattr(price, key)
    if value is None:
        return None
    if isinstance(value, Decimal):
        return Rate(_nano(value))
    from genai_prices.types import TieredPrices

    if not isinstance(value, TieredPrices):
        return None
    return Rate(_nano(value.base), tuple((tier.start, _nano(tier.price)) for tier in value.tiers))


def _nano(usd: Decimal) -> int:
    return int((usd * NANO).to_integral_value(rounding=ROUND_CEILING))


def dearest(candidates: Sequence[Rates]) -> Rates:
    """Of each kind of token the highest of these rates."""
    if len(candidates) == 1:
        return candidates[0]
    return Rates(
        input=_highest([rates.input for rates in candidates]),
        output=_highest([rates.output for rates in candidates]),
        cached_input=_highest([rates.cached_input or rates.input for rates in candidates]),
        cache_write=_highest([rates.cache_write or rates.input for rates in candidates]),
        request=max(rates.request for rates in candidates),
        parts=_dearest_parts(candidates),
    )


def _dearest_parts(candidates: Sequence[Rates]) -> PartRates | None:
    every = [rates.parts or _NONE for rates in candidates]
    found: dict[str, Rate | None] = {}
    for name in _PARTS:
        own = [rate for parts in every if (rate := getattr(parts, name)) is not None]
        found[name] = _highest(own) if own else None
    highest = PartRates(**found, search=max(parts.search for parts in every))
    return None if highest == _NONE else highest


def _highest(rates: list[Rate]) -> Rate:
    """At each prompt length the highest of these rates."""
    if len(rates) == 1:
        return rates[0]
    starts = sorted({start for rate in rates for start, _ in rate.tiers})
    tiers = tuple((start, max(rate.at(start + 1) for rate in rates)) for start in starts)
    return Rate(max(rate.base for rate in rates), tiers)
