"""What an organisation allows: limits, tools and models, as read from a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cached_property, reduce
from typing import Annotated, Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator
from pydantic_core import PydanticCustomError

from crew_guard.core.actions import Action, ModelCall, ToolCall
from crew_guard.core.argument_rules import ArgumentRule, Rules, rules_of
from crew_guard.core.content import ContentRules
from crew_guard.core.limits import NO_CAP, UNCAPPED, AgentLimits, Caps, Limits, Reserve, Terms, ToolLimits, names_of
from crew_guard.core.loops import LoopRules
from crew_guard.core.merging import (
    BY_KEY,
    GREATEST,
    LABEL,
    LEAST,
    REST,
    UNION,
    Both,
    ByKey,
    Every,
    Strictest,
    canonical,
)
from crew_guard.core.reliability_rules import ReliabilityRules
from crew_guard.core.sources import Sources
from crew_guard.core.usage import NANO, Rate, Rates, nano_price

_BY_AGENT = ByKey(otherwise="per_agent", names=names_of)
_NONE = AgentLimits()


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As any model's; what was worked out of the old values is not copied along."""
        found = super().model_copy(update=update, deep=deep)
        _forget(found)
        return found


def _asks_for_trust(rules: Any) -> bool:
    entries: list[Any] = list(cast("Mapping[str, Any]", rules).values()) if isinstance(rules, Mapping) else []
    for entry in entries:
        for rule in cast("Sequence[Any]", entry) if isinstance(entry, list | tuple) else ():
            origins = (
                cast("Mapping[str, Any]", rule).get("seen_in")
                if isinstance(rule, Mapping)
                else getattr(rule, "seen_in", None)
            )
            if isinstance(origins, list | tuple) and "trusted" in origins:
                return True
    return False


class ToolRules(_Section):
    """Which tools may be called, and how often."""

    allow: Annotated[tuple[str, ...] | None, Every("allow_also")] = None
    """Names or patterns such as read_*; absent restricts nothing, an empty list allows nothing."""
    allow_also: Annotated[tuple[tuple[str, ...], ...], REST] = ()
    """Further lists, each of which must hold the name as well: those of other layers."""
    deny: Annotated[tuple[str, ...], UNION] = ()
    """Names or patterns; a tool that is denied stays denied, whatever is allowed."""
    limits: Annotated[dict[str, ToolLimits], BY_KEY] = Field(default_factory=dict)
    """By tool name."""
    rules: Annotated[Rules, ByKey(UNION)] = Field(default_factory=dict)
    """Conditions on arguments, by tool name or pattern: every rule of every entry that fits must hold."""
    trusted: Annotated[tuple[str, ...] | None, Both("trusted_also")] = None
    """Names or patterns of tools whose results count for `seen_in: [trusted]`; all others can't vouch."""
    trusted_also: Annotated[tuple[tuple[str, ...], ...], REST] = ()
    """Further lists, each of which must hold the name as well: those of other layers."""

    @model_validator(mode="before")
    @classmethod
    def _trusts_none(cls, values: Any) -> Any:
        """A layer whose rules ask for trusted results and that names none trusts none, whatever another says."""
        if not isinstance(values, Mapping):
            return values
        given = cast("Mapping[str, Any]", values)
        silent = "trusted" not in given and _asks_for_trust(given.get("rules"))
        return {**given, "trusted": ()} if silent else given

    @property
    def vouching(self) -> tuple[tuple[str, ...], ...]:
        """The lists of trusted tools: a name must match a pattern of each, and where there is none, none does."""
        return () if self.trusted is None else (self.trusted, *self.trusted_also)

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

    allow: Annotated[tuple[str, ...] | None, Every("allow_also")] = None
    """Names or patterns such as openai:gpt-4.1*; absent restricts nothing."""
    allow_also: Annotated[tuple[tuple[str, ...], ...], REST] = ()
    """Further lists, each of which must hold the name as well: those of other layers."""
    deny: Annotated[tuple[str, ...], UNION] = ()
    """Names or patterns."""


class Price(_Section):
    """What a model costs that no price table knows, in US dollars for a million tokens."""

    input: Annotated[Decimal, GREATEST] = Field(ge=0)
    """Of the prompt."""
    output: Annotated[Decimal, GREATEST] = Field(ge=0)
    """Of the completion, reasoning included."""

    def rates(self) -> Rates:
        """The same in nano-dollars."""
        return Rates(Rate(int(self.input * NANO)), Rate(int(self.output * NANO)))


