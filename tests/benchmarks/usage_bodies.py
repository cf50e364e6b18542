"""1,577 recorded usage bodies, read and priced by us and by the price table: python -m tests.benchmarks.usage_bodies

Each body's tokens are held against the reading of the provider whose form it has; its price, to the
nano-dollar, against that of every provider that sells the model in this form. What differs is listed with
its reason; a difference without one makes the exit code 1.
"""

from __future__ import annotations

import gzip
import json
import math
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from genai_prices import Usage as TableUsage
from genai_prices import calc_price
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ConditionalPrice, TimeOfDateConstraint

from crew_guard.core.reported import parse_usage
from crew_guard.core.usage import NANO
from crew_guard.models.prices import rates_at

DATA = Path(os.environ.get("CREW_GUARD_DATA", Path(__file__).parents[2] / "../shared/data"))
FILE = DATA / "genai_usage_bodies/usages.json.gz"
NOW = datetime.now(tz=UTC).replace(hour=12)
"""Today, at an hour without night rates: their upper bound is not the price of the moment."""

FORMS = {
    "prompt_tokens": ("openai", "chat"),
    "promptTokenCount": ("google", "default"),
    "input_tokens_details": ("openai", "responses"),
    "input_tokens": ("anthropic", "default"),
    "inputTokens": ("aws", "default"),
    "billed_units": ("cohere", "default"),
}
"""By the key that tells a form of usage: whose form it is."""
PRICED: dict[str, tuple[set[str], set[str] | None]] = {
    "prompt_tokens": ({"chat", "default"}, None),
    "promptTokenCount": ({"default"}, {"google"}),
    "input_tokens_details": ({"responses"}, {"openai", "azure"}),
    "input_tokens": ({"anthropic", "default"}, {"anthropic", "aws", "azure", "google"}),
}
"""By the same: the record's readings that are of the form, whose prices are compared; None is every provider."""


@dataclass(frozen=True)
class Reading:
    """One body as one provider's reading of the record has it."""

    body: dict[str, Any]
    form: str
    provider: str
    flavour: str
    tokens: dict[str, int]

    @property
    def model(self) -> str:
        return self.body.get("model") or self.body.get("modelVersion") or ""


def bodies() -> list[dict[str, Any]]:
    """The record's entries."""
    return json.loads(gzip.decompress(FILE.read_bytes()))


def readings(entry: dict[str, Any]) -> Iterator[Reading]:
    """Every reading of an entry."""
    body = entry["body"]
    usage = usage_of(body)
    form = next(key for key in FORMS if key in usage)
    for extracted in entry["extracted"]:
        for one in extracted["extractors"]:
            yield Reading(body, form, one["provider_id"], one["api_flavor"], extracted["usage"])


def usage_of(body: dict[str, Any]) -> dict[str, Any]:
    """The report itself, wherever a provider keeps it."""
    return body.get("usage") or body.get("usageMetadata") or body["meta"]


def own(entry: dict[str, Any]) -> Reading:
    """The reading by the provider whose form the body has."""
    found = {(reading.provider, reading.flavour): reading for reading in readings(entry)}
    provider, flavour = FORMS[next(iter(found.values())).form]
    return found.get((provider, flavour)) or found[provider, "embeddings"]


def tokens_differ(reading: Reading) -> str:
    """In what our reading differs from the record's, or ""."""
    usage, parts = parse_usage(usage_of(reading.body))
    assert usage is not None, reading.body
    ours = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cached_tokens,
        "cache_write_tokens": parts.cache_written,
        "cache_write_1h_tokens": parts.kept_an_hour,
        "input_audio_tokens": parts.input_audio,
        "cache_audio_read_tokens": parts.cached_audio,
        "input_image_tokens": parts.input_image,
        "cache_image_read_tokens": parts.cached_image,
        "input_video_tokens": parts.input_video,
        "cache_video_read_tokens": parts.cached_video,
        "output_audio_tokens": parts.output_audio,
        "output_image_tokens": parts.output_image,
        "output_reasoning_tokens": parts.reasoning,
        "web_searches": parts.searches,
    }
    return ", ".join(key for key, count in ours.items() if reading.tokens.get(key, 0) != count)


