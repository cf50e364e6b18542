"""What a run's verdicts come to: a trial for each part that was judged, and the outcome of the whole.

What nobody judged is no trial, and neither is what a person or an outage ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from msgspec.structs import replace

from crew_guard.core.decisions import Stop
from crew_guard.core.events import Judged
from crew_guard.core.reliability.trials import NOBODYS, Source, Subject, Trial
from crew_guard.core.reliance import Part, Reliance
from crew_guard.core.usage import Usage

_NOT_ITS_DOING = ("killed", "cancelled", "failed")
"""Stops that say nothing of the crew: a person's, a caller's, the journal's."""


_OF_MODELS = frozenset({"models.allow", "models.deny", "max_usd"})
"""Rules that deny a model, whatever is asked of it: one whose price nobody knows under a dollar cap, say."""
_UNJUDGED = "it failed before it was judged"


def counts_at_all(stop: Stop | None, used: Usage | None = None) -> bool:
    """Whether a run that ended so says anything of its crew.

    Args:
        stop: what ended the crew, or the workflow that did its job
        used: by that side until then, where its policy may have let it do nothing
    """
    if stop is None:
        return True
    no_model = stop.reason == "denied" and stop.limit in _OF_MODELS
    if no_model or (used is not None and not used.steps and _leaves_nothing(stop)):
        return False
    return stop.reason not in _NOT_ITS_DOING and stop.limit != "content.inputs"


def _leaves_nothing(stop: Stop) -> bool:
    """Whether a limit has no room for the first that it counts, or for a crew of this size; a node's is its own."""
    if stop.scope.startswith("node:"):
        return False
    if stop.reason == "deadline":
        return not stop.cap
    return stop.reason == "limit" and (stop.limit == "max_agents" or not stop.used)


def is_refused(stop: Stop | None) -> bool:
    """Whether a person's no at an approval, or that there was nobody to ask, ended a workflow: no failure of it."""
    return stop is not None and stop.limit == "approval"


def grade_of(verdict: Judged) -> float:
    """A verdict as a number in [0, 1]."""
    return float(verdict.passed) if verdict.grade is None else verdict.grade


def trials_of(
    reliance: Reliance, verdicts: Iterable[Judged], stop: Stop | None = None, by: tuple[str, str] = ("", "")
) -> tuple[Trial, ...]:
    """One trial for each part of the crew that was judged, the last verdict on it.

    Args:
        verdicts: the crew's, in order
        stop: what ended the crew: an agent that ran into a stop of its own has failed what it was at
        by: the agent whose own error ended the crew, and its task: it has failed that, too; empty where not known
    """
    found: dict[str, Trial] = {}
    for verdict in verdicts:
        part = reliance.part(verdict.task) if verdict.source != "outcome" else None
        if part is not None:
            found[part.task] = Trial(
                part.subject, part.agent, part.task, grade_of(verdict), verdict.source, verdict.reason
            )
        if verdict.blames and not verdict.passed:
            blamed = _blamed(reliance, verdict, found)
            if blamed is not None and blamed is not part:
                reason = f"{verdict.task or 'the output'}: {verdict.reason}"
                found[blamed.task] = Trial(blamed.subject, blamed.agent, blamed.task, 0.0, "later", reason)
    if stop is not None:
        by = (stop.scope.removeprefix("agent:") if stop.scope.startswith("agent:") else "", "")
    could_be = _ended_by(reliance, *by)
    at = next((part for part in could_be if part.judged and part.task not in found), None)
    if at is not None:
        reason = _UNJUDGED if stop is None else str(stop)
        found[at.task] = Trial(at.subject, at.agent, at.task, 0.0, "check", reason)
    return tuple(found.values())


def _ended_by(reliance: Reliance, agent: str, task: str) -> tuple[Part, ...]:
    """The parts, one of which an agent was at that ended its crew: that of its task, whoever answers for it."""
    at = reliance.part(task)
    return tuple(part for part in reliance.parts if part.agent == agent) if at is None else (at,)


