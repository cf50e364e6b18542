"""What an agent may ask to do. Every action passes the gate before it is carried out.

Structs, not dataclasses: they are made several times a step, and cost a tenth. None can be
part of a cycle, so that the collector leaves them alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal, TypeAlias

from msgspec import Struct

from crew_guard.core.usage import NO_PARTS, NOTHING, Parts, Rates, Usage

ActionKind: TypeAlias = Literal["model_call", "tool_call", "spawn", "handoff"]
Ending: TypeAlias = Literal["ok", "rejected", "failed", "cancelled", "withdrawn"]


class ModelCall(Struct, frozen=True, gc=False):
    """One attempt at a provider."""

    kind: ClassVar[ActionKind] = "model_call"
    agent: str
    model: str
    """provider:name, as policies and prices know it."""
    prompt_tokens: int
    """An upper bound of the prompt's tokens."""
    max_tokens: int | None = None
    """The longest completion asked for; absent takes the policy's completion_default."""
    min_tokens: int | None = None
    """The shortest completion still of use; absent takes the policy's completion_min."""
    rates: Rates | None = None
    """What the model costs; absent means that nobody knows."""
    clampable: bool = True
    """False where the client can't be told a shorter max_tokens: all of it is reserved, or nothing."""
    streams: bool = False
    """Whether tokens arrive as they are made, so that silence means idleness."""
    parent: str | None = None
    """The action that this one is a part of."""
    attempt: int = 1
    counted: int = 0
    """The prompt's tokens before the estimator raised them; 0 where it didn't."""
    text_only: bool = True
    """False where it sends or wants audio or images, whose tokens may cost more."""
    embeds: bool = False
    """Whether it asks for vectors: that costs tokens and dollars, is no step, and makes nobody an agent."""
    conversation: Callable[[], int] | None = None
    """Tells apart the conversations of one agent, as a hash of how this one begins; None where that is not known.
    Asked only where the model says something and wants no tool: most calls are spared it."""
    registered_as: str = ""
    """What its user calls the model, where that is another name: a policy's lists hold for either."""

    @property
    def target(self) -> str:
        return self.model

    @property
    def names(self) -> tuple[str, ...]:
        """What the model is called: by its user first, where that is another name than its own."""
        return (self.registered_as, self.model) if self.registered_as else (self.model,)


class ToolCall(Struct, frozen=True, gc=False):
    """One execution of a tool."""

    kind: ClassVar[ActionKind] = "tool_call"
    agent: str
    tool: str
    arguments: str = "{}"
    """A JSON object."""
    irreversible: bool = False
    parent: str | None = None
    nano_usd: int = 0
    """What it costs, in nano-dollars, however it ends."""

    @property
    def target(self) -> str:
        return self.tool


class Spawn(Struct, frozen=True, gc=False):
    """One agent joins the crew."""

    kind: ClassVar[ActionKind] = "spawn"
    agent: str
    parent: str | None = None

    @property
    def target(self) -> str:
        return self.agent


class Handoff(Struct, frozen=True, gc=False):
    """One agent gives work to another: for an answer (it nests), or for good."""

    kind: ClassVar[ActionKind] = "handoff"
    agent: str
    to: str
    words: str = ""
    """The task, or the reason."""
    nests: bool = True
    """True where the answer comes back to this agent, who waits for it: what `max_depth` counts."""
    parent: str | None = None

    @property
    def target(self) -> str:
        return self.to


Action: TypeAlias = ModelCall | ToolCall | Spawn | Handoff


class Grant(Struct, frozen=True, gc=False):
    """The gate said yes: how much the action may use. It must be settled exactly once."""

    action_id: str
    action: Action
    max_tokens: int
    """For a model call: the longest completion it may ask the provider for."""
    reserved: Usage
    started: float
    """Monotonic seconds."""
    max_seconds: float | None = None
    """For a tool call: how long it may take by the policy."""


class Outcome(Struct, frozen=True, gc=False):
    """How an action that was let through ended, as the one who carried it out saw it."""

    status: Ending
    """rejected: a 4xx or a failed connect, so no tokens were made. failed: anything after that.
    withdrawn: it was never begun, and costs nothing."""
    usage: Usage | None = None
    """Tokens as the provider reported them; absent where it didn't."""
    parts: Parts = NO_PARTS
    text: str = ""
    """The answer, the tool's result, or the error."""
    tool_requests: tuple[tuple[str, str, str], ...] = ()
    """For a model call: what the model asked for, as (id, tool, arguments)."""
    fault: bool = False
    """For a model call: whether its provider could not be used, which is nobody's failed trial."""


def charge(grant: Grant, outcome: Outcome) -> Usage:
    """What a finished action costs its scopes.

    Usage as reported; else a rejected call is a step and no tokens; else it stays charged as
    reserved, because a provider bills what it made before a connection broke. An identity that
    was counted stays counted.
    """
    action, reserved = grant.action, grant.reserved
    if outcome.status == "withdrawn":
        return Usage(agents=reserved.agents)
    if not isinstance(action, ModelCall):
        return reserved
    if outcome.usage is not None:
        used = outcome.usage
        nano_usd = action.rates.price(used, outcome.parts) if action.rates else 0
        tokens = used.input_tokens, used.output_tokens
        return Usage(reserved.steps, 0, *tokens, nano_usd, reserved.agents, used.cached_tokens)
    return Usage(steps=reserved.steps, agents=reserved.agents) if outcome.status == "rejected" else reserved


def excess(used: Usage, reserved: Usage) -> Usage:
    """What was used beyond the reservation, in tokens and money."""
    tokens = used.input_tokens + used.output_tokens - reserved.input_tokens - reserved.output_tokens
    nano_usd = used.nano_usd - reserved.nano_usd
    if tokens <= 0 and nano_usd <= 0:
        return NOTHING
    return Usage(output_tokens=max(0, tokens), nano_usd=max(0, nano_usd))
