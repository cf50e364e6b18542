"""Nodes that don't end when they are cancelled: the workflow gives them up, names them, and hears of them no more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from crew_guard import Policy, Supervisor, Workflow, chain, node, orchestrate, parallel, tool, vote
from crew_guard.core.events import ApprovalGiven, Compensated, Event, Judged, NodeFinished, NodeStarted
from crew_guard.core.verdicts import Verdict
from crew_guard.store.memory import MemoryStore
from crew_guard.workflows import overdue
from crew_guard.workflows.context import NodeContext
from crew_guard.workflows.nodes import Retry
from tests.workflows.going import Ran

NEVER = 30.0


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overdue, "GRACE", 0.05)


@pytest.fixture
def _long_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overdue, "GRACE", NEVER)


class Stubborn:
    """Work that swallows its cancellation, each time, until it is let go."""

    def __init__(self, then: Callable[[Any], Coroutine[Any, Any, Any]] | None = None) -> None:
        self.begun = self.over = 0
        self._then = then
        self._go = asyncio.Event()

    async def work(self, value: Any, context: NodeContext) -> Any:
        self.begun += 1
        while not self._go.is_set():
            with suppress(asyncio.CancelledError):
                await self._go.wait()
        try:
            return "late" if self._then is None else await self._then(context)
        finally:
            self.over += 1

    async def boom(self, _: Any) -> None:
        """Fail once it has begun."""
        while not self.begun:
            await asyncio.sleep(0)
        await boom(_)

    async def let_go(self) -> None:
        self._go.set()
        while self.over < self.begun:
            await asyncio.sleep(0)
        await turns()


class World:
    """What is booked, and cancelled again."""

    def __init__(self) -> None:
        self.booked: list[str] = []

    async def book(self, value: Any) -> str:
        self.booked.append("seat")
        return "seat"

    async def cancel(self, seat: str) -> None:
        self.booked.remove(seat)

    @property
    def node(self) -> Any:
        return node(self.book, compensate=self.cancel)


async def turns() -> None:
    """As many turns of the loop as others need to get where they are going."""
    for _ in range(50):
        await asyncio.sleep(0)


async def boom(_: Any) -> None:
    await turns()
    raise OSError("boom")


class RanToItsEnd:
    """One run, its journal when its result was there, and when what it left behind had come to its end."""

    def __init__(self, flow: Workflow, *stubborn: Stubborn, **policy: Any) -> None:
        store = MemoryStore()

        async def main() -> None:
            supervisor = Supervisor(Policy.model_validate(policy), store=store)
            self.result = await supervisor.arun(flow, {}, run_id="run1")
            self.events: list[Event] = list(store.read("run1"))
            for each in stubborn:
                await each.let_go()

        asyncio.run(asyncio.wait_for(main(), NEVER))
        assert list(store.read("run1")) == self.events

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def test_a_sibling_that_does_not_end_holds_no_run():
    """What was finished is undone, the failure is the result's error, and what goes on is named."""
    world, stubborn = World(), Stubborn()
    ran = RanToItsEnd(parallel(world.node, node(stubborn.work, name="stubborn"), stubborn.boom), stubborn)
    assert (ran.result.status, ran.result.error) == ("failed", "node 'boom': OSError: boom")
    assert (ran.result.late, world.booked) == (("node:stubborn",), [])
    assert [(event.node, event.error) for event in ran.of(Compensated)] == [("book", "")]


def test_at_a_deadline_it_is_named_and_what_stays_is_told():
    """At once: nobody waits for its grace."""
    world, stubborn = World(), Stubborn()
    flow = parallel(world.node, node(stubborn.work, name="stubborn"))
    ran = RanToItsEnd(flow, stubborn, limits={"max_seconds": 0.5})
    assert (ran.result.status, ran.result.late) == ("stopped", ("node:stubborn",))
    told = [(event.node, event.error) for event in ran.of(Compensated)]
    assert told == [("book", "the run was ended before it could be undone")]


@pytest.mark.usefixtures("_long_grace")
def test_a_deadline_that_strikes_while_others_are_ended_hides_no_failure():
    """The result is the stop's, and its error says what failed, and what stays."""
    world, stubborn = World(), Stubborn()
    flow = parallel(world.node, node(stubborn.work, name="stubborn"), stubborn.boom)
    ran = RanToItsEnd(flow, stubborn, limits={"max_seconds": 1})
    assert (ran.result.status, ran.result.late, world.booked) == ("stopped", ("node:stubborn",), ["seat"])
    why = "not undone: book (the run was ended before it could be undone)"
    assert ran.result.error == f"node 'boom': OSError: boom; {why}"


def test_an_attempt_that_does_not_end_is_named_and_another_one_begins():
    """The node's name stands there once, however many of its attempts go on."""
    stubborn = Stubborn()
    again = node(stubborn.work, name="slow", timeout=0.02, retry=Retry(1, first=0))
    ran = RanToItsEnd(chain(again), stubborn)
    assert (ran.result.error, stubborn.begun) == ("node 'slow': slow was ended after 0.02 s, its timeout", 2)
    assert ran.result.late == ("node:slow",)
    assert [event.attempt for event in ran.of(NodeStarted)] == [1, 2]
    assert len(ran.of(NodeFinished)) == 1


