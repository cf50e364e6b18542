"""What a graph of nodes is, looked at before it runs: its order, where its paths join, and all that is wrong with it.

A node runs where at least one edge to it is taken and none is open. Which edges exclude each other follows from the
branches before them, so that a join, which waits for all, is told from a merge, which waits for the one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from typing import Literal, TypeAlias

from crew_guard.core.reliability.trials import END_TO_END
from crew_guard.workflows.edges import Branch, Edge, Loop
from crew_guard.workflows.nodes import Node

Meeting: TypeAlias = Literal["start", "one", "join", "merge"]
Cube: TypeAlias = frozenset[tuple[str, Hashable]]
"""Outcomes of branches that must all come true."""
Condition: TypeAlias = frozenset[Cube]
"""Of which one must."""
ALWAYS: Condition = frozenset([frozenset()])
ANY: Condition = frozenset()


@dataclass(frozen=True, slots=True)
class Shape:
    """A graph that was looked at."""

    nodes: Mapping[str, Node]
    edges: tuple[Edge, ...]
    branches: Mapping[str, Branch]
    loops: Mapping[str, Loop]
    start: tuple[str, ...]
    into: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    """Edges by the node that they lead to, as places in `edges`."""
    out: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    order: tuple[str, ...] = ()
    meetings: Mapping[str, Meeting] = field(default_factory=dict[str, Meeting])
    """How the paths to each node meet."""
    conditions: Mapping[str, Condition] = field(default_factory=dict[str, Condition])
    """Which outcomes of branches must come true for each node to run."""
    bodies: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    """The nodes of each loop, by its last one."""

    @property
    def ends(self) -> tuple[str, ...]:
        """The nodes that nothing comes after."""
        return tuple(name for name in self.order if not self.out[name])

    def sources(self, name: str) -> tuple[str, ...]:
        """The nodes before one, each once."""
        return tuple(dict.fromkeys(self.edges[place].source for place in self.into[name]))

    def loop_of(self, name: str) -> str:
        """The last node of the innermost loop that a node stands in; empty where it stands in none."""
        around = [(len(body), source) for source, body in self.bodies.items() if name in body]
        return min(around)[1] if around else ""


def shape_of(
    nodes: Sequence[Node],
    edges: Iterable[Edge],
    branches: Sequence[Branch],
    loops: Sequence[Loop],
    start: Sequence[str],
) -> tuple[Shape, list[str]]:
    """The graph's shape, and what is wrong with it. Where names don't resolve, the shape has no order."""
    every = (*edges, *(edge for each in branches for edge in each.edges()))
    by_name = {node.name: node for node in nodes}
    shape = Shape(
        by_name,
        tuple(dict.fromkeys(every)),
        {each.source: each for each in branches},
        {each.source: each for each in loops},
        tuple(start) or tuple(node.name for node in nodes[:1]),
    )
    if problems := _names(shape, nodes, branches, loops):
        return shape, problems
    try:
        order = _order(shape)
    except CycleError as error:
        circle = " → ".join(reversed(error.args[1]))
        return shape, [f"a cycle without a bound: {circle}; let loop(source, back_to, again=…, rounds=…) go back"]
    into = _by(shape.edges, by_name, lambda edge: edge.target)
    out = _by(shape.edges, by_name, lambda edge: edge.source)
    shape = Shape(by_name, shape.edges, shape.branches, shape.loops, shape.start, into, out, order)
    unreachable = [name for name in by_name if name not in _reachable(shape, shape.start)]
    if unreachable:
        begins = ", ".join(shape.start)
        return shape, [f"{name!r} is unreachable: nothing leads to it from {begins}" for name in unreachable]
    meetings, conditions, problems = _meetings(shape)
    bodies, more = _bodies(shape)
    return replace(shape, meetings=meetings, conditions=conditions, bodies=bodies), [*problems, *more]


def _names(shape: Shape, nodes: Sequence[Node], branches: Sequence[Branch], loops: Sequence[Loop]) -> list[str]:
    names = [node.name for node in nodes]
    found: list[str] = []
    found += [
        f"two nodes are named {name!r}; give one of them a name=" for name in sorted(_twice(names), key=names.index)
    ]
    if found:
        return found  # which of both an edge means nobody knows
    if END_TO_END in names:
        found.append(f"a node is named {END_TO_END!r}, as the outcomes of the whole are; give it another name=")
    found += [f"two branches come after {name!r}" for name in _twice([each.source for each in branches])]
    found += [f"two loops go back from {name!r}" for name in _twice([each.source for each in loops])]
    plain = {edge.source for edge in shape.edges if not edge.branches}
    found += [f"after {name!r} come a branch and another node" for name in shape.branches if name in plain]
    ends = [(edge.source, edge.target) for edge in shape.edges] + [(each.source, each.target) for each in loops]
    unknown = dict.fromkeys(name for pair in (*ends, (*shape.start,)) for name in pair if name not in shape.nodes)
    found += [f"there is no node {name!r}; there are {', '.join(names)}" for name in unknown]
    into_start = [edge for edge in shape.edges if edge.target in shape.start]
    found += [
        f"{edge.source!r} leads to {edge.target!r}, where the workflow starts; loop(…) goes back" for edge in into_start
    ]
    for each in loops:
        if each.rounds is None or type(each.rounds) is not int or each.rounds < 1:
            found.append(
                f"the loop from {each.source!r} back to {each.target!r} has no bound: rounds must be a whole number of "
                f"at least 1, not {each.rounds!r}"
            )
    return found


def _twice(names: Sequence[str]) -> set[str]:
    return {name for name in names if names.count(name) > 1}


def _order(shape: Shape) -> tuple[str, ...]:
    before: dict[str, list[str]] = {name: [] for name in shape.nodes}
    for edge in shape.edges:
        before[edge.target].append(edge.source)
    return tuple(TopologicalSorter(before).static_order())


def _by(edges: Sequence[Edge], names: Collection[str], key: Callable[[Edge], str]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(place for place, edge in enumerate(edges) if key(edge) == name) for name in names}


def _reachable(shape: Shape, start: Iterable[str]) -> set[str]:
    found: set[str] = set()
    todo = list(start)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += [shape.edges[place].target for place in shape.out[name]]
    return found


# Where paths meet


def _meetings(shape: Shape) -> tuple[dict[str, Meeting], dict[str, Condition], list[str]]:
    conditions: dict[str, Condition] = {}
    found: dict[str, Meeting] = {}
    problems: list[str] = []
    for name in shape.order:
        if name in shape.start:
            conditions[name], found[name] = ALWAYS, "start"
            continue
        reached = [_condition(shape.edges[place], conditions) for place in shape.into[name]]
        conditions[name] = simplified(ANY.union(*reached), shape.branches)
        kind = _meeting(reached)
        if kind is None:
            sources = ", ".join(shape.sources(name))
            problems.append(
                f"{name!r} comes after {sources}, of which now all run and now only some: "
                "let one node gather those of which only one runs"
            )
        found[name] = kind or "join"
    problems += [
        f"the loop from {each.source!r} back to {each.target!r}: not each round gets to its end"
        for each in shape.loops.values()
        if conditions[each.source] != conditions[each.target]
    ]
    ends = [conditions[name] for name in shape.ends]
    if _meeting(ends) is None:
        names = ", ".join(shape.ends)
        problems.append(f"it ends with {names}, of which now all run and now only some: let one node gather them")
    return found, conditions, problems


def _condition(edge: Edge, conditions: Mapping[str, Condition]) -> Condition:
    if not edge.branches:
        return conditions[edge.source]
    own = (edge.source, edge.outcome)
    return frozenset(cube | {own} for cube in conditions[edge.source] if not _excludes(cube, frozenset([own])))


def _meeting(reached: Sequence[Condition]) -> Meeting | None:
    if len(reached) == 1:
        return "one"
    if all(each == reached[0] for each in reached):
        return "join"
    pairs = [(one, other) for place, one in enumerate(reached) for other in reached[place + 1 :]]
    return "merge" if all(_excludes(a, b) for one, other in pairs for a in one for b in other) else None


def _excludes(one: Cube, other: Cube) -> bool:
    """Whether they can't both come true: a branch has one outcome."""
    outcomes = dict(one)
    return any(name in outcomes and outcomes[name] != outcome for name, outcome in other)


