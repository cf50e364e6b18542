"""What can't be undone asks first, and a person's time is not the run's."""

import asyncio
import contextlib
import io
import os
import select
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from crew_guard import Agent, Supervisor, agent_node, chain, node, orchestrate, parallel, tool, vote
from crew_guard.core.events import ApprovalAsked, ApprovalGiven, NodeStarted
from crew_guard.core.policy import Policy
from crew_guard.core.result import Result
from crew_guard.core.roles import Role, Verdict
from crew_guard.errors import WorkflowError
from crew_guard.models.scripted import Reply, ScriptedModel
from crew_guard.observers.progress import Progress
from crew_guard.ports import Gate, RuntimeResult
from crew_guard.store.memory import MemoryStore
from crew_guard.supervisor.life import Job, Life
from crew_guard.testing import FakeClock
from crew_guard.workflows import asking
from crew_guard.workflows.alone import Alone
from crew_guard.workflows.asking import Approval
from tests.workflows.going import Ran


class Sending:
    """A workflow that sends, and what it sent."""

    def __init__(self, approve: Any = None) -> None:
        self.sent: list[Any] = []
        send = node(self.send, name="send", irreversible=True, approve=approve)
        self.flow = chain(node(lambda inputs: f"to {inputs['name']}", name="write"), send, name="mail")

    def send(self, mail: str) -> str:
        self.sent.append(mail)
        return "sent"

    def run(self) -> Ran:
        return Ran(self.flow, {"name": "Ann"})


async def agrees(approval: Approval) -> Verdict:
    return Verdict(passed=approval.value == "to Ann" and approval.inputs == {"name": "Ann"}, reason="looks right")


@pytest.mark.parametrize("approve", [lambda _: True, agrees])
def test_what_is_approved_is_done(approve: Any):
    """Sync or async; who said so, and why, is in the journal."""
    sending = Sending(approve)
    ran = sending.run()
    assert (ran.result.output, sending.sent) == ("sent", ["to Ann"])
    assert ran.of(ApprovalAsked)[0].what == "to Ann"
    given = ran.of(ApprovalGiven)[0]
    assert (given.node, given.approved, given.by) == ("send", True, approve.__name__)


def fails(approval: Approval) -> bool:
    raise OSError("nobody home")


@pytest.mark.parametrize(
    ("approve", "reason"),
    [
        (lambda _: False, "send was not approved by <lambda>"),
        (lambda _: None, "the approver gave None: it must give True, False or a Verdict"),
        (lambda _: 1, "the approver gave 1"),
        (lambda _: "yes", "the approver gave 'yes'"),
        (fails, "the approver raised OSError: nobody home"),
        (lambda _: Verdict(passed=False, reason="too rude"), "too rude"),
    ],
)
def test_whatever_is_no_clear_yes_is_a_no(approve: Any, reason: str):
    """Nothing is sent; the run was denied, and says why."""
    sending = Sending(approve)
    ran = sending.run()
    assert (ran.result.status, sending.sent) == ("denied", [])
    assert reason in str(ran.result.stopped)
    assert ran.of(ApprovalGiven)[0].approved is False


def test_without_anybody_to_ask_the_answer_is_no_before_anything_runs():
    """No terminal here: nothing was begun, and the way out is told."""
    sending = Sending()
    ran = sending.run()
    assert (ran.result.status, sending.sent, ran.of(NodeStarted)) == ("denied", [], [])
    assert "nobody to ask: give it approve=, or run it in a terminal" in str(ran.result.stopped)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A terminal for stdin: what a person types is written to its other end."""
    ours, theirs = os.openpty()
    stdin = os.fdopen(theirs, "r")
    monkeypatch.setattr(sys, "stdin", stdin)
    yield ours
    os.close(ours)
    stdin.close()


@pytest.fixture
def answers(terminal: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a person types when they are asked, once a question."""
    typed: list[str] = []
    reads = asking._line

    def line(*given: Any) -> str:
        os.write(terminal, f"{typed.pop(0)}\n".encode())
        return reads(*given)

    monkeypatch.setattr(asking, "_line", line)
    return typed


QUESTION = "mail: send can't be undone. It is about to act on:\nto Ann\nApprove? [y/N]"


def seen_at(terminal: int) -> str:
    """What was written to a terminal so far."""
    shown = b""
    while select.select([terminal], [], [], 0)[0]:
        shown += os.read(terminal, 4096)
    return shown.decode().replace("\r\n", "\n")


