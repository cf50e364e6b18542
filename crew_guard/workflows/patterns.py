"""The known patterns as small functions that build graphs: gates, routing, sections, votes, workers, refinement.

Those that build a graph give a Workflow, which may be a way, a section or a step of a chain: patterns nest. `gate`,
`retry` and `agent_node` give a Node, one step. All of them are bounded.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from crew_guard.core.given import must_be_function
from crew_guard.core.limits import NO_CAP, UNCAPPED, AgentLimits
from crew_guard.core.roles import Agent, Crew, Task
from crew_guard.core.verdicts import Answer, Judge, verdict_of
from crew_guard.errors import WorkflowError
from crew_guard.workflows.agents import Delegation
from crew_guard.workflows.context import NodeContext, NodeFailedError
from crew_guard.workflows.edges import branch, loop
from crew_guard.workflows.graph import Connection, Part, Workflow, as_workflow, connected, done_of
from crew_guard.workflows.nodes import (
    UNKNOWN,
    Node,
    Retry,
    Signature,
    Step,
    as_node,
    bounded,
    checked,
    passed_on,
    retry_of,
    signature_of,
)
from crew_guard.workflows.votes import Ballots


def gate(check: Callable[..., Any] | Judge, *, name: str | None = None, pass_mark: float = 0.5) -> Node:
    """A step between others that passes its value on, or ends the workflow there.

    Args:
        check: (value) or (value, context) → bool, grade in [0, 1] or Verdict; or a Judge
        name: the check's own name by default
        pass_mark: the least grade that passes
    """
    takes: Any = UNKNOWN
    if not isinstance(check, Judge):
        must_be_function(check, "gate: its check", WorkflowError)
        with contextlib.suppress(TypeError, ValueError):  # a check that can't be looked at takes whatever comes
            takes = next(iter(signature_of(check).parameters.values()), UNKNOWN)
    seen = Signature({"value": takes}, order=("value",))
    looks = Node(name or getattr(check, "__name__", "gate"), passed_on, seen, verify=check, pass_mark=pass_mark)
    return checked(looks)


def retry(step: Step, times: int = 2, *, first: float = 0.5, factor: float = 2.0, longest: float = 30.0) -> Node:
    """The same step, tried again where it fails or its verifier says no.

    Args:
        step: a node, a function or a tool
        times: attempts after the first
        first: seconds before the second one; each further pause is `factor` as long, up to `longest`
    """
    tried = as_node(step, "retry(…)", "retry each of its steps, or let loop(…) go back to its first one")
    return replace(tried, retry=retry_of(tried, times, first, factor, longest))


def route(
    by: Step,
    routes: Mapping[Any, Part],
    *,
    field: Callable[[Any], Any] | str | None = None,
    otherwise: Part | None = None,
    passes: Literal["input", "output"] = "input",
    name: str = "route",
) -> Workflow:
    """One of several ways, picked by a step.

    Args:
        by: says which way
        routes: what comes next, a step or a workflow, by what the step says
        field: what of the step's output says it: a field's name, or a function of it; by default all of it
        otherwise: what comes next where the step says something else
        passes: whether the way is given what the step was given, or what the step gave
    """
    first = as_node(by, "route(…)", "put it before: chain(…, route(…))")
    if not isinstance(routes, Mapping) or not routes:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise WorkflowError(
            f"workflow {name!r}: routes is {routes!r:.80}; expected a dict of what comes next by outcome"
        )
    # One way may stand for several outcomes: it is in the graph once.
    ways = {id(part): as_workflow(part) for part in (*routes.values(), *([] if otherwise is None else [otherwise]))}
    parts = {key: ways[id(part)] for key, part in routes.items()}
    last = None if otherwise is None else ways[id(otherwise)]
    every = list({id(part.nodes[0]): part for part in ways.values()}.values())
    targets = {key: tuple(part.shape.start) for key, part in parts.items()}
    edge = branch(
        first.name, targets, by=field, otherwise=None if last is None else tuple(last.shape.start), passes=passes
    )
    return Workflow([first, *_nodes(every)], [edge, *_edges(every)], name, done=done_of(ways.values()))


def parallel(*sections: Part, join: Step | None = None, name: str = "parallel") -> Workflow:
    """Several steps on the same value at once; all must succeed.

    Args:
        sections: steps or workflows
        join: is given what each section gave: by parameters of their names, or as a dict; without it that dict is
            what comes next
    """
    parts = [as_workflow(section) for section in sections]
    if not parts:
        raise WorkflowError(f"workflow {name!r} has no sections")
    joins = [] if join is None else [as_workflow(join)]
    every = [*parts, *joins]
    edges = _edges(every)
    for part, last in itertools.product(parts, joins):
        edges += connected(part, last)
    starts = [start for part in parts for start in part.shape.start]
    return Workflow(_nodes(every), edges, name, starts, done=done_of(every))


def vote(
    step: Step,
    *,
    voters: int | None = None,
    ahead_by: int | None = None,
    most: int | None = None,
    key: Callable[[Any], Any] | None = None,
    name: str = "vote",
) -> Workflow:
    """The same step several times on the same value; what most of them gave counts.

    Args:
        step: what is asked
        voters: how many are asked at once, 3 by default; more than half must agree
        ahead_by: ask one after the other instead, until one answer is ahead by so many votes
        most: with ahead_by: votes at the most; 10 times ahead_by by default
        key: what makes two answers the same; by default that they are equal. Arrays, whose == gives an array, need one
    """
    asked = as_node(step, "vote(…)", "vote on one of its steps, or let one function do all of it")
    if key is not None:
        must_be_function(key, f"workflow {name!r}: key", WorkflowError)
    same = _itself if key is None else key
    if ahead_by is not None:
        if voters is not None:
            raise WorkflowError(
                f"workflow {name!r}: voters= are asked at once, ahead_by= asks one by one: give one of both"
            )
        bound = 10 * ahead_by if most is None and _counts(ahead_by) else most
        if not _counts(ahead_by, bound) or bound is None or bound < ahead_by:
            raise WorkflowError(
                f"workflow {name!r}: ahead_by must be a whole number of at least 1 and most no less, not {ahead_by!r} "
                f"and {most!r}"
            )
        return _ahead(replace(asked, ahead_by=ahead_by), same, (ahead_by, bound), name)
    asked_at_once = 3 if voters is None else voters
    if not _counts(asked_at_once):
        raise WorkflowError(f"workflow {name!r}: at least one must vote, not {voters!r}")

    if asked_at_once == 1:
        return Workflow([asked], [], name)

    def majority(votes: list[Any]) -> Any:
        counted = Ballots(votes, same)
        if counted.votes * 2 <= asked_at_once:
            raise NodeFailedError(f"no majority: the first has {counted.votes} of {asked_at_once} votes")
        return counted.leader

    last = _inner(majority, f"{asked.name}_majority", asked.returns, context=False)
    return Workflow([replace(asked, copies=asked_at_once), last], [(asked.name, last.name)], name)


def _ahead(asked: Node, same: Callable[[Any], Any], bounds: tuple[int, int], name: str) -> Workflow:
    ahead_by, most = bounds

    def leading(_vote: Any, context: NodeContext) -> Any:
        return Ballots(context.rounds[asked.name], same).leader

    def again(_leader: Any, context: NodeContext) -> bool:
        ballots = Ballots(context.rounds[asked.name], same)
        if len(ballots.cast) < most or ballots.margin:
            return ballots.margin < ahead_by and len(ballots.cast) < most
        raise NodeFailedError(f"{asked.name}: a tie after {most} votes, the most there may be")

    def asked_before(_leader: Any, context: NodeContext) -> Any:
        return context.given[asked.name]

    tally = _inner(leading, f"{asked.name}_tally", asked.returns)
    back = loop(tally.name, asked.name, again=again, rounds=most, passes=asked_before)
    return Workflow([asked, tally], [(asked.name, tally.name), back], name)


def orchestrate(
    plan: Step,
    work: Step,
    combine: Step,
    *,
    workers: int = 5,
    rounds: int = 1,
    name: str = "orchestrate",
) -> Workflow:
    """A step splits the job, workers do the parts at once, another step makes one thing of what they gave.

    Args:
        plan: gives a list of parts; with more than one round it is asked again, given all results so far, until it
            gives none
        work: does one part
        combine: is given the list of all results
        workers: parts of one round at the most; a plan with more fails
        rounds: at the most
    """
    if not _counts(workers, rounds):
        raise WorkflowError(
            f"workflow {name!r}: workers and rounds must be whole numbers of at least 1, not {workers!r} and {rounds!r}"
        )
    planner, worker, end = (as_node(step, "orchestrate(…)") for step in (plan, work, combine))
    worker = replace(worker, each=workers)
    gathered = f"{worker.name}_results"

    def results(_latest: list[Any], context: NodeContext) -> list[Any]:
        return [each for done in context.rounds[worker.name] for each in done]

    def again(_results: list[Any], context: NodeContext) -> bool:
        return bool(context.outputs[planner.name])

    gather = _inner(results, gathered, worker.returns)
    edges: list[Connection] = [(planner.name, worker.name, gathered, end.name)]
    if rounds > 1:
        edges.append(loop(gathered, planner.name, again=again, rounds=rounds, then="go_on"))
    return Workflow([planner, worker, gather, end], edges, name)


@dataclass(frozen=True, slots=True)
class Revision:
    """What a draft that was turned down is written again from."""

    asked: Any
    """What the first draft was written from."""
    draft: Any
    review: Any


def refine(
    draft: Step,
    review: Step,
    *,
    accept: Callable[[Any], Answer] | None = None,
    rounds: int = 3,
    then: Literal["fail", "go_on"] = "fail",
    name: str = "refine",
) -> Workflow:
    """A step writes, another one reviews, and the first writes again until the review is content.

    Args:
        draft: is given the value, and from the second round on a Revision: it should take both
        review: is given the draft; gives True, a grade, a Verdict or whatever `accept` understands
        accept: whether a review is content: a truth value, a grade or a Verdict; by default the review is one itself.
            A grade passes from 0.5 on, and what is no verdict is no yes
        rounds: drafts at the most
        then: what happens where the last draft isn't good enough: the workflow fails, or goes on with it
    Returns:
        a workflow whose output is the draft
    """
    if accept is not None:
        must_be_function(accept, f"workflow {name!r}: accept", WorkflowError)
    writer, judge = (as_node(step, "refine(…)") for step in (draft, review))
    kept = f"{writer.name}_accepted"

    def again(found: Any) -> bool:
        return not _content(found if accept is None else accept(found))

    def revision(found: Any, context: NodeContext) -> Revision:
        before = context.given[writer.name]
        asked = before.asked if isinstance(before, Revision) else before
        return Revision(asked, context.outputs[writer.name], found)

    def accepted(_review: Any, context: NodeContext) -> Any:
        return context.outputs[writer.name]

    back = loop(judge.name, writer.name, again=again, rounds=rounds, then=then, passes=revision)
    last = replace(_inner(accepted, kept, writer.returns), hands_on=writer.name)
    return Workflow([writer, judge, last], [(writer.name, judge.name, kept), back], name)


def agent_node(
    worker: Agent | Crew,
    task: str = "",
    *,
    name: str | None = None,
    caps: AgentLimits | Mapping[str, Any],
    output: Any = None,
    verify: Callable[..., Any] | Judge | None = None,
    pass_mark: float = 0.5,
    approve: Callable[..., Any] | None = None,
    retry: Retry | int | None = None,
    timeout: float | None = None,
    compensate: Callable[..., Any] | None = None,
    done_by: str = "",
) -> Node:
    """One step that an agent, or a whole crew, decides how to do, within caps of its own.

    Args:
        worker: who does it
        task: for an agent: what it is to do; may hold {variables} of the run's inputs, fields of what the step is
            given, and {value}, all of that as text. A crew has tasks of its own, which may hold the same
        caps: what it may use at the most, taken from the run's; not optional: an agent without an end is none
        output: for an agent: a pydantic model that its answer must follow
        approve: where it has an irreversible tool, the node is irreversible as a whole: asked before it begins, never
            tried again. See `node`
    """
    if isinstance(worker, Agent):
        if not task:
            raise WorkflowError(f"agent_node({worker.name!r}): task= says what the agent is to do")
        made = name or worker.name
        crew = Crew([worker], [Task(task, output=output, name=made)], name=worker.name)
    elif isinstance(worker, Crew):  # pyright: ignore[reportUnnecessaryIsInstance]  users don't all run pyright
        if task or output is not None:
            raise WorkflowError(
                f"agent_node({worker.name!r}): a crew has tasks of its own; task= and output= are an agent's"
            )
        if worker.fallback is not None:
            raise WorkflowError(
                f"agent_node({worker.name!r}): a crew inside of a node has no fallback of its own: give it none, "
                "replace(crew, fallback=None), and the workflow a branch or a retry, or the crew around it a fallback"
            )
        crew, made = worker, name or worker.name
    else:
        raise WorkflowError(f"agent_node takes an Agent or a Crew, not {worker!r}")
    ends = crew.results()
    returns: Any = (ends[0].output or str) if len(ends) == 1 else UNKNOWN
    bare = Node(made, Delegation(crew), Signature({"value": UNKNOWN}, returns=returns, order=("value", "context")))
    risky = any(tool.irreversible for agent in crew.everyone() for tool in agent.tools)
    bare = replace(bare, verify=verify, pass_mark=pass_mark, irreversible=risky, approve=approve)
    bare = replace(bare, compensate=compensate, done_by=done_by)
    step = bounded(bare, retry=retry, timeout=timeout, caps=caps)
    if step.max_seconds is None and step.caps._replace(agents=NO_CAP) == UNCAPPED:
        raise WorkflowError(f"agent_node: caps is {caps!r}; expected what bounds it, such as {{'max_steps': 5}}")
    return checked(step)


def _counts(*numbers: Any) -> bool:
    return all(type(number) is int and number >= 1 for number in numbers)


def _inner(function: Callable[..., Any], name: str, returns: Any, *, context: bool = True) -> Node:
    named = "context" if context else ""
    order = ("value", named) if context else ("value",)
    return Node(name, function, Signature({"value": UNKNOWN}, named, returns, order), internal=True)


def _nodes(parts: Sequence[Workflow]) -> list[Step]:
    return [each for part in parts for each in part.nodes]


def _edges(parts: Sequence[Workflow]) -> list[Connection]:
    return [each for part in parts for each in part.edges]


def _itself(value: Any) -> Any:
    return value


def _content(found: Any) -> bool:
    return verdict_of(found, who="the review").passed
