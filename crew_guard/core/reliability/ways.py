"""The ways to do a job, each with its arithmetic: a workflow, a hybrid, one agent, the crew that is proposed.

A way is a chain of parts: success is the product of what each part is right. A person who looks
takes from the failures of what they see; what nobody knows makes the result unknown, and is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from math import prod
from typing import Literal, NamedTuple, TypeAlias

from crew_guard.core.reliability.counts import TIERS, Counts, straight_passes
from crew_guard.core.reliability.intervals import chain_bound, clopper_pearson
from crew_guard.core.reliability.jobs import CrewProposal, Figures, JobDescription, JobStep, Key, needs_model

Form: TypeAlias = Literal["workflow", "hybrid", "agent_loop", "crew"]
By: TypeAlias = Literal["code", "model", "agent"]
TIMES = "\N{MULTIPLICATION SIGN}"
_NO_TRIALS = "none: an estimate, of which no bound is proven"


class Assumption(NamedTuple):
    """What is unknown, and what the arithmetic takes in its place."""

    key: str
    assumed: str


class Time(NamedTuple):
    """How long something takes, in seconds."""

    mean: float
    p95: float | None
    """None where only the average is known."""


class Part(NamedTuple):
    """One step, as one of the ways does it."""

    name: str
    by: By
    reliability: float | None
    trials: int = 0
    """Verdicts behind the reliability."""
    pooled: bool = False
    """Whether the verdicts are the same as those of other pooled parts: one measured rate for several steps."""
    usd: Decimal | None = None
    time: Time | None = None
    seen: bool = False
    """Whether the person who approves looks at it."""

    def right(self, catches: float | None) -> float | None:
        """How often it is right in the end, where a person catches this share of what is wrong."""
        if self.reliability is None:
            return 1.0 if self.seen and catches == 1 else None
        return self.reliability + (1 - self.reliability) * self.share(catches)

    def share(self, catches: float | None) -> float:
        """The share of its failures that is caught."""
        return catches if self.seen and catches is not None else 0.0


class Case(NamedTuple):
    """What success comes to, depending on the person who looks."""

    catches: float | None
    """The share of wrong work that they catch; None: nobody looks."""
    success: float | None
    """None where a part's reliability is unknown."""
    lower: float | None
    """One-sided lower bound; None where a part has no verdicts behind it."""
    formula: str
    """How the success comes about."""
    measured: bool = False
    """Whether it was measured end to end, and is no product of the parts."""
    upper: float | None = None
    """One-sided upper bound, of what was measured."""
    by_parts: float | None = None
    """What the parts say, where something was measured and counts in their place."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to do the job."""

    form: Form
    parts: tuple[Part, ...]
    agents: int
    """Agents that decide what to do next."""
    usd: Decimal | None
    """Of one task, without the person's cost; None where a part's cost is unknown."""
    times: tuple[Time, ...] | None
    """What one task takes, one after the other; None where a part's time is unknown."""
    cases: tuple[Case, ...]
    """Nobody looks; then, where somebody does, what they catch, up to everything."""
    decisive: Case
    """The case that a recommendation goes by: the known one, or that nobody looks."""

    @property
    def seconds(self) -> float | None:
        """Of one task, on average; without the time that a person takes."""
        return None if self.times is None else sum(time.mean for time in self.times)

    def case(self, catches: float | None) -> Case:
        """The case of this share."""
        return next(case for case in self.cases if case.catches == catches)


