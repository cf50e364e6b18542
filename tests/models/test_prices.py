"""Rates from the price table, held against the table's own calculator."""

import math
import socket
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage as TableUsage
from genai_prices import calc_price
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, ModelPrice

from crew_guard.core.usage import NANO, Parts, Rates, Usage
from crew_guard.models import prices
from crew_guard.models.prices import rates_at, rates_for

NOW = datetime.now(tz=UTC)
USAGES = [
    (1, 1, 0, 0),
    (1_000, 1_000, 0, 0),
    (12_345, 678, 4_321, 0),
    (12_345, 678, 4_321, 1_234),
    (128_001, 999, 0, 0),
    (200_001, 16_383, 100_000, 50_001),
    (272_001, 1, 272_001, 0),
    (1_500_000, 65_536, 3, 7),
]


def text_models() -> list[tuple[str, ModelInfo]]:
    """Every model of five providers that is priced by tokens of text alone."""
    found: list[tuple[str, ModelInfo]] = []
    for provider in get_snapshot().providers:
        if provider.id not in ("openai", "anthropic", "google", "mistral", "groq"):
            continue
        for model in provider.models:
            price = model.get_prices(NOW)
            keys = {key for key, value in vars(price).items() if value is not None}
            if "input_mtok" in keys and "output_mtok" in keys:
                found.append((provider.id, model))
    return found


def nano(usd: Decimal) -> int:
    return math.ceil(usd * NANO)


@pytest.mark.parametrize("provider", ["openai", "anthropic", "google", "mistral", "groq"])
def test_each_text_model_costs_what_the_table_says(provider: str) -> None:
    """Tiers, cache reads and writes included: equal to the nano-dollar."""
    checked = 0
    for provider_id, model in text_models():
        if provider_id != provider or not model.is_match(model.id):
            continue
        rates = rates_at(f"{provider}:{model.id}", NOW)
        assert rates is not None, model.id
        for prompt, completion, cached, written in USAGES:
            usage = TableUsage(
                input_tokens=prompt, output_tokens=completion, cache_read_tokens=cached, cache_write_tokens=written
            )
            expected = calc_price(usage, model.id, provider_id=provider, genai_request_timestamp=NOW).total_price
            ours = rates.price(
                Usage(input_tokens=prompt, output_tokens=completion, cached_tokens=cached), Parts(cache_written=written)
            )
            assert ours == nano(expected), (model.id, prompt)
            bound, output, fixed = rates.bound(prompt)
            assert bound + -(-completion * output // 10**6) + fixed >= ours
        checked += 1
    assert checked >= {"openai": 60, "anthropic": 15, "google": 30, "mistral": 20, "groq": 15}[provider]


@pytest.mark.parametrize(
    "name",
    [
        "openai:no-such-model", "nobody:gpt-4o", "openai-compatible:gpt-4o", "ollama:llama3", "gpt-4o", "openai:", "",
        "openai:whisper-1",
    ],
)  # fmt: skip
def test_what_nobody_knows_has_no_rates(name: str) -> None:
    """None, not zero: a cap in dollars must be able to refuse it."""
    assert rates_for(name) is None


def test_a_model_is_resolved_once() -> None:
    """The second time gives the same object."""
    assert rates_for("openai:gpt-4.1-mini") is rates_for("openai:gpt-4.1-mini")
    rates = rates_for("openai:gpt-4.1-mini")
    assert rates is not None
    assert (rates.input.base, rates.output.base) == (400_000_000, 1_600_000_000)


def test_other_names_of_a_provider_are_known() -> None:
    """gemini is google's."""
    assert rates_for("gemini:gemini-2.5-pro") == rates_for("google:gemini-2.5-pro") is not None


def test_a_price_per_request_is_charged_once() -> None:
    """perplexity's sonar costs a request fee beside its tokens."""
    rates = rates_for("perplexity:sonar")
    assert rates is not None
    expected = calc_price(TableUsage(input_tokens=1_000, output_tokens=100), "sonar", provider_id="perplexity")
    assert rates.request > 0
    assert rates.price(Usage(input_tokens=1_000, output_tokens=100)) == nano(expected.total_price)


def test_the_dearest_hour_holds() -> None:
    """A price that depends on the hour is taken at its highest, and no hour's bill is above it."""
    rates = rates_at("deepseek:deepseek-chat", NOW)
    assert rates is not None
    bills: list[int] = []
    for hour in range(24):
        usage = TableUsage(input_tokens=10_000, output_tokens=1_000, cache_read_tokens=5_000)
        at = NOW.replace(hour=hour, minute=45)
        bills.append(
            nano(calc_price(usage, "deepseek-chat", provider_id="deepseek", genai_request_timestamp=at).total_price)
        )
    ours = rates.price(Usage(input_tokens=10_000, output_tokens=1_000, cached_tokens=5_000))
    assert ours == max(bills) > min(bills)


def test_a_price_that_begins_on_a_date_holds_from_then() -> None:
    """o3 became cheaper in June 2025."""
    before, after = rates_at("openai:o3", datetime(2025, 6, 1, tzinfo=UTC)), rates_at("openai:o3", NOW)
    assert before is not None
    assert after is not None
    assert before.input.base > after.input.base


def test_a_fraction_of_a_nano_dollar_is_rounded_up() -> None:
    """A rate is never below the table's."""
    rates = prices._rates(ModelPrice(input_mtok=Decimal("0.0000000001"), output_mtok=Decimal(0)))
    assert rates is not None
    assert rates.input.base == 1
    assert isinstance(rates, Rates)


def test_the_table_is_read_without_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket is opened."""
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("a socket"))
    rates_for.cache_clear()
    assert rates_for("openai:gpt-4o") is not None
