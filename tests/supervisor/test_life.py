"""One run's life: deadlines, latches, the fallback, and ends that can't be mistaken for answers."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import pytest

from crew_guard.core.actions import Grant, ModelCall, Outcome, ToolCall
from crew_guard.core.decisions import Stop
from crew_guard.core.events import Event, Latched, RunEnded
from crew_guard.core.policy import Policy
from crew_guard.core.result import Result
from crew_guard.core.tools import tool
from crew_guard.core.usage import Usage
from crew_guard.errors import LimitExceededError, PolicyDeniedError, RefusedError, StoreError
from crew_guard.ports import Gate, RuntimeResult
from crew_guard.store.memory import MemoryStore
from crew_guard.supervisor.life import Job, Life
from crew_guard.testing.clock import FakeClock
from crew_guard.workflows.graph import chain

Work = Callable[[Gate], Awaitable[Any]]


class Host:
    """A runtime that does what a test says."""

    name = "host"

    def __init__(self, work: Work, members: tuple[str, ...] = ("ann",)) -> None:
        self._work = work
        self._members = members

    def members(self) -> tuple[str, ...]:
        return self._members

    async def run(self, inputs: Mapping[str, Any], gate: Gate) -> RuntimeResult:
        made = await self._work(gate)
        return made if isinstance(made, RuntimeResult) else RuntimeResult(made)


def life_of(work: Work, *, fallback: Any = None, members: tuple[str, ...] = ("ann",), **policy: Any) -> Life:
    job = Job("run1", "crew", Policy.model_validate(policy), Host(work, members), {}, fallback, MemoryStore())
    return Life(job, FakeClock())


def run(life: Life, meanwhile: Coroutine[Any, Any, None] | None = None) -> Result:
    async def both() -> Result:
        task = asyncio.create_task(life.live())
        if meanwhile is not None:
            await meanwhile
        return await task

    return asyncio.run(both())


def events(life: Life) -> list[Event]:
    return list(life.job.store.read("run1"))


async def spend(gate: Gate, tokens: int, agent: str = "ann") -> Grant:
    grant = await gate.admit(ModelCall(agent, "m", 10, tokens - 10))
    used = Usage(input_tokens=10, output_tokens=grant.max_tokens)
    gate.settle(grant, Outcome("ok", used))
    return grant


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


fixed = chain(lambda inputs: "the fixed answer", name="fixed")


def test_a_crew_that_does_its_job_answers_itself() -> None:
    """Output, path, usage by agent and a journal that ends."""

    async def work(gate: Gate) -> str:
        await spend(gate, 100)
        return "answer"

    life = life_of(work, fallback=fixed)
    result = run(life)
    assert (result.status, result.output, result.via, result.stopped) == ("done", "answer", "crew", None)
    assert result.usage == Usage(1, 0, 10, 90, agents=1)
    assert result.agents == {"ann": result.usage}
    assert isinstance(events(life)[-1], RunEnded)


def test_a_host_that_swallows_the_refusal_is_stopped_all_the_same() -> None:
    """It catches the error 50 times and returns an answer: the latch is believed, not the answer."""
    refused: list[str] = []

    async def work(gate: Gate) -> str:
        for _ in range(50):
            try:
                await spend(gate, 300)
            except RefusedError as error:
                refused.append(str(error))
        return "looks finished"

    life = life_of(work, limits={"max_tokens": 1_000}, completion_min=50)
    result = run(life)
    assert (result.status, result.output, result.partial) == ("stopped", None, "looks finished")
    assert result.stopped is not None
    assert (result.stopped.limit, result.stopped.cap) == ("max_tokens", 1_000)
    assert result.usage.tokens <= 1_000
    assert len(set(refused)) == 1


def test_a_host_that_asks_again_for_ever_is_ended() -> None:
    """It never returns; the run does, and its journal stays short."""

    async def work(gate: Gate) -> str:
        while True:
            with contextlib.suppress(RefusedError):
                await spend(gate, 300)

    life = life_of(work, limits={"max_steps": 2})
    result = run(life)
    assert result.stopped is not None
    assert result.stopped.limit == "max_steps"
    assert result.usage.steps == 2
    assert len(events(life)) < 30


def test_a_tool_at_its_cap_is_closed_and_the_agent_goes_on() -> None:
    """The tool's third call is refused; the run still ends with its answer."""
    refused = []

    async def work(gate: Gate) -> str:
        for _ in range(3):
            try:
                gate.settle(await gate.admit(ToolCall("ann", "dig")), Outcome("ok"))
            except LimitExceededError as error:
                refused.append(error.stop.scope)
        return "answer"

    result = run(life_of(work, tools={"limits": {"dig": {"max_tool_calls": 2}}}))
    assert (result.status, refused, result.usage.tool_calls) == ("done", ["tool:dig"], 2)


