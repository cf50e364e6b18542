"""What one node gives is what the next one gets: looking at it, asking about it and waiting change nothing."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from crew_guard import Supervisor, Workflow, chain, node, orchestrate, tool
from crew_guard.core import plain
from crew_guard.core.events import ApprovalAsked, ApprovalGiven, NodeFinished
from crew_guard.core.policy import Policy
from crew_guard.store.memory import MemoryStore
from crew_guard.workflows.asking import copy_of
from crew_guard.workflows.graph import loop
from tests.workflows.going import AtGate, Ran


def generated(_: Any) -> Iterator[str]:
    yield from "abc"


async def generated_later(_: Any) -> AsyncIterator[str]:
    for each in "abc":
        await asyncio.sleep(0)
        yield each


@tool
def rows(run: str) -> Iterator[str]:
    """All rows."""
    yield from "abc"


def same(value: Any) -> Any:
    return value


def counted(values: Any) -> int:
    return len(list(values))


def joined(values: Any) -> str:
    return "".join(values)


GIVE = [
    node(generated, name="give"),
    node(generated_later, name="give"),
    node(lambda _: map(str, "abc"), name="give"),
    node(lambda _: iter("abc"), name="give"),
]


@pytest.mark.parametrize("give", GIVE)
def test_what_an_iterator_gives_is_handed_on_as_a_list(give: Any):
    """It is in the journal, and still there for the next node."""
    ran = Ran(chain(give, node(joined)))
    assert ran.result.output == "abc"
    assert ran.of(NodeFinished)[0].output == ["a", "b", "c"]


def test_a_tool_that_gives_an_iterator_is_handed_on_alike():
    """Its text for an agent is made of the same list."""
    ran = Ran(chain(node(lambda _: {"run": "x"}, name="which"), node(rows), node(counted)))
    assert ran.result.output == 3


def test_the_workers_of_a_plan_that_is_an_iterator_are_all_asked_about():
    """Each part is asked about once, and acted on once."""
    asked: list[str] = []
    sent: list[str] = []
    send = node(sent.append, name="send", irreversible=True, approve=lambda a: asked.append(a.value) is None)
    ran = Ran(orchestrate(node(generated, name="plan"), send, node(counted)))
    assert (ran.result.output, asked, sorted(sent)) == (3, ["a", "b", "c"], ["a", "b", "c"])


class Fresh:
    """Other items each time that it is listed."""

    def __init__(self) -> None:
        self.times = 0

    def __iter__(self) -> Iterator[str]:
        self.times += 1
        return iter([f"a{self.times}"])


def test_what_is_acted_on_is_what_was_listed_to_be_asked_about():
    """Not what a second look finds."""
    asked: list[str] = []
    sent: list[str] = []
    send = node(sent.append, name="send", irreversible=True, approve=lambda a: asked.append(a.value) is None)
    Ran(orchestrate(node(lambda _: Fresh(), name="plan"), send, node(counted)))
    assert sent == asked


def test_what_a_loop_passes_back_is_there_for_a_second_try():
    """A try that failed has not used it up."""
    seen: list[Any] = []

    def look(value: Any) -> int:
        seen.append(list(value))
        if len(seen) == 2:
            raise OSError("once")
        return len(seen)

    again = loop("look", "look", again=lambda _: len(seen) < 3, passes=lambda _: iter("abc"), rounds=3)
    at = AtGate(Workflow([node(look, retry=1)], [again]))
    at.run()
    assert seen[1:] == [["a", "b", "c"]] * 2


def test_an_iterator_that_was_done_already_is_a_list_too():
    """Where a workflow goes on from a journal: for the next node, and in the journal again."""
    at = AtGate(chain(node(generated, name="give"), node(counted)))
    assert at.run(done={"give": ["a", "b"]}).output == 2
    assert [event.output for event in at.events() if isinstance(event, NodeFinished)] == [["a", "b"], 2]


def test_an_iterator_among_a_runs_inputs_reaches_its_first_node():
    """The journal's look at it takes nothing away."""
    flow = chain(node(lambda inputs: list(inputs["rows"]), name="first"))
    result = Supervisor(Policy(), store=MemoryStore()).run(flow, {"rows": iter("abc")})
    assert result.output == ["a", "b", "c"]


