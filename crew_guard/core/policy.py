"""What an organisation allows: limits, tools and models, read from a file and judged purely."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from crew_guard.core.actions import Action, ModelCall, ToolCall
from crew_guard.core.argument_rules import ArgumentRule, Rules, judge_arguments, rules_of
from crew_guard.core.content import ContentRules
from crew_guard.core.decisions import ALLOWED, Decision
from crew_guard.core.known import Known
from crew_guard.core.limits import UNCAPPED, AgentLimits, Caps, Limits, Reserve, Terms, ToolLimits
from crew_guard.core.loops import LoopRules
from crew_guard.core.usage import NANO, Rate, Rates, nano_price


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class ToolRules(_Section):
    """Which tools may be called, and how often."""

    allow: tuple[str, ...] | None = None
    """Names or patterns such as read_*; absent restricts nothing, an empty list allows nothing."""
    deny: tuple[str, ...] = ()
    """Names or patterns; a tool that is denied stays denied, whatever is allowed."""
    limits: dict[str, ToolLimits] = Field(default_factory=dict)
    """By tool name."""
    rules: Rules = Field(default_factory=dict)
    """Conditions on arguments, by tool name or pattern: every rule of every entry that fits must hold."""
    trusted: tuple[str, ...] = ()
    """Names or patterns of tools whose results count for `seen_in: [trusted]`; all others can't vouch."""

    @cached_property
    def weighs_origins(self) -> bool:
        """Whether a rule asks where a value comes from, so that a run has to remember what it was told."""
        return any(rule.seen_in is not None for rules in self.rules.values() for rule in rules)

    def rules_for(self, tool: str) -> tuple[tuple[str, ArgumentRule], ...]:
        """The rules of one tool, each with its name, looked up once."""
        if tool not in self._rules_by_tool:
            self._rules_by_tool[tool] = rules_of(self.rules, tool)
        return self._rules_by_tool[tool]

    @cached_property
    def _rules_by_tool(self) -> dict[str, tuple[tuple[str, ArgumentRule], ...]]:
        return {}


class ModelRules(_Section):
    """Which models may be called."""

    allow: tuple[str, ...] | None = None
    """Names or patterns such as openai:gpt-4.1*; absent restricts nothing."""
    deny: tuple[str, ...] = ()
    """Names or patterns."""


class Price(_Section):
    """What a model costs that no price table knows, in US dollars for a million tokens."""

    input: Decimal = Field(ge=0)
    output: Decimal = Field(ge=0)

    def rates(self) -> Rates:
        """The same in nano-dollars."""
        return Rates(Rate(int(self.input * NANO)), Rate(int(self.output * NANO)))


