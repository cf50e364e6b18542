"""Graphs at work: what runs when, what is tried again, what is undone, and what a journal keeps of it."""

import asyncio
import io
import threading
from collections.abc import Mapping
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from rich.console import Console

from crew_guard import Agent, Crew, NodeContext, Supervisor, Task, Workflow, chain, node, parallel, refine, tool, vote
from crew_guard.core.events import Compensated, Judged, NodeFinished, NodeStarted, RunStarted, ScopeOpened
from crew_guard.core.policy import Policy
from crew_guard.core.roles import Role, TaskContext, Verdict
from crew_guard.core.usage import Rate, Rates
from crew_guard.errors import LimitExceededError, ModelError
from crew_guard.models.scripted import Reply, ScriptedModel
from crew_guard.ports import Resuming
from crew_guard.store.memory import MemoryStore
from crew_guard.workflows.calling import call
from crew_guard.workflows.context import NodeFailedError
from crew_guard.workflows.graph import branch, loop
from crew_guard.workflows.hearing import hear
from crew_guard.workflows.nodes import Retry
from tests.supervisor.gates import gate_for
from tests.workflows.going import AtGate, Ran


class Email(BaseModel):
    subject: str
    body: str


class Lead(BaseModel):
    name: str


def fails_first(times: int) -> Any:
    """A function that raises so often before it works."""
    calls: list[Any] = []

    def work(value: Any, context: NodeContext) -> str:
        calls.append(context.problem)
        if len(calls) <= times:
            raise OSError(f"no {len(calls)}")
        return f"done after {calls}"

    return work


def test_a_workflow_alone_runs_under_a_supervisor():
    """Its result is its own: no crew, nothing fell back, usage by node, no agents' share kept back."""
    model = ScriptedModel(["a greeting"])
    flow = chain(node(lambda inputs: f"Greet {inputs['name']}", name="greet", model="m:x"), str.upper, name="hello")
    ran = Ran(flow, {"name": "Ann"}, models={"m:x": model}, limits={"max_steps": 5}, reserve={"steps": 4})
    assert (ran.result.output, ran.result.via, ran.result.status) == ("A GREETING", "workflow", "done")
    assert (ran.result.fell_back, ran.result.agents["greet"].steps) == ("", 1)
    assert ran.of(RunStarted)[0].runtime == "workflow"
    assert ran.of(RunStarted)[0].side == "fallback"
    assert model.calls[0].messages[0].text == "Greet Ann"


def test_all_of_the_runs_budget_is_a_lone_workflows():
    """There is no fallback to keep a reserve for; and its cap is exact."""
    asks = [node(lambda _: "x", name=f"ask{place}", model="m:x") for place in range(4)]
    model = ScriptedModel(["ok"], repeat=True)
    ran = Ran(chain(*asks), models={"m:x": model}, limits={"max_steps": 3}, reserve={"steps": 2})
    assert (len(model.calls), ran.result.status) == (3, "stopped")
    assert ran.result.stopped is not None
    assert (ran.result.stopped.limit, ran.result.stopped.scope) == ("max_steps", "run")


def test_branches_take_one_way_and_meet_again():
    """The other way never runs; what comes after is given what the taken one gave."""

    def sort(inputs: Mapping[str, Any]) -> Literal["long", "short"]:
        return "long" if len(inputs["text"]) > 3 else "short"

    cut, keep = node(lambda given: given["text"][:3], name="cut"), node(lambda given: given["text"], name="keep")
    nodes = [sort, cut, keep]
    edges = [branch("sort", {"long": "cut", "short": "keep"}, passes="input"), ("cut", "end"), ("keep", "end")]
    flow = Workflow([*nodes, node(lambda text: f"<{text}>", name="end")], edges)
    assert Ran(flow, {"text": "abcdef"}).result.output == "<abc>"
    ran = Ran(flow, {"text": "ab"})
    assert ran.result.output == "<ab>"
    assert [event.node for event in ran.of(NodeFinished)] == ["sort", "keep", "end"]


def test_an_outcome_nobody_named_ends_the_run():
    """A type may lie."""
    liar = node(lambda _: "x", name="liar")
    flow = Workflow([liar, node(lambda v: v, name="a")], [branch("liar", {"y": "a"}, by=lying)])
    assert "came out at 'x', and there is no branch for it: there are 'y'" in Ran(flow).result.error


