"""Parallelization by sections: three reviews of one text at once, each with one thing to look at, then one report.

python examples/patterns/parallelization.py
"""

from collections.abc import Mapping
from typing import Any

from show import MODEL, show

from crew_guard import Workflow, node, parallel
from crew_guard.core.messages import ModelRequest

ANSWERS = {"facts": "There are others.", "tone": "Boastful.", "length": "None."}
"""What the script says of each section: they ask at once, in whatever order."""


def about(what: str) -> Any:
    """A section: a prompt that asks for one thing."""

    def prompt(inputs: Mapping[str, Any]) -> str:
        return f"Name the worst problem of {what} in this text, in one sentence.\n{inputs['text']}"

    return node(prompt, name=what, model=MODEL, timeout=60)


def report(facts: str, tone: str, length: str) -> str:
    """What the sections said comes by their names."""
    return f"Facts: {facts}\nTone: {tone}\nLength: {length}"


flow: Workflow = parallel(about("facts"), about("tone"), about("length"), join=report, name="review")


def answer(request: ModelRequest) -> str:
    """The scripted answer to the section that asks."""
    asked = request.messages[-1].text
    return next(text for what, text in ANSWERS.items() if f"problem of {what}" in asked)


if __name__ == "__main__":
    show(flow, {"text": "Our gzip is the only compressor there is, as everybody knows."}, answer)
