"""Usage as servers report it, true or not."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crew_guard.core.reported import parse_usage
from crew_guard.core.usage import NO_PARTS, PartRates, Parts, Rate, Rates, Usage, cost
from crew_guard.models.prices import rates_at
from tests.benchmarks import usage_bodies


@pytest.mark.parametrize(
    "body",
    [
        None, [], "12", {}, {"prompt_tokens": 1}, {"completion_tokens": 1},
        {"prompt_tokens": -1, "completion_tokens": 1},
        {"prompt_tokens": "7", "completion_tokens": 1},
        {"prompt_tokens": True, "completion_tokens": 1},
        {"prompt_tokens": 1.5, "completion_tokens": 1},
        {"prompt_tokens": 10**15, "completion_tokens": 1},
        {"prompt_tokens": 1, "completion_tokens": None},
    ],
)  # fmt: skip
def test_what_cannot_be_usage_is_absent(body: Any) -> None:
    """The call is then charged as reserved, not as zero."""
    assert parse_usage(body) == (None, NO_PARTS)


@pytest.mark.parametrize(
    ("details", "cached", "written"),
    [
        ({"cached_tokens": 40}, 40, 0),
        ({"cached_tokens": 40, "cache_write_tokens": 10}, 40, 10),
        ({"cached_tokens": 90, "cache_write_tokens": 20}, 0, 0),
        ({"cached_tokens": -1}, 0, 0),
        ({"cached_tokens": True}, 0, 0),
        (None, 0, 0),
        ("x", 0, 0),
    ],
)
def test_cached_tokens_are_a_part_of_the_prompt(details: Any, cached: int, written: int) -> None:
    """Details that can't be true are left out, which prices them as plain input."""
    usage, found = parse_usage({"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": details})
    assert usage == Usage(input_tokens=100, output_tokens=5, cached_tokens=cached)
    assert found.cache_written == written


