"""What a job should be done by: a workflow, an agent loop or a hybrid, and the rule and numbers behind it.

The rule: of the ways that can do the job the one with the least freedom, unless it misses the target
and another reaches it. Arithmetic on what the description says; no model is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, NamedTuple, TypeAlias

from crew_guard.core.reliability.counts import TIERS, Tier, straight_passes, tier_of
from crew_guard.core.reliability.jobs import JobDescription, faults, needs_model
from crew_guard.core.reliability.reasons import WORDS, compared, target_words, warnings
from crew_guard.core.reliability.ways import TIMES, Assumption, Form, Way, Ways

Recommendation: TypeAlias = Literal["workflow", "hybrid", "agent_loop"]


class Option(NamedTuple):
    """One way, beside the others."""

    way: Way
    usd_month: Decimal | None
    """None where the cost or the volume is unknown."""
    failures_month: float | None
    """Tasks a month that go wrong, in the decisive case."""
    reaches: bool | None
    """Whether the decisive case reaches the target; None where either is unknown."""
    tier: Tier | None
    """What the decisive case would be good for, as described; None where it is unknown."""
    proven: bool
    """Whether the lower bound reaches the target, or, where there is none, that tier."""


class Rescue(NamedTuple):
    """The crew with a workflow to fall back to, where this share of its failures is noticed."""

    caught: float
    success: float
    usd: Decimal | None
    seconds: float | None
    formula: str


class Person(NamedTuple):
    """A step that needs a person, and why."""

    step: str
    who: str
    """Empty where nobody is named."""
    why: str


class Proof(NamedTuple):
    """Straight passes that prove a level, and how likely the recommended way gets that far."""

    level: str
    least: float
    passes: int
    chance: float | None
    """Of that many passes in a row, if the predicted success is true."""


@dataclass(frozen=True, slots=True)
class Advice:
    """The recommendation, and all that it follows from."""

    job: str
    recommended: Recommendation
    rule: str
    """Which rule decided."""
    numbers: tuple[str, ...]
    """What it says in this case, a sentence each."""
    options: tuple[Option, ...]
    """The recommended one first."""
    rescues: tuple[Rescue, ...]
    """The crew with the recommended way to fall back to, by the share of its failures that is noticed."""
    people: tuple[Person, ...]
    proofs: tuple[Proof, ...]
    warnings: tuple[str, ...]
    assumed: tuple[Assumption, ...]
    target: float | None
    monthly: float | None
    """Tasks a month."""
    person_usd: Decimal | None
    """What the person who looks costs for each task; None where nobody does, or it is unknown."""
    person_seconds: float | None
    """What their look takes, likewise."""

    def option(self, form: Form) -> Option:
        """The option of this form."""
        return next(option for option in self.options if option.way.form == form)


def advise(job: JobDescription) -> Advice:
    """Recommend a way to do a job.

    Raises:
        ValueError: the description contradicts itself; names the keys
    """
    if wrong := faults(job):
        told = "; ".join(f"{'.'.join(map(str, fault.key))} {fault.message}" for fault in wrong)
        raise ValueError(f"{job.name}: {told}")
    ways = Ways(job)
    found = [way for way in (ways.workflow(), ways.hybrid(), ways.agent_loop(), ways.crew()) if way is not None]
    chosen, rule, numbers = _chosen(job, found)
    options = [_option(job, way) for way in found]
    options.sort(key=lambda option: option.way is not chosen)
    volume, approval = job.volume, job.approval
    if volume is not None and volume.per != "month" and volume.a_month is None:
        text = f"not said: {volume.monthly / (volume.tasks or 1):.4g} {volume.per}s in a month"
        ways.assumed.append(Assumption("volume.a_month", text))
    for name in ("usd", "seconds") if approval is not None else ():
        if getattr(approval, name) is None:
            ways.assumed.append(Assumption(f"approval.{name}", "unknown: in none of the figures"))
    if approval is not None and approval.catches is None:
        text = "unknown: both ends are told, never (0) and always (1); the rule goes by never"
        ways.assumed.append(Assumption("approval.catches", text))
    rescues = tuple(_rescues(job, found, chosen, ways))
    return Advice(
        job=job.name,
        recommended="agent_loop" if chosen.form == "crew" else chosen.form,
        rule=rule,
        numbers=(*numbers, *compared(job, chosen, found)),
        options=tuple(options),
        rescues=rescues,
        people=tuple(_people(job)),
        proofs=tuple(_proofs(job, chosen)),
        warnings=tuple(warnings(job, chosen, found)),
        assumed=tuple(ways.assumed),
        target=job.wanted,
        monthly=None if volume is None else volume.monthly,
        person_usd=None if approval is None else approval.usd,
        person_seconds=None if approval is None else approval.seconds,
    )


def _chosen(job: JobDescription, found: Sequence[Way]) -> tuple[Way, str, list[str]]:
    """The way to take, the rule that says so, and what the rule goes by."""
    free = [step.name for step in job.steps if step.judgement]
    models = [step.name for step in job.steps if needs_model(step)]
    total = len(job.steps)
    by_form = {way.form: way for way in found}
    if not free:
        first = by_form["workflow"]
        rule = "no step needs judgement, so a fixed path can do the job"
        numbers = [f"{total - len(models)} of {total} steps are code, {len(models)} need a model, none needs judgement"]
    elif len(free) < total:
        first = by_form["hybrid"]
        rule = "only some steps need judgement: those are an agent's, the rest a fixed path's"
        numbers = [f"{len(free)} of {total} steps need judgement: {', '.join(free)}"]
    else:
        first = by_form["agent_loop"]
        rule = "every step needs judgement, so there is no fixed path to write down"
        numbers = [f"{total} of {total} steps need judgement"]
    better = _instead(job, first, found)
    if better is None or job.wanted is None:
        return first, f"the least freedom that can do the job: {rule}", numbers
    numbers += [target_words(job.wanted, first), target_words(job.wanted, better)]
    name = WORDS[better.form]
    return better, f"the least freedom that can do the job misses the target, and a {name} reaches it", numbers


def _instead(job: JobDescription, first: Way, found: Sequence[Way]) -> Way | None:
    """What reaches the target where the first choice is known to miss it: the cheapest such way."""
    if job.wanted is None or first.decisive.success is None or first.decisive.success >= job.wanted:
        return None
    able = [way for way in found if (way.decisive.success or 0.0) >= job.wanted]
    return min(able, key=lambda way: Decimal("Infinity") if way.usd is None else way.usd, default=None)


def _option(job: JobDescription, way: Way) -> Option:
    wanted, decisive = job.wanted, way.decisive
    monthly = None if job.volume is None else job.volume.monthly
    usd = None if way.usd is None or monthly is None else way.usd * Decimal(str(monthly))
    failures = None if decisive.success is None or monthly is None else (1 - decisive.success) * monthly
    reaches = None if wanted is None or decisive.success is None else decisive.success >= wanted
    tier = None if decisive.success is None else tier_of(decisive.success)
    least = wanted if wanted is not None else 1.0 if tier is None else TIERS[tier]
    return Option(way, usd, failures, reaches, tier, decisive.lower is not None and decisive.lower >= least)


def _rescues(job: JobDescription, found: Sequence[Way], chosen: Way, ways: Ways) -> Iterator[Rescue]:
    """The crew with the chosen way as its fallback: it runs where a failure is noticed, at its full cost."""
    crew = next((way for way in found if way.form == "crew"), None)
    if crew is None or job.crew is None or chosen.form == "crew":
        return
    alone, other = crew.decisive.success, chosen.decisive.success
    if alone is None or other is None:
        return
    if lasting := [step.name for step in job.steps if step.irreversible]:
        text = f"a failure of the crew is noticed before {' and '.join(lasting)} is done: later no fallback undoes it"
        ways.assumed.append(Assumption("crew.caught", text))
    if job.crew.caught is None:
        ways.assumed.append(Assumption("crew.caught", "unknown: both ends are told, never (0) and always (1)"))
    for caught in (0.0, 1.0) if job.crew.caught is None else (job.crew.caught,):
        moved = (1 - alone) * caught
        yield Rescue(
            caught,
            alone + moved * other,
            None if crew.usd is None or chosen.usd is None else crew.usd + chosen.usd * Decimal(str(moved)),
            None if crew.seconds is None or chosen.seconds is None else crew.seconds + chosen.seconds * moved,
            f"{alone:.3f} + {1 - alone:.3f} {TIMES} {caught:g} {TIMES} {other:.3f}",
        )


def _people(job: JobDescription) -> Iterator[Person]:
    approval = job.approval
    for step in job.steps:
        named = approval is not None and approval.before == step.name
        if not (step.irreversible or named):
            continue
        why = "its effect can't be undone" if step.irreversible else "the description asks for it"
        if named and job.seen():
            why += f"; they see the work of {' and '.join(job.seen())}"
        yield Person(step.name, approval.who if named and approval is not None else "", why)


def _proofs(job: JobDescription, chosen: Way) -> Iterator[Proof]:
    success = chosen.decisive.success
    levels: list[tuple[str, float]] = [(name, least) for name, least in TIERS.items() if least > 0]
    if job.target is not None:
        levels.insert(0, ("the target", job.target))
    for name, least in levels:
        passes = straight_passes(least, job.confidence)
        if passes is not None:
            yield Proof(name, least, passes, None if success is None else success**passes)
