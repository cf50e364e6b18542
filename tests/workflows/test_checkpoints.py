"""What a journal says is done, and what is made again because it was built on what is not."""

import asyncio
import enum
import math
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel

from crew_guard import Policy, Supervisor, Workflow, chain, node
from crew_guard.core.events import ApprovalGiven, Compensated, NodeFinished, NodeStarted
from crew_guard.errors import WorkflowError
from crew_guard.store.sqlite import SqliteStore
from crew_guard.testing.events import started
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
        started(),
        *[NodeFinished(n, 1.0, "workflow", name, "", 1) for n, name in enumerate("abc", 2)],
        Compensated(5, 1.0, "workflow", "b"),
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


# What can't be undone, and was begun


class Mail:
    """Something that is sent, and what was sent so far."""

    def __init__(self, fails: Callable[[], None] = lambda: None) -> None:
        self.sent: list[Any] = []
        self.asked = 0
        self.fails = fails

    def approve(self, _: Any) -> bool:
        self.asked += 1
        return True

    def send(self, letter: Any) -> str:
        self.sent.append(letter)
        self.fails()
        return "sent"

    def flow(self, **options: Any) -> Workflow:
        send = node(self.send, irreversible=True, approve=self.approve, **options)
        return chain(node(lambda _: "a letter", name="write"), send, node(lambda _: "noted", name="note"), name="mail")


def no_answer() -> None:
    raise TimeoutError("no answer from the mail server")


def test_what_may_have_been_done_is_not_done_again_by_itself():
    """It failed after it was approved: nobody knows what it did, and whoever goes on has to say."""
    mail = Mail(no_answer)
    flow = mail.flow()
    ran = Ran(flow)
    assert (ran.result.status, mail.sent) == ("failed", ["a letter"])
    words = "'send' can't be undone, and was approved and begun, and then failed .*no answer from the mail server"
    for go_on in (flow.continued, flow.done_in):
        with pytest.raises(WorkflowError, match=words):
            go_on(ran.events)
    mail.fails = lambda: None
    known = Ran(flow.continued(ran.events, done={"send": "sent, the recipient says"}))
    assert (known.result.output, mail.sent, mail.asked) == ("noted", ["a letter"], 1)
    once_more = Ran(flow.continued(ran.events, again=["send"]))
    assert (once_more.result.output, len(mail.sent), mail.asked) == ("noted", 2, 2)


def test_a_verifiers_no_leaves_what_was_done_done():
    """The letter is out, whatever was thought of it."""
    mail = Mail()
    flow = mail.flow(verify=lambda _: False)
    with pytest.raises(WorkflowError, match="'send' can't be undone"):
        flow.continued(Ran(flow).events)


def test_a_no_before_it_acts_leaves_nothing_in_doubt():
    """Nothing was done, and whoever goes on is asked again."""
    mail = Mail()
    flow = chain(node(mail.send, irreversible=True, approve=lambda _: mail.asked > 0), name="mail")
    ran = Ran(flow)
    assert (ran.result.status, mail.sent) == ("denied", [])
    mail.asked = 1
    assert Ran(flow.continued(ran.events)).result.output == "sent"


def test_what_a_killed_process_had_begun_is_in_doubt():
    """Its journal ends with the approval."""
    begun = [
        started(),
        NodeStarted(2, 1.0, "mail", "write"),
        NodeFinished(3, 1.0, "mail", "write", "", "a letter"),
        NodeStarted(4, 1.0, "mail", "send"),
        ApprovalGiven(5, 1.0, "mail", "send", True, "ann"),
    ]
    flow = Mail().flow()
    with pytest.raises(WorkflowError, match="was approved and begun, and has no end in the journal"):
        flow.done_in(begun)
    assert flow.done_in(begun, done={"send": "sent"}) == {"write": "a letter", "send": "sent"}
    assert flow.done_in(begun, again=["send"]) == {"write": "a letter"}
    assert flow.done_in(begun, again=["write", "send"]) == {}
    assert flow.done_in(begun[:4]) == {"write": "a letter"}
    with pytest.raises(WorkflowError, match="there is no node 'sent'"):
        flow.done_in(begun, again=["sent"])


def test_a_round_of_a_loop_that_cant_be_undone_is_not_begun_anew_by_itself():
    """Each round sends: to begin with the first again would send twice."""
    mail = Mail()
    send = node(mail.send, irreversible=True, approve=mail.approve)
    nodes = [send, node(lambda _: 1, name="wait"), node(fails, name="end")]
    flow = Workflow(nodes, [("send", "wait", "end"), loop("wait", "send", again=lambda _: 1 / 0 > 0, rounds=3)], "mail")
    with pytest.raises(WorkflowError, match="'send' can't be undone, and was done in a round of a loop"):
        flow.continued(Ran(flow).events)


