"""What a journal says is done, and what is made again because it was built on what is not."""

import asyncio
from typing import Any

import pytest

from crew_guard import Workflow, chain, node
from crew_guard.core.events import Compensated, NodeFinished
from crew_guard.workflows.graph import loop
from tests.workflows.going import AtGate, Ran


def same(value: Any) -> Any:
    return value


def undoes(_: Any) -> None:
    """It is as if it had not been."""


def fails(_: Any) -> None:
    raise OSError("no")


class Trip:
    """A seat is reserved, a letter is written about it, and it is paid for."""

    def __init__(self) -> None:
        self.seats, self.fails, self.sent = 0, True, 0

    def reserve(self, _: Any) -> str:
        self.seats += 1
        return f"seat {self.seats}"

    def letter(self, seat: str) -> str:
        return f"you have {seat}"

    def send(self, letter: str) -> str:
        self.sent += 1
        return letter

    def charge(self, letter: str) -> str:
        if self.fails:
            raise OSError("card refused")
        return f"charged: {letter}"


def test_what_was_built_on_an_undone_node_is_made_again():
    """The letter speaks of the seat that is held, not of the one that was given back."""
    trip = Trip()
    flow = chain(node(trip.reserve, compensate=undoes), trip.letter, trip.charge)
    done = flow.done_in(Ran(flow).events)
    assert done == {}
    trip.fails = False
    assert AtGate(flow).run(done=done).output == "charged: you have seat 2"


def test_what_cant_be_undone_is_not_done_again():
    """It is sent once, though it was built on a seat that was given back."""
    trip = Trip()
    send = node(trip.send, irreversible=True, approve=lambda _: True)
    flow = chain(node(trip.reserve, compensate=undoes), trip.letter, send, trip.charge)
    done = flow.done_in(Ran(flow).events)
    assert done == {"send": "you have seat 1"}
    trip.fails = False
    assert AtGate(flow).run(done=done).output == "charged: you have seat 1"
    assert trip.sent == 1


def test_what_stands_beside_an_undone_node_stays():
    """Only what comes after it was built on it."""
    nodes = [node(same, name="start"), node(same, name="book", compensate=undoes), node(lambda _: 1, name="look")]
    nodes += [node(lambda _: 2, name="note"), node(lambda values: values, name="meet"), node(fails)]
    edges = [("start", "book", "note", "meet", "fails"), ("start", "look", "meet")]
    flow = Workflow(nodes, edges)
    assert flow.done_in(Ran(flow).events) == {"start": {}, "look": 1}


def test_a_round_of_a_loop_was_built_on_its_last():
    """What goes back carries what was undone with it."""
    flow = Workflow(
        [node(same, name="a"), node(same, name="b", compensate=undoes), node(same, name="c")],
        [("a", "b", "c"), loop("b", "a", again=lambda _: False, rounds=2)],
    )
    events = [
        *[NodeFinished(n, 1.0, "workflow", name, "", 1) for n, name in enumerate("abc", 1)],
        Compensated(4, 1.0, "workflow", "b"),
    ]
    assert flow.done_in(events) == {}


@pytest.mark.parametrize("undo", [fails, undoes])
def test_what_could_not_be_undone_is_done(undo: Any):
    """Its effect is still there: a second one beside it is nobody's wish."""
    trip = Trip()
    flow = chain(node(trip.reserve, compensate=undo), trip.charge)
    assert flow.done_in(Ran(flow).events) == ({"reserve": "seat 1"} if undo is fails else {})


def test_what_a_kill_left_undone_is_done():
    """The run that goes on from there has the seat that the killed one took."""
    trip, begun = Trip(), asyncio.Event()

    async def stuck(_: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    at = AtGate(chain(node(trip.reserve, compensate=undoes), stuck))

    at.killed(begun)
    assert at.flow.done_in(at.events()) == {"reserve": "seat 1"}
