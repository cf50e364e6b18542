"""Prompt chaining: an outline, a gate that looks at it before anything more is paid for, then the text.

python examples/patterns/chaining.py
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from show import MODEL, show

from crew_guard import NodeContext, Verdict, chain, node
from crew_guard.workflows.patterns import gate


class Outline(BaseModel):
    title: str
    points: list[str]


def outline(inputs: Mapping[str, Any]) -> str:
    return f"Outline a short announcement of {inputs['product']} for {inputs['audience']}: a title and three points."


def three_points(found: Outline) -> Verdict:
    """A fact about the outline that no model is needed for."""
    return Verdict(passed=len(found.points) == 3, reason=f"it has {len(found.points)} points, not 3")


def write(found: Outline) -> str:
    points = "\n".join(f"- {point}" for point in found.points)
    return f"Write an announcement of at most 100 words with the title {found.title!r} and these points:\n{points}"


def short_enough(text: str, _context: NodeContext) -> float:
    """A grade: full marks up to 100 words, half of them at 200, which still passes."""
    return min(1.0, 100 / max(1, len(text.split())))


flow = chain(
    node(outline, model=MODEL, output=Outline),
    gate(three_points),
    node(write, model=MODEL, verify=short_enough, retry=1),
    name="announcement",
)

if __name__ == "__main__":
    show(
        flow,
        {"product": "a bicycle lock that rings", "audience": "commuters"},
        [
            '{"title": "It rings", "points": ["Hear it", "Trust it", "Ride on"]}',
            "It rings. Hear it from across the street, trust it, ride on.",
        ],
    )
