"""Going on from a run with a loop: what each round did counts, and what it did is not done again by itself."""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from crew_guard import NodeContext, Workflow, chain, node, orchestrate, refine
from crew_guard.core.events import Compensated, Compensating, Event, NodeFinished, NodeStarted, TakenOver
from crew_guard.errors import WorkflowError
from crew_guard.testing.events import started
from crew_guard.workflows.graph import loop
from crew_guard.workflows.patterns import Revision
from tests.workflows.going import AtGate, Ran

ANEW = "in a round of a loop that begins anew"
ONE_ONLY = "what it gave would stand for one of its rounds only, so go on with again="


class Office:
    """Sends and reserves once a round; what stands of it, and whether the last step fails."""

    def __init__(self, rounds: int = 2, keeps: str = "") -> None:
        self.rounds, self.keeps, self.fails = rounds, keeps, True
        self.world: list[str] = []
        self.seen: list[Any] = []

    def reserve(self, _: Any, context: NodeContext) -> str:
        self.world.append(f"seat {context.round}")
        return self.world[-1]

    def free(self, seat: str) -> None:
        if seat == self.keeps:
            raise OSError("closed")
        self.world.remove(seat)

    def send(self, _: Any, context: NodeContext) -> str:
        self.world.append(f"letter {context.round}")
        return self.world[-1]

    def last(self, value: Any, context: NodeContext) -> str:
        self.seen.append({name: list(each) for name, each in context.rounds.items()})
        if self.fails:
            raise OSError("no last")
        return f"last: {value}"

    def reserving(self) -> Any:
        return node(self.reserve, compensate=self.free)

    def sending(self, approve: Callable[[Any], Any] = lambda _: True) -> Any:
        return node(self.send, irreversible=True, approve=approve)

    def flow(self, *steps: Any) -> Workflow:
        """A loop of these steps, and the last one."""
        nodes = [*steps, node(self.last)]
        names = [step.name for step in nodes]
        back = loop(names[-2], names[0], again=lambda _, context: context.round < self.rounds, rounds=3)
        return Workflow(nodes, [tuple(names), back], "w")


def check(_: Any) -> str:
    return "fine"


def until(events: list[Event], kind: type[Any], name: str, count: int = 1) -> list[Event]:
    """A journal up to the first event of this kind and node, or a later one."""
    places = [n for n, event in enumerate(events) if isinstance(event, kind) and event.node == name]
    return events[: places[count - 1] + 1]


def refused(flow: Workflow, events: list[Event], **settled: Any) -> str:
    """Why nobody can go on."""
    with pytest.raises(WorkflowError) as error:
        flow.continued(events, **settled)
    return str(error.value)


# What can't be undone


def test_a_no_in_a_later_round_doesnt_unsay_the_rounds_before():
    """The first letter is out; whoever goes on has to say so, and then it is sent no more."""
    office = Office()
    answers = iter([True, False, True])
    flow = office.flow(office.sending(lambda _: next(answers)), node(check))
    ran = Ran(flow)
    assert (ran.result.status, office.world) == ("denied", ["letter 1"])
    assert f"'send' can't be undone, and was done {ANEW}. Look" in refused(flow, ran.events)
    office.fails = False
    assert Ran(flow.continued(ran.events, done={"send": "letter 1"})).result.done
    assert office.world == ["letter 1", "letter 2"]


def test_a_failure_in_a_later_round_doesnt_unsay_the_rounds_before():
    """Nobody was even asked in the second one."""
    sent: list[str] = []
    plans: list[Any] = [["ann"], "bob"]
    plan = node(lambda _, context: plans[context.round - 1], name="plan")
    mail = node(sent.append, name="mail", irreversible=True, approve=lambda _: True)
    flow = orchestrate(plan, mail, node(check), rounds=3, name="w")
    ran = Ran(flow)
    assert (ran.result.status, sent) == ("failed", ["ann"])
    assert f"'mail' can't be undone, and was done {ANEW}" in refused(flow, ran.events)


@pytest.mark.parametrize("again", [["reserve"], ["check"]])
def test_a_loop_that_begins_anew_doesnt_act_again_by_itself(again: list[str]):
    """It was left; that something in it was undone, or is to be made again, has it entered again."""
    office = Office()
    flow = office.flow(office.reserving(), office.sending(), node(check))
    events = Ran(flow).events
    assert office.world == ["letter 1", "letter 2"]
    assert f"'send' can't be undone, and was done {ANEW}, since 'reserve' is made again" in refused(flow, events)
    assert f"'send' can't be undone, and was done {ANEW}, since" in refused(flow, events, again=again)
    office.fails = False
    assert Ran(flow.continued(events, again=["send"])).result.done
    assert office.world == ["letter 1", "letter 2", "seat 1", "letter 1", "seat 2", "letter 2"]


