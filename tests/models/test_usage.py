"""Usage as servers report it, true or not."""

import gzip
import json
import math
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from genai_prices import Usage as TableUsage
from genai_prices import calc_price

from crew_guard.core.usage import NANO, Usage
from crew_guard.models.prices import rates_at
from crew_guard.models.replies import parse_usage

DATA = Path(os.environ.get("CREW_GUARD_DATA", Path(__file__).parents[2] / "../shared/data"))


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
    assert parse_usage(body) == (None, 0)


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
    assert found == written


def test_reasoning_that_is_left_out_of_the_completion_is_counted() -> None:
    """Some servers' total holds hidden reasoning that their completion doesn't."""
    usage, _ = parse_usage({"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 109})
    assert usage == Usage(input_tokens=35, output_tokens=74)


def bodies() -> list[tuple[dict[str, Any], dict[str, int], bool]]:
    """(body, its tokens, whether OpenAI sells the model) for recorded bodies of the chat-completions form."""
    file = DATA / "genai_usage_bodies/usages.json.gz"
    if not file.exists():
        pytest.skip(f"recorded usage bodies are not at {DATA}: set CREW_GUARD_DATA")
    return [
        (entry["body"], extracted["usage"], "input_price" in extractor)
        for entry in json.loads(gzip.decompress(file.read_bytes()))
        for extracted in entry["extracted"]
        for extractor in extracted["extractors"]
        if (extractor["provider_id"], extractor["api_flavor"]) == ("openai", "chat")
    ]


def test_recorded_bodies_are_read_as_the_price_table_reads_them() -> None:
    """400 bodies of real servers: prompt, completion, cache reads and writes."""
    checked = 0
    for body, tokens, _ in bodies():
        if not tokens:
            continue
        usage, written = parse_usage(body["usage"])
        assert usage is not None, body
        hidden = body["usage"]["total_tokens"] - tokens.get("input_tokens", 0) - tokens["output_tokens"]
        assert usage.input_tokens == tokens.get("input_tokens", 0)
        assert usage.output_tokens == tokens["output_tokens"] + max(0, hidden)
        assert usage.cached_tokens == tokens.get("cache_read_tokens", 0)
        assert written == tokens.get("cache_write_tokens", 0)
        checked += 1
    assert checked > 400


def test_recorded_bodies_of_openai_cost_what_they_cost() -> None:
    """Read by us and priced by our rates, as read and priced by the table: equal to the nano-dollar."""
    checked, now = 0, datetime.now(tz=UTC)
    for body, tokens, is_openai in bodies():
        if not is_openai or any(tokens.get(kind) for kind in ("input_audio_tokens", "output_audio_tokens")):
            continue
        rates = rates_at(f"openai:{body['model']}", now)
        usage, written = parse_usage(body["usage"])
        assert usage is not None
        assert rates is not None, body["model"]
        table = calc_price(
            TableUsage(**tokens), body["model"], provider_id="openai", genai_request_timestamp=now
        ).total_price
        assert rates.price(usage, written) == math.ceil(table * NANO), (body["model"], body["usage"])
        checked += 1
    assert checked > 100
