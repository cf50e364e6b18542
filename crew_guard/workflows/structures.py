"""How a graph's success follows from that of its nodes, as the tree that reliability is computed on.

Of a branch all ways are counted, though one is taken: what comes out is on the safe side.
"""

from __future__ import annotations

from collections.abc import Iterable

from crew_guard.core.reliability.structure import AheadByK, AllOf, Chain, Leaf, Repeat, Retry, Structure, Vote
from crew_guard.workflows.nodes import Node
from crew_guard.workflows.shape import Shape


def structure_of(shape: Shape) -> Structure:
    """The graph's tree: what comes after another in chains, what runs side by side together, loops as retries."""
    return _of(shape, frozenset(shape.nodes), within="")


def _of(shape: Shape, names: frozenset[str], within: str) -> Structure:
    """Of these nodes; `within` is the loop that they are the body of."""
    outer = {source: body for source, body in shape.bodies.items() if source != within and body <= names}
    outer = {source: body for source, body in outer.items() if not any(body < other for other in outer.values())}
    belongs = {name: source for source, body in outer.items() for name in body}
    levels: dict[int, list[Structure]] = {}
    depth: dict[str, int] = {}
    for name in (each for each in shape.order if each in names):
        before = [depth[each] for each in shape.sources(name) if each in depth]
        depth[name] = 1 + max(before, default=0)
        source = belongs.get(name)
        if source is None:
            if not shape.nodes[name].internal:
                levels.setdefault(depth[name], []).append(_leaf(shape.nodes[name]))
        elif shape.loops[source].target == name:
            levels.setdefault(depth[name], []).append(_loop(shape, source, outer[source]))
    return _chain(AllOf(tuple(parts)) if len(parts) > 1 else parts[0] for _, parts in sorted(levels.items()))


def _loop(shape: Shape, source: str, body: frozenset[str]) -> Structure:
    rounds = shape.loops[source].rounds or 1
    asked = next((shape.nodes[name] for name in body if shape.nodes[name].ahead_by), None)
    if asked is not None:
        return AheadByK(_leaf(asked), asked.ahead_by, votes=rounds)
    return Retry(_of(shape, body, within=source), rounds - 1)


def _leaf(node: Node) -> Structure:
    part: Structure = Leaf(node.name)
    if node.retry is not None and node.retry.times and (node.verify is not None or node.output is not None):
        part = Retry(part, node.retry.times)
    if node.each > 1:
        part = Repeat(part, node.each, icc=0.0)  # each item is a task of its own: they don't end alike
    return Vote(part, node.copies) if node.copies > 1 else part


def _chain(parts: Iterable[Structure]) -> Structure:
    several = tuple(parts)
    return several[0] if len(several) == 1 else Chain(several)