def test_a_loop_whose_end_the_journal_has_not_as_it_was_begins_anew():
    """What its last node gave can be given: then it stays left."""
    office = Office()
    value = {"sum": Decimal("1.5")}
    flow = office.flow(office.sending(), node(lambda _: value, name="check"))
    events = Ran(flow).events
    assert "since 'check' is made again" in refused(flow, events)
    office.fails = False
    assert Ran(flow.continued(events, done={"check": value})).result.done
    assert office.world == ["letter 1", "letter 2"]


def test_one_output_doesnt_stand_for_several_rounds():
    """It would be taken for the first one, and the second letter sent again: the refusal offers what can be done."""
    office = Office()
    flow = office.flow(office.sending(), node(check))
    killed = until(Ran(flow).events, NodeFinished, "send", 2)
    assert ONE_ONLY in refused(flow, killed)
    assert ONE_ONLY in refused(flow, killed, done={"send": "letter 2"})
    without = office.flow(node(check))
    assert "'send' can't be undone, and was done, and the workflow has no node of that name" in refused(without, killed)
    assert without.done_in(killed, done={"send": "letter 2"}) == {}


def test_what_the_last_node_of_a_loop_gave_says_that_the_loop_was_left():
    """No other round follows, so one output is enough."""
    office = Office(rounds=3)
    flow = office.flow(office.sending())
    killed = until(Ran(flow).events, NodeFinished, "send", 2)
    assert "done={'send': what it gave}, and its loop is over, or with again=['send']" in refused(flow, killed)
    office.fails, office.world = False, []
    assert Ran(flow.continued(killed, done={"send": "letter 2"})).result.output == "last: letter 2"
    assert office.world == []


def test_what_was_settled_of_a_loop_that_began_anew_stays_settled():
    """The run that goes on dies before the loop; the one after it need not be told again."""
    office = Office()
    flow = office.flow(office.sending(), node(check))
    killed = until(Ran(flow).events, NodeFinished, "send")
    second = Ran(flow.continued(killed, done={"send": "letter 1"})).events
    taken = next(place for place, event in enumerate(second) if isinstance(event, TakenOver))
    assert flow.done_in(second[: taken + 1]) == {"send": "letter 1"}
    assert ONE_ONLY in refused(flow, until(second, NodeFinished, "send", 2))


# What was undone, round by round


@pytest.mark.parametrize(("keeps", "words"), [("seat 1", "Look whether"), ("seat 2", ONE_ONLY)])
def test_a_clean_undo_of_one_round_says_nothing_of_another(keeps: str, words: str):
    """One seat is still there; who goes on by itself would have a second one."""
    office = Office(keeps=keeps)
    flow = office.flow(office.reserving(), node(check))
    events = Ran(flow).events
    assert office.world == [keeps]
    told = refused(flow, events)
    assert "'reserve' was undone in some of its rounds, and not in others" in told
    assert words in told


def test_an_undo_in_part_is_not_forgotten_for_a_clean_one():
    """The workers of the rounds before it are undone after it."""
    world: list[str] = []
    plans = [["hotel"], ["car"], []]

    def cancel(what: str) -> None:
        if what == "car":
            raise OSError("closed")
        world.remove(what)

    def book(what: str) -> str:
        world.append(what)
        return what

    def fails(_: Any) -> None:
        raise OSError("no")

    plan = node(lambda _, context: plans[context.round - 1], name="plan")
    flow = orchestrate(plan, node(book, compensate=cancel), node(fails), rounds=3, name="w")
    ran = Ran(flow)
    assert world == ["car"]
    assert "'book' was undone in part, or perhaps not at all (1 of 1: 'car'" in refused(flow, ran.events)


def test_a_kill_between_the_undos_of_two_rounds_leaves_a_doubt():
    """The first seat is there: told so, the run that goes on reserves no other one for its first round."""
    office = Office()
    flow = office.flow(office.reserving(), node(check))
    killed = until(Ran(flow).events, Compensated, "reserve")
    assert "'reserve' was undone in some of its rounds" in refused(flow, killed)
    office.fails, office.world = False, ["seat 1"]
    assert Ran(flow.continued(killed, done={"reserve": "seat 1"})).result.done
    assert office.world == ["seat 1", "seat 2"]


