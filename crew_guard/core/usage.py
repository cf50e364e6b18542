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
ONE_STEP = Usage(steps=1)
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

    def bound(self, prompt_tokens: int) -> tuple[int, int, int]:
        """(prompt cost in nano-dollars, output rate, fixed cost): an upper bound before the call."""
        if self is FREE:
            return 0, 0, 0
        worst = self.input.at(prompt_tokens)
        for rate in (self.cached_input, self.cache_write):
            if rate is not None:
                worst = max(worst, rate.at(prompt_tokens))
        return cost(prompt_tokens, worst), self.output.at(prompt_tokens), self.request

    def price(self, usage: Usage, cache_written: int = 0) -> int:
        """The cost of a finished call in nano-dollars.

        Args:
            usage: the tokens that the provider reported
            cache_written: the part of its input tokens that was written to the provider's cache
        """
        if self is FREE:
            return 0
        prompt = usage.input_tokens
        cached = (self.cached_input or self.input).at(prompt)
        written = (self.cache_write or self.input).at(prompt)
        plain = prompt - usage.cached_tokens - cache_written
        nano_million = (
            plain * self.input.at(prompt)
            + usage.cached_tokens * cached
            + cache_written * written
            + usage.output_tokens * self.output.at(prompt)
        )
        return -(-nano_million // MILLION) + self.request


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