def test_reasoning_that_is_left_out_of_the_completion_is_counted() -> None:
    """Some servers' total holds hidden reasoning that their completion doesn't."""
    usage, _ = parse_usage({"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 109})
    assert usage == Usage(input_tokens=35, output_tokens=74)


@pytest.mark.parametrize(
    ("body", "usage", "parts"),
    [
        pytest.param(
            {"prompt_tokens": 100, "completion_tokens": 9, "prompt_tokens_details": {"audio_tokens": 60},
             "completion_tokens_details": {"audio_tokens": 3, "reasoning_tokens": 4}},
            Usage(input_tokens=100, output_tokens=9), Parts(input_audio=60, output_audio=3, reasoning=4), id="chat"),
        pytest.param(
            {"prompt_tokens": 100, "completion_tokens": 9,
             "prompt_tokens_details": {"audio_tokens": 60, "cached_tokens": 70}},
            Usage(input_tokens=100, output_tokens=9, cached_tokens=70), Parts(input_audio=60, cached_audio=30),
            id="audio that must partly have come from the cache"),
        pytest.param(
            {"input_tokens": 5, "cache_read_input_tokens": 70, "cache_creation_input_tokens": 30, "output_tokens": 4,
             "cache_creation": {"ephemeral_1h_input_tokens": 10}, "server_tool_use": {"web_search_requests": 2}},
            Usage(input_tokens=105, output_tokens=4, cached_tokens=70),
            Parts(cache_written=30, kept_an_hour=10, searches=2), id="messages"),
        pytest.param(
            {"promptTokenCount": 50, "toolUsePromptTokenCount": 10, "candidatesTokenCount": 6, "thoughtsTokenCount": 7,
             "cachedContentTokenCount": 20, "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 30}, 4, None],
             "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 20}]},
            Usage(input_tokens=60, output_tokens=13, cached_tokens=20),
            Parts(input_audio=30, cached_audio=20, reasoning=7), id="gemini"),
        pytest.param(
            {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 3},
            Usage(input_tokens=9, output_tokens=3, cached_tokens=4), NO_PARTS, id="responses"),
        pytest.param(
            {"inputTokens": 9, "outputTokens": 3, "cacheReadInputTokens": 4, "cacheWriteInputTokens": 2,
             "cacheDetails": [{"ttl": "1h", "inputTokens": 2}]},
            Usage(input_tokens=15, output_tokens=3, cached_tokens=4), Parts(cache_written=2, kept_an_hour=2),
            id="converse"),
        pytest.param(
            {"billed_units": {"input_tokens": 4, "output_tokens": 2}, "tokens": {"input_tokens": 90}},
            Usage(input_tokens=4, output_tokens=2), NO_PARTS, id="cohere"),
    ],
)  # fmt: skip
def test_each_form_of_usage_is_known_by_its_keys(body: Any, usage: Usage, parts: Parts) -> None:
    """Cache reads and writes are a part of the input, reasoning of the output, whatever the provider counts apart."""
    assert parse_usage(body) == (usage, parts)


COUNTS = st.integers(0, 1_000) | st.sampled_from([-5, None, True, 1.5, "7"])
KEYS = [
    "prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens", "cache_read_input_tokens",
    "cache_creation_input_tokens", "promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "totalTokenCount",
    "cachedContentTokenCount", "inputTokens", "outputTokens", "cacheReadInputTokens", "cacheWriteInputTokens",
    "cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens", "reasoning_tokens", "citation_tokens",
    "ephemeral_1h_input_tokens", "thinking_tokens",
]  # fmt: skip
COUNTED = st.dictionaries(st.sampled_from(KEYS), COUNTS, max_size=5)
FORMS = [
    ("prompt_tokens", "completion_tokens"), ("input_tokens", "output_tokens"), ("inputTokens", "outputTokens"),
    ("promptTokenCount", "candidatesTokenCount"),
]  # fmt: skip
TOLD = st.tuples(st.sampled_from(FORMS), st.integers(0, 1_000), st.integers(0, 1_000)).map(
    lambda told: dict(zip(told[0], told[1:], strict=True))
)
MODALITIES = st.lists(
    st.one_of(
        st.none(),
        st.fixed_dictionaries({"modality": st.sampled_from(["TEXT", "AUDIO", "IMAGE", "VIDEO"]), "tokenCount": COUNTS}),
    ),
    max_size=3,
)
DETAILS = st.dictionaries(st.sampled_from(KEYS[16:]), COUNTS, max_size=5)
NESTED = st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens_details": DETAILS, "completion_tokens_details": DETAILS, "input_tokens_details": DETAILS,
        "cache_creation": DETAILS, "output_tokens_details": DETAILS, "promptTokensDetails": MODALITIES,
        "cacheTokensDetails": MODALITIES, "candidatesTokensDetails": MODALITIES, "billed_units": COUNTED,
    },
)  # fmt: skip
RATE = st.builds(Rate, st.integers(0, 10**12), st.just(()) | st.just(((500, 10**12),)))
PART_RATES = st.builds(
    PartRates, **{name: st.none() | RATE for name in PartRates.__dataclass_fields__ if name != "search"}
)
RATES = st.builds(Rates, RATE, RATE, st.none() | RATE, st.none() | RATE, st.integers(0, 10**6), st.none() | PART_RATES)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(told=TOLD, counted=COUNTED, nested=NESTED, rates=RATES)
def test_no_report_costs_less_than_nothing_or_more_than_was_reserved(
    told: dict[str, Any], counted: dict[str, Any], nested: dict[str, Any], rates: Rates
) -> None:
    """Whatever a provider reports, true or not: parts fit their wholes, and the bound for any media holds."""
    usage, parts = parse_usage({**counted, **told, **nested})
    if usage is None:
        return
    assert 0 <= usage.cached_tokens + parts.cache_written <= usage.input_tokens
    sent = parts.input_audio + parts.input_image + parts.input_video
    read = parts.cached_audio + parts.cached_image + parts.cached_video
    assert parts.kept_an_hour <= parts.cache_written
    assert read <= usage.cached_tokens
    assert 0 <= sent - read <= usage.input_tokens - usage.cached_tokens - parts.cache_written
    assert parts.output_audio + parts.output_image + parts.reasoning + parts.citations <= usage.output_tokens
    price = rates.price(usage, parts)
    prompt, output_rate, fixed = rates.bound(usage.input_tokens, text_only=False)
    assert 0 <= price <= prompt + cost(usage.output_tokens, output_rate) + fixed


@given(
    rates=RATES, plain=st.integers(0, 900), cached=st.integers(0, 900), written=st.integers(0, 900),
    said=st.integers(0, 900), reasoning=st.integers(0, 900), citations=st.integers(0, 900),
)  # fmt: skip
def test_a_call_of_text_alone_never_costs_more_than_was_reserved(
    rates: Rates, plain: int, cached: int, written: int, said: int, reasoning: int, citations: int
) -> None:
    """Its bound leaves out audio and images, and still holds for cache, reasoning and citations."""
    usage = Usage(
        input_tokens=plain + cached + written, output_tokens=said + reasoning + citations, cached_tokens=cached
    )
    parts = Parts(cache_written=written, reasoning=reasoning, citations=citations)
    prompt, output_rate, fixed = rates.bound(usage.input_tokens)
    assert rates.price(usage, parts) <= prompt + cost(usage.output_tokens, output_rate) + fixed


def test_audio_is_dearer_than_text() -> None:
    """Gemini's audio has a rate of its own: charged where it is reported, reserved only where it may come up."""
    rates = rates_at("gemini:gemini-2.5-flash", datetime.now(tz=UTC))
    assert rates is not None
    usage = Usage(input_tokens=1_000, output_tokens=10)
    spoken = rates.price(usage, Parts(input_audio=1_000))
    assert spoken > rates.price(usage)
    assert rates.bound(1_000, text_only=False)[0] > rates.bound(1_000)[0]
    assert spoken <= rates.bound(1_000, text_only=False)[0] + cost(10, rates.output.base)


def test_recorded_bodies_are_read_and_priced_as_the_price_table_does() -> None:
    """1,577 bodies of real servers: tokens as the table reads them, prices equal to the nano-dollar, or a reason."""
    if not usage_bodies.FILE.exists():
        pytest.skip(f"recorded usage bodies are not at {usage_bodies.DATA}: set CREW_GUARD_DATA")
    tally = usage_bodies.compare(usage_bodies.bodies())
    assert tally.unexplained == []
    assert tally.forms.total() == 1_577
    assert tally.same_tokens.total() >= 1_575
    assert tally.priced.total() - tally.same_price.total() <= 20
    assert tally.same_price.total() > 2_600
