"""Ends that go wrong on every side at once: what the record, the ledger and the caller see then."""

import asyncio
import os
import signal
import sys
import threading
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from crew_guard import Agent, Crew, NodeContext, Policy, Role, Supervisor, Task, chain, node, tool
from crew_guard.core.actions import ModelCall, Outcome
from crew_guard.core.usage import Usage
from crew_guard.errors import ConfigError, JournalConflictError, MissingDependencyError, RunInterruptedError
from crew_guard.ports import Gate, RuntimeResult
from crew_guard.store.flush import Flush
from crew_guard.supervisor.redaction import MAX_TEXT, Redactor
from crew_guard.testing import MemoryStore, Reply, ScriptedModel
from tests.forks import forked
from tests.supervisor.gates import gate_for
from tests.supervisor.test_life import Host, events, fixed, life_of, run, settled, spend

ROLE = Role(name="worker", goal="work")


def crew_of(*tools: Any, fallback: Any = None, task: Task | None = None) -> Crew:
    return Crew([Agent(ROLE, tools)], [task or Task("x")], fallback=fallback)


def leave(inputs: Any) -> str:
    """A node that ends the process, it thinks."""
    sys.exit(1)


def test_a_system_exit_ends_its_run_only() -> None:
    """In a node, in a host: the loop that all runs share goes on."""

    async def work(gate: Gate) -> str:
        raise SystemExit(2)

    result = run(life_of(work, fallback=chain(leave, name="fixed")))
    assert (result.status, result.output) == ("failed", None)
    supervisor = Supervisor(model=ScriptedModel([""], repeat=True), store=MemoryStore())
    assert supervisor.run(crew_of(fallback=chain(leave))).status == "failed"
    assert Supervisor(model=ScriptedModel(["answer"]), store=MemoryStore()).run(crew_of()).output == "answer"


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


class NoTruth:
    """Like an array: it has no truth value, and no JSON."""

    def __bool__(self) -> bool:
        raise ValueError("ambiguous")


@pytest.mark.parametrize("value", [b"\xff\xfe", CYCLE, {"deep": b"\xff"}, NoTruth(), float("nan")])
@pytest.mark.parametrize("partial", [True, False])
def test_whatever_an_output_is_the_run_is_recorded_to_its_end(value: Any, partial: bool) -> None:
    """No JSON, a cycle, no truth value: handed over as it is, and written as well as it can be."""

    async def work(gate: Gate) -> RuntimeResult:
        return RuntimeResult(value, partial=partial, reason="half")

    life = life_of(work)
    result = run(life)
    assert (result.partial if partial else result.output) is value
    assert type(events(life)[-1]).__name__ == "RunEnded"
    assert result.as_dict()["run_id"] == "run1"


def test_a_deadline_within_the_grace_of_a_limit_is_heeded() -> None:
    """The crew was refused and goes on all the same; a kill in the second it has to notice ends it at once."""
    from crew_guard.core.decisions import Stop

    refused = asyncio.Event()

    async def work(gate: Gate) -> str:
        try:
            await spend(gate, 20)
            await spend(gate, 20)
        except Exception:
            refused.set()
            await asyncio.Event().wait()
        return "never"

    life = life_of(work, fallback=fixed, limits={"max_steps": 1})

    async def later() -> None:
        await refused.wait()
        await settled()
        life.gate.stop("run", Stop("killed", "run", detail="killed"))

    result = run(life, later())
    assert (result.status, str(result.stopped)) == ("stopped", "killed")


def test_a_limit_of_no_seconds_admits_nothing() -> None:
    """0 is a limit for time too."""

    async def work(gate: Gate) -> str:
        await spend(gate, 20)
        return "answer"

    result = run(life_of(work, limits={"max_seconds": 0}))
    assert (result.status, result.usage.steps) == ("stopped", 0)


def test_usage_by_agent_adds_up_whatever_the_names_and_the_nesting() -> None:
    """A node named like an agent, an agent called from within another's action: the sums equal the run's."""

    async def work(gate: Gate) -> str:
        outer = await gate.admit(ModelCall("writer", "m", 10, 90))
        inner = await gate.admit(ModelCall("helper", "m", 10, 40, parent=outer.action_id))
        gate.settle(inner, Outcome("ok", Usage(input_tokens=10, output_tokens=40)))
        gate.settle(outer, Outcome("ok", Usage(input_tokens=10, output_tokens=90)))
        raise ValueError("broke")

    async def writer(value: Any, context: NodeContext) -> str:
        await spend(context.gate, 30, context.node)
        return "fixed"

    result = run(life_of(work, members=(), fallback=chain(writer, name="fixed")))
    assert result.usage.tokens == 180
    assert {name: usage.tokens for name, usage in result.agents.items()} == {"writer": 130, "helper": 50}
    scopes = {scope: usage.tokens for scope, usage in result.scopes.items()}
    own = {"agent:writer": 150, "agent:helper": 50, "node:writer": 30}
    assert scopes == {"run": 180, "crew": 150, "fallback": 30, **own}
    assert result.as_dict()["scopes"]["agent:writer"] == result.scopes["agent:writer"].as_dict()