def lying(value: str) -> Literal["y"]:
    return value  # type: ignore[return-value]


def test_sides_run_at_once_and_a_join_waits_for_all():
    """Each waits for the other; the join is given both, by its parameters' names."""
    both = [asyncio.Event(), asyncio.Event()]

    async def left(inputs: Any) -> str:
        both[0].set()
        await both[1].wait()
        return "l"

    async def right(inputs: Any) -> str:
        both[1].set()
        await both[0].wait()
        return "r"

    def join(right: str, left: str, context: NodeContext) -> str:
        return left + right + "".join(sorted(context.outputs))

    flow = Workflow([left, right, join], [("left", "join"), ("right", "join")], start=["left", "right"])
    assert Ran(flow).result.output == "lrleftright"
    as_dict = Workflow([left, right], [], start=["left", "right"])
    assert Ran(as_dict).result.output == {"left": "l", "right": "r"}


def test_a_loop_ends_when_it_is_content_or_at_its_bound():
    """Its rounds are recorded; at the bound it fails, or goes on where that is said."""

    def grow(value: Any, context: NodeContext) -> str:
        return ("" if context.round == 1 else value) + "x"

    def looped(rounds: int, then: Any = "fail") -> Workflow:
        def again(value: str) -> bool:
            return len(value) < 3

        nodes = [node(grow), node(lambda v: v, name="look"), node(lambda v: f"{v}!", name="end")]
        return Workflow(nodes, [("grow", "look", "end"), loop("look", "grow", again=again, rounds=rounds, then=then)])

    ran = Ran(looped(5))
    assert ran.result.output == "xxx!"
    assert [event.round for event in ran.of(NodeStarted)] == [1, 1, 2, 2, 3, 3, 1]
    assert "look still wants another round after 2, the most there may be; it gave" in Ran(looped(2)).result.error
    assert Ran(looped(2, "go_on")).result.output == "xx!"


def test_a_loop_in_a_loop_begins_afresh_each_time():
    """Two rounds inside, three outside: six."""
    seen: list[tuple[int, int]] = []

    def inner(value: Any, context: NodeContext) -> int:
        seen.append((context.round, len(context.rounds.get("inner", ()))))
        return 0

    nodes = [node(lambda v: 0, name="outer"), node(inner), node(lambda v: v, name="back")]
    edges = [
        ("outer", "inner", "back"),
        loop("inner", "inner", again=lambda _: True, rounds=2, then="go_on"),
        loop("back", "outer", again=lambda _: True, rounds=3, then="go_on"),
    ]
    assert Ran(Workflow(nodes, edges)).result.done
    assert seen == [(1, 0), (2, 1)] * 3


def test_a_failed_node_is_tried_again_after_longer_and_longer_pauses():
    """On the run's clock; the function reads what was wrong; each attempt is recorded."""
    at = AtGate(chain(node(fails_first(3), name="flaky", retry=Retry(3, first=1, factor=3, longest=5))))
    assert at.run().output == "done after ['', 'OSError: no 1', 'OSError: no 2', 'OSError: no 3']"
    assert at.waited == [1, 3, 5]
    started = [event for event in at.events() if isinstance(event, NodeStarted)]
    reasons = [(event.attempt, event.reason) for event in started]
    assert reasons == [(1, ""), *((place + 1, f"OSError: no {place}") for place in (1, 2, 3))]


def test_tries_have_an_end():
    """The last failure is the node's."""
    with pytest.raises(OSError, match="no 3"):
        AtGate(chain(node(fails_first(9), name="flaky", retry=2))).run()


def test_a_refusal_is_never_tried_again():
    """Nor is an error that another attempt can't mend."""
    tries: list[int] = []

    async def ask(value: Any, context: NodeContext) -> Any:
        tries.append(1)
        return await context.ask(ScriptedModel(["x"] * 9), "hello")

    with pytest.raises(LimitExceededError):
        AtGate(chain(node(ask, retry=5)), limits={"max_steps": 0}).run()
    assert len(tries) == 1

    def rejected(value: Any) -> Any:
        tries.append(1)
        raise ModelError("no", kind="rejected")

    with pytest.raises(ModelError):
        AtGate(chain(node(rejected, retry=5))).run()
    assert len(tries) == 2


