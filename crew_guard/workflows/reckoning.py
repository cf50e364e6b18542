"""A workflow that runs by itself, as its reliability is reckoned: its parts, its structure, its version.

A part is a node, or, where a node delegates and nothing judges what it gave, each task of the crew inside of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import to_builtins
from msgspec.structs import replace

from crew_guard.core.reliability.structure import Structure, names
from crew_guard.core.reliability.trials import Subject, alone_version
from crew_guard.core.reliance import Part, Reckoned, declares_verdicts, digest, parts_of, record_of, whole_of
from crew_guard.core.roles import Crew
from crew_guard.workflows.agents import Delegation
from crew_guard.workflows.nodes import Node
from crew_guard.workflows.shape import Shape
from crew_guard.workflows.structures import structure_of
from crew_guard.workflows.subjects import text_of

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def is_judged(shape: Shape) -> bool:
    """Whether anything of a graph is judged."""
    return any(_gives_verdicts(node) for node in shape.nodes.values())


def reckoned(shape: Shape, subjects: Mapping[str, Subject]) -> Reckoned:
    """A graph as its reliability is reckoned: a leaf's trial is what came of it in a run.

    Args:
        shape: the graph's
        subjects: see Workflow.subjects
    """
    crews = {name: node.function.crew for name, node in shape.nodes.items() if _stands_for_its_crew(node)}
    tasks = {name: _tasks(shape.nodes[name], crew, subjects) for name, crew in crews.items()}
    inside = {name: whole_of(crew, [part.key for part in tasks[name]]) for name, crew in crews.items()}
    planned, structure = (structure_of(shape, inside=inside, of_runs=each) for each in (False, True))
    known = {part.key: part for parts in tasks.values() for part in parts}
    parts = [known.get(key) or _of_node(shape.nodes[key], subjects) for key in names(structure)]
    results = tuple(dict.fromkeys(key for end in shape.ends for key in _results(shape, end, crews)))
    only = next(part for part in parts if part.key == results[0]) if len(results) == 1 else None
    judge = None if only is None or only.voted else only.judge
    return Reckoned(_version(shape, subjects, planned), tuple(parts), structure, results, judge)


def _judges_itself(node: Node) -> bool:
    """Whether what the node as a whole gave is judged."""
    if node.verify is not None or (node.output is not None and node.model is not None):
        return True
    return isinstance(node.function, Delegation) and node.function.crew.verify is not None


def _gives_verdicts(node: Node) -> bool:
    return _judges_itself(node) or (isinstance(node.function, Delegation) and declares_verdicts(node.function.crew))


def _stands_for_its_crew(node: Node) -> bool:
    return not _judges_itself(node) and _gives_verdicts(node)


def _of_node(node: Node, subjects: Mapping[str, Subject]) -> Part:
    named, voted = (node.name, node.name, node.name), node.copies > 1
    crew = node.function.crew if isinstance(node.function, Delegation) else None
    judges = [one for one in (node.verify, crew and crew.verify) if one is not None]
    # Of two that must both say yes nobody knows how often they are right.
    judge = record_of(judges[0]) if len(judges) == 1 and not _repeats(node) else None
    return Part(*named, subjects[node.name], _judges_itself(node), judge, voted=voted)


def _repeats(node: Node) -> bool:
    """Whether its trial is made of several verdicts, which are wrong more or less often than the judge is with one."""
    return node.each > 0 or (node.retry is not None and node.retry.times > 0)


def _tasks(node: Node, crew: Crew, subjects: Mapping[str, Subject]) -> tuple[Part, ...]:
    """The tasks inside of a node, named as the trials of its agents are: NODE/AGENT/TASK."""
    found: list[Part] = []
    for part in parts_of(crew, {}):
        agent = f"{node.name}/{part.agent}"
        key = f"{agent}/{part.task}"
        subject = replace(subjects[agent], kind=key)
        judge = None if _repeats(node) else part.judge
        found.append(Part(key, agent, key, subject, part.judged, judge, voted=node.copies > 1))
    return tuple(found)


def _results(shape: Shape, end: str, crews: Mapping[str, Crew]) -> Iterator[str]:
    """The parts that an end's verdict is made of: a node that a pattern added has that of those whose it gives."""
    if shape.nodes[end].internal and shape.sources(end):
        hands_on = shape.nodes[end].hands_on
        for source in (hands_on,) if hands_on else shape.sources(end):
            yield from _results(shape, source, crews)
    elif end in crews:
        crew = crews[end]
        owners = {part.task: part.agent for part in parts_of(crew, {})}
        yield from (f"{end}/{owners[task.name]}/{task.name}" for task in crew.results())
    else:
        yield end


def _version(shape: Shape, subjects: Mapping[str, Subject], structure: Structure) -> str:
    """A digest of what defines the behaviour: each node with its model, and how they are connected."""
    nodes = [[name, one.model, one.kind, one.version] for name, one in sorted(subjects.items())]
    edges = [[one.source, one.target, _plain(one.outcome), one.passes] for one in shape.edges]
    branches = [[one.source, _plain(one.by)] for one in shape.branches.values()]
    loops = [
        [one.source, one.target, one.rounds, one.then, _plain(one.again), _plain(one.passes)]
        for one in shape.loops.values()
    ]
    return alone_version(digest([nodes, edges, branches, loops, shape.start, to_builtins(structure)]))


def _plain(value: Any) -> str:
    return text_of(value) if callable(value) else _ADDRESS.sub("", repr(value))