def costs_of(reliance: Reliance, used: Mapping[str, float], usd: float) -> dict[str, float]:
    """What each part of a crew cost in a run that it finished; an agent with several tasks spent as much on each.

    Args:
        used: US dollars by agent
        usd: of the whole run
    """
    tasks = Counter(part.agent for part in reliance.parts)
    found: dict[str, float] = {}
    for part in reliance.parts:
        found[part.key] = found.get(part.key, 0.0) + used.get(part.agent, 0.0) / tasks[part.agent]
    return found | {NOBODYS: max(0.0, usd - sum(found.values()))}


def done_and_verified(reliance: Reliance, verdicts: Sequence[Judged]) -> frozenset[str]:
    """The tasks that passed, that nothing later blamed, and that are not built on one that failed or was blamed.

    Of a whole that was refused, where that blames nobody whose work is in it, there are none: it may be anyone's fault.
    """
    passed = {verdict.task: verdict.passed for verdict in verdicts if verdict.source != "outcome"}
    trials = trials_of(reliance, verdicts)
    whole = _on_the_whole(verdicts)
    if whole is not None and not whole.passed:
        blamed = _blamed(reliance, whole, {trial.task: trial for trial in trials})
        if blamed is None or blamed.task not in {*reliance.results, *reliance.before(reliance.results)}:
            return frozenset()
    failed = {trial.task for trial in trials if trial.source == "later"}
    failed |= {task for task, good in passed.items() if not good}
    return frozenset(task for task in passed.keys() - failed if not failed & reliance.before([task]))


def outcome_of(reliance: Reliance, verdicts: Sequence[Judged], *, done: bool) -> float | None:
    """The end-to-end grade; None where nothing judges the whole.

    Args:
        verdicts: of the side that did the job
        done: whether it gave an output
    """
    if not reliance.judged:
        return None
    whole = _on_the_whole(verdicts)
    if whole is not None:
        return _worth(whole)
    if not done:
        return 0.0
    if reliance.verified:
        return None
    last = {verdict.task: verdict for verdict in verdicts}
    grades = [grade_of(last[task]) for task in reliance.results if task in last]
    return min(grades) if len(grades) == len(reliance.results) else None


def _on_the_whole(verdicts: Sequence[Judged]) -> Judged | None:
    return next((verdict for verdict in reversed(verdicts) if verdict.source == "outcome"), None)


def _worth(whole: Judged) -> float:
    """An output that was refused is none, whatever grade it was refused with."""
    return grade_of(whole) if whole.passed else 0.0


def node_trials(
    workflow: str,
    verdicts: Iterable[Judged],
    subjects: Mapping[str, Subject],
    side: Literal["fallback", "alone"] = "fallback",
) -> tuple[Trial, ...]:
    """One trial for each of a workflow's nodes that was judged, and for each task of the agents inside of one.

    Args:
        verdicts: the workflow's, in order: the last on each counts, and a failure that blames another fails that, too
        subjects: by node, and by NODE/AGENT for agents inside
        side: whether it finished a crew's job, or runs by itself: then what is said of no node is no trial
    """
    found: dict[tuple[str, str], Trial] = {}

    def count(agent: str, task: str, grade: float, source: Source, reason: str) -> None:
        subject = replace(subjects.get(agent, Subject(workflow)), kind=_kind(agent, task))
        found[agent, task] = Trial(subject, agent, task, grade, source, reason, side)

    for one in verdicts:
        if side == "alone" and one.agent.partition("/")[0] not in subjects:
            continue  # a guardrail's no to what the whole gave, say, which nothing ever says yes to
        if one.agent and one.source != "outcome":
            count(one.agent, one.task, grade_of(one), one.source, one.reason)
        if one.blames and not one.passed:
            blamed = _blamed_node(one, found, subjects)
            if blamed is not None and blamed != (one.agent, one.task):
                count(*blamed, 0.0, "later", f"{one.task or 'the output'}: {one.reason}")
    return tuple(found.values())