class Policy(_Section):
    """One layer of policy. What is absent is not limited; 0 is a limit."""

    name: str = "default"
    limits: Limits = Limits()
    """Of a whole run."""
    per_agent: AgentLimits = AgentLimits()
    """Of every agent that `agents` doesn't name."""
    agents: dict[str, AgentLimits] = Field(default_factory=dict)
    """By agent name."""
    tools: ToolRules = ToolRules()
    models: ModelRules = ModelRules()
    prices: dict[str, Price] = Field(default_factory=dict)
    """By model name, e.g. openai:my-model; they come before the price table."""
    content: ContentRules = ContentRules()
    """Guardrails on inputs, outputs and tool results."""
    reserve: Reserve = Reserve()
    """Kept back from the crew so that its fallback can always run."""
    completion_default: int = Field(default=4096, ge=1)
    """Longest completion of a call that doesn't say how long, in tokens."""
    completion_min: int = Field(default=256, ge=1)
    """Shortest completion worth paying for: a call clamped below it is refused."""
    attempts: int = Field(default=3, ge=1, le=10)
    """How often a model call may be tried where the provider fails; each attempt is a step."""
    loops: LoopRules = LoopRules()
    """What counts as going in circles."""
    warn_at: float = Field(default=0.8, gt=0, le=1, allow_inf_nan=False)
    """The share of a budget from which on an agent is told what is left; 1 never tells."""
    durability: Literal["write_ahead", "relaxed"] = "write_ahead"
    """write_ahead flushes each admission to disk before it acts; relaxed flushes in the background."""

    @model_validator(mode="after")
    def _reserve_fits(self) -> Policy:
        limits, kept_back = self.limits, self.reserve
        for name in ("steps", "tool_calls", "tokens", "usd", "seconds"):
            cap, part = getattr(limits, f"max_{name}"), getattr(kept_back, name)
            if cap is not None and part > cap:
                words = {"name": name, "part": str(part), "cap": str(cap)}
                raise PydanticCustomError(
                    "reserve", "reserve.{name} is {part}, more than limits.max_{name}, {cap}", words
                )
        if self.completion_min > self.completion_default:
            words = {"least": self.completion_min, "most": self.completion_default}
            text = "completion_min is {least}, more than completion_default, {most}"
            raise PydanticCustomError("completion_min", text, words)
        return self

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the policy's values, in hexadecimal: what a result names."""
        return hashlib.sha256(self.model_dump_json(exclude_defaults=True).encode()).hexdigest()

    @property
    def terms(self) -> Terms:
        """How long completions may be."""
        return Terms(self.completion_default, self.completion_min)

    def tool_prices(self) -> dict[str, int]:
        """What one execution costs at the least, in nano-dollars, by tool name."""
        return {name: nano_price(limits.usd) for name, limits in self.tools.limits.items() if limits.usd}

    def with_steps(self, caps: Mapping[str, int]) -> Policy:
        """This policy with the steps of some agents, by name, capped: a cap of its own that is lower stays."""
        agents = dict(self.agents)
        for name, cap in caps.items():
            own = agents.get(name, self.per_agent)
            steps = cap if own.max_steps is None else min(cap, own.max_steps)
            agents[name] = own.model_copy(update={"max_steps": steps})
        # Made anew of its fields: a copy would keep the hash of the policy that it was copied from.
        fields = {name: getattr(self, name) for name in Policy.model_fields}
        return Policy.model_validate({**fields, "agents": agents}) if caps else self

    def caps_of(self, scope: str) -> Caps:
        """The caps of one agent's or tool's scope."""
        kind, _, name = scope.partition(":")
        if kind == "agent":
            return self.agents.get(name, self.per_agent).caps()
        limits = self.tools.limits.get(name)
        return limits.caps() if kind == "tool" and limits else UNCAPPED


def judge(policy: Policy, action: Action, known: Known | None = None) -> Decision:
    """Whether the policy lets this action through, before any limit is looked at.

    Args:
        known: what the run was told by its user and by trusted tools
    """
    if isinstance(action, ToolCall):
        decision = _listed("tools", action.tool, policy.tools.allow, policy.tools.deny)
        if decision.effect != "allow" or not policy.tools.rules or not (rules := policy.tools.rules_for(action.tool)):
            return decision
        return judge_arguments(rules, action.tool, action.arguments, known)
    if not isinstance(action, ModelCall):
        return ALLOWED
    decision = _listed("models", action.model, policy.models.allow, policy.models.deny)
    if decision.effect == "allow" and action.rates is None and _capped_in_dollars(policy, action.agent):
        return Decision(
            "deny",
            "max_usd",
            f"no price is known for {action.model}, and a dollar cap applies: give it one under prices: in the policy",
        )
    return decision


def _listed(rule: str, name: str, allow: tuple[str, ...] | None, deny: tuple[str, ...]) -> Decision:
    if deny and any(fnmatchcase(name, pattern) for pattern in deny):
        return Decision("deny", f"{rule}.deny", f"{name} is denied by the policy's {rule}.deny")
    if allow is not None and not any(fnmatchcase(name, pattern) for pattern in allow):
        allowed = ", ".join(allow) or "none"
        return Decision("deny", f"{rule}.allow", f"{name} is not among the policy's {rule}.allow: {allowed}")
    return ALLOWED


def _capped_in_dollars(policy: Policy, agent: str) -> bool:
    return policy.limits.max_usd is not None or policy.agents.get(agent, policy.per_agent).max_usd is not None