def test_an_attempt_has_its_time():
    """What is stuck is ended on the run's clock, and tried again."""
    ended: list[str] = []

    async def slow(value: Any, context: NodeContext) -> str:
        if context.attempt == 1:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("cancelled")
        return context.problem

    at = AtGate(chain(node(slow, timeout=7, retry=Retry(1, first=2))), fire=lambda seconds: not ended or seconds == 2)
    assert at.run().output == "slow was ended after 7 s, its timeout"
    assert (at.waited, ended) == ([7, 2], ["cancelled"])


@pytest.mark.parametrize(
    ("given", "passed", "reason"),
    [
        (True, True, ""),
        (False, False, "no reason given"),
        (0.8, True, ""),
        (0, False, "the grade 0 is below 0.5"),
        (1, True, ""),
        (Verdict(passed=False, reason="too short", grade=0.3), False, "too short"),
        (None, False, "the verifier gave nothing: expected True, False, a grade in [0, 1] or a Verdict"),
        (1.7, False, "the verifier gave the grade 1.7: expected"),
        (float("nan"), False, "the verifier gave the grade nan"),
        (Verdict(passed=True, grade=1.7), False, "the verifier gave the grade 1.7"),
        ("yes", False, "the verifier gave 'yes': expected"),
        (KeyError("x"), False, "the verifier raised KeyError: 'x'"),
    ],
)
def test_what_a_verifier_says_counts_and_what_is_unclear_is_a_no(given: Any, passed: bool, reason: str):
    """It is the node's verdict in the journal, and ends the run where it is no."""

    def verify(output: Any, context: NodeContext) -> Any:
        assert output == "made"
        assert context.inputs == {"a": 1}
        if isinstance(given, Exception):
            raise given
        return given

    ran = Ran(chain(node(lambda _: "made", name="make", verify=verify)), {"a": 1})
    verdict = ran.of(Judged)[0]
    assert (verdict.agent, verdict.task, verdict.passed) == ("make", "make", passed)
    assert ran.result.done is passed
    if not passed:
        assert reason in ran.result.error
        assert "the verifier of make said no" in ran.result.error


async def in_time(output: str) -> bool:
    return output == "b"


def test_a_verifiers_no_is_a_reason_to_try_again_and_the_model_reads_it():
    """Async verifiers count, too; the second answer passes."""
    model = ScriptedModel(["a", "b"])
    at = AtGate(chain(node(lambda _: "Say b", name="say", model=model, verify=in_time, retry=1)))
    assert at.run().output == "b"
    assert "turned down: the verifier of say said no" in model.calls[1].messages[-1].text


def test_a_model_node_gives_what_its_model_says():
    """Mended twice at the most, and judged by its form."""
    model = ScriptedModel(["no json", '```json\n{"subject": "Hi", "body": "there"}\n```'])
    flow = chain(node(lambda inputs: "Write", name="draft", model=model, output=Email, system="You write."))
    ran = Ran(flow)
    assert ran.result.output == Email(subject="Hi", body="there")
    assert [call.messages[0].text for call in model.calls] == ["You write."] * 2
    assert "Answer again, mended" in model.calls[1].messages[-1].text
    assert (ran.result.usage.steps, ran.of(Judged)[0].reason) == (2, "it follows Email")
    assert ran.of(NodeFinished)[0].output == {"subject": "Hi", "body": "there"}
    never = ScriptedModel(["no json"], repeat=True)
    ran = Ran(chain(node(lambda inputs: "Write", name="draft", model=never, output=Email)))
    assert (ran.result.status, len(never.calls), ran.of(Judged)[0].passed) == ("failed", 3, False)


@pytest.mark.parametrize(
    ("prompt", "reply", "told"),
    [
        (3, "x", "must return its prompt, a text or a list of Message, not a int"),
        ("x", Reply("cut", finish="length"), "was cut at its longest length"),
        ("x", Reply("", tokens=1), "the answer is empty"),
    ],
)
def test_an_answer_that_can_not_be_used_fails_its_node(prompt: Any, reply: Any, told: str):
    """Whatever is wrong with it, or with the prompt."""
    model = ScriptedModel([reply], repeat=True)
    assert told in Ran(chain(node(lambda _: prompt, name="ask", model=model))).result.error


