"""Orchestrator and workers: a model splits the question, workers answer the parts at once, one puts it together.

At most four parts a round and two rounds: the second plan sees all results so far and may ask for what is missing.

python examples/patterns/orchestrator.py
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from show import MODEL, show

from crew_guard import NodeContext, node, orchestrate


class Plan(BaseModel):
    questions: list[str]


async def plan(value: Mapping[str, Any] | Sequence[str], context: NodeContext) -> list[str]:
    asked = f"Which questions, at most four, have to be answered to say {context.inputs['question']}"
    if not isinstance(value, Mapping):
        asked += "\nThese are answered; give none if that is enough:\n" + "\n".join(value)
    return (await context.ask(MODEL, asked, Plan)).questions


def answer(question: str) -> str:
    return f"Answer in one sentence: {question}"


def put_together(answers: Sequence[str]) -> str:
    return "Make one paragraph of this, and add nothing:\n" + "\n".join(answers)


flow = orchestrate(
    plan,
    node(answer, model=MODEL, retry=1, caps={"max_steps": 16}),
    node(put_together, model=MODEL),
    workers=4,
    rounds=2,
    name="questions",
)

if __name__ == "__main__":
    show(
        flow,
        {"question": "whether gzip or zstd suits a log archive?"},
        [
            '{"questions": ["How fast is gzip?", "How fast is zstd?"]}',
            "gzip is slow.",
            "zstd is fast.",
            '{"questions": []}',
            "zstd suits it better: gzip is slow, zstd is fast.",
        ],
    )
