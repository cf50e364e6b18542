"""A graph as a picture: Mermaid for pages, a tree for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crew_guard.core.limits import NO_CAP, POLICY_NAMES, Caps
from crew_guard.core.tools import Tool
from crew_guard.core.usage import NANO
from crew_guard.core.verdicts import Judge
from crew_guard.workflows.agents import Delegation
from crew_guard.workflows.edges import Edge
from crew_guard.workflows.nodes import Node
from crew_guard.workflows.shape import Shape

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree


def mermaid(name: str, shape: Shape) -> str:
    """A flowchart: agents as hexagons, models as rounded boxes, what can't be undone with a thick edge."""
    ids = {each: f"n{place}" for place, each in enumerate(shape.order)}
    lines = [f"%% {' '.join(name.split())}", "flowchart TD"]
    for each in shape.order:
        node = shape.nodes[each]
        words = _escaped("\n".join((node.name, *facts(node))))
        opened, closed = (
            ("{{", "}}") if isinstance(node.function, Delegation) else ("(", ")") if node.model else ("[", "]")
        )
        lines.append(f'    {ids[each]}{opened}"{words}"{closed}')
    for edge in shape.edges:
        label = f'|"{_escaped(_outcome(edge))}"|' if edge.branches else ""
        lines.append(f"    {ids[edge.source]} -->{label} {ids[edge.target]}")
    for loop in shape.loops.values():
        again = _escaped(f"again, {loop.rounds} rounds at most")
        lines.append(f'    {ids[loop.source]} -.->|"{again}"| {ids[loop.target]}')
    risky = [ids[each] for each in shape.order if shape.nodes[each].irreversible]
    if risky:
        lines += ["    classDef irreversible stroke-width:3px", f"    class {','.join(risky)} irreversible"]
    return "\n".join(lines) + "\n"


def tree(name: str, shape: Shape) -> Tree:
    """The paths from the start; where several meet again, the node stands where it was first, and is named after."""
    from rich.text import Text
    from rich.tree import Tree

    root = Tree(Text(name, style="bold"))
    shown: set[str] = set()

    def grow(branch: Tree, each: str, label: str, *, forked: bool) -> None:
        line = Text()
        if label:
            line.append(f"{label}: ", style="dim")
        if each in shown:
            branch.add(line.append(f"↪ {each}", style="dim"))
            return
        shown.add(each)
        _describe(line, shape, each)
        place = branch.add(line)
        out = [shape.edges[one] for one in shape.out[each]]
        forks = len(out) > 1 or any(edge.branches for edge in out)
        # What simply comes next stands below, not further in: a chain is no staircase.
        after = place if forks or forked else branch
        for edge in out:
            grow(after, edge.target, _outcome(edge) if edge.branches else "", forked=forks)

    for each in shape.start:
        grow(root, each, "", forked=len(shape.start) > 1)
    return root


def facts(node: Node) -> list[str]:
    """What is declared about a node, in words."""
    worker = node.function
    said = {
        f"asks {node.model if isinstance(node.model, str) else getattr(node.model, 'name', '')}": node.model,
        "tool": isinstance(worker, Tool),
        f"agents: {_members(worker)}": isinstance(worker, Delegation),
        f"gives {node.output.__name__ if node.output else ''}": node.output,
        f"each of at most {node.each}": node.each,
        f"{node.copies} times": node.copies > 1,
        f"verified by {_verifier(node.verify)}": node.verify,
        "irreversible: asks first": node.irreversible,
        f"up to {node.retry.times if node.retry else 0} more tries": node.retry and node.retry.times,
        f"{node.timeout or 0:g} s at most": node.timeout,
        f"{node.max_seconds or 0:g} s at most, all tries": node.max_seconds,
        "can be undone": node.compensate,
    }
    return [words for words, holds in said.items() if holds] + _capped(node.caps)


def _verifier(verify: Any) -> str:
    return f"the judge {verify.name}" if isinstance(verify, Judge) else getattr(verify, "__name__", "a function")


def _members(worker: Any) -> str:
    return ", ".join(agent.name for agent in worker.crew.everyone()) if isinstance(worker, Delegation) else ""


def _capped(caps: Caps) -> list[str]:
    return [
        f"{POLICY_NAMES[name]} {f'${cap / NANO:.4g}' if name == 'nano_usd' else cap}"
        for name, cap in caps._asdict().items()
        if cap < NO_CAP
    ]


def _describe(line: Text, shape: Shape, name: str) -> None:
    node = shape.nodes[name]
    line.append(name, style="bold red" if node.irreversible else "bold")
    if found := facts(node):
        line.append(f"  {', '.join(found)}", style="dim")
    loop = shape.loops.get(name)
    if loop is not None:
        line.append(f"  ⟲ back to {loop.target}, {loop.rounds} rounds at most", style="yellow")


def _outcome(edge: Edge) -> str:
    return str(getattr(edge.outcome, "value", edge.outcome))


def _escaped(text: str) -> str:
    text = text.replace("&", "#amp;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")
    return text.replace("\n", "<br/>")