def test_a_model_nobody_knows_is_told_before_anything_runs():
    """By the node that names it; for a crew's fallback, too."""
    flow = chain(node(lambda _: "x", name="ask", model="nonsense"), name="flow")
    with pytest.raises(Exception, match=r"workflow 'flow', node 'ask': .*nonsense"):
        Supervisor(store=MemoryStore()).run(flow)
    crew = Crew([Agent(Role(name="ann", goal="x"))], [Task("x")], fallback=flow)
    with pytest.raises(Exception, match="node 'ask'"):
        Supervisor(store=MemoryStore(), model=ScriptedModel(["x"])).run(crew)


def test_inputs_are_read_into_the_first_nodes_type():
    """And what does not fit says so."""

    def greet(lead: Lead) -> str:
        return f"Hello {lead.name}"

    assert Ran(chain(greet), {"name": "Ann"}).result.output == "Hello Ann"
    assert "the run's inputs don't fit greet: name: Field required" in Ran(chain(greet), {}).result.error


# Caps


@tool(cost="0.01")
def dig(place: str) -> str:
    """Dig somewhere."""
    return f"gold in {place}"


def test_a_node_has_caps_of_its_own_within_the_runs():
    """Steps and tool calls, exactly; the run says which node was stopped; its other nodes are not."""

    async def digs(value: Any, context: NodeContext) -> Any:
        for place in range(5):
            await context.call_tool(dig, {"place": str(place)})

    other = node(lambda v: v, name="other")
    ran = Ran(chain(other, node(digs, caps={"max_tool_calls": 2})))
    assert (ran.result.usage.tool_calls, ran.result.status) == (2, "stopped")
    assert ran.result.stopped is not None
    assert (ran.result.stopped.scope, ran.result.stopped.limit) == ("node:digs", "max_tool_calls")
    assert ran.of(ScopeOpened)[-1].scope == "node:digs"
    ran = Ran(chain(node(digs, caps={"max_usd": "0.03"})))
    assert (ran.result.usage.tool_calls, ran.result.stopped.limit) == (3, "max_usd")  # type: ignore[union-attr]
    ran = Ran(chain(node(digs, caps={"max_tool_calls": 9})), limits={"max_tool_calls": 1})
    assert (ran.result.usage.tool_calls, ran.result.stopped.scope) == (1, "run")  # type: ignore[union-attr]


@given(st.integers(1, 4), st.integers(0, 6), st.integers(0, 6))
def test_whatever_caps_a_node_and_its_run_have_neither_is_passed(nodes: int, own: int, whole: int):
    """Model calls of nodes side by side: each at most its own, all of them at most the run's."""

    async def asks(value: Any, context: NodeContext) -> Any:
        while True:
            await context.ask(model, "again")

    model = ScriptedModel(["ok"], repeat=True)
    names = [f"n{place}" for place in range(nodes)]
    flow = Workflow([node(asks, name=name, caps={"max_steps": own}) for name in names], start=names)
    at = AtGate(flow, limits={"max_steps": whole})
    with pytest.raises(LimitExceededError):
        at.run()
    used = at.gate.keeper.state.usage_by_agent()
    assert all(usage.steps <= own for usage in used.values())
    assert len(model.calls) == at.gate.keeper.state.used().steps <= min(whole, nodes * own)


def test_a_cap_in_dollars_holds_no_model_without_a_price():
    """Nothing could be held; with a price it holds to the nano-dollar."""
    unpriced = ScriptedModel(["x"], rates=None)
    ran = Ran(chain(node(lambda _: "x", name="ask", model=unpriced, caps={"max_usd": "1"})))
    assert (ran.result.status, len(unpriced.calls)) == ("denied", 0)
    assert "no price is known for scripted:test, and the caps of ask limit dollars" in str(ran.result.stopped)
    rates = Rates(Rate(10**9), Rate(10**9))
    priced = ScriptedModel([Reply("x", tokens=400)], rates=rates)
    ran = Ran(chain(node(lambda _: "x", name="ask", model=priced, caps={"max_usd": "0.0004"}, max_tokens=9_000)))
    assert ran.result.usage.nano_usd <= 400_000


# Undoing


