"""A graph written out: a branch, a loop, an approval, and what was done is undone where a later step fails.

python examples/patterns/booking.py
"""

from collections.abc import Mapping
from typing import Any, Literal

from show import show

from crew_guard import NodeContext, Workflow, node
from crew_guard.workflows.asking import Approval
from crew_guard.workflows.graph import branch, loop

BOOKED: list[str] = []
"""What stands for the systems of others."""


def budget(inputs: Mapping[str, Any]) -> Literal["train", "flight"]:
    return "flight" if inputs["euros"] > 200 else "train"


def by_train(inputs: Mapping[str, Any]) -> str:
    BOOKED.append("train")
    return "train"


def by_flight(inputs: Mapping[str, Any]) -> str:
    BOOKED.append("flight")
    return "flight"


def cancel(booked: str) -> None:
    BOOKED.remove(booked)


def find_hotel(way: str, context: NodeContext) -> int:
    """Each round asks the next hotel for its price."""
    return context.inputs["hotels"][context.round - 1]


def same_way(_price: int, context: NodeContext) -> str:
    return context.given["find_hotel"]


def too_dear(price: int) -> bool:
    return price > 100


def pay(price: int) -> str:
    return f"paid {price} euros for {BOOKED[-1]} and hotel"


def small_sums(approval: Approval) -> bool:
    """Stands for a person: without approve= one at the terminal is asked."""
    return approval.value <= 90


flow = Workflow(
    [
        budget,
        node(by_train, compensate=cancel),
        node(by_flight, compensate=cancel),
        node(find_hotel, timeout=30),
        node(pay, irreversible=True, approve=small_sums),
    ],
    [
        branch("budget", {"train": "by_train", "flight": "by_flight"}, passes="input"),
        ("by_train", "find_hotel"),
        ("by_flight", "find_hotel"),
        loop("find_hotel", "find_hotel", again=too_dear, rounds=3, passes=same_way),
        ("find_hotel", "pay"),
    ],
    name="trip",
)

if __name__ == "__main__":
    show(flow, {"euros": 150, "hotels": [180, 120, 85]}, [])
    show(flow, {"euros": 150, "hotels": [180, 95]}, [])
    print("booked in the end:", BOOKED)
