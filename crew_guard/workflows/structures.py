"""How a graph's success follows from that of its nodes, as the tree that reliability is computed on.

What runs whatever happens is in levels, one after the other; what runs only at some outcomes of a branch is looked at
once for each of its outcomes, with the others ruled out.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from crew_guard.core.reliability.structure import AheadByK, AllOf, Chain, Leaf, OneOf, Repeat, Retry, Structure, Vote
from crew_guard.errors import WorkflowError
from crew_guard.workflows.edges import OTHERWISE
from crew_guard.workflows.nodes import Node
from crew_guard.workflows.shape import ALWAYS, Condition, Shape, simplified

Shares: TypeAlias = Mapping[str, Mapping[Any, float]]
"""How often each outcome comes, as counts or shares, by the branch's node."""


def structure_of(
    shape: Shape,
    shares: Shares | None = None,
    inside: Mapping[str, Structure] | None = None,
    *,
    of_runs: bool = False,
) -> Structure:
    """The graph's tree: chains, what runs side by side together, one of the ways of a branch, loops as retries.

    Args:
        shape: the graph's
        inside: what stands in the place of a node's leaf, by node: the tasks of the crew that it delegates to
        shares: of branches whose outcomes were counted; of others nobody knows
        of_runs: whether a leaf's rate is that of what came of it in a run, after its attempts, rounds and items;
            by default it is that of one attempt
    Raises:
        WorkflowError: there is no such branch, or one of its outcomes has no share
    """
    if shares is not None and not isinstance(shares, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  users don't all run pyright
        raise WorkflowError(
            f"shares: {shares!r}; expected the shares of a branch's ways, by the node that it comes after"
        )
    known = {source: _checked(shape, source, given) for source, given in (shares or {}).items()}
    return _Tree(shape, known, inside or {}, of_runs).of(shape.conditions, within="")


def _checked(shape: Shape, source: str, given: Mapping[Any, float]) -> dict[Hashable, float]:
    branch = shape.branches.get(source)
    if branch is None:
        there = f"there are branches after {', '.join(shape.branches)}" if shape.branches else "there is none"
        raise WorkflowError(f"shares: no branch comes after {source!r}; {there}")
    outcomes = ["otherwise" if each is OTHERWISE else each for each in branch.outcomes]
    if not isinstance(given, Mapping) or set(given) != set(outcomes) or not _are_shares([*given.values()]):  # pyright: ignore[reportUnnecessaryIsInstance]  see above
        ways = ", ".join(map(repr, outcomes))
        raise WorkflowError(
            f"shares: the branch after {source!r} has {given!r}; expected a number, 0 or more, for each of {ways}"
        )
    whole = sum(given.values())
    return {each: given[name] / whole for each, name in zip(branch.outcomes, outcomes, strict=True)}


def _are_shares(values: Sequence[Any]) -> bool:
    numbers = all(isinstance(each, int | float) and math.isfinite(each) and each >= 0 for each in values)
    return numbers and sum(values) > 0


@dataclass(frozen=True, slots=True)
class _Tree:
    shape: Shape
    shares: Mapping[str, Mapping[Hashable, float]]
    inside: Mapping[str, Structure]
    of_runs: bool

    def of(self, conditions: Mapping[str, Condition], within: str) -> Structure:
        """Of the nodes that run under these conditions; `within` is the loop that they are the body of."""
        heads = self._heads(conditions, within)
        levels: dict[int, list[Structure]] = {}
        depth: dict[str, int] = {}
        open_: dict[str, Condition] = {}
        for name in (each for each in self.shape.order if each in conditions):
            depth[name] = 1 + max((depth[each] for each in self.shape.sources(name) if each in depth), default=0)
            if conditions[heads.get(name, name)] != ALWAYS:
                open_[name] = conditions[name]
            elif name not in heads:
                levels.setdefault(depth[name], []).extend(self._leaf(self.shape.nodes[name]))
            elif heads[name] == name:
                body, source = self._body(name, within, conditions)
                levels.setdefault(depth[name], []).append(self._loop(source, body))
        for group in self._groups(open_):
            if (ways := self._ways(group, within)) is not None:
                levels.setdefault(min(depth[name] for name in group), []).append(ways)
        return _chain(
            AllOf(tuple(parts)) if len(parts) > 1 else parts[0] for _, parts in sorted(levels.items()) if parts
        )

    def _leaf(self, node: Node) -> list[Structure]:
        """A node that can fail, with what is around it."""
        if node.internal:
            return []
        part: Structure = self.inside.get(node.name) or Leaf(node.name)
        times = node.retry.times if node.retry is not None and not self.of_runs else 0
        if times and (node.verify is not None or node.output is not None):
            part = Retry(part, times)
        if node.each > 1 and not self.of_runs:
            part = Repeat(part, node.each, icc=0.0)  # each item is a task of its own: they don't end alike
        return [Vote(part, node.copies) if node.copies > 1 else part]

    def _loops(self, conditions: Mapping[str, Condition], within: str) -> dict[str, frozenset[str]]:
        """The outermost loops among these nodes, by their last node."""
        found = {s: body for s, body in self.shape.bodies.items() if s != within and body <= conditions.keys()}
        return {source: body for source, body in found.items() if not any(body < other for other in found.values())}

    def _heads(self, conditions: Mapping[str, Condition], within: str) -> dict[str, str]:
        """The first node of the loop that each node stands in."""
        loops = self._loops(conditions, within)
        return {name: self.shape.loops[source].target for source, body in loops.items() for name in body}

    def _body(self, head: str, within: str, conditions: Mapping[str, Condition]) -> tuple[dict[str, Condition], str]:
        loops = self._loops(conditions, within)
        source = next(one for one in loops if self.shape.loops[one].target == head)
        return {name: conditions[name] for name in conditions if name in loops[source]}, source

    def _loop(self, source: str, body: Mapping[str, Condition]) -> Structure:
        if self.of_runs:
            return self.of(body, within=source)  # a node that fails ends the run: it is no further round
        rounds, asked = self.shape.loops[source].rounds or 1, self.shape.nodes[self.shape.loops[source].target]
        if asked.ahead_by and self.shape.nodes[source].internal:
            return AheadByK(_chain(self._leaf(asked)), asked.ahead_by, votes=rounds)
        return Retry(self.of(body, within=source), rounds - 1)

    def _groups(self, conditions: Mapping[str, Condition]) -> list[dict[str, Condition]]:
        """Nodes whose conditions have branches in common, directly or not: one group knows nothing of another."""
        groups: list[tuple[set[str], dict[str, Condition]]] = []
        for name, condition in conditions.items():
            about = {branch for cube in condition for branch, _ in cube} | ({name} & self.shape.branches.keys())
            same = [group for group in groups if group[0] & about]
            groups = [group for group in groups if group not in same]
            groups.append(
                (about.union(*(one for one, _ in same)), _merged([nodes for _, nodes in same], name, condition))
            )
        return [nodes for _, nodes in groups]

    def _ways(self, group: Mapping[str, Condition], within: str) -> Structure | None:
        """One of the ways after the first branch that these nodes depend on; None where none of them can fail."""
        about = {branch for condition in group.values() for cube in condition for branch, _ in cube}
        first = min(about, key=self.shape.order.index)
        shares = self.shares.get(first)
        found: dict[Structure, float] = {}
        for outcome in self.shape.branches[first].outcomes:
            way = self.of(self._at(group, first, outcome), within)
            found[way] = found.get(way, 0.0) + (shares[outcome] if shares else 0.0)
        if len(found) == 1:
            way = next(iter(found))
            return None if way == Chain(()) else way
        return OneOf(tuple(found), tuple(found.values()) if shares else ())

    def _at(self, group: Mapping[str, Condition], branch: str, outcome: Hashable) -> dict[str, Condition]:
        """What is left to ask for each node at this outcome of a branch; those that never run then are left out."""
        left: dict[str, Condition] = {}
        for name, condition in group.items():
            cubes = [cube - {(branch, outcome)} for cube in condition if dict(cube).get(branch, outcome) == outcome]
            # A branch that is not come to has no outcome.
            come_to = [cube for cube in cubes if all(each in left or each not in group for each, _ in cube)]
            if rest := simplified(frozenset(come_to), self.shape.branches):
                left[name] = rest
        return left


def _merged(several: Iterable[Mapping[str, Condition]], name: str, condition: Condition) -> dict[str, Condition]:
    return {key: value for nodes in several for key, value in nodes.items()} | {name: condition}


def _chain(parts: Iterable[Structure]) -> Structure:
    several = tuple(parts)
    return several[0] if len(several) == 1 else Chain(several)