def costs(reading: Reading) -> tuple[int, int] | None:
    """(our nano-dollars, the table's) for one body; None where the table has no price for it."""
    flavours, providers = PRICED.get(reading.form, (set[str](), None))
    if not reading.model or reading.flavour not in flavours or (providers and reading.provider not in providers):
        return None
    rates = rates_at(f"{reading.provider}:{reading.model}", NOW)
    if rates is None:
        return None
    usage, parts = parse_usage(usage_of(reading.body))
    assert usage is not None, reading.body
    given = TableUsage(**reading.tokens)
    table = calc_price(given, reading.model, provider_id=reading.provider, genai_request_timestamp=NOW).total_price
    return rates.price(usage, parts), math.ceil(table * NANO)


def reason(reading: Reading) -> str:
    """Why a reading may rightly differ from ours, or ""."""
    usage, unlike = usage_of(reading.body), tokens_differ(reading)
    if reading.form == "prompt_tokens" and unlike == "output_tokens":
        hidden = usage.get("total_tokens", 0) - usage["prompt_tokens"] - usage.get("completion_tokens", 0)
        return "the total holds reasoning that the completion leaves out: we count it as output" if hidden > 0 else ""
    if unlike and (reading.provider, reading.flavour) != FORMS[reading.form]:
        return f"this provider's reading in the table doesn't know {unlike}"
    if any(isinstance(one.constraint, TimeOfDateConstraint) for one in conditions(reading)):
        return "the price depends on the hour: ours is the dearest hour's"
    return ""


def conditions(reading: Reading) -> list[ConditionalPrice]:
    """The conditional prices of a reading's model."""
    providers = get_snapshot().providers
    provider = next(one for one in providers if one.id == reading.provider)
    found = provider.find_model(reading.model, all_providers=providers)
    return found.prices if found is not None and isinstance(found.prices, list) else []


@dataclass(slots=True)
class Tally:
    """What came of a comparison."""

    forms: Counter[str] = field(default_factory=Counter[str])
    same_tokens: Counter[str] = field(default_factory=Counter[str])
    priced: Counter[str] = field(default_factory=Counter[str])
    same_price: Counter[str] = field(default_factory=Counter[str])
    reasons: Counter[str] = field(default_factory=Counter[str])
    unexplained: list[str] = field(default_factory=list[str])


def compare(entries: list[dict[str, Any]]) -> Tally:
    """Read and price every body."""
    tally = Tally()
    for entry in entries:
        reading = own(entry)
        tally.forms[reading.form] += 1
        if not tokens_differ(reading):
            tally.same_tokens[reading.form] += 1
        elif why := reason(reading):
            tally.reasons[f"tokens: {why}"] += 1
        else:
            tally.unexplained.append(f"{reading.provider}: {tokens_differ(reading)}: {usage_of(reading.body)}")
        for one in readings(entry):
            both = costs(one)
            if both is None:
                continue
            tally.priced[one.form] += 1
            if both[0] == both[1]:
                tally.same_price[one.form] += 1
            elif why := reason(one):
                tally.reasons[f"{one.provider} {one.model}: {why}"] += 1
            else:
                tally.unexplained.append(f"{one.provider} {one.model}: {both}: {usage_of(one.body)}")
    return tally


def main() -> int:
    """Compare, and print."""
    if not FILE.exists():
        print(f"skipped: the recorded bodies are not at {DATA}; set CREW_GUARD_DATA")
        return 0
    tally = compare(bodies())
    columns = (tally.forms, tally.same_tokens, tally.priced, tally.same_price)
    print(f"{'form':22}{'bodies':>8}{'same tokens':>13}{'priced readings':>17}{'same nano-dollars':>19}")
    for form, _ in tally.forms.most_common():
        print(
            f"{form:22}" + "".join(f"{one[form]:{width}}" for one, width in zip(columns, (8, 13, 17, 19), strict=True))
        )
    print(
        f"{'all':22}" + "".join(f"{one.total():{width}}" for one, width in zip(columns, (8, 13, 17, 19), strict=True))
    )
    for why, count in tally.reasons.most_common():
        print(f"{count:4} differ rightly: {why}")
    for line in tally.unexplained:
        print(f"     unexplained: {line}")
    return 1 if tally.unexplained else 0


if __name__ == "__main__":
    raise SystemExit(main())
