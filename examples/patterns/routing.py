"""Routing: one cheap call says what kind of request it is, and each kind has a path of its own.

python examples/patterns/routing.py
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel
from show import MODEL, show

from crew_guard import chain, node, route, tool


class Kind(BaseModel):
    kind: Literal["refund", "question", "other"]


@tool
def find_order(number: str) -> dict[str, str]:
    """Look an order up by its number."""
    return {"number": number, "status": "delivered"}


def sort(inputs: Mapping[str, Any]) -> str:
    return f"Is this a refund, a question or something other?\n{inputs['request']}"


def order_of(inputs: Mapping[str, Any]) -> dict[str, str]:
    return {"number": str(inputs["order"])}


def refund(order: dict[str, str]) -> str:
    return f"Order {order['number']} was {order['status']}: a person will look at the refund."


def answer(inputs: Mapping[str, Any]) -> str:
    return f"Answer in one sentence: {inputs['request']}"


def hand_over(inputs: Mapping[str, Any]) -> str:
    return f"Handed to a person: {inputs['request']}"


# The type of `kind` names every outcome: leave a way out, and the workflow is refused when it is made.
flow = route(
    node(sort, model=MODEL, output=Kind),
    {"refund": chain(order_of, find_order, refund), "question": node(answer, model=MODEL), "other": hand_over},
    field="kind",
    name="support",
)

if __name__ == "__main__":
    show(flow, {"request": "I want my money back.", "order": 4711}, ['{"kind": "refund"}'])
