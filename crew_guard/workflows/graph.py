"""A workflow: an explicit graph of nodes, checked when it is made, run under the same gate as a crew.

Nodes are named, edges connect names: ("a", "b"), branch(...) and loop(...). `chain` is the plain case; patterns.py has
the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from crew_guard.core.events import Event
from crew_guard.core.given import listed, must_name, texts
from crew_guard.core.reliability.structure import Structure
from crew_guard.core.reliability.trials import Subject
from crew_guard.core.roles import Crew
from crew_guard.core.verdicts import Judge
from crew_guard.errors import ConfigError, WorkflowError
from crew_guard.ports import Gate, Means, RuntimeResult
from crew_guard.workflows.agents import Delegation
from crew_guard.workflows.asking import at_terminal
from crew_guard.workflows.checking import input_problems, problems_of
from crew_guard.workflows.checkpoints import Done, checkpoint_of, journal_of
from crew_guard.workflows.context import NodeContext, NodeFailedError
from crew_guard.workflows.edges import Branch, Edge, Loop, branch, loop
from crew_guard.workflows.nodes import Node, Retry, Step, as_node, node
from crew_guard.workflows.running import Going, run_graph
from crew_guard.workflows.shape import Shape, shape_of

if TYPE_CHECKING:
    from rich.tree import Tree

__all__ = [
    "Branch",
    "Edge",
    "Loop",
    "Node",
    "NodeContext",
    "NodeFailedError",
    "Retry",
    "Workflow",
    "branch",
    "chain",
    "loop",
    "node",
]

Connection: TypeAlias = "tuple[str, ...] | Edge | Branch | Loop"
Part: TypeAlias = "Workflow | Step"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Workflow:
    """Nodes and how they are connected. A Workflow, and a Resuming, of ports."""

    nodes: Sequence[Step]
    edges: Sequence[Connection] = ()
    """("a", "b", "c") is a path of nodes that come one after the other; branch(...) and loop(...) make the rest."""
    name: str = "workflow"
    start: Sequence[str] = ()
    """The nodes that are given the run's inputs; the first one by default."""
    shape: Shape = field(init=False, repr=False)
    means: Means | None = field(default=None, repr=False)
    """What its nodes name, once a supervisor has found it."""
    done: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    """What is done already: see `continued`."""

    def __post_init__(self) -> None:
        texts(self, "a workflow's", "name", error=WorkflowError)
        must_name(self.name, "a workflow's name", WorkflowError)
        for what in ("nodes", "edges", "start"):
            listed(getattr(self, what), f"workflow {self.name!r}: {what}", error=WorkflowError)
        nodes = tuple(as_node(step, "Workflow([…])", "chain(…) puts workflows together") for step in self.nodes)
        if not nodes:
            raise WorkflowError(f"workflow {self.name!r} has no nodes")
        edges, branches, loops = _sorted(self.edges, self.name)
        shape, problems = shape_of(nodes, edges, branches, loops, self.start)
        problems = problems or problems_of(shape)
        object.__setattr__(self, "nodes", nodes)
        object.__setattr__(self, "shape", shape)
        _raise(self.name, problems)

    def check(self, *, terminal: bool | None = None) -> None:
        """Whether it can run here. What else could be wrong was checked when it was made.

        Args:
            terminal: whether a person can be asked at the terminal; by default whether stdin is one
        Raises:
            WorkflowError: its first nodes can't take inputs, or an irreversible one has nobody to ask
        """
        asked = at_terminal() if terminal is None else terminal
        unasked = [] if asked else [_unasked(name) for name in self.unapproved()]
        _raise(self.name, [*input_problems(self.shape), *unasked])

    def unapproved(self) -> tuple[str, ...]:
        """Irreversible nodes without an approver: a person at the terminal has to say yes to them."""
        return tuple(name for name, one in self.shape.nodes.items() if one.irreversible and one.approve is None)

    async def run(self, inputs: Mapping[str, Any], gate: Gate) -> RuntimeResult:
        """Run the graph from its start; what its end gives is the output, and None is none.

        Raises:
            NodeFailedError: a node could not do its step; so does what else a node's function raises
            RefusedError: the guard said no
        """
        return await self.resume(inputs, gate, {})

    async def resume(self, inputs: Mapping[str, Any], gate: Gate, done: Mapping[str, Any]) -> RuntimeResult:
        """The same, where nodes of these names, or their done_by, are answered from `done` instead of running.

        What it is `continued` from comes first.
        """
        return await run_graph(self.shape, Going(self.name, inputs, gate, self.done, done, self.means))

    def equipped(self, means: Means) -> Workflow:
        """The same workflow with all its models found.

        Raises:
            ConfigError, MissingDependencyError: a node names a model that can't be had
            WorkflowError: its first nodes can't take a run's inputs
        """
        _raise(self.name, input_problems(self.shape))
        for one in self.shape.nodes.values():
            try:
                if one.model is not None:
                    means.model_named(one.model)
                if isinstance(one.function, Delegation):
                    means.runtime_of(one.function.crew)
                if isinstance(one.verify, Judge):
                    means.model_named(one.verify.model)
            except ConfigError as error:
                raise ConfigError(f"workflow {self.name!r}, node {one.name!r}: {error}") from None
        return replace(self, means=means)

    def crews(self) -> dict[str, Crew]:
        """The crews that nodes delegate to, by node."""
        every = self.shape.nodes.items()
        return {name: one.function.crew for name, one in every if isinstance(one.function, Delegation)}

    def insiders(self) -> list[str]:
        """Agents and judges that act inside of a node by a name of their own, as NODE/AGENT."""
        inside = [(node, one) for node, crew in self.crews().items() for one in (*crew.everyone(), *crew.judges())]
        judges = [(name, one.verify) for name, one in self.shape.nodes.items() if isinstance(one.verify, Judge)]
        return [f"{node}/{one.name}" for node, one in (*inside, *judges)]

    def subjects(self) -> dict[str, Subject]:
        """Whose record a verdict goes into, by node, and by NODE/AGENT for agents inside of one."""
        from crew_guard.workflows.subjects import subjects_of

        return subjects_of(self.name, self.shape, self.means)

    @property
    def judged(self) -> bool:
        """Whether anything of it gives a verdict."""
        from crew_guard.workflows.reckoning import is_judged

        return is_judged(self.shape)

    def done_in(
        self, events: Iterable[Event], *, done: Mapping[str, Any] | None = None, again: Collection[str] = ()
    ) -> dict[str, Any]:
        """What a run's journal says is done: for `resume`, outputs of finished nodes that were not undone.

        Where that run itself went on from an earlier one, what it had taken over is among it.

        Args:
            events: the journal, all of it: store.read(run_id)
            done: what nodes gave, by name, where whoever calls knows better; what the journal says of a node that the
                workflow has no more is settled by it, too
            again: nodes that are to run once more, and what comes after them, but for what has an effect that stands
        Raises:
            WorkflowError: a node that can't be undone was begun, and nobody knows whether it was done; or an undo was
                begun, and nobody knows whether it is undone; or what stands would be done once more, in a loop that
                begins anew or under another name; or there is no such node; or this is no journal of a run in which a
                node of a workflow of this name was begun
        """
        found = checkpoint_of(self.shape, self.name, journal_of(self.name, events), done or {}, again)
        _raise(self.name, found.problems)
        return found.done

    def continued(
        self, events: Iterable[Event], *, done: Mapping[str, Any] | None = None, again: Collection[str] = ()
    ) -> Workflow:
        """The same workflow, going on from its last checkpoint in a run's journal: `supervisor.run` takes it.

        See `done_in` for the arguments and errors.
        """
        return replace(self, done=self.done_in(events, done=done, again=again))

    def structure(self, shares: Mapping[str, Mapping[Any, float]] | None = None) -> Structure:
        """How its success follows from that of its nodes; the leaves are their names.

        Args:
            shares: how often each outcome of a branch comes, as shares or as counts, by the node that it comes after;
                "otherwise" is one, too. Where nobody knows, bounds go by the worst and the best way
        Raises:
            WorkflowError: there is no such branch, or an outcome has no share
        """
        from crew_guard.workflows.structures import structure_of

        return structure_of(self.shape, shares)

    def mermaid(self) -> str:
        """The graph as a Mermaid flowchart."""
        from crew_guard.workflows.drawing import mermaid

        return mermaid(self.name, self.shape)

    def draw(self) -> Tree:
        """The graph for the terminal: `rich.print(workflow)` shows it."""
        from crew_guard.workflows.drawing import tree

        return tree(self.name, self.shape)

    def __repr__(self) -> str:
        return f"<workflow {self.name!r}: {', '.join(self.shape.nodes)}>"

    def __rich__(self) -> Tree:
        return self.draw()