def with_the_failed(
    reliance: Reliance, trials: tuple[Trial, ...], verdicts: Iterable[Judged], stop: Stop | None, node: str
) -> tuple[Trial, ...]:
    """A workflow's own trials, with that of a judged node that ended it though nothing had said no to it.

    Args:
        reliance: of a workflow that runs by itself
        trials: see node_trials
        verdicts: the workflow's, in order
        stop: what ended it; counts where it is a node's own, or that of an agent inside, and no person's no
        node: whose error ended it
    """
    scope, _, at = stop.scope.partition(":") if stop is not None else ("node", "", node)
    if scope not in ("node", "agent") or not at or is_refused(stop):
        return trials
    last = {_kind(verdict.agent, verdict.task): verdict.passed for verdict in verdicts}
    of_node = [part for part in reliance.parts if part.judged and f"{part.key}/".startswith(f"{at.split('/')[0]}/")]
    inside = [part for part in of_node if f"{part.key}/".startswith(f"{at}/")] or of_node
    if not all(last.get(part.key, True) for part in of_node):
        return trials
    # Of a crew's tasks it is the first that has not passed; a node that passed failed later, with an item or a round.
    failed = next((part for part in inside if part.key not in last or part.key == part.agent), None)
    if failed is None:
        return trials
    task = failed.key.removeprefix(f"{failed.agent}/")
    reason = _UNJUDGED if stop is None else str(stop)
    made = Trial(failed.subject, failed.agent, task, 0.0, "check", reason, "alone")
    return (*(trial for trial in trials if (trial.agent, trial.task) != (made.agent, made.task)), made)


def _kind(agent: str, task: str) -> str:
    return agent if agent == task else f"{agent}/{task}"


def _blamed_node(
    verdict: Judged, found: Mapping[tuple[str, str], Trial], subjects: Mapping[str, Subject]
) -> tuple[str, str] | None:
    """What a verdict blames: a task or an agent of its own node's crew, else a node; as agent and task."""
    name = verdict.blames
    inside = blamed_inside(name, verdict.agent, found)
    return inside or ((name, name) if (name, name) in found or name in subjects else None)


def blamed_inside(name: str, by: str, judged: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """The last that was judged of a node's crew by the name of a task or an agent, as agent and task.

    Args:
        by: whose verdict blames it: the node's, or that of an agent inside
        judged: what was, as agent and task, in order
    """
    node = by.partition("/")[0]
    if name == by:
        return None  # the node itself, whatever its crew's tasks are called
    for agent, task in reversed(list(judged)):
        if agent.startswith(f"{node}/") and name in (task, agent.removeprefix(f"{node}/")):
            return agent, task
    return None


def workflow_outcome(reliance: Reliance, verdicts: Sequence[Judged], *, done: bool) -> float | None:
    """The same of a workflow's part: its nodes are no tasks of the crew's."""
    if not reliance.verified:
        return None
    whole = _on_the_whole(verdicts)
    return _worth(whole) if whole is not None else None if done else 0.0


def own_outcome(reliance: Reliance, verdicts: Sequence[Judged], *, done: bool) -> float | None:
    """The end-to-end grade of a workflow that runs by itself: the worst of those of its ends that it came to.

    That of a vote is 1 where its answer passed: how many of its copies did is the grade of a part.

    Args:
        verdicts: the workflow's
        done: whether it gave an output
    """
    if not reliance.judged:
        return None
    if not done:
        return 0.0
    last = {_kind(verdict.agent, verdict.task): verdict for verdict in verdicts}
    ends = [(last[end], reliance.part(end)) for end in reliance.results if end in last]
    return min((float(end.passed) if part and part.voted else _worth(end) for end, part in ends), default=None)


def _blamed(reliance: Reliance, verdict: Judged, found: dict[str, Trial]) -> Part | None:
    named = reliance.blamed(verdict.blames)
    return next((part for part in named if part.task in found), named[0] if named else None)
