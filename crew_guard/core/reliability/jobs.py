"""A job as the advisor sees it: its steps, what is known of each, and the crew that is proposed for it.

What nobody knows stays absent. The advisor says what it assumes in its place, and never fills it in here.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from difflib import get_close_matches
from math import exp
from typing import Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from crew_guard.core.reliability.counts import TIERS

Key: TypeAlias = tuple[str | int, ...]
Tier: TypeAlias = Literal["production", "internal", "pilot"]

MOST_STEPS = 100
MOST_AGENTS = 100
Z95 = 1.6448536269514722
"""The standard normal distribution's 95 % point."""
STEEPEST = exp(Z95**2 / 2)
"""The largest ratio of 95 % point to mean that a log-normal time can have: 3.87."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Figures(_Section):
    """How good, dear and quick something is, once."""

    reliability: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    """How often it is right, in [0, 1]."""
    trials: int | None = Field(default=None, ge=0)
    """Verdicts behind the reliability; absent or 0 makes it an estimate, of which nothing is proven."""
    usd: Decimal | None = Field(default=None, ge=0)
    """US dollars."""
    seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """On average."""
    seconds_p95: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """What 95 % of the times stay below."""


class JobStep(Figures):
    """One step of a job, which gets one verdict. Its own figures are those of a node on a fixed path."""

    name: str = Field(min_length=1)
    """Unique in its job."""
    does: str = ""
    """What it does, in a sentence."""
    deterministic: bool | None = None
    """Whether code does it: the same input always gives the same output."""
    model: bool | None = None
    """Whether it needs a model."""
    judgement: bool | None = None
    """Whether what to do next is decided while doing it, so that no fixed path can be written down."""
    irreversible: bool | None = None
    """Whether its effect can't be undone."""
    nodes: tuple[str, ...] = ()
    """The workflow's nodes that do it, where they aren't one of its own name."""
    agent: Figures | None = None
    """The same step as an agent does it; absent takes the crew's figures for a step."""


class Volume(_Section):
    """How often the job is done."""

    tasks: float = Field(ge=0, allow_inf_nan=False)
    """In each period."""
    per: Literal["day", "week", "month"] = "month"
    """The period."""
    a_month: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Periods in a month; by default 1 month, 52/12 weeks or 365/12 days."""

    @property
    def monthly(self) -> float:
        """Tasks in a month."""
        return self.tasks * (self.a_month or {"day": 365 / 12, "week": 52 / 12, "month": 1.0}[self.per])


class Approval(_Section):
    """A person who looks before a step is done, and corrects what they find wrong."""

    who: str = Field(min_length=1)
    """Who it is."""
    before: str = Field(min_length=1)
    """The step that waits for them."""
    sees: tuple[str, ...] | None = None
    """Steps whose work they look at; absent: those before it that need a model."""
    catches: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    """How often they find that such work is wrong; absent is told for never and for always."""
    usd: Decimal | None = Field(default=None, ge=0)
    """What their look costs."""
    seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """How long it takes them, without the wait."""


class EndToEnd(_Section):
    """What came of whole tasks: measured, and no product of steps."""

    tasks: int = Field(ge=1)
    """That were judged as a whole."""
    good: float = Field(ge=0, allow_inf_nan=False)
    """How many of them were good; a grade counts as a part of one."""


class CrewProposal(_Section):
    """The crew that somebody proposes for the job."""

    agents: int = Field(ge=1, le=MOST_AGENTS)
    """How many agents it has, managers and selectors included."""
    reliability: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    """How often a step is right that one of its agents does."""
    trials: int | None = Field(default=None, ge=0)
    """Verdicts on a step behind that; absent or 0 makes it an estimate."""
    usd: Decimal | None = Field(default=None, ge=0)
    """Of one task, all agents together."""
    seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Of one task, on average."""
    seconds_p95: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """What 95 % of its times stay below."""
    caught: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    """How often a run of it that went wrong is noticed (schema, verifier, cap), so that a fallback can take over."""
    measured: EndToEnd | None = None
    """What came of tasks that it did."""


class Drop(_Section):
    """A drop of the crew's reliability, to simulate how soon the breaker sees it."""

    step: str = Field(min_length=1)
    """Whose reliability drops."""
    to: float = Field(ge=0, le=1, allow_inf_nan=False)
    """What it drops to."""
    after: int = Field(default=500, ge=0)
    """Tasks before the drop."""
    lasts: int = Field(default=1_000, ge=1)
    """Tasks until it is over."""


