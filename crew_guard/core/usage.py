"""What was spent: tokens, money, steps and tool calls, as values.

Money is an integer number of nano-dollars (1e-9 USD). A rate is an integer number of
nano-dollars for a million tokens, so that $0.0375 a million tokens is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from msgspec import Struct

NANO = 1_000_000_000
MILLION = 1_000_000


class Usage(Struct, frozen=True, omit_defaults=True, gc=False):
    """What one action, one scope or one run has used. All fields are counts ≥ 0."""

    steps: int = 0
    """Attempts at a model provider, whoever made them."""
    tool_calls: int = 0
    """Tool executions started."""
    input_tokens: int = 0
    """Prompt tokens, those read from or written to a provider's cache included."""
    output_tokens: int = 0
    """Completion tokens, reasoning included."""
    nano_usd: int = 0
    """Cost in nano-dollars."""
    agents: int = 0
    """Identities that took part."""
    cached_tokens: int = 0
    """The part of input_tokens that the provider read from its cache."""

    @property
    def tokens(self) -> int:
        """Input plus output tokens: what `max_tokens` of a policy counts."""
        return self.input_tokens + self.output_tokens

    @property
    def usd(self) -> Decimal:
        """Cost in US dollars, exact."""
        return Decimal(self.nano_usd) / NANO

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, name) + getattr(other, name) for name in _FIELDS))

    def as_dict(self) -> dict[str, int | float]:
        """The fields with `tokens` and `usd` added, for JSON."""
        own: dict[str, int | float] = {name: getattr(self, name) for name in _FIELDS}
        return {**own, "tokens": self.tokens, "usd": float(self.usd)}


_FIELDS = Usage.__struct_fields__
NOTHING = Usage()
ONE_TOOL_CALL = Usage(tool_calls=1)


@dataclass(frozen=True, slots=True)
class Rate:
    """The price of one kind of token, in nano-dollars for a million tokens, by prompt length."""

    base: int
    tiers: tuple[tuple[int, int], ...] = ()
    """(prompt tokens above which this rate holds for the whole request, the rate), ascending."""

    def at(self, prompt_tokens: int) -> int:
        """The rate for a request with this many prompt tokens."""
        rate = self.base
        for start, tier in self.tiers:
            if prompt_tokens > start:
                rate = tier
        return rate


FREE_RATE = Rate(0)


class Parts(Struct, frozen=True, omit_defaults=True, gc=False):
    """Parts of one call's tokens that some models price apart, as its provider counted them. All ≥ 0."""

    cache_written: int = 0
    """Of the input: written to the provider's cache."""
    kept_an_hour: int = 0
    """Of cache_written: to be kept for an hour."""
    input_audio: int = 0
    cached_audio: int = 0
    """Of input_audio, and of the cached tokens."""
    input_image: int = 0
    """Images and documents."""
    cached_image: int = 0
    """Of input_image, and of the cached tokens."""
    input_video: int = 0
    cached_video: int = 0
    """Of input_video, and of the cached tokens."""
    output_audio: int = 0
    output_image: int = 0
    reasoning: int = 0
    """Of the output: thought, and not said."""
    citations: int = 0
    """Of the output."""
    searches: int = 0
    """Web searches of the provider's own; no tokens."""


NO_PARTS = Parts()


@dataclass(frozen=True, slots=True)
class PartRates:
    """The rates of a model's dearer or cheaper parts; a part without one is priced as what it is a part of."""

    kept_an_hour: Rate | None = None
    input_audio: Rate | None = None
    cached_audio: Rate | None = None
    input_image: Rate | None = None
    cached_image: Rate | None = None
    input_video: Rate | None = None
    output_audio: Rate | None = None
    output_image: Rate | None = None
    reasoning: Rate | None = None
    citations: Rate | None = None
    search: int = 0
    """Nano-dollars for each web search."""

    def worst(self, prompt_tokens: int, prompt: int, output: int, *, text_only: bool) -> tuple[int, int]:
        """The highest rates of (prompt, completion) that a call can meet, given those of its plain tokens."""
        if not text_only:
            prompt = _highest(prompt, prompt_tokens, _INPUT_PARTS, self)
            output = _highest(output, prompt_tokens, _OUTPUT_MEDIA, self)
        return prompt, _highest(output, prompt_tokens, _OUTPUT_TEXT, self)