def booking(undone: list[str], name: str, problem: str = "") -> Any:
    def undo(output: str, context: NodeContext) -> None:
        undone.append(output)
        if problem:
            raise OSError(problem)

    return node(lambda value: f"{name} booked", name=name, compensate=undo)


def test_what_was_done_is_undone_in_reverse_order_when_a_later_node_fails():
    """Each with what it gave; recorded; nodes that can't be undone stay."""
    undone: list[str] = []
    fail = node(fails_first(9), name="pay")
    ran = Ran(chain(booking(undone, "flight"), node(lambda v: v, name="note"), booking(undone, "hotel"), fail))
    assert undone == ["hotel booked", "flight booked"]
    assert [(event.node, event.error) for event in ran.of(Compensated)] == [("hotel", ""), ("flight", "")]
    assert (ran.result.status, ran.result.error) == ("failed", "node 'pay': OSError: no 1")


def test_a_run_that_failed_names_the_node():
    """Whatever it raised, in a loop's condition too; whoever calls `run` gets the node's own exception, with a note."""

    def boom(_value: Any) -> Any:
        raise ZeroDivisionError("by zero")

    ran = Ran(
        chain(node(lambda v: v, name="first"), parallel(node(boom, name="left"), node(lambda v: v, name="right")))
    )
    assert ran.result.error == "node 'left': ZeroDivisionError: by zero"
    again = Workflow([node(lambda v: v, name="draft")], [loop("draft", "draft", again=boom, rounds=2)])
    assert Ran(again).result.error == "node 'draft': ZeroDivisionError: by zero"
    cut = node(lambda _: "hm?", name="ask", model=ScriptedModel([]))
    assert Ran(chain(cut)).result.error.startswith("node 'ask': ")
    with pytest.raises(ZeroDivisionError) as raised:
        AtGate(chain(node(boom, name="left"))).run()
    assert raised.value.__notes__ == ["in the node left"]


def test_what_could_not_be_undone_is_told():
    """The others are undone all the same."""
    undone: list[str] = []
    ran = Ran(chain(booking(undone, "flight"), booking(undone, "hotel", "closed"), node(fails_first(9), name="pay")))
    assert undone == ["hotel booked", "flight booked"]
    assert ran.result.error == "node 'pay': OSError: no 1; not undone: hotel (OSError: closed)"
    assert [event.error for event in ran.of(Compensated)] == ["OSError: closed", ""]


def test_a_success_undoes_nothing():
    """And neither does the failure of a node undo itself."""
    undone: list[str] = []
    assert Ran(chain(booking(undone, "flight"))).result.output == "flight booked"
    only = node(fails_first(9), name="pay", compensate=lambda output: undone.append("pay"))
    assert not Ran(chain(only)).result.done
    assert undone == []


