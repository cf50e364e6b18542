"""The cheapest way to a target: for each part a choice of measures, and the cheapest choice that is good enough.

In a chain the choices multiply, so the search keeps only what nothing else beats in both price and success; other
graphs take the measure that gains most for its price, one after the other, and then drop what was not needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

from msgspec import Struct

from crew_guard.core.reliability import formulas
from crew_guard.core.reliability.structure import ICC, Structure, names, point, series

Measure: TypeAlias = Literal["retry", "verifier", "vote", "model", "fewer"]
_RETRIES = (1, 2, 3)
_VOTERS = (3, 5)
_KEPT = 400
"""Choices that are kept after each part."""


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
    """How alike trials of one task end: of retries and of votes."""


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
    """Of one run with them, each part run once."""
    seconds: float
    """The same, one part after the other."""
    reached: bool
    """False where no plan reaches the target: then this is the best one."""


class _Choice(NamedTuple):
    p: float
    usd: float
    seconds: float
    steps: tuple[Step, ...]


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
        structure: how the crew's success follows from its parts'
        parts: by leaf
        target: success rate to reach, in [0, 1]
        verifier: what could check answers; None: one of the default quality at no price
        models: by leaf, what it could run on instead
    Raises:
        KeyError: a leaf of the structure that parts doesn't know
    """
    checks = verifier or Verifying()
    times = series(structure)
    choices = {
        name: _choices(name, parts[name], checks, (models or {}).get(name, ()), 1 if times is None else times[name])
        for name in names(structure)
    }
    if times is not None:
        return _of_a_chain(list(choices.values()), target)
    return _step_by_step(structure, choices, target)


def _choices(name: str, part: Part, verifier: Verifying, models: Sequence[Better], times: int) -> list[_Choice]:
    """What can be done about one leaf, as it is first; a leaf that must succeed several times pays for each."""
    found: list[_Choice] = []
    runs = [("", part.p, part.usd, part.seconds)] + [(one.model, one.p, one.usd, one.seconds) for one in models]
    for model, p, usd, seconds in runs:
        for measure, words, rate, cost, took in _measures(p, usd, seconds, verifier):
            named: list[tuple[Measure, str]] = [("model", f"run {name} on {model}")] if model else []
            if measure is not None:
                named.append((measure, words.format(name)))
            more = (cost - part.usd) * times
            steps = tuple(
                Step(name, kind, text, rate, more if index == 0 else 0.0) for index, (kind, text) in enumerate(named)
            )
            found.append(_Choice(rate**times, cost * times, took * times, steps))
    if not part.needed:
        step = Step(name, "fewer", f"do without {name}", 1.0, -part.usd * times)
        found.append(_Choice(1.0, 0.0, 0.0, (step,)))
    return found


def _measures(
    p: float, usd: float, seconds: float, verifier: Verifying
) -> list[tuple[Measure | None, str, float, float, float]]:
    """(measure, words, success, dollars, seconds) of what can be put around one model's trial."""
    found: list[tuple[Measure | None, str, float, float, float]] = [(None, "", p, usd, seconds)]
    share, passed = f"{verifier.sensitivity:.0%}", f"{verifier.specificity:.0%}"
    quality = f" (taken to find {share} of what is bad, and to pass {passed} of what is good)"
    for times in _RETRIES:
        after = formulas.retry(p, times, verifier.sensitivity, verifier.specificity, verifier.icc)
        cost, took = after.attempts * (usd + verifier.usd), after.attempts * (seconds + verifier.seconds)
        if times == 1:
            words = f"try {{}} once more where a verifier flags it{quality}"
            found.append(("verifier", words, after.good, cost, took))
        else:
            words = f"try {{}} up to {times} times more while a verifier flags it{quality}"
            found.append(("retry", words, after.good, cost, took))
    for voters in _VOTERS:
        won = formulas.majority(p, voters, verifier.icc)
        found.append(("vote", f"let {voters} trials of {{}} vote", won, voters * usd, seconds))
    return found


def _of_a_chain(choices: list[list[_Choice]], target: float) -> Plan:
    front = [_Choice(1.0, 0.0, 0.0, ())]
    for options in choices:
        joined = [
            _Choice(a.p * b.p, a.usd + b.usd, a.seconds + b.seconds, a.steps + b.steps) for a in front for b in options
        ]
        front = _unbeaten(joined)
    enough = [one for one in front if one.p >= target]
    best = enough[0] if enough else front[-1]
    return Plan(best.steps, best.p, best.usd, best.seconds, bool(enough))


def _unbeaten(choices: list[_Choice]) -> list[_Choice]:
    """Those that no other beats in both price and success, the cheapest first; thinned where they are many."""
    choices.sort(key=lambda one: (one.usd, len(one.steps), -one.p))
    found: list[_Choice] = []
    for one in choices:
        if not found or one.p > found[-1].p:
            found.append(one)
    if len(found) <= _KEPT:
        return found
    step = (len(found) - 1) / (_KEPT - 1)
    return [found[round(index * step)] for index in range(_KEPT)]


def _step_by_step(structure: Structure, choices: Mapping[str, list[_Choice]], target: float) -> Plan:
    chosen = {name: options[0] for name, options in choices.items()}

    def whole(change: Mapping[str, _Choice]) -> float:
        return point(structure, {name: one.p for name, one in {**chosen, **change}.items()})

    now = whole({})
    while now < target:
        gains = [
            (_gain(now, whole({name: one}), one.usd - chosen[name].usd), name, one)
            for name, options in choices.items()
            for one in options
            if one.p > chosen[name].p
        ]
        best = max(gains, key=lambda item: item[0], default=None)
        if best is None or best[0] <= 0:
            break
        chosen[best[1]] = best[2]
        now = whole({})
    for name, options in choices.items():
        cheaper = [one for one in options if one.usd <= chosen[name].usd and whole({name: one}) >= min(now, target)]
        chosen[name] = min(cheaper, key=lambda one: (one.usd, len(one.steps)), default=chosen[name])
    steps = tuple(step for one in chosen.values() for step in one.steps)
    now = whole({})
    return Plan(
        steps, now, sum(one.usd for one in chosen.values()), sum(one.seconds for one in chosen.values()), now >= target
    )


def _gain(before: float, after: float, usd: float) -> float:
    """What a change gains for its price; one that costs nothing gains most."""
    gained = math.log(max(after, 1e-12) / max(before, 1e-12))
    return gained / max(usd, 1e-9)
