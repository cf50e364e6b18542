"""Going on from a run that had gone on itself, or that died while it undid; and from what is no journal of the kind."""

import asyncio
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from crew_guard import Agent, Crew, Policy, Supervisor, Task, Workflow, chain, node, parallel, route
from crew_guard.core.events import (
    Compensated,
    Compensating,
    Event,
    NodeFinished,
    NodeStarted,
    RunStarted,
    TakenOver,
    decode,
    encode,
)
from crew_guard.core.roles import Role
from crew_guard.errors import WorkflowError
from crew_guard.models.scripted import ScriptedModel
from crew_guard.store.memory import MemoryStore
from crew_guard.store.sqlite import SqliteStore
from crew_guard.testing.events import started
from crew_guard.workflows.context import NodeFailedError
from crew_guard.workflows.graph import loop
from tests.workflows.going import AtGate, Ran


class Office:
    """What was done, by name, and which of it fails."""

    def __init__(self, *fails: str) -> None:
        self.did: list[str] = []
        self.fails = set(fails)

    def step(self, name: str, gives: Any = "", **options: Any) -> Any:
        def work(_: Any) -> Any:
            self.did.append(name)
            if name in self.fails:
                raise OSError(f"no {name}")
            return gives or name

        return node(work, name=name, **options)

    def final(self, name: str = "send", **options: Any) -> Any:
        """An irreversible one."""
        return self.step(name, irreversible=True, approve=lambda _: True, **options)

    def anew(self, *fails: str) -> None:
        """From now on these fail."""
        self.did.clear()
        self.fails = set(fails)


NO_JSON = object()


def letters(office: Office) -> Workflow:
    """JSON has no word for what its first node gives: it is made again each time, and so is what was built on it."""
    return chain(office.step("open", NO_JSON), office.step("draft"), office.final(), office.step("file"), name="mail")


# Chains of continuations


def test_what_was_taken_over_is_done_though_the_run_never_came_to_it():
    """The second run fails before it; the third doesn't send again."""
    office = Office("file")
    flow = letters(office)
    first = Ran(flow)
    office.anew("open")
    second = Ran(flow.continued(first.events))
    assert (second.result.status, office.did) == ("failed", ["open"])
    assert flow.done_in(second.events) == {"send": "send"}
    third = Ran(flow.continued(second.events))
    office.anew()
    fourth = Ran(flow.continued(third.events))
    assert (fourth.result.output, office.did) == ("file", ["open", "draft", "file"])
    assert [event.taken_from for event in fourth.of(NodeFinished)] == ["", "", "send", ""]


def test_a_doubt_that_was_settled_stays_settled():
    """Whoever looked whether it was sent need not look again."""
    office = Office("send")
    flow = letters(office)
    first = Ran(flow)
    with pytest.raises(WorkflowError, match="'send' can't be undone"):
        flow.continued(first.events)
    office.anew("open")
    second = Ran(flow.continued(first.events, done={"send": "sent, says Ann"}))
    once_more = Ran(flow.continued(first.events, again=["send"]))
    office.anew()
    assert (Ran(flow.continued(second.events)).result.output, office.did) == ("file", ["open", "draft", "file"])
    assert flow.done_in(second.events)["send"] == "sent, says Ann"
    office.anew()
    assert Ran(flow.continued(once_more.events)).result.output == "file"
    assert office.did == ["open", "draft", "send", "file"]


def test_a_node_that_is_done_once_more_is_in_doubt_as_soon_as_it_is_begun():
    """The yes of a run that goes on is as good as that of the first one."""
    office = Office("send")
    flow = letters(office)
    second = Ran(flow.continued(Ran(flow).events, again=["send"]))
    with pytest.raises(WorkflowError, match="'send' can't be undone, and was approved and begun"):
        flow.continued(second.events)