def chain(*steps: Part, name: str = "workflow") -> Workflow:
    """Nodes, and whole workflows, one after the other.

    Raises:
        WorkflowError: there are none, two have the same name, or one can't take what the one before gives
    """
    if not steps:
        raise WorkflowError(f"workflow {name!r} has no nodes")
    if type(steps[0]) is list:
        raise TypeError(f"workflow {name!r}: chain takes steps one by one, chain(a, b), and no list")
    parts = [as_workflow(step) for step in steps]
    edges: list[Connection] = [each for part in parts for each in part.edges]
    for one, other in itertools.pairwise(parts):
        edges += connected(one, other)
    nodes = [each for part in parts for each in part.nodes]
    return Workflow(nodes, edges, name, parts[0].shape.start, done=done_of(parts))


def done_of(parts: Iterable[Workflow]) -> Done:
    """What is done already of workflows that are put together: one of them may go on from a journal."""
    every = [part.done for part in parts]
    earlier = {name: each for done in every if isinstance(done, Done) for name, each in done.earlier.items()}
    return Done({name: each for done in every for name, each in done.items()}, earlier)


def as_workflow(part: Part) -> Workflow:
    """A workflow as it is; a step as a workflow of one node."""
    return part if isinstance(part, Workflow) else Workflow((as_node(part),), name="part")