def simplified(condition: Condition, branches: Mapping[str, Branch]) -> Condition:
    """The same condition in fewer words: whichever way a branch goes, it goes one of them."""
    cubes = set(condition)
    while True:
        wider = {
            cube - {(name, outcome)}
            for cube in cubes
            for name, outcome in cube
            if all(_holds(cube - {(name, outcome)} | {(name, each)}, cubes) for each in branches[name].outcomes)
        } - cubes
        if not wider:
            return frozenset(cube for cube in cubes if not any(other < cube for other in cubes))
        cubes |= wider


def _holds(cube: Cube, cubes: Collection[Cube]) -> bool:
    return any(other <= cube for other in cubes)


# Loops


def _bodies(shape: Shape) -> tuple[dict[str, frozenset[str]], list[str]]:
    bodies: dict[str, frozenset[str]] = {}
    problems: list[str] = []
    for each in shape.loops.values():
        after = _reachable(shape, [each.target])
        if each.source not in after:
            problems.append(f"the loop from {each.source!r} goes back to {each.target!r}, which doesn't come before it")
            continue
        body = frozenset(name for name in after if each.source in _reachable(shape, [name]))
        bodies[each.source] = body
        for edge in shape.edges:
            if edge.source in body and edge.target not in body and edge.source != each.source:
                problems.append(
                    f"{edge.source!r} leaves the loop from {each.source!r} back to {each.target!r} on the way to "
                    f"{edge.target!r}: only its last node may"
                )
            if edge.target in body and edge.source not in body and edge.target != each.target:
                problems.append(
                    f"{edge.source!r} leads to {edge.target!r}, inside of the loop from {each.source!r} back to "
                    f"{each.target!r}: only to its first node may others lead"
                )
    for one, body in bodies.items():
        for other, more in bodies.items():
            if one < other and body & more and not (body < more or more < body):
                problems.append(f"the loops that go back from {one!r} and from {other!r} cross each other")
    return bodies, problems