@dataclass(slots=True)
class Ways:
    """Every way that a description has figures for, and what was assumed for them."""

    job: JobDescription
    assumed: list[Assumption] = field(default_factory=list[Assumption])

    def workflow(self) -> Way | None:
        """Every step on a fixed path; None where a step needs judgement."""
        if any(step.judgement for step in self.job.steps):
            return None
        return self._way("workflow", [self._node(place) for place in range(len(self.job.steps))])

    def hybrid(self) -> Way | None:
        """A fixed path whose steps that need judgement, or else those that need a model, are an agent's.

        None where no step is left for the agent, or none for the path.
        """
        steps = self.job.steps
        free = [bool(step.judgement) for step in steps]
        if not any(free):
            free = [needs_model(step) for step in steps]
        if all(free) or not any(free):
            return None
        return self._way("hybrid", [self._agent(i) if is_free else self._node(i) for i, is_free in enumerate(free)])

    def agent_loop(self) -> Way | None:
        """One agent that does every step; None where no step needs one and a crew is proposed in its place."""
        steps = self.job.steps
        free = any(step.judgement for step in steps)
        known = any(step.agent is not None for step in steps)
        if not free and (self.job.crew is not None or not known):
            return None
        return self._way("agent_loop", [self._agent(place) for place in range(len(steps))])

    def crew(self) -> Way | None:
        """The crew as it is proposed: each step is one agent's."""
        crew = self.job.crew
        if crew is None:
            return None
        parts = tuple(self._member(step, crew) for step in self.job.steps)
        if any(part.pooled for part in parts):
            if crew.reliability is None:
                self._assume(("crew", "reliability"), "unknown, and so is its success")
            elif not crew.trials:
                self._assume(("crew", "trials"), _NO_TRIALS)
        usd, time = crew.usd, None if crew.seconds is None else Time(crew.seconds, crew.seconds_p95)
        whole = _sum(parts)
        for name, value, summed in (("usd", usd, whole[0]), ("seconds", time, whole[1])):
            if value is None and summed is None:
                self._assume(("crew", name), "unknown")
        return self._by_measure(
            self._made(
                "crew",
                parts,
                whole[0] if usd is None else usd,
                whole[1] if time is None else (time,),
                agents=crew.agents,
            )
        )

    def _by_measure(self, way: Way) -> Way:
        """The same by what came of whole tasks, where that is enough: it knows of hand-offs, which the parts don't."""
        whole = None if self.job.crew is None else self.job.crew.measured
        if whole is None:
            return way
        parts = way.case(None)
        wanted = max(TIERS.values()) if self.job.wanted is None else self.job.wanted
        needed = straight_passes(wanted, self.job.confidence)
        said = f"{whole.good:g} of {whole.tasks} tasks were good, {whole.good / whole.tasks:.3f}"
        if parts.success is not None and (needed is None or whole.tasks < needed):
            least = "no number proves that" if needed is None else f"{needed} tasks could prove that"
            self._assume(("crew", "measured"), f"{said}: too few to go by for {wanted:g}, {least}; its parts count")
            return way
        ends = clopper_pearson(Counts(whole.tasks, whole.good), self.job.confidence)
        formula = f"measured, {whole.good:g} of {whole.tasks}"
        case = Case(
            None, whole.good / whole.tasks, ends.lower, formula, measured=True, upper=ends.upper, by_parts=parts.success
        )
        if way.decisive is not parts:
            text = f"{said}, as it ran: what a person catches is reckoned on its parts"
            self._assume(("crew", "measured"), text)
        cases = tuple(case if one is parts else one for one in way.cases)
        return replace(way, cases=cases, decisive=case if way.decisive is parts else way.decisive)

    def _member(self, step: JobStep, crew: CrewProposal) -> Part:
        own = step.agent or Figures()
        time = None if own.seconds is None else Time(own.seconds, own.seconds_p95)
        if own.reliability is None:
            return Part(
                step.name, "agent", crew.reliability, crew.trials or 0, True, own.usd, time, seen=self._seen(step)
            )
        return self._told(
            Part(step.name, "agent", own.reliability, own.trials or 0, False, own.usd, time, seen=self._seen(step))
        )

    def _node(self, place: int) -> Part:
        step = self.job.steps[place]
        by: By = "model" if needs_model(step) else "code"
        if step.deterministic is None and step.model is None:
            self._assume(("steps", step.name), "not said whether it is deterministic: taken to need a model")
        elif by == "model" and step.judgement is None:
            text = "not said: taken to need none, so that what comes next is always the same"
            self._assume(("steps", step.name, "judgement"), text)
        usd, seconds = step.usd, step.seconds
        for name, value in (("usd", usd), ("seconds", seconds)):
            if value is None:
                what = "unknown: taken as 0, as code does it" if by == "code" else "unknown, and so is the sum"
                self._assume(("steps", step.name, name), what)
        if by == "code":
            usd, seconds = usd or Decimal(0), seconds or 0.0
        time = None if seconds is None else Time(seconds, step.seconds_p95)
        return self._told(Part(step.name, by, step.reliability, step.trials or 0, False, usd, time, self._seen(step)))

    def _agent(self, place: int) -> Part:
        step = self.job.steps[place]
        crew, own = self.job.crew, step.agent or (step if step.judgement else Figures())
        reliability, trials, pooled = own.reliability, own.trials or 0, False
        if reliability is None and crew is not None and crew.reliability is not None:
            reliability, trials, pooled = crew.reliability, crew.trials or 0, True
            self._assume(("steps", step.name, "agent.reliability"), f"the crew's, {crew.reliability:g}")
        usd, time = own.usd, None if own.seconds is None else Time(own.seconds, own.seconds_p95)
        parts = len(self.job.steps)
        if usd is None and crew is not None and crew.usd is not None:
            usd = crew.usd / parts
            self._assume(("steps", step.name, "agent.usd"), f"an even part of the crew's: ${crew.usd} / {parts}")
        if time is None and crew is not None and crew.seconds is not None:
            time = Time(crew.seconds / parts, None)
            text = f"an even part of the crew's: {crew.seconds:g} s / {parts}"
            self._assume(("steps", step.name, "agent.seconds"), text)
        return self._told(Part(step.name, "agent", reliability, trials, pooled, usd, time, self._seen(step)))

    def _told(self, part: Part) -> Part:
        if part.reliability is None:
            self._assume(("steps", part.name, "reliability"), "unknown, and so is the success of the whole")
        elif not part.trials and not part.pooled:
            self._assume(("steps", part.name, "trials"), _NO_TRIALS)
        return part

    def _seen(self, step: JobStep) -> bool:
        return step.name in self.job.seen()

    def _assume(self, key: Key, text: str) -> None:
        assumption = Assumption(".".join(str(part) for part in key), text)
        if assumption not in self.assumed:
            self.assumed.append(assumption)

    def _way(self, form: Form, parts: Sequence[Part]) -> Way:
        usd, times = _sum(parts)
        return self._made(form, tuple(parts), usd, times, agents=1 if any(part.by == "agent" for part in parts) else 0)

    def _made(
        self, form: Form, parts: tuple[Part, ...], usd: Decimal | None, times: tuple[Time, ...] | None, *, agents: int
    ) -> Way:
        cases = tuple(case_of(parts, share, self.job.confidence) for share in _shares(self.job))
        known = self.job.approval.catches if self.job.approval is not None else None
        decisive = next(case for case in cases if case.catches == known)
        return Way(form, parts, agents, usd, times, cases, decisive)


