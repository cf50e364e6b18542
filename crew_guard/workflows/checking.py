"""What is wrong with a graph whose names resolve: types that don't fit, outcomes without a branch, risky nodes."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, cast, get_origin, is_typeddict

from pydantic import BaseModel

from crew_guard.core.tools import Tool
from crew_guard.workflows.edges import OTHERWISE, Branch, Edge
from crew_guard.workflows.fitting import attribute_of, fits, item_of, named, outcomes_of
from crew_guard.workflows.nodes import UNKNOWN, Node, passed_on, signature_of
from crew_guard.workflows.shape import Shape

INPUTS = dict[str, Any]
"""The type of a run's inputs."""


def problems_of(shape: Shape) -> list[str]:
    """All that is wrong, in the order of the nodes."""
    found: list[str] = []
    for name in shape.order:
        found += _types(shape, name)
        if name in shape.branches:
            found += _outcomes(shape.nodes[name], shape.branches[name])
        found += _risks(shape.nodes[name])
    for each in shape.loops.values():
        given = _given_by(each.passes) if each.passes else shape.nodes[each.source].returns
        target = shape.nodes[each.target]
        found += _fit(target, f"{each.source!r}, going back,", given, target.takes)
    return found


def input_problems(shape: Shape) -> list[str]:
    """Where its first nodes can't take a run's inputs: a part of a larger workflow need not."""
    first = [shape.nodes[name] for name in shape.start]
    found = [_unbound(node, "one value, the run's inputs") for node in first if node.binding(()) is None]
    return found or [
        problem
        for node in first
        if model_of(node.takes) is None
        for problem in _fit(node, "a run's inputs, the first value,", INPUTS, node.takes)
    ]


def model_of(hint: Any) -> type[Any] | None:
    """The class that a run's inputs are read into, where a first node takes one."""
    if not isinstance(hint, type) or get_origin(hint) is not None or is_typeddict(hint):
        return None
    kind = cast("type[Any]", hint)
    return kind if issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind) else None


def _types(shape: Shape, name: str) -> list[str]:
    if shape.meetings[name] == "start":
        return []
    node = shape.nodes[name]
    sources = shape.sources(name) if shape.meetings[name] == "join" else ()
    binding = node.binding(sources)
    if binding is None:
        return [_unbound(node, f"{', '.join(sources)}, each by its name" if sources else "one value")]
    found: list[str] = []
    for place in shape.into[name]:
        edge = shape.edges[place]
        if binding == "by_name":
            found += _fit(node, repr(edge.source), _passed(shape, edge), node.signature.parameters[edge.source])
        elif len(sources) < 2:  # noqa: PLR2004  one value, whoever gives it
            found += _fit(node, repr(edge.source), _passed(shape, edge), node.takes)
    if len(sources) > 1 and binding == "whole":
        found += _fit(node, f"{', '.join(sources)}, as a dict by name,", dict[str, Any], node.takes)
    return found


def _unbound(node: Node, given: str) -> str:
    return f"{node.name!r} takes {', '.join(node.signature.parameters)}; it is given {given}, and a context"


def _passed(shape: Shape, edge: Edge) -> Any:
    """The type of what goes along an edge."""
    source = shape.nodes[edge.source]
    if source.function is passed_on and len(before := shape.into[edge.source]) == 1:
        return _passed(shape, shape.edges[before[0]])
    return source.returns if edge.passes == "output" else source.takes


def _fit(node: Node, giver: str, given: Any, wanted: Any) -> list[str]:
    if node.each:
        item = item_of(given)
        if item is None:
            return [f"{node.name!r} works on each item of a list; from {giver} comes a {named(given)}"]
        given = item
    if isinstance(node.function, Tool):
        wrong = given in (str, int, float, bool, bytes, list, type(None))
        return (
            [f"{node.name!r} is a tool and takes its arguments; from {giver} comes a {named(given)}"] if wrong else []
        )
    return [] if fits(given, wanted) else [f"{node.name!r} takes {named(wanted)}; from {giver} comes {named(given)}"]


def _outcomes(source: Node, branch: Branch) -> list[str]:
    given = source.returns
    if callable(branch.by):
        given = _given_by(branch.by)
    elif isinstance(branch.by, str):
        field = attribute_of(given, branch.by)
        if field is None:
            return [f"the branch after {source.name!r} goes by {branch.by!r}; {named(given)} has no such field"]
        given = field
    known = outcomes_of(given)
    if OTHERWISE in branch.targets:
        return []
    if known is None:
        kind = "" if given is UNKNOWN else f", a {named(given)},"
        ways = ", ".join(map(repr, branch.targets))
        hint = "give it otherwise=, or a type that names all outcomes, a Literal"
        return [f"the branch after {source.name!r}: what it goes by{kind} may be something else than {ways}: {hint}"]
    missing = [each for each in known if each not in branch.targets]
    never = [each for each in branch.targets if each not in known]
    return [
        *(f"the branch after {source.name!r} is missing one for {each!r}" for each in missing),
        *(f"the branch after {source.name!r} has one for {each!r}, which never comes" for each in never),
    ]


def _given_by(function: Any) -> Any:
    """What a function says that it returns; UNKNOWN where it doesn't."""
    try:
        return signature_of(function).returns
    except (TypeError, ValueError):
        return UNKNOWN


def _risks(node: Node) -> list[str]:
    found: list[str] = []
    if node.irreversible and node.retry is not None and node.retry.times:
        found.append(f"{node.name!r} is irreversible: it is not tried again, since nobody knows what the first try did")
    if node.irreversible and (node.copies > 1 or node.ahead_by):
        found.append(f"{node.name!r} is irreversible: it can't vote, which does it more than once; vote before it")
    if node.each < 0 or node.copies < 1:
        found.append(f"{node.name!r} works on at least one item, and at least once")
    if node.model is None and node.max_tokens is not None:
        found.append(f"{node.name!r} has max_tokens= but no model=")
    if node.compensate is not None and not _callable_with(node.compensate):
        found.append(f"{node.name!r}: compensate must take what the node gave, and perhaps a context")
    return found


def _callable_with(function: Any) -> bool:
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        try:
            inspect.signature(function).bind(None, None)
        except TypeError:
            return False
    except ValueError:
        pass
    return True