def test_an_agents_cap_ends_that_agent_only() -> None:
    """Bob is stopped at one step; Ann is not; the run says that Bob was stopped."""

    async def work(gate: Gate) -> str:
        await spend(gate, 20, "bob")
        with pytest.raises(LimitExceededError):
            await spend(gate, 20, "bob")
        await spend(gate, 20, "ann")
        return "answer"

    result = run(life_of(work, agents={"bob": {"max_steps": 1}}))
    assert result.stopped is not None
    assert (result.stopped.scope, result.stopped.limit, result.usage.steps) == ("agent:bob", "max_steps", 2)


def test_a_crew_over_its_size_falls_back_before_it_acts() -> None:
    """Three agents where two are allowed: nothing of the crew runs."""
    begun = []

    async def work(gate: Gate) -> str:
        begun.append(1)
        return "answer"

    result = run(life_of(work, fallback=fixed, members=("a", "b", "c"), limits={"max_agents": 2}))
    assert (result.via, result.output, begun) == ("workflow", "the fixed answer", [])
    assert "max_agents" in result.fell_back


def test_the_reserve_is_kept_for_the_workflow() -> None:
    """The crew may use 700 of 1,000 tokens; the workflow's node finds its 300."""
    found: list[int] = []

    async def work(gate: Gate) -> str:
        while True:
            await spend(gate, 100)

    async def summarise(value: Any, context: Any) -> str:
        grant = await context.gate.admit(ModelCall(context.node, "m", 100, 200))
        found.append(grant.max_tokens)
        context.gate.settle(grant, Outcome("ok", Usage(input_tokens=100, output_tokens=200)))
        return "from the reserve"

    life = life_of(
        work,
        fallback=chain(summarise, name="fixed"),
        limits={"max_tokens": 1_000},
        reserve={"tokens": 300},
        completion_min=10,
    )
    result = run(life)
    assert (result.via, result.output, found) == ("workflow", "from the reserve", [200])
    assert result.usage.tokens == 1_000
    assert result.agents["ann"].tokens + result.agents["summarise"].tokens == 1_000


def test_a_workflow_without_reserve_runs_if_it_needs_nothing() -> None:
    """The run's tokens are used up; a path that needs none still does the job."""

    async def work(gate: Gate) -> str:
        while True:
            await spend(gate, 100)

    result = run(life_of(work, fallback=fixed, limits={"max_tokens": 1_000}))
    assert (result.via, result.output) == ("workflow", "the fixed answer")


def test_when_the_workflow_fails_too_the_result_says_both() -> None:
    """No output; the crew's reason and the workflow's."""

    async def work(gate: Gate) -> str:
        raise ValueError("the crew broke")

    def broken(inputs: Any) -> str:
        raise KeyError("the path broke")

    result = run(life_of(work, fallback=chain(broken, name="fixed")))
    assert (result.status, result.output, result.via) == ("failed", None, None)
    assert "the crew broke" in result.error
    assert "the path broke" in result.error


def test_wall_clock_ends_work_in_flight_and_charges_it() -> None:
    """A provider that never answers: the result comes at the deadline, the call charged as reserved."""

    async def work(gate: Gate) -> str:
        grant = await gate.admit(ModelCall("ann", "m", 10, 90, streams=True))
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            gate.settle(grant, Outcome("cancelled"))
            raise
        return "never"

    life = life_of(work, limits={"max_seconds": 30})

    async def later() -> None:
        await settled()
        life.clock.advance(30)  # type: ignore[attr-defined]

    result = run(life, later())
    assert result.stopped == Stop("deadline", "run", "max_seconds", 30.0, 30.0)
    assert result.usage == Usage(1, 0, 10, 90, agents=1)


