"""From a crew that is defined in Python to a description of its job: what its code says, its record, estimates.

What the code says counts; what its record has measured comes before estimates; the rest stays unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

from crew_guard.core.reliability.jobs import CrewProposal, EndToEnd, Figures, JobDescription, JobStep, faults
from crew_guard.core.reliability.records import CrewRecord
from crew_guard.core.reliance import kinds_of
from crew_guard.core.roles import Agent, Crew, Task
from crew_guard.core.usage import NANO, Rates, Usage
from crew_guard.errors import ConfigError

PROMPT_TOKENS = 2_000
COMPLETION_TOKENS = 500
"""What a model call is taken to use where no record says so."""


@dataclass(frozen=True, slots=True)
class Described:
    """A crew's job, and where its figures come from."""

    job: JobDescription
    sources: tuple[str, ...]
    """In sentences: what was measured, what was estimated, what was assumed of prices."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a crew beside its code."""

    rates: Callable[[str], Rates | None]
    """A model's price by its name; None where nobody knows it."""
    model: str = ""
    """Of agents that name none."""
    record: CrewRecord | None = None
    """Its track record, where it has one."""
    estimates: JobDescription | None = None
    """Figures for its tasks, as steps of the same names; volume, target and approval."""


def describe_crew(crew: Crew, known: Known) -> Described:
    """The job that a crew does: its tasks as steps, its agents' figures, its fallback's nodes.

    Raises:
        ConfigError: the estimates name steps that are no tasks of it, or don't fit what its code says
    """
    names = [task.name for task in crew.tasks]
    given = known.estimates
    _only_tasks(crew, names, given)
    nodes = tuple(node for node in getattr(crew.fallback, "nodes", ()) if not getattr(node, "internal", False))
    sources: list[str] = []
    steps = tuple(_step(crew, task, known, nodes, sources) for task in crew.tasks)
    proposal = _proposal(crew, known, sources)
    update: dict[str, Any] = {"name": crew.name, "steps": steps, "crew": proposal}
    job = JobDescription(name=crew.name, steps=steps) if given is None else given
    job = job.model_copy(update=update)
    if wrong := faults(job):
        told = "; ".join(f"{'.'.join(map(str, fault.key))}: {fault.message}" for fault in wrong)
        raise ConfigError(f"the crew {crew.name!r} and its estimates don't fit together: {told}")
    return Described(job, tuple(dict.fromkeys(sources)))


def _only_tasks(crew: Crew, names: Sequence[str], given: JobDescription | None) -> None:
    for step in given.steps if given is not None else ():
        if step.name not in names:
            close = get_close_matches(step.name, names, 1)
            near = f"did you mean {close[0]}?" if close else f"its tasks are {', '.join(names)}"
            raise ConfigError(
                f"the estimates have a step {step.name!r}, which is no task of the crew {crew.name}; {near}"
            )


def _step(crew: Crew, task: Task, known: Known, nodes: Sequence[Any], sources: list[str]) -> JobStep:
    given = known.estimates
    base = next((step for step in given.steps if step.name == task.name), None) if given is not None else None
    base = JobStep(name=task.name) if base is None else base
    agent = crew.agent(task.agent)
    names = (*base.nodes, task.name)
    own = [node for node in nodes if node.name in names or getattr(node, "done_by", "") == task.name]
    facts: dict[str, Any] = {"agent": _agent_figures(crew, task, base, known, sources)}
    if not base.does:
        facts["does"] = " ".join(task.description.split())[:200]
    if own and not base.nodes and [node.name for node in own] != [task.name]:
        facts["nodes"] = tuple(str(node.name) for node in own)
    if _irreversible(agent, crew, own):
        facts["irreversible"] = True
    if base.deterministic is None and base.judgement is None:
        facts |= _nature(crew, task, base, own or nodes, sources)
    return base.model_copy(update=facts)