@pytest.mark.parametrize(("typed", "sent"), [("y", ["to Ann"]), ("YES", ["to Ann"]), ("n", []), ("", []), ("yep", [])])
def test_a_person_at_the_terminal_is_asked(
    answers: list[str], terminal: int, capsys: pytest.CaptureFixture[str], typed: str, sent: list[str]
):
    """Who says y or yes agrees; anything else is a no. They see it where they type, wherever stderr goes."""
    answers.append(typed)
    sending = Sending()
    ran = sending.run()
    assert sending.sent == sent
    assert ran.of(ApprovalGiven)[0].by == "the terminal"
    assert QUESTION in seen_at(terminal)
    assert "Approve?" not in capsys.readouterr().err


def test_a_question_is_on_stderr_where_that_is_a_terminal(
    answers: list[str], terminal: int, monkeypatch: pytest.MonkeyPatch
):
    """There the progress is, too."""
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        answers.append("y")
        assert Sending().run().of(ApprovalGiven)[0].approved
        assert QUESTION in seen_at(ours)
    os.close(ours)
    assert "Approve?" not in seen_at(terminal)


def test_where_nothing_can_be_shown_nobody_is_asked(terminal: int, monkeypatch: pytest.MonkeyPatch):
    """A y that is typed into a silent terminal is no yes."""
    monkeypatch.setattr(os, "ttyname", lambda _: "/nowhere/tty")
    sending = Sending()
    ran = sending.run()
    assert (ran.result.status, sending.sent) == ("denied", [])
    assert "has nobody to ask" in str(ran.result.stopped)


def test_a_question_is_given_up_when_its_run_is_ended(terminal: int):
    """The run ends at once, and what is typed later is left for others."""
    asked = threading.Event()
    sending = Sending()
    store = MemoryStore()

    def watch(_run: str, event: Any) -> None:
        if isinstance(event, ApprovalAsked):
            asked.set()

    supervisor = Supervisor(Policy(), store=store, observers=[watch])
    found: list[Result] = []
    thread = threading.Thread(target=lambda: found.append(supervisor.run(sending.flow, {"name": "Ann"}, run_id="r")))
    thread.start()
    assert asked.wait(20)
    assert supervisor.kill("r")
    thread.join(20)
    assert (found[0].status, sending.sent) == ("stopped", [])


# A person's time


def life_of(flow: Any, **policy: Any) -> tuple[Life, FakeClock]:
    clock = FakeClock()
    job = Job(
        "run1",
        "mail",
        Policy.model_validate(policy),
        Alone(flow),
        {"name": "Ann"},
        None,
        MemoryStore(),
        side="fallback",
    )
    return Life(job, clock), clock


class Thinking:
    """An approver who takes as long as a test says."""

    def __init__(self) -> None:
        self.asked, self.answer = asyncio.Event(), asyncio.Event()

    async def __call__(self, approval: Approval) -> bool:
        self.asked.set()
        await self.answer.wait()
        return True


def lived(life: Life, meanwhile: Any) -> Result:
    async def main() -> Result:
        task = asyncio.ensure_future(life.live())
        await meanwhile()
        return await task

    return asyncio.run(main())


def test_a_persons_time_counts_for_no_deadline():
    """An hour of thought, with a wall clock of ten seconds and five of idleness; what follows has its whole time."""
    person = Thinking()
    life, clock = life_of(Sending(person).flow, limits={"max_seconds": 10, "max_idle_seconds": 5})

    async def meanwhile() -> None:
        await person.asked.wait()
        clock.advance(3_600)
        person.answer.set()

    result = lived(life, meanwhile)
    assert (result.status, result.seconds) == ("done", 0)
    answer = next(event for event in life.job.store.read("run1") if isinstance(event, ApprovalGiven))
    assert answer.seconds == 3_600