def test_what_is_left_behind_does_nothing_more_in_its_run():
    """It is refused, and its verdict is nobody's, though the run goes on with another attempt."""
    called: list[str] = []
    refused: list[str] = []

    @tool
    def act(by: str) -> str:
        """Act."""
        called.append(by)
        return by

    async def acts(context: NodeContext) -> None:
        context.gate.judged(context.node, context.node, Verdict(passed=False, reason="late"))
        with pytest.raises(Exception, match="this attempt at first was given up") as caught:
            await context.call_tool(act, {"by": "late"})
        refused.append(type(caught.value).__name__)

    stubborn = Stubborn(acts)

    async def first(value: Any, context: NodeContext) -> str:
        if context.attempt == 1:
            return await stubborn.work(value, context)
        return (await context.call_tool(act, {"by": "second"})).value

    async def second(value: Any) -> str:
        await stubborn.let_go()
        return value

    flow = chain(node(first, timeout=0.5, retry=Retry(1, first=0), verify=lambda _: True), second)
    ran = Ran(flow)
    assert (ran.result.output, called, refused) == ("second", ["second"], ["LimitExceededError"])
    assert (ran.result.usage.tool_calls, ran.result.late) == (1, ())
    assert [event.passed for event in ran.of(Judged)] == [True]


@pytest.mark.usefixtures("_long_grace")
def test_what_ends_within_its_grace_is_not_late():
    """Its tidying up is waited for, its gate is open, and what it did all the same is undone."""
    world = World()

    async def tidies(_: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await turns()
            world.booked.append("tidied")

    async def does_it(value: Any) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await turns()
        return await world.book(value)

    result = Ran(parallel(tidies, node(does_it, compensate=world.cancel), boom)).result
    assert (result.error, result.late, world.booked) == ("node 'boom': OSError: boom", (), ["tidied"])


@pytest.mark.usefixtures("_long_grace")
def test_a_node_that_is_cancelled_is_not_tried_again():
    """Whatever it makes of its cancellation."""
    tries: list[int] = []

    async def turns_it_into_another(_: Any) -> None:
        tries.append(1)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise OSError("the connection was closed") from None

    flaky = node(turns_it_into_another, name="flaky", retry=Retry(5, first=0))
    assert Ran(parallel(flaky, boom)).result.error == "node 'boom': OSError: boom"
    assert tries == [1]


@pytest.mark.usefixtures("_long_grace")
def test_a_yes_that_comes_after_the_end_is_none():
    """What can't be undone is not done then."""
    sent: list[Any] = []

    async def approve(_: Any) -> bool:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return True

    ran = Ran(parallel(node(sent.append, name="send", irreversible=True, approve=approve), boom))
    assert (ran.result.error, sent) == ("node 'boom': OSError: boom", [])
    assert not ran.of(ApprovalGiven)


@pytest.mark.parametrize("where", ["a worker", "a voter", "a verifier", "an approver", "all attempts"])
def test_wherever_it_is_the_others_go_on_to_their_end(where: str):
    """Code of a user's that doesn't end is left behind, wherever a node calls it."""
    stubborn = Stubborn()

    async def one_is(value: Any, context: NodeContext) -> Any:
        return await stubborn.work(value, context) if not stubborn.begun else value

    async def same(value: Any) -> Any:
        return value

    async def asked(approval: Any) -> Any:
        return await stubborn.work(approval, None)  # type: ignore[arg-type]

    flows: dict[str, Any] = {
        "a worker": lambda: orchestrate(lambda _: [1, 2, 3], node(one_is, name="x"), same),
        "a voter": lambda: vote(node(one_is, name="x"), voters=3),
        "a verifier": lambda: chain(node(same, name="x", verify=stubborn.work)),
        "an approver": lambda: chain(node(same, name="x", irreversible=True, approve=asked)),
        "all attempts": lambda: chain(node(stubborn.work, name="x", caps={"max_seconds": NEVER})),
    }
    ran = RanToItsEnd(parallel(flows[where](), stubborn.boom), stubborn)
    left = "node:x/verify" if where == "a verifier" else "node:x"
    assert (ran.result.error, ran.result.late) == ("node 'boom': OSError: boom", (left,))


def test_the_time_of_all_attempts_leaves_behind_what_does_not_end():
    """A cap of the node's stopped the run, and the node is named."""
    stubborn = Stubborn()
    slow = node(stubborn.work, name="slow", caps={"max_seconds": 0.02}, retry=5)
    ran = RanToItsEnd(chain(slow), stubborn)
    assert (ran.result.status, ran.result.error) == ("stopped", "")
    assert str(ran.result.stopped) == "max_seconds of node:slow: the cap is 0.02s, 0.02s used"
    assert (ran.result.late, stubborn.begun) == (("node:slow",), 1)


def test_an_undo_that_does_not_end_holds_up_no_other():
    """It is named, and said to be not undone."""
    world, stubborn = World(), Stubborn()

    async def same(value: Any) -> Any:
        return value

    held = node(same, name="hotel", compensate=stubborn.work, timeout=0.2)
    ran = RanToItsEnd(chain(world.node, held, boom), stubborn)
    assert ran.result.error.endswith("not undone: hotel (NodeFailedError: hotel was ended after 0.2 s, its timeout)")
    assert (ran.result.late, world.booked) == (("node:hotel",), [])