def test_an_iterator_without_an_end_fails_its_node(monkeypatch: pytest.MonkeyPatch):
    """Instead of holding all memory."""
    monkeypatch.setattr(plain, "MOST_ITEMS", 10)

    def endless(_: Any) -> Iterator[bytes]:
        while True:
            yield os.urandom(1)

    ran = Ran(chain(node(endless)))
    assert "it gives more than 10 items" in ran.result.error


# What was approved


class Order(BaseModel):
    amount: int
    lines: list[str] = []


class Account:
    """An object with a life of its own."""

    def __init__(self) -> None:
        self.amount = 10

    def __repr__(self) -> str:
        return f"{self.amount} euros"


class Meddling:
    """What is paid is asked about; while the answer is waited for, somebody changes it."""

    def __init__(self, value: Any, change: Any, *, each: bool = False) -> None:
        self.value, self.change, self.each, self.paid, self.seen = value, change, each, [], []

    def run(self) -> Ran:
        def pay(value: Any) -> str:
            self.paid.append(repr(value))
            return "paid"

        async def approve(approval: Any) -> bool:
            self.seen.append(repr(approval.value))
            self.change(self.value)
            return True

        give, paying = node(lambda _: self.value, name="give"), node(pay, irreversible=True, approve=approve)
        return Ran(orchestrate(give, paying, node(counted)) if self.each else chain(give, paying))


def dearer(value: Any) -> None:
    value["amount"] = 1_000_000


@pytest.mark.parametrize(
    ("value", "change"),
    [
        ({"amount": 10}, dearer),
        ({"order": [{"amount": 10}]}, lambda value: dearer(value["order"][0])),
        ([{"amount": 10}], lambda value: value.append({"amount": 1_000_000})),
        (({"amount": 10},), lambda value: dearer(value[0])),
        (Order(amount=10, lines=["a"]), lambda value: value.lines.append("b")),
        (bytearray(b"10"), lambda value: value.extend(b"00")),
    ],
)
def test_what_is_acted_on_is_what_was_approved(value: Any, change: Any):
    """A copy, that whoever else has the value can't change."""
    meddling = Meddling(value, change)
    assert meddling.run().result.output == "paid"
    assert meddling.paid == meddling.seen


def test_the_parts_of_a_plan_are_those_that_were_approved():
    """Each, though the plan is changed while the last is asked about."""
    parts = [{"amount": 10}, {"amount": 20}]
    meddling = Meddling(parts, lambda value: dearer(value[0]), each=True)
    assert meddling.run().result.output == 2
    assert sorted(meddling.paid) == sorted(meddling.seen) == ["{'amount': 10}", "{'amount': 20}"]


def test_an_object_that_changes_while_it_is_asked_about_is_not_acted_on():
    """It can't be copied, perhaps: what was approved is no longer there, and the run says so."""
    meddling = Meddling(Account(), lambda value: setattr(value, "amount", 1_000_000))
    ran = meddling.run()
    assert (ran.result.status, meddling.paid) == ("denied", [])
    assert "pay: what it is about to act on has changed since it was asked about" in str(ran.result.stopped)
    still = Meddling(Account(), same)
    assert (still.run().result.output, still.paid) == ("paid", ["10 euros"])


def test_an_approver_may_correct_what_it_approves():
    """What is acted on is what it left, and the journal has both."""
    paid: list[Any] = []

    def correct(approval: Any) -> bool:
        approval.value["amount"] = 8
        return True

    given = {"amount": 10}
    pay = node(paid.append, name="pay", irreversible=True, approve=correct)
    ran = Ran(chain(node(lambda _: given, name="give"), pay))
    assert (paid, given) == ([{"amount": 8}], {"amount": 10})
    assert ran.of(ApprovalAsked)[0].what == '{"amount": 10}'
    assert ran.of(ApprovalGiven)[0].reason == 'as corrected by correct: {"amount": 8}'


def test_an_object_is_handed_on_itself():
    """Only data is copied: a connection, a lock, what a program keeps of its own."""
    account, paid = Account(), []
    pay = node(paid.append, name="pay", irreversible=True, approve=lambda _: True)
    Ran(chain(node(lambda _: {"from": account}, name="give"), pay))
    assert paid[0]["from"] is account


def test_data_that_holds_itself_is_copied_too():
    """Cycles are copied as cycles."""
    around: list[Any] = [1]
    around.append(around)
    copied = copy_of(around)
    assert copied is not around
    assert copied[1] is copied
