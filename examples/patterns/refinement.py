"""Evaluator and optimizer: a draft, a review by another call, and the draft again, for three rounds at the most.

python examples/patterns/refinement.py
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from show import MODEL, show

from crew_guard import node, refine
from crew_guard.workflows.patterns import Revision


class Review(BaseModel):
    good: bool
    problems: list[str] = []


def translate(asked: Mapping[str, Any] | Revision) -> str:
    if isinstance(asked, Revision):
        return (
            f"Translate again: {asked.asked['text']}\nBefore: {asked.draft}\nWrong: {'; '.join(asked.review.problems)}"
        )
    return f"Translate into German: {asked['text']}"


def review(draft: str) -> str:
    return f"Is this good German? Name what is wrong.\n{draft}"


def is_good(found: Review) -> bool:
    return found.good


flow = refine(
    node(translate, model=MODEL),
    node(review, model=MODEL, output=Review),
    accept=is_good,
    rounds=3,
    then="go_on",
    name="translation",
)

if __name__ == "__main__":
    show(
        flow,
        {"text": "It's raining cats and dogs."},
        [
            "Es regnet Katzen und Hunde.",
            '{"good": false, "problems": ["taken word for word"]}',
            "Es schüttet wie aus Eimern.",
            '{"good": true}',
        ],
    )