def _sum(parts: Sequence[Part]) -> tuple[Decimal | None, tuple[Time, ...] | None]:
    """What parts cost and take together; None where one of them is unknown."""
    costs = [part.usd for part in parts if part.usd is not None]
    times = tuple(part.time for part in parts if part.time is not None)
    usd = sum(costs, Decimal(0)) if len(costs) == len(parts) else None
    return usd, times if len(times) == len(parts) else None


def _shares(job: JobDescription) -> Iterator[float | None]:
    yield None
    if job.approval is None:
        return
    if job.approval.catches is not None:
        yield job.approval.catches
    if job.approval.catches != 1:
        yield 1.0


def case_of(parts: Sequence[Part], catches: float | None, confidence: float) -> Case:
    """What success comes to where a person catches this share of what they see.

    Args:
        catches: in [0, 1]; None where nobody looks
        confidence: of the lower bound, one-sided
    """
    rights = [part.right(catches) for part in parts]
    known = [right for right in rights if right is not None]
    success = prod(known) if len(known) == len(parts) else None
    return Case(catches, success, lower_bound(parts, catches, confidence), formula_of(rights))


def formula_of(rights: Sequence[float | None]) -> str:
    """A product in words: 0.93^5, or its factors, ? for an unknown one; parts that are always right are left out."""
    left = [right for right in rights if right != 1]
    if not left:
        return "1"
    if len(left) > 1 and left[0] is not None and all(right == left[0] for right in left):
        return f"{left[0]:.4g}^{len(left)}"
    return f" {TIMES} ".join("?" if right is None else f"{right:.4g}" for right in left)


def lower_bound(parts: Sequence[Part], catches: float | None, confidence: float) -> float | None:
    """The bound that the success stays above with this confidence; None where a part has no verdicts.

    Steps that share one measured rate fail together if it was measured too high: their bound is the
    rate's own, to the power of their number, never a product of independent ones.
    """
    left = [part for part in parts if part.share(catches) < 1]
    if any(part.reliability is None or not part.trials for part in left):
        return None
    pooled = [part for part in left if part.pooled]
    own = [part for part in left if not part.pooled]
    # Where both kinds stand in one chain each gets half of what may go wrong: then both hold together.
    each = 1 - (1 - confidence) / 2 if pooled and own else confidence
    bound = 1.0
    if own:
        bound *= chain_bound([_counts(part, part.share(catches)) for part in own], each).lower
    if pooled:
        rate = clopper_pearson(_counts(pooled[0], 0.0), each).lower
        bound *= prod(rate + (1 - rate) * part.share(catches) for part in pooled)
    return bound


def _counts(part: Part, caught: float) -> Counts:
    """The verdicts on a part, of whose failures a share was put right."""
    bad = (1 - (part.reliability or 0.0)) * part.trials * (1 - caught)
    return Counts(trials=part.trials, good=part.trials - bad)