def test_the_line_is_first_come_first_served_whoever_has_caps_of_his_own() -> None:
    """The head waits for the run's tokens; a smaller call behind it doesn't take them."""
    gate = gate_for(limits={"max_tokens": 1_000}, agents={"small": {"max_tokens": 500}}, completion_min=1)

    async def scene() -> None:
        first = await gate.admit(ModelCall("a", "m", 100, 400))
        small = await gate.admit(ModelCall("small", "m", 100, 350))
        head = asyncio.create_task(gate.admit(ModelCall("b", "m", 900, 50)))
        await settled()
        behind = asyncio.create_task(gate.admit(ModelCall("small", "m", 100, 300)))
        await settled()
        gate.settle(small, Outcome("rejected"))
        await settled()
        assert not head.done()
        assert not behind.done()
        gate.settle(first, Outcome("rejected"))
        await settled()
        assert head.done()
        for task in (head, behind):
            task.cancel()
        await asyncio.gather(head, behind, return_exceptions=True)

    asyncio.run(scene())


def test_a_thread_that_is_still_stuck_is_named_in_the_result() -> None:
    """The tool's call was cancelled and settled; its thread is there all the same."""
    release, entered = threading.Event(), threading.Event()

    @tool
    def dig() -> str:
        """Dig."""
        entered.set()
        release.wait(30)
        return "gold"

    model = ScriptedModel([Reply(tools=(("dig", "{}"),)), "answer"])
    policy = Policy.model_validate({"limits": {"max_seconds": 0.2}})
    result = Supervisor(policy, model=model, store=MemoryStore()).run(crew_of(dig))
    release.set()
    assert entered.is_set()
    assert (result.status, result.late) == ("stopped", ("worker/dig",))


def test_a_tool_may_have_a_parameter_of_any_name() -> None:
    """`function` is one too."""

    @tool
    def call(function: str) -> str:
        """Call it."""
        return function

    model = ScriptedModel([Reply(tools=(("call", '{"function": "f"}'),)), "answer"])
    Supervisor(model=model, store=MemoryStore()).run(crew_of(call))
    assert model.calls[1].messages[-1].text == "f"


def test_a_tool_that_cancels_itself_has_failed() -> None:
    """Nobody ended it: its agent reads so, and goes on."""

    @tool
    async def gone() -> str:
        """Go away."""
        raise asyncio.CancelledError

    model = ScriptedModel([Reply(tools=(("gone", "{}"),)), "answer"])
    assert Supervisor(model=model, store=MemoryStore()).run(crew_of(gone)).output == "answer"


def test_a_fault_of_our_own_is_not_tried_again() -> None:
    """A missing package in a model's client: one attempt, no tokens, its way out in the error."""

    def missing(request: Any) -> str:
        raise MissingDependencyError("the model", "embedded")

    result = Supervisor(model=ScriptedModel(missing), store=MemoryStore()).run(crew_of())
    assert (result.status, result.usage.steps, result.usage.tokens) == ("failed", 1, 0)
    assert "crew-guard[embedded]" in result.error


def test_a_blocking_verifier_holds_up_no_other_run() -> None:
    """One run's verifier waits for the other run to be done."""
    done = threading.Event()

    def patient(output: Any, context: Any) -> bool:
        return done.wait(30)

    def one(task: Task) -> Any:
        return Supervisor(model=ScriptedModel(["answer"]), store=MemoryStore()).run(crew_of(task=task))

    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(one(Task("x", verify=patient))))
    thread.start()
    assert one(Task("x")).output == "answer"
    done.set()
    thread.join(30)
    assert results[0].output == "answer"


