"""What would raise a crew's reliability most, and the cheapest way to a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from crew_guard.core.reliability.structure import ICC, Structure

Measure: TypeAlias = Literal["retry", "verifier", "vote", "model", "fewer"]


class Part(Struct, frozen=True):
    """One leaf as it is now."""

    p: float
    """Its success rate."""
    usd: float = 0.0
    """Of one trial."""
    seconds: float = 0.0
    needed: bool = True
    """Whether it can't be left out, its work done by a neighbour."""


class Better(Struct, frozen=True):
    """Another model for a leaf."""

    model: str
    p: float
    usd: float = 0.0
    seconds: float = 0.0


class Verifying(Struct, frozen=True):
    """What checks an answer: its quality and price."""

    sensitivity: float = 0.8
    specificity: float = 0.95
    usd: float = 0.0
    seconds: float = 0.0
    icc: float = ICC


class Step(Struct, frozen=True):
    """One change of a plan."""

    leaf: str
    measure: Measure
    words: str
    p: float
    """The leaf's success rate with it."""
    usd: float
    """What a run costs more (or less, below 0)."""


class Plan(Struct, frozen=True):
    """Changes that reach a target, the cheapest that were found."""

    steps: tuple[Step, ...]
    point: float
    """The whole's success rate with them."""
    usd: float
    """Of one run with them."""
    seconds: float
    reached: bool
    """False where no plan reaches the target: then this is the best one."""


def cheapest_plan(
    structure: Structure,
    parts: Mapping[str, Part],
    target: float,
    *,
    verifier: Verifying | None = None,
    models: Mapping[str, Sequence[Better]] | None = None,
) -> Plan:
    """The cheapest combination of retries, verifiers, votes, better models and fewer agents that reaches a target.

    Args:
        parts: by leaf
        verifier: None: one of the default quality at no price
        models: by leaf, what it could run on instead
    """
    raise NotImplementedError