def test_what_is_taken_over_is_on_disk_before_anything_begins(tmp_path: Path):
    """All of it at once, and whatever the policy's durability; as a process finds it that comes after a kill."""
    path = tmp_path / "runs.db"
    flow = letters(Office("file"))
    first = Ran(flow)
    seen: list[list[Event]] = []

    def look(_: Any) -> Any:
        other = SqliteStore(path)
        seen.append(list(other.read("second")))
        other.close()
        return NO_JSON

    looking = chain(node(look, name="open"), *flow.nodes[1:], name="mail")
    with Supervisor(Policy(durability="relaxed"), store=path) as supervisor:
        supervisor.run(looking.continued(first.events), {}, run_id="second")
    (taken,) = [event for event in seen[0] if isinstance(event, TakenOver)]
    assert (taken.nodes, taken.outputs) == ({"send": ""}, {"send": "send"})
    assert flow.done_in(seen[0]) == {"send": "send"}


def test_what_is_taken_over_from_a_crew_is_known_to_whoever_goes_on():
    """Its task did what the node would do; the fallback failed before it came to that node."""
    office = Office("open")
    sends = office.final(done_by="t_send")
    flow = chain(office.step("open"), sends, name="mail")
    tasks = [Task("Send", name="t_send", verify=lambda *_: True), Task("Check", verify=lambda *_: False)]
    store = MemoryStore()
    supervisor = Supervisor(model=ScriptedModel(["sent by Ann", "bad"]), store=store)
    result = supervisor.run(Crew([Agent(Role(name="ann", goal="x"))], tasks, fallback=flow), run_id="run1")
    assert result.status == "failed"
    assert flow.done_in(store.read("run1")) == {"send": "sent by Ann"}


def test_a_fallback_that_goes_on_keeps_what_it_goes_on_from():
    """Beside what the crew has done this time."""
    office = Office("file")
    flow = letters(office)
    first = Ran(flow)
    office.anew()
    tasks = [Task("Open", name="open", verify=lambda *_: True), Task("Check", verify=lambda *_: False)]
    crew = Crew([Agent(Role(name="ann", goal="x"))], tasks, fallback=flow.continued(first.events))
    result = Supervisor(model=ScriptedModel(["opened", "bad"]), store=MemoryStore()).run(crew)
    assert (result.output, office.did) == ("file", ["draft", "file"])


def test_a_run_that_nobody_may_approve_knows_what_it_took_over():
    """It is denied before its first node."""
    office = Office("file")
    flow = letters(office)
    first = Ran(flow)
    asking = chain(*flow.nodes, office.step("sign", irreversible=True), name="mail")
    second = Ran(asking.continued(first.events))
    assert (second.result.status, second.of(NodeStarted)) == ("denied", [])
    assert flow.done_in(second.events) == {"send": "send"}


def test_what_the_journal_has_not_as_it_was_is_in_doubt_for_the_next_run_too():
    """A key that somebody gave is redacted in the journal of the run that took it."""
    key = "sk-" + "a1" * 20
    office = Office("file")
    flow = chain(office.final("buy"), office.step("file"), name="keys")
    second = Ran(flow.continued(Ran(flow).events, done={"buy": key}))
    with pytest.raises(WorkflowError, match="'buy' can't be undone, and was done, and its output is"):
        flow.continued(second.events)


def looped(office: Office, judge: Any) -> Workflow:
    nodes = [office.step("open", NO_JSON), office.step("draft"), office.step("judge", judge), office.step("file")]
    again = loop("judge", "draft", again=lambda _: office.did.count("judge") == 1, rounds=2)
    return Workflow(nodes, [("open", "draft", "judge", "file"), again], "looped")


def test_a_loop_that_was_left_stays_left():
    """Its rounds are over, whether the run that went on came to it or not."""
    office = Office("file")
    flow = looped(office, "fine")
    first = Ran(flow)
    assert office.did == ["open", *["draft", "judge"] * 2, "file"]
    office.anew("open")
    left = {"draft": "draft", "judge": "fine"}
    second = Ran(flow.continued(first.events, done=left))
    assert flow.done_in(second.events) == left


def test_a_loop_that_is_under_way_in_the_run_that_went_on_begins_anew():
    """What follows it was taken over, and says nothing of the loop."""
    events = [
        started(),
        TakenOver(2, 1.0, "looped", {"draft": "", "file": ""}, {"draft": "old", "file": "filed"}),
        NodeFinished(3, 1.0, "looped", "draft", output="old", taken_from="draft"),
        NodeStarted(4, 1.0, "looped", "judge"),
    ]
    assert looped(Office(), "fine").done_in(events) == {"file": "filed"}