def test_the_crews_deadline_leaves_the_workflow_its_seconds() -> None:
    """Of 30 seconds 10 are kept back: at 20 the workflow takes over."""

    async def work(gate: Gate) -> str:
        await asyncio.Event().wait()
        return "never"

    life = life_of(work, fallback=fixed, limits={"max_seconds": 30}, reserve={"seconds": 10})

    async def later() -> None:
        await settled()
        life.clock.advance(20)  # type: ignore[attr-defined]

    result = run(life, later())
    assert (result.via, result.output) == ("workflow", "the fixed answer")
    assert "max_seconds of crew: the cap is 20s" in result.fell_back


def test_idleness_is_no_progress_and_progress_is_not_idleness() -> None:
    """Tokens every 8 seconds keep a cap of 10 away; then 10 silent seconds end the run."""
    gates: list[Gate] = []

    async def work(gate: Gate) -> str:
        gates.append(gate)
        await gate.admit(ModelCall("ann", "m", 10, 90, streams=True))
        await asyncio.Event().wait()
        return "never"

    life = life_of(work, limits={"max_idle_seconds": 10})

    async def later() -> None:
        await settled()
        for _ in range(4):
            life.clock.advance(8)  # type: ignore[attr-defined]
            gates[0].progress()
        assert not life.gate.state.latches
        life.clock.advance(10)  # type: ignore[attr-defined]

    result = run(life, later())
    assert result.stopped is not None
    assert (result.stopped.reason, result.stopped.limit) == ("idle", "max_idle_seconds")
    assert "ann/m" in result.stopped.detail


def test_a_crew_has_five_seconds_to_its_first_call() -> None:
    """Its host is loaded meanwhile, which is no idleness; one that hangs there is ended."""
    gates: list[Gate] = []

    async def work(gate: Gate) -> str:
        gates.append(gate)
        await asyncio.Event().wait()
        return "never"

    def stopped_after(*seconds: float, calls: bool) -> Any:
        life = life_of(work, limits={"max_idle_seconds": 1})

        async def later() -> None:
            await settled()
            for each in seconds:
                assert not life.gate.state.latches
                life.clock.advance(each)  # type: ignore[attr-defined]
                if calls:
                    gates[-1].settle(await gates[-1].admit(ModelCall("ann", "m", 10, 90)), Outcome("ok"))
                    life.clock.advance(1)  # type: ignore[attr-defined]

        return run(life, later()).stopped

    hangs = stopped_after(1, 1, 1, 1, 1, calls=False)
    assert (hangs.reason, hangs.used, hangs.detail) == ("idle", 5, "it made no first call")
    begins = stopped_after(4, calls=True)
    assert (begins.reason, begins.used, begins.detail) == ("idle", 1, "nothing was in flight")


def test_a_call_that_does_not_stream_is_not_idle() -> None:
    """Silence says nothing about it: an hour later it is still let be."""

    async def work(gate: Gate) -> str:
        grant = await gate.admit(ModelCall("ann", "m", 10, 90, streams=False))
        await done.wait()
        gate.settle(grant, Outcome("ok"))
        return "answer"

    done = asyncio.Event()
    life = life_of(work, limits={"max_idle_seconds": 10})

    async def later() -> None:
        await settled()
        life.clock.advance(3600)  # type: ignore[attr-defined]
        done.set()

    assert run(life, later()).output == "answer"


def test_a_kill_ends_the_run_and_its_fallback() -> None:
    """After a kill nothing runs, the workflow included."""

    async def work(gate: Gate) -> str:
        await asyncio.Event().wait()
        return "never"

    life = life_of(work, fallback=fixed)

    async def later() -> None:
        await settled()
        life.gate.stop("run", Stop("killed", "run", detail="killed: wrong customer"))

    result = run(life, later())
    assert (result.status, result.via, result.output) == ("stopped", None, None)
    assert str(result.stopped) == "killed: wrong customer"