def test_the_id_of_a_run_under_way_is_taken() -> None:
    """The second is refused, and the first can still be killed."""
    begun = threading.Event()

    async def never() -> None:
        begun.set()
        await asyncio.Event().wait()

    supervisor = Supervisor(model=ScriptedModel([Reply("x", wait=never)], repeat=True), store=MemoryStore())
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(supervisor.run(crew_of(), run_id="same")))
    thread.start()
    assert begun.wait(30)
    with pytest.raises(JournalConflictError, match="under way"):
        supervisor.run(crew_of(), run_id="same")
    assert supervisor.kill("same")
    thread.join(30)
    assert results[0].status == "stopped"


def test_what_is_no_workflow_is_refused_before_it_is_needed() -> None:
    """Not when the crew has failed."""
    with pytest.raises(ValueError, match="must be a workflow"):
        crew_of(fallback=lambda inputs: "x")


@pytest.mark.parametrize(
    "policy",
    [
        {"limits": {"max_seconds": float("inf")}},
        {"limits": {"max_seconds": 1e10}},
        {"limits": {"max_steps": 5}, "reserve": {"steps": 6}},
        {"limits": {"max_usd": "1"}, "reserve": {"usd": "1.01"}},
    ],
)
def test_limits_that_can_not_be_meant_are_refused(policy: dict[str, Any]) -> None:
    """A deadline beyond any timer; a reserve that leaves the crew less than nothing."""
    with pytest.raises(ValidationError):
        Policy.model_validate(policy)


def test_a_secret_is_found_across_a_cut_in_json_and_in_a_key_without_end() -> None:
    """However it is written down."""
    redact = Redactor(['pass"word\\ü12'])
    assert "pass" not in redact("x" * (MAX_TEXT - 4) + 'pass"word\\ü12')
    assert redact('{"p": "pass\\"word\\\\\\u00fc12", "q": "pass\\"word\\\\ü12"}').count("[redacted]") == 2
    assert "MIIE" not in redact("-----BEGIN RSA PRIVATE KEY-----\nMIIE" + "a" * 99)


def test_relaxed_notices_a_store_that_fails() -> None:
    """Not at the end of the run, but with one of the next actions."""
    from concurrent.futures import Future

    from crew_guard.errors import StoreError
    from crew_guard.supervisor.life import Job, Life
    from crew_guard.testing import FakeClock

    class Failing(MemoryStore):
        failing = False

        def append(self, run_id: str, events: Any) -> Future[None]:
            if not self.failing:
                return super().append(run_id, events)
            failed: Future[None] = Future()
            failed.set_exception(StoreError("the disk is full"))
            return failed

    calls: list[int] = []

    async def work(gate: Gate) -> str:
        for number in range(20):
            store.failing = number >= 2
            await spend(gate, 20)
            calls.append(number)
        return "answer"

    store = Failing()
    policy = Policy(durability="relaxed")
    with pytest.raises(StoreError, match="disk is full"):
        run(Life(Job("run1", "crew", policy, Host(work), {}, None, store), FakeClock()))
    assert len(calls) <= 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_has_a_loop_of_its_own() -> None:
    """As under a pre-forking server: the child's runs end."""
    model = ScriptedModel(["answer"], repeat=True)
    Supervisor(model=model, store=MemoryStore()).run(crew_of())
    assert forked(lambda: Supervisor(model=model, store=MemoryStore()).run(crew_of()).output == "answer")


class Advice(BaseModel):
    city: str


@tool
def broken() -> str:
    """Break."""
    raise RuntimeError("kaputt")


async def uses_a_broken_tool(inputs: Any, context: NodeContext) -> Any:
    return (await context.call_tool(broken, {})).value


@pytest.mark.parametrize(
    ("fallback", "said"),
    [
        (chain(uses_a_broken_tool, name="fixed"), "kaputt"),
        (chain(lambda inputs: {}, broken, name="fixed"), "kaputt"),
        (chain(lambda inputs: None, name="fixed"), "gave nothing"),
        (chain(lambda inputs: "just text", name="fixed"), "gave a str, where the crew's last task gives a Advice"),
    ],
)
def test_a_workflow_without_the_answer_asked_for_has_failed(fallback: Any, said: str) -> None:
    """Its tool failed, it gave nothing, or something else than the task's model: never done."""
    model = ScriptedModel(["no json"], repeat=True)
    crew = crew_of(fallback=fallback, task=Task("x", output=Advice))
    result = Supervisor(model=model, store=MemoryStore()).run(crew)
    assert (result.status, result.output) == ("failed", None)
    assert said in result.error