def test_the_deadline_comes_as_much_later_as_the_run_stood_still():
    """Four seconds of work, an hour of thought, six more seconds: then it is over."""
    person, begun = Thinking(), asyncio.Event()

    async def work(value: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    ask = node(lambda v: v, name="ask", irreversible=True, approve=person)
    life, clock = life_of(chain(ask, work), limits={"max_seconds": 10})

    async def meanwhile() -> None:
        await asyncio.sleep(0)
        clock.advance(4)
        await person.asked.wait()
        clock.advance(3_600)
        person.answer.set()
        await begun.wait()
        clock.advance(5.9)
        assert not life.gate.state.latches
        clock.advance(0.2)

    result = lived(life, meanwhile)
    assert result.stopped is not None
    assert (result.stopped.reason, result.stopped.used) == ("deadline", 10)


def test_time_goes_on_while_something_else_is_at_work():
    """A person thinks, but a node beside it works: that is run time."""
    person, begun = Thinking(), asyncio.Event()

    async def work(value: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    ask = node(lambda v: v, name="ask", irreversible=True, approve=person)
    life, clock = life_of(parallel(ask, work), limits={"max_seconds": 10})

    async def meanwhile() -> None:
        await person.asked.wait()
        await begun.wait()
        clock.advance(11)

    result = lived(life, meanwhile)
    assert result.stopped is not None
    assert result.stopped.reason == "deadline"


def test_the_live_view_makes_room_for_a_question():
    """It is taken off the terminal until the answer is there."""

    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

    progress = Progress(Tty(), live=True)
    progress("r", NodeStarted(1, 1.0, "mail", "write"))
    assert progress._view is not None
    progress("r", ApprovalAsked(2, 1.0, "mail", "send", "to Ann"))
    progress("r", NodeStarted(3, 1.0, "mail", "other"))
    assert progress._view is None
    progress("r", ApprovalGiven(4, 1.0, "mail", "send", approved=True, by="Ann"))
    assert progress._view is not None
    progress.close()


def test_no_workflow_of_others_is_taken_for_ours():
    """Any object with a name and a run may be a crew's fallback, as before."""

    class Own:
        name = "own"

        async def run(self, inputs: Any, gate: Gate) -> RuntimeResult:
            return RuntimeResult("fixed")

    from crew_guard import Crew, Task

    crew = Crew([Agent(Role(name="ann", goal="x"))], [Task("x", verify=lambda *_: False)], fallback=Own())
    result = Supervisor(Policy(), model=ScriptedModel(["x"]), store=MemoryStore()).run(crew)
    assert (result.output, result.via) == ("fixed", "workflow")


# Several questions


def test_one_question_at_a_time_is_open_at_the_terminal(terminal: int, monkeypatch: pytest.MonkeyPatch):
    """Two nodes side by side: what is typed can't go to the other one's question."""
    meet, met = threading.Barrier(2), []
    reads = asking._line

    def line(*given: Any) -> str:
        with contextlib.suppress(threading.BrokenBarrierError):
            meet.wait(0.3)
            met.append("both are read at once")
        os.write(terminal, typed.pop(0))
        return reads(*given)

    monkeypatch.setattr(asking, "_line", line)
    typed = [b"y\n", b"n\n"]
    sent: list[str] = []
    acts = [node(lambda _, name=name: sent.append(name), name=name, irreversible=True) for name in ("a", "b")]
    ran = Ran(parallel(*acts))
    assert (ran.result.status, met) == ("denied", [])
    assert sorted(event.approved for event in ran.of(ApprovalGiven)) == [False, True]


def test_a_question_that_waits_for_another_is_given_up_with_its_run(terminal: int, capsys: pytest.CaptureFixture[str]):
    """It was never shown."""
    sending = Sending()
    supervisor = Supervisor(
        Policy(),
        store=MemoryStore(),
        observers=[lambda run, event: isinstance(event, ApprovalAsked) and supervisor.kill(run)],
    )
    with asking._one_at_a_time:
        result = supervisor.run(sending.flow, {"name": "Ann"})
    assert (result.status, sending.sent) == ("stopped", [])
    assert "Approve?" not in capsys.readouterr().err + seen_at(terminal)


def test_a_question_of_a_run_that_has_ended_takes_no_answer(terminal: int, monkeypatch: pytest.MonkeyPatch):
    """What is typed after a kill goes to the next question."""
    reading: list[threading.Event] = [threading.Event(), threading.Event()]
    begun = iter(reading)
    reads = asking._line

    def line(*given: Any) -> str:
        next(begun).set()
        return reads(*given)

    monkeypatch.setattr(asking, "_line", line)
    supervisor = Supervisor(Policy(), store=MemoryStore())
    first, second = Sending(), Sending()
    with ThreadPoolExecutor() as pool:
        killed = pool.submit(supervisor.run, first.flow, {"name": "Ann"}, run_id="first")
        assert reading[0].wait(20)
        assert supervisor.kill("first")
        assert killed.result(20).status == "stopped"
        other = pool.submit(supervisor.run, second.flow, {"name": "Ann"}, run_id="second")
        open_now = reading[1].wait(30)
        os.write(terminal, b"y\n")
        assert other.result(20).done
    assert (open_now, first.sent, second.sent) == (True, [], ["to Ann"])


def test_what_was_typed_before_a_question_is_no_answer_to_it(terminal: int, answers: list[str]):
    """A y too late for a run that was killed, or one y too many, approves nothing."""
    os.write(terminal, b"y\ny\n")
    answers.append("n")
    sending = Sending()
    ran = sending.run()
    assert (ran.result.status, sending.sent) == ("denied", [])
    assert ran.of(ApprovalGiven)[0].reason == "answered 'n'"


def test_a_line_that_was_begun_before_a_question_is_no_part_of_its_answer(terminal: int, answers: list[str]):
    """The terminal holds it back until its end."""
    os.write(terminal, b"ye")
    answers.append("s")
    assert Sending().run().result.status == "denied"


def test_a_second_yes_to_one_question_is_none_to_the_next(terminal: int, answers: list[str]):
    """Two nodes, one after the other: each is asked about by itself."""
    answers += ["y\ny", "n"]
    sent: list[str] = []

    def a(_: Any) -> None:
        sent.append("a")

    def b(_: Any) -> None:
        sent.append("b")

    flow = chain(node(a, irreversible=True), node(b, irreversible=True))
    assert Ran(flow).result.status == "denied"
    assert sent == ["a"]


def test_one_yes_is_for_one_act():
    """What can't be undone doesn't vote; each item of a list is asked about, before the first is acted on."""
    sent: list[str] = []
    asked: list[str] = []

    def approves(approval: Approval) -> bool:
        asked.append(approval.value)
        return approval.value != "c"

    send = node(sent.append, name="send", irreversible=True, approve=approves)
    for votes in ({"voters": 3}, {"ahead_by": 2}):
        with pytest.raises(WorkflowError, match="'send' is irreversible: it can't vote"):
            vote(send, **votes)  # type: ignore[arg-type]
    ran = Ran(orchestrate(node(lambda inputs: ["a", "b"], name="plan"), send, node(lambda _: "all", name="end")))
    assert (ran.result.output, asked, sorted(sent)) == ("all", ["a", "b"], ["a", "b"])
    sent.clear()
    ran = Ran(orchestrate(node(lambda inputs: ["a", "c"], name="plan"), send, node(lambda _: "all", name="end")))
    assert (ran.result.status, sent) == ("denied", [])


def test_a_long_value_says_that_it_is_cut():
    """In the question and in the journal; who approves in code has all of it."""
    long = "x" * 3_000
    approval = Approval("mail", "send", {"text": long}, {})
    assert approval.text.endswith("x… [cut: the first 2,000 of 3,012 characters]")
    assert Approval("mail", "send", "x" * 2_000, {}).text == "x" * 2_000
    seen: list[Any] = []

    def approves(given: Approval) -> bool:
        seen.append(given.value)
        return True

    ran = Ran(chain(node(lambda _: long, name="write"), node(len, name="send", irreversible=True, approve=approves)))
    assert seen == [long]
    assert ran.of(ApprovalAsked)[0].what == f"{'x' * 500}… [cut: the first 500 of 3,000 characters]"


# Agents with tools that can't be undone


@tool(irreversible=True)
def mail(to: str) -> str:
    """Send a mail."""
    SENT.append(to)
    return "sent"


SENT: list[str] = []


def mailing(**more: Any) -> Any:
    ann = Agent(Role(name="ann", goal="mail"), [mail])
    return agent_node(ann, "Mail {value}", name="post", caps={"max_steps": 3}, **more)


def test_an_agent_with_an_irreversible_tool_asks_before_it_begins():
    """As any irreversible node: an approver or a person, else nothing begins; and it isn't tried again."""
    SENT.clear()
    assert chain(mailing()).unapproved() == ("post",)
    model = ScriptedModel([Reply(tools=(("mail", '{"to": "Ann"}'),)), "done"])
    ran = Ran(chain(mailing()), models={"embedded:smollm2": model})
    assert (ran.result.status, SENT, ran.of(NodeStarted)) == ("denied", [], [])
    ran = Ran(chain(mailing(approve=lambda _: False)), models={"embedded:smollm2": model})
    assert (ran.result.status, SENT, model.calls) == ("denied", [], [])
    ran = Ran(chain(mailing(approve=lambda _: True)), models={"embedded:smollm2": model})
    assert (ran.result.output, SENT) == ("done", ["Ann"])
    with pytest.raises(WorkflowError, match="'post' is irreversible: it is not tried again"):
        chain(mailing(approve=lambda _: True, retry=1))
    with pytest.raises(WorkflowError, match="approve= is for a node that is irreversible"):
        agent_node(Agent(Role(name="ann", goal="x")), "x", caps={"max_steps": 5}, approve=lambda _: True)
