"""What the guard answers: yes, no, or the end of the run, and why."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, TypeAlias

from msgspec import Struct

Effect: TypeAlias = Literal["allow", "deny", "halt"]


class Decision(Struct, frozen=True):
    """One answer of a policy to one action."""

    effect: Effect
    rule: str = ""
    """What decided, e.g. tools.allow."""
    reason: str = ""
    source: str = ""
    """The file and line that the rule stands in, where it comes from a file."""

    @property
    def told(self) -> str:
        """The reason, with where the rule stands."""
        return self.reason if not self.source or self.source in self.reason else f"{self.reason} ({self.source})"


ALLOWED = Decision("allow")

StopReason: TypeAlias = Literal[
    "limit", "denied", "deadline", "idle", "killed", "cancelled", "failed", "loop", "unreliable"
]


class Stop(Struct, frozen=True, omit_defaults=True, gc=False):
    """Why a scope ended before its work was done. Frozen: a latch answers the same for ever."""

    reason: StopReason
    scope: str
    """run, crew, fallback, agent:NAME or tool:NAME"""
    limit: str = ""
    """The policy's name of the limit, e.g. max_tokens; empty where no limit was the reason."""
    cap: float | None = None
    used: float | None = None
    """What was used when the action asked, reservations of others included."""
    asked: float | None = None
    """What the refused action needed at the least."""
    detail: str = ""
    """In words: what happened and, where there is one, the way out."""

    def __str__(self) -> str:
        if not self.limit or self.reason == "denied":
            return self.detail or f"{self.scope}: {self.reason}"
        cap, used, asked = (amount(self.limit, value) for value in (self.cap, self.used, self.asked))
        text = f"{self.limit} of {self.scope}: the cap is {cap}, {used} used"
        if self.asked is not None:
            text += f", {asked} more needed"
        return f"{text}. {self.detail}" if self.detail else text


def amount(limit: str, value: float | Decimal | None) -> str:
    """A figure of a limit by the policy's name, with its unit; ? where there is none."""
    if value is None:
        return "?"
    unit = {"max_usd": "$", "max_seconds": "s", "max_idle_seconds": "s"}.get(limit, "")
    if unit == "$":
        return f"${value:.6f}".rstrip("0").rstrip(".")
    return f"{value:,.10g}{unit}" if isinstance(value, float) else f"{value:,}{unit}"