def test_a_kill_before_the_run_began_is_not_lost() -> None:
    """The run begins, and ends before the crew does anything."""
    begun: list[int] = []

    async def work(gate: Gate) -> str:
        begun.append(1)
        await spend(gate, 10)
        return "answer"

    life = life_of(work, fallback=fixed)
    life.gate.stop("run", Stop("killed", "run", detail="killed: too late anyway"))
    result = run(life)
    assert (result.status, result.output, result.usage.steps) == ("stopped", None, 0)
    assert "too late anyway" in str(result.stopped)


def test_a_thread_that_is_stuck_is_named_and_its_late_answer_changes_nothing() -> None:
    """The result doesn't wait for it; when it comes back the ledger stays as it was."""
    release, entered, left = threading.Event(), threading.Event(), threading.Event()

    @tool
    def dig(where: str) -> str:
        """Dig."""
        entered.set()
        release.wait()
        left.set()
        return "gold"

    async def work(gate: Gate) -> str:
        return (await gate.call_tool("ann", dig, {"where": "here"})).text

    life = life_of(work, limits={"max_seconds": 5})

    async def later() -> None:
        while not entered.is_set():
            await asyncio.sleep(0)
        life.clock.advance(5)  # type: ignore[attr-defined]

    result = run(life, later())
    before = len(events(life))
    release.set()
    assert left.wait(30)
    assert result.status == "stopped"
    assert len(events(life)) == before


def test_a_cancel_that_is_ignored_does_not_hold_up_the_result() -> None:
    """Work that swallows its cancellation is named as late."""

    async def work(gate: Gate) -> str:
        await gate.admit(ModelCall("ann", "m", 10, 90, streams=True))
        while not free.is_set():
            try:
                await free.wait()
            except asyncio.CancelledError:
                continue
        return "late"

    free = asyncio.Event()
    life = life_of(work, limits={"max_seconds": 5})

    async def both() -> Result:
        task = asyncio.create_task(life.live())
        await settled()
        life.clock.advance(5)  # type: ignore[attr-defined]
        try:
            return await asyncio.wait_for(task, 30)
        finally:
            free.set()
            await settled()

    result = asyncio.run(both())
    assert (result.status, result.late) == ("stopped", ("ann/m",))


def test_a_crew_that_could_not_be_ended_finds_its_side_closed() -> None:
    """Its work goes on while the workflow runs, and after the run: it is never charged to the workflow, nor at all."""
    gates: list[Gate] = []
    refused: list[str] = []

    async def work(gate: Gate) -> str:
        gates.append(gate)
        raise ValueError("the crew broke")

    async def look(inputs: Any, context: Any) -> str:
        with pytest.raises(RefusedError) as late:
            await gates[0].admit(ModelCall("ann", "m", 10, 90))
        refused.append(str(late.value))
        return "the fixed answer"

    life = life_of(work, fallback=chain(look, name="fixed"), limits={"max_tokens": 1_000})
    result = run(life)
    before = len(events(life))
    with pytest.raises(RefusedError, match="the run has ended"):
        asyncio.run(gates[0].admit(ModelCall("ann", "m", 10, 90)))
    gates[0].moved("ann", "task", "finish")
    assert "its job went to the workflow" in refused[0]
    assert (result.via, result.usage.steps, len(events(life))) == ("workflow", 0, before)


def test_a_denied_model_ends_as_denied() -> None:
    """The policy allows one model; another is never called."""

    async def work(gate: Gate) -> str:
        await spend(gate, 20)
        return "answer"

    result = run(life_of(work, models={"allow": ["embedded:*"]}))
    assert result.status == "denied"
    assert result.stopped is not None
    assert "embedded:*" in str(result.stopped)


def test_an_empty_allow_list_allows_no_tool() -> None:
    """Empty is nothing; absent would be everything."""

    async def work(gate: Gate) -> str:
        with pytest.raises(PolicyDeniedError):
            await gate.admit(ToolCall("ann", "dig"))
        return "went without"

    assert run(life_of(work, tools={"allow": []})).output == "went without"


def test_a_model_without_a_price_is_refused_where_dollars_are_capped() -> None:
    """Unknown is not free."""

    async def work(gate: Gate) -> str:
        await spend(gate, 20)
        return "answer"

    result = run(life_of(work, limits={"max_usd": 1}))
    assert result.status == "denied"
    assert "prices:" in str(result.stopped)


