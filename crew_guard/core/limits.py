"""Caps, and whether an action still fits below them: the arithmetic of reserve and clamp."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, NamedTuple

from msgspec import Struct, field
from pydantic import BaseModel, ConfigDict, Field

from crew_guard.core.actions import ModelCall
from crew_guard.core.merging import GREATEST, LEAST
from crew_guard.core.usage import FREE, MILLION, Usage, cost, nano

NO_CAP = 1 << 62
LONGEST = 10_000_000
"""Seconds that a limit may be at the most, some four months: timers take no more."""


class Caps(NamedTuple):
    """Upper limits of one scope as integers; NO_CAP where there is none."""

    agents: int = NO_CAP
    steps: int = NO_CAP
    tool_calls: int = NO_CAP
    tokens: int = NO_CAP
    nano_usd: int = NO_CAP

    def minus(self, kept_back: Caps) -> Caps:
        """These caps with a part kept back; what has no cap has nothing to keep back from."""
        return Caps(*(cap if cap == NO_CAP else max(0, cap - part) for cap, part in zip(self, kept_back, strict=True)))

    def within(self, other: Caps) -> Caps:
        """The lesser of both, limit by limit."""
        return Caps(*map(min, self, other))


UNCAPPED = Caps()
LIMIT_NAMES = Caps._fields
POLICY_NAMES = {
    **dict(zip(LIMIT_NAMES, ("max_agents", "max_steps", "max_tool_calls", "max_tokens", "max_usd"), strict=True)),
    "depth": "max_depth",
}


class Terms(NamedTuple):
    """How long a completion may be, and may be clamped to, where a call doesn't say."""

    completion_default: int = 4096
    completion_min: int = 256


def names_of(actor: str) -> tuple[str, ...]:
    """What a policy may call an agent, the nearest first: one inside of a workflow's node NODE/AGENT, and AGENT."""
    return (actor, actor.partition("/")[2]) if "/" in actor else (actor,)


class AgentLimits(BaseModel):
    """Limits of one agent within a run. Absent is no limit; 0 is a limit."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    max_steps: Annotated[int | None, LEAST] = Field(default=None, ge=0)
    """Attempts at a provider, retries included."""
    max_tool_calls: Annotated[int | None, LEAST] = Field(default=None, ge=0)
    """Tool executions started."""
    max_tokens: Annotated[int | None, LEAST] = Field(default=None, ge=0)
    """Input plus output tokens, cached input included."""
    max_usd: Annotated[Decimal | None, LEAST] = Field(default=None, ge=0)
    """US dollars."""

    def caps(self) -> Caps:
        """The same as integers, money in nano-dollars."""
        return Caps(
            steps=_cap(self.max_steps),
            tool_calls=_cap(self.max_tool_calls),
            tokens=_cap(self.max_tokens),
            nano_usd=NO_CAP if self.max_usd is None else nano(self.max_usd),
        )

    def within(self, other: AgentLimits) -> AgentLimits:
        """The lesser of both, limit by limit."""
        every = {name: (getattr(self, name), getattr(other, name)) for name in AgentLimits.model_fields}
        both = {name: [one for one in pair if one is not None] for name, pair in every.items()}
        return AgentLimits.model_construct(**{name: min(found) for name, found in both.items() if found})


class Limits(AgentLimits):
    """Limits of a whole run."""

    max_agents: Annotated[int | None, LEAST] = Field(default=None, ge=0)
    """Identities that dispatch a model call, managers and selectors included: of the crew, and of its fallback anew."""
    max_depth: Annotated[int | None, LEAST] = Field(default=None, ge=0)
    """How deep delegation may nest: 0 is none, 1 lets a manager call members, 2 lets those call others."""
    max_seconds: Annotated[float | None, LEAST] = Field(default=None, ge=0, le=LONGEST, allow_inf_nan=False)
    """Wall clock of the run."""
    max_idle_seconds: Annotated[float | None, LEAST] = Field(default=None, gt=0, le=LONGEST, allow_inf_nan=False)
    """Longest stretch without progress: a model's tokens, a tool starting or ending."""

    def caps(self) -> Caps:
        return super().caps()._replace(agents=_cap(self.max_agents))