def _nature(crew: Crew, task: Task, base: JobStep, nodes: Sequence[Any], sources: list[str]) -> dict[str, bool]:
    """Whether a step is code, needs a model or needs judgement, as far as the crew's code shows it.

    Args:
        nodes: the fallback's that do the step; all of them where none is known to
    """
    if nodes:
        who = f"{', '.join(str(node.name) for node in nodes)} of the fallback"
        if any(hasattr(getattr(node, "function", None), "crew") for node in nodes):
            sources.append(f"{task.name}: needs judgement, as an agent stands in {who}")
            return {"judgement": True}
        # A node says itself whether it asks a model; what a plain function does is known to its author only.
        if base.model is None and not any(getattr(node, "model", None) is not None for node in nodes):
            sources.append(f"{task.name}: code does it, {who}")
            return {"deterministic": True}
        sources.append(f"{task.name}: needs a model and no judgement, as there is a fixed path, {who}")
        return {"model": base.model is not False, "judgement": False}
    why = _judgement(crew, crew.agent(task.agent))
    taken = f"judgement: {why}" if why else f"no judgement: {task.agent} has no tools to choose from"
    sources.append(f"{task.name}: taken to need {taken}")
    return {"judgement": bool(why)}


def _judgement(crew: Crew, agent: Agent) -> str:
    """Why an agent decides what to do next; empty where it has nothing to choose."""
    if crew.process in ("hierarchical", "handoff", "conversation"):
        return f"in a {crew.process} crew agents decide who does what"
    tools = [tool.name for tool in agent.tools]
    return f"{agent.name} chooses when to call {', '.join(tools)}" if tools else ""


def _irreversible(agent: Agent, crew: Crew, nodes: Sequence[Any]) -> bool:
    """Whether an irreversible tool is at hand in a step: its node's, or one that only this agent's tasks can call."""
    if any(
        getattr(node, "irreversible", False) or getattr(getattr(node, "function", None), "irreversible", False)
        for node in nodes
    ):
        return True
    alone = sum(task.agent == agent.name for task in crew.tasks) == 1
    return alone and any(tool.irreversible for tool in agent.tools)


def _agent_figures(crew: Crew, task: Task, base: JobStep, known: Known, sources: list[str]) -> Figures | None:
    """What is known of this task's agent at it: measured, else estimated; its price from its model."""
    agent, kind = crew.agent(task.agent), kinds_of(crew)[task.name]
    facts: dict[str, Any] = {} if base.agent is None else base.agent.model_dump(exclude_none=True)
    streams = {} if known.record is None else known.record.streams
    stream = streams.get(f"{agent.name}/{kind}") or streams.get(agent.name)
    if stream is not None and stream.counts.rate is not None:
        facts |= {"reliability": stream.counts.rate, "trials": stream.counts.trials}
        sources.append(
            f"{task.name}: {stream.counts.good:g} of {stream.counts.trials} trials of {agent.name} were good"
        )
    given = known.estimates
    measured = known.record is not None and known.record.crew_runs.runs > 0
    crew_usd = given is not None and given.crew is not None and given.crew.usd is not None
    if "usd" not in facts and not measured and not crew_usd:
        facts |= _priced(agent, task, known, sources)
    return Figures(**facts) if facts else None


def _priced(agent: Agent, task: Task, known: Known, sources: list[str]) -> dict[str, Decimal]:
    name = agent.model or agent.role.model or known.model
    rates = known.rates(name) if name else None
    if rates is None:
        sources.append(f"{task.name}: no price is known for {name or 'the model, as none is named'}")
        return {}
    calls, output = 1 + bool(agent.tools), agent.role.max_tokens or COMPLETION_TOKENS
    nano = calls * rates.price(Usage(input_tokens=PROMPT_TOKENS, output_tokens=output))
    number = "1 call" if calls == 1 else f"{calls} calls"
    sources.append(f"{task.name}: taken as {number} of {name} with {PROMPT_TOKENS:,} tokens in and {output:,} out")
    return {"usd": Decimal(nano) / NANO}


def _proposal(crew: Crew, known: Known, sources: list[str]) -> CrewProposal:
    given = known.estimates.crew if known.estimates is not None else None
    facts: dict[str, Any] = {} if given is None else given.model_dump(exclude_none=True)
    facts["agents"] = len(crew.everyone())
    record = known.record
    if record is None or not record.crew_runs.runs:
        return CrewProposal(**facts)
    runs = record.crew_runs
    facts.pop("seconds_p95", None)
    facts |= {"usd": Decimal(str(round(runs.usd / runs.runs, 9))), "seconds": runs.seconds / runs.runs}
    sources.append(f"the crew's cost and time: the averages of the {runs.runs} runs that it finished")
    outcomes = record.end_to_end
    if outcomes.rate is not None:
        facts["measured"] = EndToEnd(tasks=outcomes.trials, good=outcomes.good)
        sources.append(
            f"measured end to end: {outcomes.good:g} of {outcomes.trials} runs were good, {outcomes.rate:.3f}"
        )
    return CrewProposal(**facts)