def test_a_provider_that_bills_too_much_is_booked_and_shown() -> None:
    """Reserved 100, billed 150: 150 are in the ledger, 50 are shown as over."""

    async def work(gate: Gate) -> str:
        grant = await gate.admit(ModelCall("ann", "m", 10, 90))
        gate.settle(grant, Outcome("ok", Usage(input_tokens=10, output_tokens=140)))
        return "answer"

    result = run(life_of(work))
    assert (result.usage.tokens, result.overshoot.tokens) == (150, 50)


def test_usage_that_a_provider_does_not_report_stays_charged_as_reserved() -> None:
    """No usage is not free usage."""

    async def work(gate: Gate) -> str:
        gate.settle(await gate.admit(ModelCall("ann", "m", 10, 90)), Outcome("ok"))
        return "answer"

    result = run(life_of(work))
    assert (result.usage.tokens, result.unreported) == (100, 1)


def test_secrets_do_not_reach_the_journal() -> None:
    """A known value and something that looks like a key, in arguments, results and reasons."""

    async def work(gate: Gate) -> str:
        grant = await gate.admit(ToolCall("ann", "dig", '{"key": "hunter2hunter2"}'))
        gate.settle(grant, Outcome("ok", text="sk-abcdefghijklmnopqrstuvwx and hunter2hunter2"))
        return "hunter2hunter2"

    life = life_of(work)
    life = Life(
        Job(
            "run1",
            "crew",
            life.job.policy,
            life.job.runtime,
            {"q": "hunter2hunter2"},
            None,
            MemoryStore(),
            (),
            ("hunter2hunter2",),
        ),
        FakeClock(),
    )
    result = run(life)
    written = repr(events(life))
    assert "hunter2" not in written
    assert "sk-abc" not in written
    assert result.output == "hunter2hunter2"


def test_an_observer_that_raises_is_left_out() -> None:
    """The run goes on, and the other observer hears everything in order."""
    heard: list[int] = []

    def broken(run_id: str, event: Event) -> None:
        raise RuntimeError("observer")

    def listening(run_id: str, event: Event) -> None:
        heard.append(event.seq)

    async def work(gate: Gate) -> str:
        await spend(gate, 20)
        return "answer"

    job = Job("run1", "crew", Policy(), Host(work), {}, None, MemoryStore(), (broken, listening))
    result = run(Life(job, FakeClock()))
    assert result.output == "answer"
    assert heard == list(range(1, len(heard) + 1))
    assert len(heard) > 4


def test_a_store_that_fails_ends_the_run() -> None:
    """What can't be recorded isn't done: the provider is not called again."""
    from concurrent.futures import Future

    class Full(MemoryStore):
        full = False

        def append(self, run_id: str, events: Any) -> Future[None]:
            if not self.full:
                return super().append(run_id, events)
            failed: Future[None] = Future()
            failed.set_exception(StoreError("the disk is full"))
            return failed

        def write(self, run_id: str, events: Any) -> Future[None]:
            return self.append(run_id, events)

    served = []

    async def work(gate: Gate) -> str:
        for number in range(5):
            store.full = number >= 2
            await spend(gate, 20)
            served.append(number)
        return "answer"

    store = Full()
    life = Life(Job("run1", "crew", Policy(), Host(work), {}, fixed, store), FakeClock())
    with pytest.raises(StoreError, match="disk is full"):
        run(life)
    assert served == [0, 1]


def test_each_scope_is_latched_once() -> None:
    """Parallel agents run into one cap together: one latch, one reason."""

    async def work(gate: Gate) -> str:
        async def one(name: str) -> None:
            while True:
                await spend(gate, 50, name)

        await asyncio.gather(*(one(f"a{i}") for i in range(8)), return_exceptions=True)
        return "looks finished"

    life = life_of(work, members=(), limits={"max_tokens": 1_000}, completion_min=40)
    result = run(life)
    latches = [event for event in events(life) if isinstance(event, Latched)]
    assert len(latches) == 1
    assert result.usage.tokens == 1_000
    assert sum(usage.tokens for usage in result.agents.values()) == 1_000