class ToolLimits(BaseModel):
    """Limits of one tool within a run."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    max_tool_calls: Annotated[int | None, LEAST] = Field(default=None, ge=0)
    """Executions started, by all agents together."""
    max_seconds: Annotated[float | None, LEAST] = Field(default=None, gt=0, le=LONGEST, allow_inf_nan=False)
    """Wall clock of one execution; where the tool has a bound of its own, the lesser counts."""
    usd: Annotated[Decimal | None, GREATEST] = Field(default=None, ge=0, allow_inf_nan=False)
    """US dollars that one execution costs; where the tool has a price of its own, the greater counts."""

    def caps(self) -> Caps:
        """The same as integers."""
        return Caps(tool_calls=_cap(self.max_tool_calls))


class Reserve(BaseModel):
    """What a run keeps back for its fallback: a crew's caps are the run's minus this."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    steps: Annotated[int, GREATEST] = Field(default=0, ge=0)
    """Attempts at a provider, retries included."""
    tool_calls: Annotated[int, GREATEST] = Field(default=0, ge=0)
    """Tool executions started."""
    tokens: Annotated[int, GREATEST] = Field(default=0, ge=0)
    """Input plus output tokens."""
    usd: Annotated[Decimal, GREATEST] = Field(default=Decimal(0), ge=0)
    """US dollars."""
    seconds: Annotated[float, GREATEST] = Field(default=0, ge=0, le=LONGEST, allow_inf_nan=False)
    """Wall clock, in seconds."""

    def caps(self) -> Caps:
        """The same as integers."""
        return Caps(0, self.steps, self.tool_calls, self.tokens, nano(self.usd))


def _cap(value: int | None) -> int:
    return NO_CAP if value is None else value


class Meter(Struct, gc=False):
    """A running total that is added to in place.

    A dataclass's slots change a little faster, but a run has ten of these, which the collector need not look into.
    """

    agents: int = 0
    steps: int = 0
    tool_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    nano_usd: int = 0
    cached_tokens: int = 0

    def add(self, usage: Usage) -> None:
        """Add a usage."""
        self.agents += usage.agents
        self.steps += usage.steps
        self.tool_calls += usage.tool_calls
        self.input_tokens += usage.input_tokens
        self.output_tokens += usage.output_tokens
        self.nano_usd += usage.nano_usd
        self.cached_tokens += usage.cached_tokens

    def usage(self) -> Usage:
        """The total as a value."""
        return Usage(
            steps=self.steps,
            tool_calls=self.tool_calls,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            nano_usd=self.nano_usd,
            agents=self.agents,
            cached_tokens=self.cached_tokens,
        )

    def of(self, limit: str) -> int:
        """The total that one field of Caps limits."""
        return self.input_tokens + self.output_tokens if limit == "tokens" else getattr(self, limit)


class Ledger(Struct, gc=False):
    """One scope's caps, and what is used and reserved below them."""

    scope: str
    caps: Caps = UNCAPPED
    used: Meter = field(default_factory=Meter)
    reserved: Meter = field(default_factory=Meter)

    def room(self, limit: str) -> int:
        """What of one limit is neither used nor reserved; below 0 after an overshoot."""
        return getattr(self.caps, limit) - self.used.of(limit) - self.reserved.of(limit)


def hold(ledgers: Sequence[Ledger], reserved: Usage) -> None:
    """Reserve this much in each. Spelled out, as below."""
    steps, prompt, completion = reserved.steps, reserved.input_tokens, reserved.output_tokens
    nano_usd, more = reserved.nano_usd, reserved.agents or reserved.tool_calls
    for ledger in ledgers:
        held = ledger.reserved
        held.steps += steps
        held.input_tokens += prompt
        held.output_tokens += completion
        if nano_usd:
            held.nano_usd += nano_usd
        if more:
            held.agents += reserved.agents
            held.tool_calls += reserved.tool_calls


def settle(ledgers: Sequence[Ledger], reserved: Usage, used: Usage) -> None:
    """Take off what was reserved in each, and add what was used. Spelled out: this is the hot path of every step."""
    held_steps, held_prompt, held_completion = reserved.steps, reserved.input_tokens, reserved.output_tokens
    steps, prompt, completion = used.steps, used.input_tokens, used.output_tokens
    costs = reserved.nano_usd or used.nano_usd or used.cached_tokens
    more = reserved.agents or used.agents or reserved.tool_calls or used.tool_calls
    for ledger in ledgers:
        held, total = ledger.reserved, ledger.used
        held.steps -= held_steps
        held.input_tokens -= held_prompt
        held.output_tokens -= held_completion
        total.steps += steps
        total.input_tokens += prompt
        total.output_tokens += completion
        if costs:
            held.nano_usd -= reserved.nano_usd
            total.nano_usd += used.nano_usd
            total.cached_tokens += used.cached_tokens
        if more:
            held.agents -= reserved.agents
            total.agents += used.agents
            held.tool_calls -= reserved.tool_calls
            total.tool_calls += used.tool_calls