class JobDescription(_Section):
    """A job: its steps in the order in which they are done."""

    name: str = "job"
    """By default its file's name."""
    steps: tuple[JobStep, ...] = Field(min_length=1, max_length=MOST_STEPS)
    """In order; a task succeeds where all of them are right."""
    volume: Volume | None = None
    """How often it is done."""
    target: float | None = Field(default=None, gt=0, lt=1, allow_inf_nan=False)
    """The least success that will do."""
    tier: Tier | None = None
    """What it is for: production (0.95), internal (0.85) or pilot (0.70); a target may ask for more."""
    confidence: float = Field(default=0.95, ge=0.5, lt=1, allow_inf_nan=False)
    """Of lower bounds, one-sided."""
    approval: Approval | None = None
    """The person who looks."""
    crew: CrewProposal | None = None
    """What is proposed."""
    drop: Drop | None = None
    """For the simulation of the breaker."""

    @property
    def wanted(self) -> float | None:
        """The target, or what the tier needs."""
        return self.target if self.target is not None or self.tier is None else TIERS[self.tier]

    def step(self, name: str) -> JobStep:
        """The step of this name."""
        return next(step for step in self.steps if step.name == name)

    def seen(self) -> tuple[str, ...]:
        """The steps that the person who approves looks at."""
        if self.approval is None:
            return ()
        if self.approval.sees is not None:
            return self.approval.sees
        names = [step.name for step in self.steps]
        before = self.steps[: names.index(self.approval.before)]
        return tuple(step.name for step in before if needs_model(step))


def needs_model(step: JobStep) -> bool:
    """Whether a step needs a model; where nothing says so, what isn't code does."""
    if step.model is not None:
        return step.model
    return bool(step.judgement) or not step.deterministic


class Fault(NamedTuple):
    """What is wrong with one key, in a sentence with what was expected."""

    key: Key
    message: str


def faults(job: JobDescription) -> list[Fault]:
    """What is wrong with a description that no single value shows; empty where nothing is."""
    found = [fault for place, step in enumerate(job.steps) for fault in _step_faults(job, place, step)]
    found += _approval_faults(job)
    if job.crew is not None:
        found += _figure_faults(("crew",), job.crew)
        whole = job.crew.measured
        if whole is not None and whole.good > whole.tasks:
            text = f"{whole.good:g} is more than the {whole.tasks} tasks; expected at most as many"
            found.append(Fault(("crew", "measured", "good"), text))
    if job.target is not None and job.tier is not None and job.target < TIERS[job.tier]:
        least = f"expected at least {TIERS[job.tier]:g}, or another tier"
        found.append(Fault(("target",), f"{job.target:g} is below what the tier {job.tier} needs; {least}"))
    if job.drop is not None:
        found += _unknown_step(job, ("drop", "step"), job.drop.step)
        if job.crew is None:
            found.append(Fault(("drop",), "is of a crew, and none is described; expected a section `crew:`"))
    return found


def _step_faults(job: JobDescription, place: int, step: JobStep) -> Iterator[Fault]:
    here: Key = ("steps", place)
    first = [one.name for one in job.steps].index(step.name)
    if first != place:
        yield Fault((*here, "name"), f"{step.name} is the name of steps.{first}, too; expected a name of its own")
    for other in ("judgement", "model"):
        if step.deterministic and getattr(step, other):
            text = f"is true of a deterministic step, which code does; expected `deterministic: false` or no `{other}`"
            yield Fault((*here, other), text)
    if step.judgement and step.model is False:
        yield Fault((*here, "model"), "is false of a step that needs judgement; expected true, or no `judgement`")
    yield from _figure_faults(here, step)
    if step.agent is not None:
        yield from _figure_faults((*here, "agent"), step.agent)


def _figure_faults(here: Key, figures: Figures | CrewProposal) -> Iterator[Fault]:
    if figures.trials and figures.reliability is None:
        text = "says how many verdicts there were, not how many were good; expected `reliability` beside it"
        yield Fault((*here, "trials"), text)
    mean, late = figures.seconds, figures.seconds_p95
    if late is None:
        return
    if mean is None:
        yield Fault((*here, "seconds_p95"), "says how slow it gets, not the average; expected `seconds` beside it")
    elif not mean <= late <= mean * STEEPEST:
        most = f"expected from {mean:g} to {mean * STEEPEST:.4g}, {STEEPEST:.2f} times the average"
        yield Fault((*here, "seconds_p95"), f"{late:g} doesn't fit an average of {mean:g}; {most}")


def _approval_faults(job: JobDescription) -> Iterator[Fault]:
    approval = job.approval
    if approval is None:
        return
    unknown = _unknown_step(job, ("approval", "before"), approval.before)
    yield from unknown
    names = [step.name for step in job.steps]
    for place, name in enumerate(approval.sees or ()):
        key: Key = ("approval", "sees", place)
        if wrong := _unknown_step(job, key, name):
            yield from wrong
        elif not unknown and names.index(name) >= names.index(approval.before):
            text = f"{name} is not done yet when they look before {approval.before}; expected an earlier step"
            yield Fault(key, text)


def _unknown_step(job: JobDescription, key: Key, name: str) -> list[Fault]:
    names = list(dict.fromkeys(step.name for step in job.steps))
    if name in names:
        return []
    close = get_close_matches(name, names, 1)
    expected = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(names)}"
    return [Fault(key, f"there is no step {name!r}; {expected}")]