def takes_nothing() -> str:
    return ""


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: Agent("researcher"), "load_role"),
        (lambda: Agent(ROLE, [takes_nothing]), "@tool"),
        (lambda: Agent(ROLE, broken), "must be a list"),
        (lambda: Crew(Agent(ROLE), [Task("x")]), "must be a list"),
        (lambda: Crew([ROLE], [Task("x")]), r"Agent\(role\)"),
        (lambda: Crew([Agent(ROLE)], ["do x"]), r"Task\(description\)"),
        (lambda: Crew([Agent(ROLE)], [Task("x")], process="swarm"), "there are sequential, parallel"),
        (lambda: Task("x", output=dict), "BaseModel"),
        (lambda: Task("x", verify="yes"), "must be a function"),
        (lambda: Supervisor({"limits": {}}), "model_validate"),
        (lambda: Supervisor(store=MemoryStore()).run(crew_of(), "Oslo"), "mapping of names"),
    ],
)
def test_what_is_of_the_wrong_kind_is_named_with_the_right_one(build: Any, said: str) -> None:
    """Where it is written, and with the way out."""
    with pytest.raises((TypeError, ValueError, ConfigError), match=said):
        build()


async def interrupt_the_waiting(times: int = 1) -> None:
    """Ctrl-C, once the main thread waits for its run."""
    main = threading.main_thread().ident
    assert main is not None
    waits = False
    while not waits:
        await asyncio.sleep(0)
        frame = sys._current_frames().get(main)
        while frame is not None and not waits:
            waits = frame.f_code.co_name == "_until_over"
            frame = frame.f_back
    for _ in range(times):
        signal.pthread_kill(main, signal.SIGINT)


def test_ctrl_c_ends_a_run_with_its_result() -> None:
    """Once: the caller gets a KeyboardInterrupt that carries the result, and the journal is whole."""

    async def hang() -> None:
        await interrupt_the_waiting()
        await asyncio.Event().wait()

    store = MemoryStore()
    crew = Crew([Agent(Role(name="ann", goal="work"))], [Task("go")])
    with pytest.raises(RunInterruptedError) as caught:
        Supervisor(model=ScriptedModel([Reply("never", wait=hang)]), store=store).run(crew, run_id="r")
    assert caught.value.result.stopped is not None
    assert caught.value.result.stopped.reason == "cancelled"
    assert list(store.read("r"))[-1].status == "stopped"


def test_a_second_ctrl_c_leaves_at_once() -> None:
    """Work that takes its time to tidy up holds nobody who is in a hurry."""
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        signal.pthread_kill(main, signal.SIGINT)

    class Slow(MemoryStore):
        """Its end is not on disk before it is told so; meanwhile the second interrupt comes."""

        def write(self, run_id: str, events: Any) -> Any:
            flushed = super().write(run_id, events)
            if type(events[0]).__name__ != "RunEnded":
                return flushed
            interrupt()
            return on_its_way

    on_its_way = Flush()

    async def hang() -> None:
        await interrupt_the_waiting()
        await asyncio.Event().wait()

    crew = Crew([Agent(Role(name="ann", goal="work"))], [Task("go")])
    with pytest.raises(KeyboardInterrupt) as caught:
        Supervisor(model=ScriptedModel([Reply("never", wait=hang)]), store=Slow()).run(crew)
    assert not isinstance(caught.value, RunInterruptedError)
    on_its_way.finish()  # for those after this test: nothing of it goes on


@pytest.mark.parametrize(("limit", "kept_back"), [("max_steps", {"steps": 1}), ("max_seconds", {"seconds": 9})])
def test_a_workflow_that_fails_for_a_stopped_crew_says_with_what(limit: str, kept_back: dict[str, int]) -> None:
    """The run is stopped, by the crew's limit, and its result and its journal name what failed and what is left."""

    async def work(gate: Gate) -> str:
        await spend(gate, 20)
        await spend(gate, 20)
        return "never"

    def book(_: Any) -> str:
        return "booking 77"

    def unbook(_: Any) -> None:
        raise OSError("closed")

    def pay(_: Any) -> str:
        raise OSError("card declined")

    flow = chain(node(book, compensate=unbook), pay, name="trip")
    life = life_of(work, fallback=flow, limits={"max_steps": 2, "max_seconds": 9}, reserve=kept_back)
    result = run(life)
    assert (result.status, result.stopped and result.stopped.limit) == ("stopped", limit)
    assert result.error == ("the workflow trip: node 'pay': OSError: card declined; not undone: book (OSError: closed)")
    assert events(life)[-1].error == result.error
    assert limit in result.fell_back