_INPUT_PARTS = ("kept_an_hour", "input_audio", "cached_audio", "input_image", "cached_image", "input_video")
_OUTPUT_MEDIA = ("output_audio", "output_image")
_OUTPUT_TEXT = ("reasoning", "citations")


def _highest(rate: int, prompt_tokens: int, names: tuple[str, ...], rates: PartRates) -> int:
    own = (getattr(rates, name) for name in names)
    return max(rate, *(one.at(prompt_tokens) if one is not None else 0 for one in own))


@dataclass(frozen=True, slots=True)
class Rates:
    """What one model costs: resolved once, then used at every call.

    A kind of token without a rate of its own is priced as plain input or output.
    """

    input: Rate = FREE_RATE
    output: Rate = FREE_RATE
    cached_input: Rate | None = None
    cache_write: Rate | None = None
    request: int = 0
    """Nano-dollars for each request, besides its tokens."""
    parts: PartRates | None = None
    """Rates of audio, images, reasoning and other parts; absent where the model has none."""

    def bound(self, prompt_tokens: int, *, text_only: bool = True) -> tuple[int, int, int]:
        """(prompt cost in nano-dollars, output rate, fixed cost): an upper bound before the call.

        Args:
            text_only: it sends text, wants text, and asks for no cache that is kept an hour: dearer parts
                can't come up. Web searches of the provider's own are bounded by nothing, so never in it.
        """
        worst = self.input.at(prompt_tokens)
        for rate in (self.cached_input, self.cache_write):
            if rate is not None:
                worst = max(worst, rate.at(prompt_tokens))
        output = self.output.at(prompt_tokens)
        if self.parts is not None:
            worst, output = self.parts.worst(prompt_tokens, worst, output, text_only=text_only)
        return cost(prompt_tokens, worst), output, self.request

    def price(self, usage: Usage, parts: Parts = NO_PARTS) -> int:
        """The cost of a finished call in nano-dollars.

        Args:
            usage: the tokens that the provider reported
            parts: those of them that may have a price of their own
        """
        if self is FREE:
            return 0
        prompt = usage.input_tokens
        plain, output = self.input.at(prompt), self.output.at(prompt)
        cached = plain if self.cached_input is None else self.cached_input.at(prompt)
        written = plain if self.cache_write is None else self.cache_write.at(prompt)
        nano_million = (
            (prompt - usage.cached_tokens - parts.cache_written) * plain
            + usage.cached_tokens * cached
            + parts.cache_written * written
            + usage.output_tokens * output
        )
        if self.parts is None or parts is NO_PARTS:
            return -(-nano_million // MILLION) + self.request
        own = self.parts
        for tokens, rate, charged in (
            (parts.kept_an_hour, own.kept_an_hour, written),
            (parts.input_audio - parts.cached_audio, own.input_audio, plain),
            (parts.cached_audio, own.cached_audio, cached),
            (parts.input_image - parts.cached_image, own.input_image, plain),
            (parts.cached_image, own.cached_image, cached),
            (parts.input_video - parts.cached_video, own.input_video, plain),
            (parts.output_audio, own.output_audio, output),
            (parts.output_image, own.output_image, output),
            (parts.reasoning, own.reasoning, output),
            (parts.citations, own.citations, output),
        ):
            if tokens and rate is not None:
                nano_million += tokens * (rate.at(prompt) - charged)
        return -(-nano_million // MILLION) + self.request + parts.searches * own.search


FREE = Rates()


def cost(tokens: int, rate: int) -> int:
    """Nano-dollars for this many tokens at a rate in nano-dollars a million, rounded up."""
    return -(-tokens * rate // MILLION)


def nano(usd: Decimal | float | str) -> int:
    """US dollars as nano-dollars, rounded down (a cap is never rounded up)."""
    return int(Decimal(str(usd)) * NANO)


def nano_price(usd: Decimal | float | str) -> int:
    """US dollars as nano-dollars, rounded up (a price is never rounded down)."""
    return int((Decimal(str(usd)) * NANO).to_integral_value(ROUND_CEILING))