def test_a_node_that_fails_ends_those_beside_it():
    """They are cancelled, and what was done before is undone."""
    undone: list[str] = []
    ended: list[str] = []
    begun = asyncio.Event()

    async def stuck(value: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("stuck")

    async def fail(value: Any) -> None:
        await begun.wait()
        raise OSError("kaputt")

    flow = Workflow([booking(undone, "flight"), stuck, fail], [("flight", "stuck"), ("flight", "fail")])
    with pytest.raises(OSError, match="kaputt"):
        AtGate(flow).run()
    assert (ended, undone) == (["stuck"], ["flight booked"])


def test_what_was_finished_at_the_same_moment_is_undone_too():
    """The one beside it failed in the very same turn of the loop."""
    undone: list[str] = []
    go = asyncio.Event()

    async def book(value: Any) -> str:
        await go.wait()
        return "booked"

    async def fail(value: Any) -> None:
        await go.wait()
        raise OSError("kaputt")

    async def start(value: Any) -> None:
        go.set()

    nodes = [fail, node(book, compensate=undone.append), start]
    with pytest.raises(OSError, match="kaputt"):
        AtGate(Workflow(nodes, start=["fail", "book", "start"])).run()
    assert undone == ["booked"]


def test_a_run_that_is_ended_says_what_it_left_undone():
    """There is no time, and no gate, to undo it."""
    undone: list[str] = []
    begun = asyncio.Event()

    async def stuck(value: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    at = AtGate(chain(booking(undone, "flight"), stuck))

    at.killed(begun)
    left = [event for event in at.events() if isinstance(event, Compensated)]
    assert [(event.node, event.error) for event in left] == [("flight", "the run was ended before it could be undone")]


# Going on from what is done


def test_what_is_done_already_is_not_done_again():
    """By the node's own name or the task's; the output is taken, and the journal says from where."""
    runs: list[str] = []

    def counted(name: str) -> Any:
        def work(value: Any) -> str:
            runs.append(name)
            return f"{value}{name}" if isinstance(value, str) else name

        return work

    flow = chain(
        node(counted("a"), name="a"), node(counted("b"), name="b", done_by="task_2"), node(counted("c"), name="c")
    )
    assert isinstance(flow, Resuming)
    at = AtGate(flow)
    assert at.run(done={"task_2": "B", "x": 1}).output == "Bc"
    assert runs == ["a", "c"]
    finished = [event for event in at.events() if isinstance(event, NodeFinished)]
    assert [(event.node, event.taken_from) for event in finished] == [("a", ""), ("b", "task_2"), ("c", "")]


def test_what_is_done_in_another_shape_is_done_again():
    """An Email is wanted; a text is none, an object is."""
    model = ScriptedModel(['{"subject": "new", "body": "x"}'])
    flow = chain(node(lambda _: "x", name="draft", model=model, output=Email))
    assert AtGate(flow).run(done={"draft": {"subject": "old", "body": "x"}}).output == Email(subject="old", body="x")
    assert AtGate(flow).run(done={"draft": "a text"}).output == Email(subject="new", body="x")

    def send(value: Any) -> int:
        raise AssertionError("sent twice")

    once = chain(node(send, irreversible=True, approve=lambda _: True))
    assert AtGate(once).run(done={"send": "sent"}).output == "sent"


def test_a_run_goes_on_from_its_journal():
    """Typed outputs come back as they were; what was undone, or stands in a loop under way, is done again."""
    calls: list[str] = []

    def read(inputs: Mapping[str, Any]) -> Lead:
        calls.append("read")
        return Lead(name="Ann")

    def greet(lead: Lead) -> str:
        calls.append("greet")
        if calls.count("greet") == 1:
            raise OSError("no line")
        return f"Hello {lead.name}"

    flow = chain(read, greet, name="hello")
    ran = Ran(flow)
    done = flow.done_in(ran.events)
    assert done == {"read": {"name": "Ann"}}
    assert AtGate(flow).run(done=done).output == "Hello Ann"
    assert calls == ["read", "greet", "greet"]
    again = Ran(flow.continued(ran.events))
    assert (again.result.output, calls[3:]) == ("Hello Ann", ["greet"])
    assert [(event.node, event.taken_from) for event in again.of(NodeFinished)] == [("read", "read"), ("greet", "")]
    undone = chain(node(read, name="book", compensate=lambda _: None), node(fails_first(9), name="pay"), name="trip")
    assert undone.done_in(Ran(undone).events) == {}
    nodes = [node(lambda v: 1, name="draft"), node(lambda v: 1, name="judge"), node(fails_first(9), name="send")]
    edges = [("draft", "judge", "send"), loop("judge", "draft", again=lambda _: True, rounds=2)]
    looped = Workflow(nodes, edges, "looped")
    assert looped.done_in(Ran(looped).events) == {}
    left = Workflow(nodes, [edges[0], loop("judge", "draft", again=lambda _: False, rounds=2)], "left")
    assert left.done_in(Ran(left).events) == {"draft": 1, "judge": 1}


def test_a_crews_fallback_falls_back_as_before():
    """Its nodes' models are the supervisor's, its actions stay in the workflow's share."""
    model, helper = ScriptedModel([Reply(error=ModelError("down", kind="rejected"))]), ScriptedModel(["fixed answer"])
    flow = chain(node(lambda inputs: "x", name="ask", model="m:helper"))
    crew = Crew([Agent(Role(name="ann", goal="x"))], [Task("x")], fallback=flow)
    supervisor = Supervisor(
        Policy.model_validate({"limits": {"max_steps": 2}, "reserve": {"steps": 1}}),
        model=model,
        models={"m:helper": helper},
        store=MemoryStore(),
    )
    result = supervisor.run(crew)
    assert (result.output, result.via, result.usage.steps) == ("fixed answer", "workflow", 2)


def test_nodes_whose_names_lead_nowhere_without_a_supervisor_say_so():
    """A workflow run at a gate by itself has nobody who knows models by name."""
    with pytest.raises(NodeFailedError, match="nobody knows a model named 'm:x': a Supervisor does"):
        AtGate(chain(node(lambda _: "x", name="ask", model="m:x"))).run()


def test_a_loop_that_was_left_is_not_entered_again():
    """Its rounds are used up: neither further votes nor drafts beyond the bound."""
    calls: list[str] = []

    def called(name: str, gives: Any) -> Any:
        def work(value: Any) -> Any:
            calls.append(name)
            return gives

        return node(work, name=name)

    voted = chain(vote(called("ask", "A"), ahead_by=2), node(fails_first(1), name="end"), name="voted")
    done = voted.done_in(Ran(voted).events)
    assert calls == ["ask", "ask"]
    assert AtGate(voted).run(done=done).output == "done after ['', '']"
    assert calls == ["ask", "ask"]
    calls.clear()
    drafts = refine(called("draft", "d"), called("review", False), rounds=2, then="go_on")
    refined = chain(drafts, node(fails_first(1), name="end"), name="refined")
    done = refined.done_in(Ran(refined).events)
    assert calls == ["draft", "review"] * 2
    assert AtGate(refined).run(done=done).output == "done after ['', '']"
    assert calls == ["draft", "review"] * 2


def test_an_irreversible_node_is_not_left_out_for_a_task_of_its_name():
    """Only its done_by says that a crew's task does the same; the others' names do, too."""
    sent: list[str] = []

    def send(value: str) -> str:
        sent.append(value)
        return "sent"

    def fallen(**more: Any) -> Any:
        act = node(send, irreversible=True, approve=lambda _: True, **more)
        tasks = [
            Task("Write", name="draft", verify=lambda *_: True),
            Task("Say what to send", name="send", verify=lambda *_: True),
            Task("Check", name="check", verify=lambda *_: False),
        ]
        crew = Crew([Agent(Role(name="ann", goal="x"))], tasks, fallback=chain(node(lambda _: "d", name="draft"), act))
        return Supervisor(Policy(), model=ScriptedModel(["a", "b", "c"]), store=MemoryStore()).run(crew)

    assert (fallen().output, sent) == ("sent", ["a"])
    assert (fallen(done_by="send").output, sent) == ("b", ["a"])


def test_an_undo_that_the_runs_end_cuts_short_is_told():
    """It and those that never began: what stays is in the journal."""
    undone: list[str] = []
    begun = asyncio.Event()

    async def slow(output: str) -> None:
        begun.set()
        await asyncio.Event().wait()

    at = AtGate(
        chain(
            booking(undone, "flight"),
            node(lambda v: 1, name="hotel", compensate=slow),
            booking(undone, "car"),
            node(fails_first(9), name="pay"),
        )
    )

    at.killed(begun)
    ended = "the run was ended before it could be undone"
    left = [(event.node, event.error) for event in at.events() if isinstance(event, Compensated)]
    assert left == [("car", ""), ("hotel", ended), ("flight", ended)]


def test_the_seconds_of_a_nodes_caps_are_for_all_of_its_tries():
    """Three pauses of a second use them up, though it might be tried nine times; timeout= is for one attempt."""
    fails = node(fails_first(99), name="flaky", retry=Retry(9, first=1, factor=1), caps={"max_seconds": 3})
    at = AtGate(chain(fails), fire=lambda seconds: seconds != 3)
    with pytest.raises(LimitExceededError, match="max_seconds of node:flaky: the cap is 3"):
        at.run()
    assert at.waited == [1, 1, 1]
    both = node(lambda v: "x", name="both", timeout=2, caps={"max_seconds": 5})
    at = AtGate(chain(both), fire=lambda _: False)
    assert at.run().output == "x"
    assert "both  2 s at most, 5 s at most, all tries" in shown(at.flow)


def shown(flow: Workflow) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(flow)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_workflow_by_itself_needs_no_fallback():
    """A policy asks one of crews."""
    assert Ran(chain(node(lambda _: "x", name="one")), reliability={"require_fallback": True}).result.output == "x"


# Many at once


@pytest.mark.parametrize("verifies", [False, True])
def test_blocked_threads_of_one_run_hold_no_other_up(verifies: bool):
    """Fifty functions, or verifiers, that wait for each other: all of them have a thread."""
    all_there = threading.Barrier(50)

    def waits(*given: Any) -> bool:
        all_there.wait(10)
        return True

    async def one() -> Any:
        if not verifies:
            return await call(waits, "x")
        gate = gate_for(name="p")
        return (await hear(waits, "x", TaskContext({}, {}), gate, lambda _: ScriptedModel([]), whose="ann")).passed

    async def main() -> list[Any]:
        return await asyncio.gather(*(one() for _ in range(50)))

    assert asyncio.run(main()) == [True] * 50


@pytest.mark.parametrize("where", ["node", "retry", "verifier", "undo"])
def test_what_a_users_own_code_cancels_is_no_end_of_the_run(where: str):
    """A closed pool's task that a node awaits: the node has failed, and what was done is undone."""
    undone: list[str] = []

    async def cancelled(_: Any) -> None:
        task = asyncio.ensure_future(asyncio.Event().wait())
        task.cancel()
        await task

    def undo(output: Any) -> None:
        undone.append(output)

    step = {
        "node": node(cancelled, name="step"),
        "retry": node(cancelled, name="step", retry=Retry(1, first=0)),
        "verifier": node(fails_first(0), name="step", verify=cancelled),
        "undo": node(fails_first(9), name="step"),
    }[where]
    steps = [node(lambda _: "a", name="first", compensate=undo), step]
    if where == "undo":
        steps.insert(1, node(lambda _: "b", name="second", compensate=cancelled))
    ran = Ran(chain(*steps))
    assert (ran.result.status, undone) == ("failed", ["a"])
    assert "'step'" in ran.result.error
    assert "CancelledError" in ran.result.error


def test_what_could_not_be_undone_is_told_though_a_cap_ended_the_run():
    """The cap refused the undo: what failed before, and what is still there, stands in the result."""

    @tool
    def charge(cents: int) -> int:
        """Charge, or give back."""
        return cents

    async def pay(_: Any, context: NodeContext) -> Any:
        return (await context.call_tool(charge, {"cents": 1})).value

    async def give_back(_: Any, context: NodeContext) -> None:
        await context.call_tool(charge, {"cents": -1})

    flow = chain(node(pay, compensate=give_back), node(fails_first(9), name="ship"))
    result = Ran(flow, limits={"max_tool_calls": 1}).result
    assert (result.status, result.stopped and result.stopped.limit) == ("stopped", "max_tool_calls")
    assert result.error.startswith("node 'ship': ")
    assert "not undone: pay (" in result.error


def test_a_parameter_with_a_default_of_its_own_keeps_it():
    """It is no NodeContext, unless it says so; verifiers and undos have the same rule."""
    taken: list[Any] = []

    def fetch(url: Any, timeout: float = 5.0, *, strict: bool = True) -> str:
        taken.append((timeout, strict))
        return "fetched"

    def told(value: Any, retries: int = 3, context: NodeContext | None = None) -> str:
        taken.append((retries, type(context).__name__))
        return "told"

    def both(fetch: str, told: str, least: int = 1) -> str:
        taken.append(least)
        return fetch + told

    nodes = [node(lambda _: 1, name="start"), fetch, told, both]
    flow = Workflow(nodes, [("start", "fetch", "both"), ("start", "told", "both")])
    assert Ran(flow).result.output == "fetchedtold"
    assert sorted(map(str, taken)) == ["(3, 'NodeContext')", "(5.0, True)", "1"]


def test_a_blocking_node_that_is_stuck_is_named():
    """Its thread can't be ended: the result is there at the deadline, and says what goes on."""
    go_on = threading.Event()

    def stuck(_: Any) -> str:
        go_on.wait(30)
        return "late"

    try:
        result = Ran(chain(stuck), limits={"max_seconds": 0.3}).result
    finally:
        go_on.set()
    assert (result.stopped and result.stopped.reason, result.late) == ("deadline", ("node:stuck",))


def test_what_a_group_of_errors_holds_is_told():
    """A TaskGroup's own words name nothing that went wrong."""

    async def fails() -> None:
        raise OSError("order 4711 has no address")

    async def ship(_: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())

    assert "OSError: order 4711 has no address" in Ran(chain(ship)).result.error