def connected(before: Workflow, after: Workflow) -> list[Connection]:
    """Edges from each end of one workflow to each start of another."""
    return [(end, start) for end in before.shape.ends for start in after.shape.start]


def _sorted(connections: Iterable[Any], name: str) -> tuple[list[Edge], list[Branch], list[Loop]]:
    edges: list[Edge] = []
    branches: list[Branch] = []
    loops: list[Loop] = []
    for each in connections:
        if isinstance(each, Branch):
            branches.append(each)
        elif isinstance(each, Loop):
            loops.append(each)
        elif isinstance(each, Edge):
            edges.append(each)
        elif isinstance(each, tuple) and len(each) > 1 and all(isinstance(one, str) for one in each):  # pyright: ignore[reportUnknownArgumentType,reportUnknownVariableType]
            edges += [Edge(one, other) for one, other in itertools.pairwise(each)]  # pyright: ignore[reportUnknownArgumentType,reportUnknownVariableType]
        else:
            raise WorkflowError(
                f"workflow {name!r}: an edge is a path of node names such as ('a', 'b'), a branch(…) or a loop(…), "
                f"not {each!r}"
            )
    return edges, branches, loops


def _unasked(name: str) -> str:
    return f"{name!r} is irreversible and has nobody to ask: give it approve=, or run it in a terminal"


def _raise(name: str, problems: Sequence[str]) -> None:
    if not problems:
        return
    error = WorkflowError(f"workflow {name!r}: {'; '.join(problems)}")
    error.problems = tuple(WorkflowError(problem) for problem in problems)
    raise error