def test_outputs_that_are_not_there_are_not_taken_for_nothing():
    """What a node gave is known by its name, also where the journal could not keep it."""
    events = [started(), TakenOver(2, 1.0, "mail", {"draft": "", "send": ""}, {"left out": "<dict>"})]
    with pytest.raises(WorkflowError, match="'send' can't be undone, and was done"):
        letters(Office()).done_in(events)
    assert letters(Office()).done_in(events, done={"send": "sent"}) == {"send": "sent"}


@pytest.mark.parametrize(
    "around",
    [
        lambda flow: chain(flow, node(lambda value: value, name="more")),
        lambda flow: chain(node(lambda value: value, name="more"), flow),
        lambda flow: parallel(node(lambda value: value, name="more"), flow),
        lambda flow: parallel(node(lambda value: value, name="more"), join=flow),
        lambda flow: route(node(lambda _: "mail", name="more"), {"no": node(lambda _: 1)}, otherwise=flow),
    ],
)
def test_a_part_of_a_workflow_goes_on_from_what_it_was_to_go_on_from(around: Callable[[Workflow], Workflow]):
    """It is a step of another one now, and knows all the same what was sent."""
    office = Office("file")
    flow = chain(office.final(), office.step("file"), name="mail")
    going_on = flow.continued(Ran(flow).events)
    office.anew()
    assert Ran(around(going_on)).result.done
    assert office.did == ["file"]


# An undo that was begun


def trip(office: Office, cancel: Callable[[str], Any]) -> Workflow:
    def booking(name: str) -> Any:
        return office.step(name, compensate=cancel)

    return chain(booking("hotel"), booking("flight"), office.step("pay"), name="trip")


def until(events: Sequence[Event], kind: type[Any], name: str) -> list[Event]:
    """A journal up to the first event of this kind and node."""
    place = next(n for n, event in enumerate(events) if isinstance(event, kind) and event.node == name)
    return list(events[: place + 1])


def test_an_undo_that_was_begun_and_has_no_end_is_in_doubt():
    """Whether there is a room nobody knows; the flight was given back."""
    office = Office("pay")
    flow = trip(office, lambda _: None)
    killed = until(Ran(flow).events, Compensating, "hotel")
    with pytest.raises(WorkflowError) as refused:
        flow.continued(killed)
    assert str(refused.value) == (
        "workflow 'trip': 'hotel' was being undone when its run ended. Look whether its effect is there, then go on "
        "with done={'hotel': what it gave}, or with again=['hotel'] to have it done once more"
    )
    assert flow.done_in(killed, done={"hotel": "room 7"}) == {"hotel": "room 7"}
    assert flow.done_in(killed, again=["hotel"]) == {}
    office.anew()
    assert Ran(flow.continued(killed, again=["hotel"])).result.output == "pay"
    assert office.did == ["hotel", "flight", "pay"]


def test_what_was_not_yet_being_undone_is_done():
    """The room is still there; the flight's undo was begun."""
    flow = trip(Office("pay"), lambda _: None)
    killed = until(Ran(flow).events, Compensating, "flight")
    assert flow.done_in(killed, done={"flight": "seat 1"}) == {"hotel": "hotel", "flight": "seat 1"}
    assert flow.done_in(killed, again=["flight"]) == {"hotel": "hotel"}


@pytest.mark.parametrize("durability", ["write_ahead", "relaxed"])
def test_an_undo_is_on_disk_before_it_begins_and_its_end_before_the_next(tmp_path: Path, durability: str):
    """As another process would find it that goes on after this one was killed in the middle."""
    path = tmp_path / "runs.db"
    seen: list[list[tuple[str, str]]] = []

    def look(_: Any) -> None:
        other = SqliteStore(path)
        kinds = (Compensating, Compensated)
        seen.append([(type(each).__name__, each.node) for each in other.read("run1") if isinstance(each, kinds)])
        other.close()

    policy = Policy.model_validate({"durability": durability})
    with Supervisor(policy, store=path) as supervisor:
        supervisor.run(trip(Office("pay"), look), {}, run_id="run1")
    flight = [("Compensating", "flight")]
    assert seen == [flight, [*flight, ("Compensated", "flight"), ("Compensating", "hotel")]]