class Policy(_Section):
    """One layer of policy. What is absent is not limited; 0 is a limit."""

    name: Annotated[str, LABEL] = "default"
    """What results and journals call it; by default its file's name."""
    limits: Limits = Limits()
    """Of a whole run."""
    per_agent: AgentLimits = AgentLimits()
    """Of every agent that `agents` doesn't name."""
    agents: Annotated[dict[str, AgentLimits], _BY_AGENT] = Field(default_factory=dict)
    """By agent name; one inside of a workflow's node is NODE/AGENT, and AGENT as well: what either says holds."""
    tools: ToolRules = ToolRules()
    """Which tools may be called, and how often."""
    models: ModelRules = ModelRules()
    """Which models may be called."""
    prices: Annotated[dict[str, Price], BY_KEY] = Field(default_factory=dict)
    """By model name, e.g. openai:my-model; they come before the price table."""
    content: ContentRules = ContentRules()
    """Guardrails on inputs, outputs and tool results."""
    reserve: Reserve = Reserve()
    """Kept back from the crew so that its fallback can always run."""
    reliability: ReliabilityRules = ReliabilityRules()
    """How reliable a crew must be, and who does the job where it is not."""
    completion_default: Annotated[int, LEAST] = Field(default=4096, ge=1)
    """Longest completion of a call that doesn't say how long, in tokens."""
    completion_min: Annotated[int, GREATEST] = Field(default=256, ge=1)
    """Shortest completion worth paying for: a call clamped below it is refused."""
    attempts: Annotated[int, LEAST] = Field(default=3, ge=1, le=10)
    """How often a model call may be tried where the provider fails; each attempt is a step."""
    loops: LoopRules = LoopRules()
    """What counts as going in circles."""
    warn_at: Annotated[float, LEAST] = Field(default=0.8, gt=0, le=1, allow_inf_nan=False)
    """The share of a budget from which on an agent is told what is left; 1 never tells."""
    durability: Annotated[Literal["write_ahead", "relaxed"], Strictest(("write_ahead", "relaxed"))] = "write_ahead"
    """write_ahead flushes each admission to disk before it acts; relaxed flushes in the background."""
    _sources: Sources = PrivateAttr(default_factory=Sources)
    _yielding: frozenset[str] = PrivateAttr(default=frozenset())
    _scoped: Mapping[str, AgentLimits] = PrivateAttr(default_factory=dict[str, AgentLimits])
    _earlier: Mapping[tuple[str, str], str] = PrivateAttr(default_factory=dict[tuple[str, str], str])

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
        if "completion_min" in self.model_fields_set and self.completion_min > self.completion_default:
            words = {"least": self.completion_min, "most": self.completion_default}
            text = "completion_min is {least}, more than completion_default, {most}"
            raise PydanticCustomError("completion_min", text, words)
        return self

    @cached_property
    def hash(self) -> str:
        """SHA-256 of what the policy allows, in hexadecimal: what a result names.

        Neither its name nor the layers that it was made of change it.
        """
        values = canonical(self, Policy)
        if self._yielding:
            values["yielding"] = sorted(self._yielding)
        if self._scoped:
            values["scoped"] = {scope: limits.caps() for scope, limits in self._scoped.items()}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As any model's; what was worked out of the old values is not copied along, nor where they came from."""
        found = super().model_copy(update=update, deep=deep)
        if update:
            found._sources = Sources()  # noqa: SLF001 - a copy of our own
        return found

    @property
    def sources(self) -> Sources:
        """Where its values come from."""
        return self._sources

    def sourced(self, where: Mapping[tuple[str | int, ...], str]) -> Self:
        """The same policy, its values said to come from these files and lines."""
        found = self.model_copy()
        found._sources = Sources(where)  # noqa: SLF001 - a copy of our own
        return found

    @property
    def yielding(self) -> frozenset[str]:
        """Models whose price here yields to a dearer one of the price table: a layer with a dollar cap names none."""
        return self._yielding

    def priced(self, yielding: frozenset[str]) -> Self:
        """The same policy, the prices of these models yielding."""
        found = self.model_copy()
        found._yielding = yielding  # noqa: SLF001 - a copy of our own
        return found

    @property
    def earlier(self) -> Mapping[tuple[str, str], str]:
        """What earlier runs used of a limit that is less by it, in words, by scope and by the limit's name."""
        return self._earlier

    def after(self, earlier: Mapping[tuple[str, str], str]) -> Self:
        """The same policy, its limits said to be what earlier runs left of them."""
        found = self.model_copy()
        found._earlier = earlier  # noqa: SLF001 - a copy of our own
        return found

    # Worked out once, because every run of the policy asks for it

    @cached_property
    def terms(self) -> Terms:
        """How long completions may be."""
        return Terms(self.completion_default, self.completion_min)

    @cached_property
    def tool_prices(self) -> Mapping[str, int]:
        """What one execution costs at the least, in nano-dollars, by tool name."""
        return {name: nano_price(limits.usd) for name, limits in self.tools.limits.items() if limits.usd}

    @cached_property
    def tool_seconds(self) -> Mapping[str, float]:
        """How long one execution may take, in seconds, by tool name."""
        every = self.tools.limits.items()
        return {name: limits.max_seconds for name, limits in every if limits.max_seconds is not None}

    @cached_property
    def caps(self) -> Caps:
        """Those of a whole run."""
        return self.limits.caps()

    @cached_property
    def caps_but_size(self) -> Caps:
        """The same without the number of agents."""
        return self.caps._replace(agents=NO_CAP)

    @cached_property
    def caps_less_reserve(self) -> Caps:
        """What a crew may use of a run whose workflow is kept something back for."""
        return self.caps.minus(self.reserve.caps())

    @cached_property
    def weighs_tools(self) -> bool:
        """Whether `judge` may deny a tool call; otherwise it need not be asked."""
        tools = self.tools
        return tools.allow is not None or bool(tools.deny or tools.allow_also or tools.rules)

    @cached_property
    def weighs_models(self) -> bool:
        """The same of a model call whose price is known."""
        models = self.models
        return models.allow is not None or bool(models.deny or models.allow_also)

    @cached_property
    def weighs_prices(self) -> bool:
        """The same of one whose price is not."""
        capped = any(one.max_usd is not None for one in (self.limits, self.per_agent, *self.agents.values()))
        return capped or self.weighs_models

    def may_deny(self, action: Action) -> bool:
        """Whether `judge` has anything to say of an action like this: nearly never, where a policy only limits."""
        if isinstance(action, ModelCall):
            return self.weighs_prices if action.rates is None else self.weighs_models
        return isinstance(action, ToolCall) and self.weighs_tools

    @cached_property
    def checks_content(self) -> bool:
        """Whether there are guardrails on content."""
        return bool(self.content)

    @cached_property
    def asks_for_reliability(self) -> bool:
        """Whether it says anything of reliability."""
        return self.reliability.declared

    def limits_of(self, *names: str) -> AgentLimits:
        """Those of an agent of these names: the lesser of what is said of each, else those of whom nobody names."""
        named = [self.agents[name] for name in names if name in self.agents]
        return reduce(AgentLimits.within, named) if named else self.per_agent

    def limits_in(self, scope: str) -> AgentLimits:
        """Those of an agent's own scope: agent:NAME, or node:NODE/AGENT inside of a node. Any other has none."""
        if scope in self._scoped:
            return self._scoped[scope]
        kind, _, name = scope.partition(":")
        if kind == "agent":
            return self.limits_of(name)
        return self.limits_of(*names_of(name)) if kind == "node" and "/" in name else _NONE

    def limiting(self, scoped: Mapping[str, AgentLimits]) -> Self:
        """The same policy with these limits of some scopes, of those only, in place of what it says by name."""
        changed = {scope: one for scope, one in scoped.items() if one.caps() != self.limits_in(scope).caps()}
        if not changed:
            return self
        found = self.model_copy()
        found._scoped = {**self._scoped, **changed}  # noqa: SLF001 - a copy of our own
        return found

    def with_steps(self, caps: Mapping[str, int]) -> Self:
        """The same policy with the steps of some of the crew's agents, by name, capped: a lower cap of its own stays.

        A workflow's agent that is called the same is another one.
        """
        limits = {f"agent:{name}": AgentLimits(max_steps=cap) for name, cap in caps.items()}
        return self.limiting({scope: self.limits_in(scope).within(own) for scope, own in limits.items()})

    def caps_of(self, scope: str) -> Caps:
        """The caps of one agent's or tool's scope; of a workflow's node only where an agent acts in it, NODE/AGENT."""
        kind, _, name = scope.partition(":")
        if kind != "tool":
            return self.limits_in(scope).caps()
        limits = self.tools.limits.get(name)
        return limits.caps() if limits else UNCAPPED


def _forget(copied: _Section) -> None:
    """What was worked out of values that a copy doesn't share."""
    for name, kind in vars(type(copied)).items():
        if isinstance(kind, cached_property):
            vars(copied).pop(name, None)
