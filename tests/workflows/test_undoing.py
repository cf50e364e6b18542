"""What workers and voters did is undone one by one, also where another one of them failed."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from crew_guard import Supervisor, Workflow, node, orchestrate, parallel, vote
from crew_guard.core.events import Compensated, NodeFinished
from crew_guard.errors import WorkflowError
from tests.workflows.going import AtGate, Ran


def same(value: Any) -> Any:
    return value


def fails(_: Any) -> None:
    raise OSError("no")


class Desk:
    """Books what it is asked for, and cancels it by what it gave."""

    def __init__(self, sold_out: str = "", closed: str = "") -> None:
        self.booked: list[str] = []
        self.cancelled: list[str] = []
        self.sold_out, self.closed = sold_out, closed

    async def book(self, what: str) -> str:
        if what == self.sold_out:
            while len(self.booked) < 2:
                await asyncio.sleep(0)
            raise OSError(f"no {what}")
        self.booked.append(what)
        return what

    def cancel(self, booked: str) -> None:
        if booked == self.closed:
            raise OSError("closed")
        self.cancelled.append(booked)

    def trip(self, end: Any = same, **options: Any) -> Workflow:
        plan = node(lambda _: ["hotel", "flight", "car"], name="plan")
        options = options or {"compensate": self.cancel}
        return orchestrate(plan, node(self.book, **options), node(end, name="end"))


def test_what_workers_did_is_undone_where_one_of_them_fails():
    """One by one, the latest first; the journal says so."""
    desk = Desk(sold_out="car")
    ran = Ran(desk.trip())
    assert desk.cancelled == ["flight", "hotel"]
    assert ran.result.error == "node 'book': OSError: no car"
    assert [(event.node, event.error) for event in ran.of(Compensated)] == [("book", "")]


def test_what_workers_did_is_undone_one_by_one_where_a_later_node_fails():
    """Each with what it gave itself, not with the list of all; those that can't be undone are named."""
    desk = Desk(closed="flight")
    ran = Ran(desk.trip(fails))
    assert desk.cancelled == ["car", "hotel"]
    assert ran.result.error == "node 'end': OSError: no; not undone: book (1 of 3: 'flight': OSError: closed)"
    assert [(event.node, event.error) for event in ran.of(Compensated)] == [
        ("book", "1 of 3: 'flight': OSError: closed")
    ]


@pytest.mark.parametrize(("closed", "sold_out"), [("flight", ""), ("hotel", "car")])
def test_what_is_undone_in_part_is_in_doubt_for_who_goes_on(closed: str, sold_out: str):
    """Neither all of it is there nor nothing: it is not taken for done, and not done once more by itself."""
    flow = Desk(closed=closed, sold_out=sold_out).trip(fails)
    events = Ran(flow).events
    with pytest.raises(WorkflowError, match=r"'book' was undone in part, or perhaps not at all \(. of .: '"):
        flow.continued(events)
    assert "book" not in flow.done_in(events, again=["book"])
    assert flow.done_in(events, done={"book": ["hotel"]})["book"] == ["hotel"]


def test_what_irreversible_workers_did_before_one_failed_is_named():
    """In the error and in the journal."""
    ran = Ran(Desk(sold_out="car").trip(irreversible=True, approve=lambda _: True))
    stays = "done for 2 of its items: 'hotel', 'flight'"
    assert ran.result.error == f"node 'book': OSError: no car; not undone: book ({stays})"
    assert [event.error for event in ran.of(NodeFinished) if event.error] == [f"OSError: no car; {stays}"]


def test_what_workers_did_is_undone_where_a_section_beside_them_fails():
    """They are cancelled in the midst of it."""
    desk = Desk()
    enough = asyncio.Event()

    async def book(what: str) -> str:
        if what == "car":
            enough.set()
            await asyncio.Event().wait()
        return await desk.book(what)

    async def weather(_: Any) -> None:
        await enough.wait()
        raise OSError("storm")

    plan = node(lambda _: ["hotel", "flight", "car"], name="plan")
    trip = orchestrate(plan, node(book, compensate=desk.cancel), node(same, name="end"))
    with pytest.raises(OSError, match="storm"):
        AtGate(parallel(trip, weather)).run()
    assert desk.cancelled == ["flight", "hotel"]


def test_what_is_done_is_undone_where_a_section_fails_before_its_end_is_on_disk(tmp_path: Path):
    """It is done as soon as it gives something; that its end goes to disk takes a while."""
    desk, booked = Desk(), asyncio.Event()

    async def book(_: Any) -> str:
        booked.set()
        return await desk.book("hotel")

    async def weather(_: Any) -> None:
        await booked.wait()
        for _ in range(3):
            await asyncio.sleep(0)
        raise OSError("storm")

    booking = node(book, irreversible=True, approve=lambda _: True, compensate=desk.cancel)
    with Supervisor(store=tmp_path / "runs.db") as supervisor:
        result = supervisor.run(parallel(booking, weather), {}, run_id="run1")
    assert (result.error, desk.cancelled) == ("node 'weather': OSError: storm", ["hotel"])


def test_a_killed_run_says_that_what_workers_did_stays():
    """There is no time to undo it."""
    desk, begun = Desk(), asyncio.Event()

    async def book(what: str) -> str:
        if what == "car":
            begun.set()
            await asyncio.Event().wait()
        return await desk.book(what)

    plan = node(lambda _: ["hotel", "flight", "car"], name="plan")
    at = AtGate(orchestrate(plan, node(book, compensate=desk.cancel), node(same, name="end")))
    at.killed(begun)
    left = [(event.node, event.error) for event in at.events() if isinstance(event, Compensated)]
    assert left == [("book", "the run was ended before it could be undone")]


def test_each_vote_is_undone_by_itself():
    """Also where there is no majority."""
    undone: list[Any] = []
    voted = iter("abc")
    ran = Ran(vote(node(lambda _: next(voted), name="pick", compensate=undone.append), voters=3))
    assert "no majority" in ran.result.error
    assert sorted(undone) == ["a", "b", "c"]