def test_an_undo_that_the_runs_end_cut_short_is_in_doubt():
    """That of the hotel was begun; the flight's never was."""
    begun = asyncio.Event()

    async def cancel(_: str) -> None:
        begun.set()
        await asyncio.Event().wait()

    at = AtGate(trip(Office("pay"), cancel))
    at.killed(begun)
    left = [event for event in at.events() if isinstance(event, Compensated)]
    assert [(event.node, event.cut) for event in left] == [("flight", True), ("hotel", False)]
    with pytest.raises(WorkflowError, match=r"'flight' was undone in part, or perhaps not at all \(the run was ended"):
        at.flow.done_in(at.events())
    assert at.flow.done_in(at.events(), again=["flight"]) == {"hotel": "hotel"}


def test_what_was_taken_over_and_not_come_to_is_not_undone():
    """Its effect is there, though what it comes after was undone."""
    flow = trip(Office(), lambda _: None)
    events = [
        started(),
        TakenOver(2, 1.0, "trip", {"hotel": "", "flight": ""}, {"hotel": "room 7", "flight": "seat 1"}),
        NodeFinished(3, 1.0, "trip", "hotel", output="room 7", taken_from="hotel"),
        Compensating(4, 1.0, "trip", "hotel"),
        Compensated(5, 1.0, "trip", "hotel"),
    ]
    assert flow.done_in(events) == {"flight": "seat 1"}


def test_what_could_not_be_undone_is_no_doubt():
    """Its undo says so itself: the effect is there."""

    def cancel(_: str) -> None:
        raise OSError("closed on Sundays")

    flow = trip(Office("pay"), cancel)
    assert flow.done_in(Ran(flow).events) == {"hotel": "hotel", "flight": "flight"}


def test_what_could_not_be_undone_and_has_no_output_in_the_journal_is_in_doubt():
    """It is there: made again for its output it would be there twice."""

    def cancel(_: Any) -> None:
        raise OSError("closed on Sundays")

    price = {"price": Decimal("1.5")}
    office = Office("pay")
    flow = chain(office.step("hotel", price, compensate=cancel), office.step("pay"), name="trip")
    events = Ran(flow).events
    with pytest.raises(WorkflowError, match="'hotel' is not undone, and was done, and JSON has no word for something"):
        flow.continued(events)
    office.anew()
    assert Ran(flow.continued(events, done={"hotel": price})).result.done
    assert office.did == ["pay"]


def test_an_undo_that_its_timeout_ended_is_in_doubt():
    """It may have got through: nobody knows whether there is a room."""

    async def cancel(_: str) -> None:
        await asyncio.Event().wait()

    office = Office("pay")
    hotel = office.step("hotel", compensate=cancel, timeout=9)
    flow = chain(hotel, office.step("pay"), name="trip")
    at = AtGate(flow, fire=lambda _: "pay" in office.did)
    with pytest.raises(NodeFailedError, match="no pay; not undone: hotel"):
        at.run()
    with pytest.raises(WorkflowError, match=r"'hotel' was undone in part, or perhaps not at all \(.* its timeout\)"):
        flow.continued(at.events())


# What the journal names, and the workflow has not


def renamed(office: Office) -> Workflow:
    """The letters, with a node of another name that sends."""
    nodes = letters(office).nodes
    return chain(nodes[0], nodes[1], office.final("post"), nodes[3], name="mail")


@pytest.mark.parametrize(("fails", "words"), [("send", "was approved and begun, and then"), ("file", "was done")])
def test_what_cant_be_undone_and_has_another_name_now_is_not_done_again_by_itself(fails: str, words: str):
    """Only who goes on knows which node does the same; said once, it is no more asked for."""
    office = Office(fails)
    first = Ran(letters(office))
    flow = renamed(office)
    with pytest.raises(WorkflowError, match=f"'send' can't be undone, and {words}.*has no node of that name"):
        flow.continued(first.events)
    office.anew("open")
    second = Ran(flow.continued(first.events, done={"send": "sent", "post": "sent"}))
    assert flow.done_in(second.events) == {"post": "sent"}
    office.anew()
    assert Ran(flow.continued(second.events)).result.output == "file"
    assert "post" not in office.did
    assert flow.done_in(first.events, again=["send"]) == {}
    with pytest.raises(WorkflowError, match="there is no node 'sent'"):
        flow.continued(first.events, done={"send": "sent", "sent": "sent"})