@pytest.mark.parametrize("durability", ["write_ahead", "relaxed"])
def test_an_approval_is_on_disk_before_the_act_and_the_end_before_what_follows(tmp_path: Path, durability: str):
    """As another process would find it that goes on after this one was killed; whatever the policy's durability."""
    path = tmp_path / "runs.db"
    seen: list[list[str]] = []

    def look() -> None:
        other = SqliteStore(path)
        try:
            seen.append([type(event).__name__ for event in other.read("run1")])
        finally:
            other.close()

    def send(_: Any) -> str:
        look()
        return "sent"

    def note(_: Any) -> str:
        look()
        return "noted"

    flow = chain(node(send, irreversible=True, approve=lambda _: True), note, name="mail")
    policy = Policy.model_validate({"durability": durability})
    assert Supervisor(policy, store=path).run(flow, {}, run_id="run1").done
    acting, after = seen
    assert acting[-1] == "ApprovalGiven"
    assert "NodeFinished" in after


# What the journal has not as it was


class Receipt(BaseModel):
    number: int


class Status(enum.StrEnum):
    OPEN = "open"


class Step(enum.IntEnum):
    FIRST = 1


class Ticket(BaseModel):
    about: Any


@dataclass
class Note:
    status: str
    about: Any = field(default=None, compare=False)


INDIA = timezone(timedelta(hours=5, minutes=30))
BERLIN = ZoneInfo("Europe/Berlin")


def as_it_is(value: Any) -> Any:
    """Without a word on its type."""
    return lambda _: value


def typed(kind: Any, value: Any) -> Any:
    def gives(_: Any) -> Any:
        return value

    gives.__annotations__["return"] = kind
    return gives


@pytest.mark.parametrize(
    ("gives", "kept"),
    [
        (as_it_is("plain"), True),
        (as_it_is({"a": [1, None, 2.5]}), True),
        (as_it_is("sk-" + "a1" * 20), False),
        (as_it_is("x" * 300_000), False),
        (as_it_is(b"\xff\x00"), False),
        (typed(bytes, b"\xff\x00"), False),
        (as_it_is([math.nan]), False),
        (as_it_is((1, 2)), False),
        (typed(tuple[int, int], (1, 2)), True),
        (as_it_is(Receipt(number=1)), False),
        (typed(Receipt, Receipt(number=1)), True),
        (as_it_is(threading.Lock()), False),
        (as_it_is({"status": Status.OPEN}), False),
        (as_it_is({Status.OPEN: 1}), False),
        (as_it_is([Step.FIRST]), False),
        (typed(dict[str, Status], {"status": Status.OPEN}), True),
        (typed(set[Status], {Status.OPEN}), True),
        (typed(set[Any], {Status.OPEN}), False),
        (typed(Ticket, Ticket(about=Status.OPEN)), False),
        (typed(Ticket, Ticket(about={"status": ["open"]})), True),
        (typed(Note, Note(Status.OPEN)), False),
        (typed(Note, Note("open", Step.FIRST)), False),
        (typed(Note, Note("open", 1)), True),
        (typed(dict[str, int], Counter("aab")), False),
        (typed(list[float], [1, 2.5]), False),
        (typed(float, 1), False),
        (typed(list[float | Decimal], [Decimal("1.5")]), False),
        (typed(list[Decimal], [Decimal("1.50")]), True),
        (typed(datetime, datetime(2020, 1, 1, tzinfo=INDIA)), True),
        (typed(datetime, datetime(2020, 1, 1, tzinfo=BERLIN)), False),
        (typed(datetime, datetime(2020, 1, 1, fold=1, tzinfo=INDIA)), False),
        (as_it_is("report_\udce9.pdf"), False),
        (typed(list[Path], [Path("report_\udce9.pdf")]), False),
        (as_it_is({"report_\udce9.pdf": 1}), False),
    ],
)
def test_what_the_journal_has_not_as_it_was_is_made_again(gives: Any, kept: bool):
    """A key that is redacted there, a text that is cut, a value that JSON has not, or as another."""
    given: list[Any] = []

    def use(value: Any) -> str:
        given.append(value)
        if len(given) == 1:
            raise OSError("no line")
        return "used"

    flow = chain(node(gives, name="make"), use, name="makes")
    ran = Ran(flow)
    again = Ran(flow.continued(ran.events))
    assert again.result.output == "used"
    assert given[0] is given[1] or given[0] == given[1]
    assert [event.taken_from for event in again.of(NodeFinished)] == ["make" if kept else "", ""]


@pytest.mark.parametrize("key", ["sk-" + "a1" * 20, "key_\udce9.pem"])
def test_an_irreversible_nodes_output_that_is_only_there_in_part_has_to_be_given(key: str):
    """It was done: that it is made again is nobody's wish, nor that `[redacted]` is handed on for a key."""
    made = node(as_it_is(key), name="buy", irreversible=True, approve=lambda _: True)
    flow = chain(made, node(fails), name="keys")
    ran = Ran(flow)
    with pytest.raises(WorkflowError, match="'buy' can't be undone, and was done, and its output is"):
        flow.continued(ran.events)
    assert flow.done_in(ran.events, done={"buy": key}) == {"buy": key}


def test_an_irreversible_nodes_output_of_another_form_is_handed_on_as_it_is_kept():
    """All that it says is there."""
    made = node(as_it_is({"status": Status.OPEN}), name="buy", irreversible=True, approve=lambda _: True)
    flow = chain(made, node(fails), name="buys")
    assert flow.done_in(Ran(flow).events) == {"buy": {"status": "open"}}
