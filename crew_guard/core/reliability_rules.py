"""What a policy says of reliability: what a crew must reach, and what happens where it doesn't or nobody knows yet.

A crew that needs more straight passes than MOST_PASSES to prove its threshold could never prove it in practice:
such a threshold is an error where it is written, not a crew that never runs.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from decimal import Decimal
from typing import Annotated, Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from crew_guard.core.limits import LONGEST
from crew_guard.core.merging import GREATEST, LEAST, Strictest
from crew_guard.core.reliability.counts import TIERS, straight_passes

TierName: TypeAlias = Literal["production", "internal", "pilot"]
Unknown: TypeAlias = Literal["crew", "shadow", "workflow"]
FallbackMode: TypeAlias = Literal["never", "on_failure", "on_reliability"]

MOST_PASSES = 10_000
"""Straight passes beyond which a threshold is taken to be out of reach: a healthy crew has a false alarm sooner."""


def highest(confidence: float) -> float:
    """The highest threshold that MOST_PASSES prove, cut after four digits."""
    return math.floor((1 - confidence) ** (1 / MOST_PASSES) * 10_000) / 10_000


def out_of_reach(threshold: float, confidence: float) -> str | None:
    """Why no crew could prove a threshold, and what to write instead; None where one could."""
    passes = straight_passes(threshold, confidence)
    if passes is not None and passes <= MOST_PASSES:
        return None
    would = "no number of straight passes proves it" if passes is None else f"it would take {passes:,} straight passes"
    most = highest(confidence)
    return (
        f"no crew could prove {threshold:g} at a confidence of {confidence:g}: {would}; "
        f"expected at most {most:g}, which takes {straight_passes(most, confidence):,}"
    )


def below_tier(threshold: float, tier: TierName) -> str | None:
    """Why a threshold doesn't go with a tier; None where it does."""
    needed = TIERS[tier]
    if threshold >= needed:
        return None
    return f"{threshold:g} is below what the tier {tier} needs; expected at least {needed:g}, or a lower tier"


class Idle(NamedTuple):
    """A key that doesn't do what whoever wrote it may expect."""

    key: str
    """In the section."""
    value: str
    why: str
    meets: str = ""
    """The other key that it goes badly with."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Targets(_Section):
    """What a run should cost and take: adherence is the target divided by the actual, at most 1."""

    usd: Annotated[Decimal | None, LEAST] = Field(default=None, gt=0)
    """US dollars a run; absent takes the run's max_usd."""
    seconds: Annotated[float | None, LEAST] = Field(default=None, gt=0, le=LONGEST, allow_inf_nan=False)
    """Wall clock of a run; absent takes the run's max_seconds."""


class ReliabilityRules(_Section):
    """How reliable a crew must be, and who does the job where it is not."""

    tier: Annotated[TierName | None, Strictest(("production", "internal", "pilot"))] = None
    """What the crew is used for; without a threshold, what the tier needs is the threshold."""
    confidence: Annotated[float, GREATEST] = Field(default=0.95, ge=0.5, lt=1, allow_inf_nan=False)
    """Of the bounds, one-sided."""
    threshold: Annotated[float | None, GREATEST] = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    """Least end-to-end success; without it and a tier, or at 0, nothing is decided by reliability."""
    unknown: Annotated[Unknown, Strictest(("workflow", "shadow", "crew"))] = "crew"
    """Who does the job while too little is known; in a shadow the crew works, too, without its irreversible tools."""
    fallback: Annotated[FallbackMode, Strictest(("on_reliability", "on_failure", "never"))] = "on_reliability"
    """When the workflow takes over: never, where the crew failed, or also where it isn't reliable enough."""
    require_fallback: Annotated[bool, Strictest((True, False))] = False
    """Whether a crew without a fallback is refused before it runs."""
    agent_target: Annotated[float | None, GREATEST] = Field(default=None, gt=0, lt=1, allow_inf_nan=False)
    """Success of one agent below which an alarm is due; by default the threshold, and from an agent's 100th trial on
    the threshold's root over the crew's parts."""
    targets: Targets = Targets()
    """What a run should cost and take."""
    alarm_after: Annotated[int, LEAST] = Field(default=10_000, ge=100)
    """Mean number of trials of a healthy crew until a false alarm: fewer, and a real drop is seen sooner."""
    probes: Annotated[float, LEAST] = Field(default=0.2, ge=0.001, le=1, allow_inf_nan=False)
    """Share of the workflow's runs in which a crew that was taken out is tried again, in a shadow."""

    @field_validator("threshold", "agent_target")
    @classmethod
    def _can_be_proved(cls, value: float | None, info: ValidationInfo) -> float | None:
        confidence = info.data.get("confidence")
        if value is not None and confidence is not None and (why := out_of_reach(value, confidence)):
            raise PydanticCustomError("out_of_reach", "{why}", {"why": why})
        tier = info.data.get("tier")
        if value is not None and tier and info.field_name == "threshold" and (why := below_tier(value, tier)):
            raise PydanticCustomError("below_tier", "{why}", {"why": why})
        return value

    @property
    def least(self) -> float | None:
        """The least end-to-end success that counts, above 0; None where nothing is decided by reliability."""
        return max(self.threshold or 0.0, TIERS[self.tier] if self.tier else 0.0) or None

    def idle(self, written: Collection[str]) -> Iterator[Idle]:
        """What of these rules decides nothing, or decides one thing for ever.

        Args:
            written: the keys that a layer says something of
        """
        if "unknown" in written:
            yield from self._idle_unknown()
        if self.require_fallback and self.fallback == "never":
            why = "true asks for a fallback of every crew, and none is ever used: fallback is never"
            yield Idle("require_fallback", "true", f"{why}; write on_failure there, or take this key away", "fallback")

    def _idle_unknown(self) -> Iterator[Idle]:
        if self.least is None:
            why = f"{self.unknown} decides nothing: there is no threshold above 0 and no tier; write one of them"
            yield Idle("unknown", self.unknown, why)
        elif self.fallback != "on_reliability":
            why = f"{self.unknown} decides nothing: fallback is {self.fallback}, so that no figure sends a run anywhere"
            yield Idle("unknown", self.unknown, f"{why}; write on_reliability there, or take this key away", "fallback")
        elif self.unknown == "workflow":
            why = (
                "workflow sends every run to the workflow while too little is known, and a run there is no trial of "
                "the crew: unless its agents get trials in other crews, too little is known for ever; write shadow, in "
                "which the crew is judged beside its workflow"
            )
            yield Idle("unknown", self.unknown, why)

    @property
    def declared(self) -> bool:
        """Whether a policy says anything of reliability."""
        return bool((self.model_fields_set - {"targets"}) or self.targets.model_fields_set)