def test_what_was_taken_over_and_has_another_name_now_is_known_too():
    """The second run never came to it."""
    office = Office("file")
    flow = letters(office)
    first = Ran(flow)
    office.anew("open")
    second = Ran(flow.continued(first.events))
    with pytest.raises(WorkflowError, match="'send' can't be undone, and was done, and the workflow has no"):
        renamed(office).continued(second.events)


def test_what_was_being_undone_and_has_another_name_now_is_in_doubt():
    """What can be undone, and was not begun to be, is no effect that the journal knows of."""
    flow = trip(Office("pay"), lambda _: None)
    without = chain(*flow.nodes[1:], name="trip")
    events = Ran(flow).events
    with pytest.raises(
        WorkflowError, match="'hotel' was being undone when its run ended, and the workflow has no node"
    ):
        without.continued(until(events, Compensating, "hotel"))
    assert without.done_in(events) == {}


# Whose the outputs are


def test_what_is_taken_over_is_nobody_elses():
    """A node that uses up what it is given changes neither the journal nor what the next run goes on from."""
    fails = [True]

    def use(parts: list[str]) -> list[str]:
        if fails[0]:
            raise OSError("no")
        return [parts.pop() for _ in range(len(parts))]

    flow = chain(node(lambda _: ["a", "b"], name="parts"), use, name="parts")
    first = Ran(flow)
    fails[0] = False
    flow.done_in(first.events)["parts"].clear()
    second = flow.continued(first.events)
    for _ in range(2):
        assert Ran(second).result.output == ["b", "a"]
    assert flow.done_in(first.events) == {"parts": ["a", "b"]}


# What is no journal of the kind


def test_what_is_no_journal_of_the_workflow_is_refused():
    """Taken for an empty one, it would have all done again, what can't be undone as well."""
    office = Office("file")
    flow = letters(office)
    events = Ran(flow).events
    used_up = iter(events)
    assert list(used_up) == events
    for given, words in [
        ("run1", "not 'run1'"),
        (None, "not None"),
        (["run1"], "'run1' is no event"),
        (used_up, "this one is empty, or was read already"),
        ([], "this one is empty, or was read already"),
        (events[1:], "this one lacks its RunStarted, and perhaps more"),
        (events[:1], "none of its nodes was begun in the run of this journal. Run it from its start"),
    ]:
        for go_on in (flow.continued, flow.done_in):
            with pytest.raises(WorkflowError) as refused:
                go_on(given)  # type: ignore[arg-type]
            assert str(refused.value).startswith("workflow 'mail': ")
            assert words in str(refused.value)
    renamed = chain(*flow.nodes, name="mail_2")
    with pytest.raises(WorkflowError, match=r"workflow 'mail_2': this journal is of 'mail': .* to have that name"):
        renamed.continued(events)
    assert flow.done_in(iter(events)) == {"send": "send"}


def test_a_journal_of_a_crew_that_never_fell_back_is_refused():
    """What the crew did is no checkpoint of its workflow."""
    store = MemoryStore()
    flow = letters(Office())
    crew = Crew([Agent(Role(name="ann", goal="x"))], [Task("x")], fallback=flow)
    assert Supervisor(model=ScriptedModel(["fine"]), store=store).run(crew, run_id="run1").via == "crew"
    with pytest.raises(WorkflowError, match="none of its nodes was begun"):
        flow.continued(store.read("run1"))


def test_journals_of_before_are_read():
    """What an event has gained since is as it was."""
    old = decode("Compensated", b'{"seq":3,"at":1.0,"workflow":"trip","node":"hotel","error":"closed"}')
    assert old == Compensated(3, 1.0, "trip", "hotel", "closed", cut=False)
    assert isinstance(decode(*encode(started())), RunStarted)
    finished = NodeFinished(2, 1.0, "trip", "hotel", output="hotel")
    assert trip(Office(), lambda _: None).done_in([started(), finished, old]) == {"hotel": "hotel"}