def test_what_a_killed_loop_reserved_is_in_doubt():
    """It was left in the middle of a round: to begin anew would reserve beside what is there."""
    office = Office()
    flow = office.flow(office.reserving(), node(check))
    killed = until(Ran(flow).events, NodeFinished, "reserve")
    assert f"'reserve' is not undone, and was done {ANEW}. Look" in refused(flow, killed)
    assert flow.done_in(killed, again=["reserve"]) == {}


@pytest.mark.parametrize("steps", [1, 2])
def test_all_rounds_that_were_taken_over_are_undone(steps: int):
    """By the run that goes on, and by one that goes on from that one."""
    office = Office()
    flow = office.flow(office.reserving())
    events = until(Ran(flow).events, NodeStarted, "last")
    for _ in range(steps):
        office.world = ["seat 1", "seat 2"]
        ran = Ran(flow.continued(events))
        assert ran.result.error == "node 'last': OSError: no last"
        assert office.world == []
        events = until(ran.events, NodeStarted, "last")
    assert office.seen == [{"reserve": ["seat 1", "seat 2"]}] * (steps + 1)
    (taken,) = [event for event in events if isinstance(event, TakenOver)]
    assert (taken.outputs, taken.earlier) == ({"reserve": "seat 2"}, {"reserve": ["seat 1"]})


def test_rounds_that_were_taken_over_and_stay_are_named():
    """A seat that can't be given back is still the first run's."""
    office = Office()
    flow = office.flow(office.reserving())
    killed = until(Ran(flow).events, NodeStarted, "last")
    office.world, office.keeps = ["seat 1", "seat 2"], "seat 1"
    error = Ran(flow.continued(killed)).result.error
    assert error == "node 'last': OSError: no last; not undone: reserve (OSError: closed)"


def test_what_of_workers_is_undone_before_they_finished_is_not_taken_for_a_round_before():
    """Killed between both undos: the first round's hotel is there."""
    book = node(lambda what: what, name="book", compensate=check)
    flow = orchestrate(node(lambda _: [], name="plan"), book, node(check, name="end"))
    events = [
        started(),
        NodeFinished(2, 1.0, "orchestrate", "book", output=["hotel"]),
        NodeFinished(3, 1.0, "orchestrate", "book", "no car", round=2),
        Compensating(4, 1.0, "orchestrate", "book", partial=True),
        Compensated(5, 1.0, "orchestrate", "book", partial=True),
    ]
    assert "'book' was undone in some of its rounds" in refused(flow, events)
    more = [Compensating(6, 1.0, "orchestrate", "book"), Compensated(7, 1.0, "orchestrate", "book")]
    assert flow.done_in([*events, *more]) == {}


def test_what_some_workers_did_before_a_kill_is_in_doubt():
    """Nobody undid it, and nobody knows of which it was."""
    begun = asyncio.Event()

    async def book(what: str) -> str:
        if what == "car":
            begun.set()
            await asyncio.Event().wait()
        return what

    plan = node(lambda _: ["hotel", "car"], name="plan")
    at = AtGate(orchestrate(plan, node(book, compensate=check), node(check, name="end")))
    at.killed(begun)
    assert "'book' was done in part, and was not undone (the run was ended" in refused(at.flow, at.events())


# What the journal has not as it was


def test_a_loop_with_results_that_the_journal_has_not_begins_anew():
    """They are gathered from all rounds, and not from the last one alone."""
    plans, fails = [["a"], ["b"], []], [True]

    def combine(parts: list[Any]) -> int:
        if fails[0]:
            raise OSError("no")
        return len(parts)

    plan = node(lambda _, context: plans[context.round - 1], name="plan")
    work = node(lambda part: {"part": part, "sum": Decimal("1.5")}, name="work")
    flow = orchestrate(plan, work, node(combine), rounds=3, name="w")
    events = Ran(flow).events
    fails[0] = False
    assert flow.done_in(events) == {}
    assert Ran(flow.continued(events)).result.output == 2


def test_a_draft_that_is_made_again_is_reviewed_again():
    """The review that was kept was on another one."""
    reviewed: list[Any] = []
    fails = [True]

    def draft(value: Any) -> Any:
        return {"revised": isinstance(value, Revision), "price": Decimal("1.5")}

    def review(made: Any) -> bool:
        reviewed.append(made["revised"])
        return made["revised"]

    def send(made: Any) -> bool:
        if fails[0]:
            raise OSError("no")
        return made["revised"]

    flow = chain(refine(draft, review), send, name="w")
    events = Ran(flow).events
    fails[0] = False
    assert Ran(flow.continued(events)).result.output is True
    assert reviewed == [False, True, False, True]