class Binding(Struct, frozen=True, gc=False):
    """Those of an action's ledgers that can stop it: not one without a cap, nor one that an outer one stops before."""

    calls: tuple[Ledger, ...]
    """Model calls of an agent that was counted already."""
    tools: tuple[Ledger, ...]
    """Tool calls that cost nothing."""


NOT_BOUND = Binding((), ())


def binding(ledgers: Sequence[Ledger]) -> Binding:
    """Which of them can stop what.

    Args:
        ledgers: the run's first: all that any other counts, it counts too
    """
    calls: list[Ledger] = []
    tools: list[Ledger] = []
    outer = UNCAPPED
    for ledger in ledgers:
        caps = ledger.caps
        if caps.steps < outer.steps or caps.tokens < outer.tokens or caps.nano_usd < outer.nano_usd:
            calls.append(ledger)
        if caps.tool_calls < outer.tool_calls:
            tools.append(ledger)
        outer = ledgers[0].caps
    return Binding(tuple(calls), tuple(tools))


@dataclass(frozen=True, slots=True)
class Shortfall:
    """Which limit of which scope an action doesn't fit below."""

    scope: str
    limit: str
    """A field of Caps."""
    cap: int
    used: int
    reserved: int
    asked: int

    @property
    def missing(self) -> int:
        """How much would have to come back before the action fits."""
        return self.used + self.reserved + self.asked - self.cap


def fit_tool_call(ledgers: Sequence[Ledger], nano_usd: int = 0) -> Shortfall | None:
    """Whether one more tool call of this cost fits below every cap, the outermost scope asked first."""
    for ledger in ledgers:
        if ledger.used.tool_calls + ledger.reserved.tool_calls >= ledger.caps.tool_calls:
            return _short(ledger, "tool_calls", 1)
        if nano_usd and ledger.room("nano_usd") < nano_usd:
            return _short(ledger, "nano_usd", nano_usd)
    return None


def fit_agent(ledgers: Sequence[Ledger]) -> Shortfall | None:
    """Whether one more agent fits below every cap, the outermost scope asked first."""
    for ledger in ledgers:
        if ledger.room("agents") < 1:
            return _short(ledger, "agents", 1)
    return None


def fit_model_call(
    ledgers: Sequence[Ledger], call: ModelCall, wanted: int, least: int, agents: int
) -> Usage | Shortfall:
    """The most that a model call may reserve, its completion clamped to what every scope has left.

    Args:
        ledgers: every scope that applies, outermost first
        wanted: the completion it would like, in tokens
        least: the shortest completion still of use, in tokens, at most `wanted`
        agents: 1 if this is the agent's first model call of the run, else 0
    Returns:
        the usage to reserve (output_tokens is the clamped completion), or what is missing
    """
    prompt, completion, rates = call.prompt_tokens, wanted, call.rates
    steps = 0 if call.embeds else 1
    input_cost, output_rate = _dearest(call)
    at_least = input_cost + cost(least, output_rate)
    for ledger in ledgers:
        caps, used, held = ledger.caps, ledger.used, ledger.reserved
        if caps is UNCAPPED:
            continue
        if agents and ledger.room("agents") < agents:
            return _short(ledger, "agents", agents)
        if steps and used.steps + held.steps >= caps.steps:
            return _short(ledger, "steps", 1)
        # Spelled out, not by room(): this is the hot path of every step.
        if caps.tokens != NO_CAP:
            room = caps.tokens - used.input_tokens - used.output_tokens - held.input_tokens - held.output_tokens
            if room < prompt + least:
                return _short(ledger, "tokens", prompt + least)
            completion = min(completion, room - prompt)
        if rates is not None and caps.nano_usd != NO_CAP:
            room = caps.nano_usd - used.nano_usd - held.nano_usd
            if room < at_least:
                return _short(ledger, "nano_usd", at_least)
            if output_rate:
                completion = min(completion, (room - input_cost) * MILLION // output_rate)
    nano_usd = input_cost + cost(completion, output_rate) if output_rate else input_cost
    return Usage(steps, 0, prompt, completion, nano_usd, agents)  # by position: at two thirds of the cost


def _dearest(call: ModelCall) -> tuple[int, int]:
    """The most that a call's input can cost, in nano-dollars, and its highest rate of output."""
    rates = call.rates
    if rates is None or rates is FREE:
        return 0, 0
    prompt_cost, output_rate, fixed = rates.bound(call.prompt_tokens, text_only=call.text_only)
    return prompt_cost + fixed, output_rate


def _short(ledger: Ledger, limit: str, asked: int) -> Shortfall:
    return Shortfall(
        scope=ledger.scope,
        limit=limit,
        cap=getattr(ledger.caps, limit),
        used=ledger.used.of(limit),
        reserved=ledger.reserved.of(limit),
        asked=asked,
    )
