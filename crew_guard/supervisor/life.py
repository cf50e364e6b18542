"""One run's life: start, crew, deadlines, fallback, end. It reads latches, never a host's word."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pydantic import BaseModel

from crew_guard.core.actions import Outcome, Spawn
from crew_guard.core.decisions import Stop
from crew_guard.core.events import FORMAT, RunStarted, ScopeOpened, Side, Status, Via
from crew_guard.core.limits import Caps
from crew_guard.core.plain import error_words, plain
from crew_guard.core.policy import Policy
from crew_guard.core.result import Result
from crew_guard.core.stream import Budget
from crew_guard.errors import RefusedError, StoreError, is_fault
from crew_guard.loops import done_on
from crew_guard.ports import (
    Clock,
    Flushed,
    Guards,
    Observer,
    Resuming,
    Runtime,
    RuntimeResult,
    Store,
    Tasked,
    Workflow,
)
from crew_guard.supervisor.acting import RunGate
from crew_guard.supervisor.buffer import Buffer
from crew_guard.supervisor.deadlines import set_deadlines
from crew_guard.supervisor.estimating import Estimator
from crew_guard.supervisor.faults import words_of
from crew_guard.supervisor.finding import NOTHING, Finding
from crew_guard.supervisor.gate import Gatekeeper
from crew_guard.supervisor.guarding import Guarding
from crew_guard.supervisor.outbox import NOBODY, Outbox
from crew_guard.supervisor.redaction import redactor
from crew_guard.supervisor.relying import Relied, Relying, Resumed
from crew_guard.supervisor.tap import Tap
from crew_guard.supervisor.wakeups import on_disk, release
from crew_guard.supervisor.watching import close_unbegun, contained, until
from crew_guard.workflows.context import agent_of, left_of, node_of

T = TypeVar("T")

_GRACE_AFTER_A_LIMIT = 1.0
"""Seconds that a stopped crew has to notice the refusal and hand over what it has."""
_NOTICED = ("limit", "unreliable")
"""Stops after which a crew that asks for nothing more does no harm: its next action is refused."""
_GRACE_AFTER_CANCEL = 0.02
"""Seconds that cancelled work has to tidy up before the result goes out without it."""
_GRACE_AT_HOME = 0.25
"""The same where the caller's loop, which has other things to do, must first come to it."""


@dataclass(frozen=True, slots=True)
class Job:
    """Everything one run needs."""

    run_id: str
    crew: str
    policy: Policy
    runtime: Runtime
    inputs: Mapping[str, Any]
    fallback: Workflow | None
    store: Store
    observers: tuple[Observer, ...] = ()
    secrets: tuple[str, ...] = ()
    estimator: Estimator = field(default_factory=Estimator)
    """What runs before this one taught about providers' counts."""
    expects: type[BaseModel] | None = None
    """What the fallback's output must be an instance of: the output model of the crew's last task."""
    guards: Guards | None = None
    """Guardrails on content; None where there are none."""
    buffer: Buffer | None = None
    """Filled with what happens, where the run is read as a stream."""
    side: Side = "crew"
    """fallback where the runtime is a workflow that does the job by itself, without a crew before it."""
    relied: Relied | None = None
    """What its reliability is reckoned with; None where nothing of it is judged and its policy asks for nothing."""
    home: asyncio.AbstractEventLoop | None = None
    """The loop of who awaits the run: its crew and its workflow work there; None for the engine's own."""


@dataclass(slots=True)
class Life:
    """Runs one job on the engine's loop. `gate.stop` may end it from any thread."""

    job: Job
    clock: Clock
    gate: Gatekeeper = field(init=False)
    began: float = field(init=False)
    _news: asyncio.Future[None] | None = field(init=False, default=None)
    """Done when a scope was latched that may end what runs now."""
    _relying: Relying | None = field(init=False, default=None)
    _late: tuple[str, ...] = ()
    _caps: Caps = field(init=False)
    _loop: asyncio.AbstractEventLoop | None = None

    def __post_init__(self) -> None:
        job = self.job
        told = bool(job.observers) or job.buffer is not None
        redact = redactor(job.secrets)
        outbox = Outbox(job.run_id, job.observers, redact) if told else NOBODY
        self.gate = Gatekeeper(job.run_id, job.policy, job.store, self.clock, outbox, estimator=job.estimator)
        self.gate.redact = redact
        if job.buffer is not None:
            outbox.listen(Tap(job.buffer, redact, self._budget))
        self.gate.on_latch = self._on_latch
        self.began = self.clock.monotonic()
        self._caps = job.policy.caps
        if job.relied is not None:
            self._relying = Relying(job.relied, self.gate)
        if job.guards is not None:
            self.gate.guarding = Guarding(job.guards, self.gate, job.inputs, self.gate.stop)

    @property
    def seconds(self) -> float:
        """Of the run so far, without those of persons."""
        return self.clock.monotonic() - self.began - self.gate.standstill.seconds

    def live(self) -> Coroutine[Any, Any, Result]:
        """Run the crew, and the workflow where the crew did not do the job.

        Raises:
            StoreError: the journal can't be written
        """
        return self._lived() if self._relying is None else self._relied_on(self._relying)

    async def _relied_on(self, relying: Relying) -> Result:
        try:
            return await self._lived()
        finally:
            await relying.let_go()

    async def _lived(self) -> Result:
        self._loop = asyncio.get_running_loop()
        guarding, relying = self.gate.guarding, self._relying
        unfit = None
        if guarding is not None:
            guarding.loop, guarding.engine = self.job.home or self._loop, self._loop
            unfit = await guarding.look_at_inputs(RunGate(self.gate, "crew"))
        await on_disk(self.job.store, self.begin())
        if guarding is not None:
            guarding.tell()
        if unfit is not None:
            self.gate.stop("run", unfit)
        timers = set_deadlines(self.gate, self.began, reserve=self.job.fallback is not None)
        found, via, reason = NOTHING, None, ""
        try:
            first = self._crew() if relying is None or self._dead() else self._routed(relying)
            found, via = await first, "crew" if self.job.side == "crew" else "workflow"
            if not found.done and self.job.fallback and not self._dead():
                reason = self.gate.redact(found.reason)
                found, via = await self._workflow(self.job.fallback, found), "workflow"
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001  whatever it is, the run's record ends
            self._late += self.gate.close_open(late=True)
            found = Finding(error=error_words(error))
        finally:
            for timer in timers:
                timer.cancel()
        result = await self._finish(found, via if found.done else None, reason)
        if relying is None:
            return result
        taken = via == "workflow" and self.job.fallback is not None
        workflow = replace(found.ended, workflow=self.job.fallback) if taken else None
        return replace(result, reliability=await relying.keep(workflow, result.seconds))

    # Its parts, in order

    def begin(self) -> Flushed:
        """Write the run's first event, once."""
        job, policy, caps, guarding = self.job, self.job.policy, self._caps, self.gate.guarding
        crew_caps = policy.caps_less_reserve if job.fallback else caps
        return self.gate.begin(
            RunStarted,
            self.gate.redact(job.crew),
            job.runtime.name,
            f"{policy.name} {policy.hash[:12]}",
            self.gate.redact.value(plain(dict(job.inputs if guarding is None else guarding.shown))),
            # Crew and workflow are each capped in size: the size of both together means nothing.
            policy.caps_but_size,
            crew_caps,
            policy.limits.max_seconds,
            policy.limits.max_idle_seconds,
            tuple(job.runtime.members()),
            FORMAT,
            self._given(),
            job.side,
        )

    def _given(self) -> tuple[str, ...]:
        """The tasks' texts, where the policy asks whether a value stands in them."""
        if not self.job.policy.tools.weighs_origins or not isinstance(self.job.runtime, Tasked):
            return ()
        return tuple(map(self.gate.redact, self.job.runtime.task_texts(self.job.inputs)))

    async def _routed(self, relying: Relying) -> Finding:
        """What the crew makes of the job, where it may; nothing where its reliability sends the job elsewhere."""
        try:
            routing = await relying.route(fallback=self.job.fallback is not None, seconds=self.seconds)
        except StoreError as error:
            if self._dead():
                return Finding(stop=self._stop_of(self.job.side))
            self.gate.end("failed", None, None, self.gate.redact(str(error)))
            raise
        if self._dead():
            return Finding(stop=self._stop_of(self.job.side))
        if routing.to == "workflow":
            return Finding(error=routing.why)
        found = await self._crew()
        relying.crew_ended(found.ended, self.seconds)
        if routing.to == "shadow" and self.job.fallback and not self._dead():
            return Finding(error=f"it worked in a shadow only: {routing.why}")
        return found

    async def _crew(self) -> Finding:
        side = self.job.side
        gate = RunGate(self.gate, side)
        if side == "fallback":
            self.gate.record(ScopeOpened, side, Caps(agents=self._caps.agents))
        try:
            for member in self.job.runtime.members():
                gate.settle(await gate.admit(Spawn(member)), Outcome("ok"))
        except RefusedError as error:
            return Finding(stop=error.stop)
        return await self._watch(self._run(self.job.runtime, gate), side)

    async def _workflow(self, workflow: Workflow, crew: Finding) -> Finding:
        self.gate.fall_back(crew.reason, crew.stop)
        size = Caps(agents=self._caps.agents)
        self.gate.record(ScopeOpened, "fallback", size)
        done = self._relying.done(crew.result.outputs) if self._relying and crew.result else None
        worker = Resumed(workflow.name, workflow, done) if done and isinstance(workflow, Resuming) else workflow
        found = await self._watch(self._run(worker, RunGate(self.gate, "fallback")), "fallback")
        expects, made = self.job.expects, found.result.output if found.result else None
        if found.done and expects is not None and not isinstance(made, expects):
            found.error = f"it gave a {type(made).__name__}, where the crew's last task gives a {expects.__name__}"
        if not found.done:
            told = f"the workflow {workflow.name}: {found.reason}"
            found.error = f"the crew: {crew.reason}; then {told}"
            if crew.stop is not None and found.stop is None:
                found.stop, found.left = crew.stop, told
            if found.result is None:
                found.result = crew.result
        return found

    async def _finish(self, found: Finding, via: Via | None, fell_back: str) -> Result:
        result = found.result
        status = found.status
        output = result.output if result and found.done else None
        stop = None if found.done or found.stop is None else self.gate.redact.stop(found.stop)
        late = self._late
        shown = self.gate.redact.value(plain(output))
        error = found.left if status != "failed" else found.error or found.reason
        error = "" if found.done else self.gate.redact(error)
        flushed = self.gate.end(status, via, stop, error, shown, late)
        await on_disk(self.job.store, flushed)
        if result is not None and self.gate.guarding is not None:
            result = self.gate.guarding.without_unchecked(result)
        partial = None if found.done or result is None else result.output
        if partial is None and not found.done and result is not None and result.outputs:
            partial = dict(result.outputs)
        return self._result(
            status, stopped=stop, output=output, via=via, fell_back=fell_back, error=error, partial=partial
        )

    def abandon(self, stop: Stop) -> Result:
        """End the run from another thread because its loop is blocked: the record, and a result, now."""
        self.begin()
        self.gate.stop("run", stop)
        self._late = self.gate.close_open(late=True)
        self.gate.end("stopped", None, stop, "", None, self._late)
        if self._relying is not None:
            self._relying.abandoned()
        return self._result("stopped", stopped=stop)

    def _result(self, status: Status, **found: Any) -> Result:
        state = self.gate.state
        return Result(
            run_id=self.job.run_id,
            status=status,
            usage=state.used("run"),
            agents=state.usage_by_agent(),
            scopes=state.usage_by_scope(),
            caps=self._caps,
            verdicts=tuple(state.verdicts),
            overshoot=state.overshoot,
            unreported=state.unreported,
            late=self._late,
            policy=self.job.policy.hash,
            seconds=self.seconds,
            max_seconds=self.job.policy.limits.max_seconds,
            **found,
        )

    def _budget(self) -> Budget:
        seconds = round(self.seconds, 6)
        return Budget(self.gate.state.used("run"), self._caps, seconds, self.job.policy.limits.max_seconds)

    # Watching work, and ending it

    def _run(self, worker: Runtime | Workflow, gate: RunGate) -> Coroutine[Any, Any, RuntimeResult]:
        if self._relying is not None and self._relying.relied.verify is not None:
            return self._relying.verified(lambda: self._checked(worker, gate), gate, self.job.inputs)
        return self._checked(worker, gate)

    def _checked(self, worker: Runtime | Workflow, gate: RunGate) -> Coroutine[Any, Any, RuntimeResult]:
        guarding = self.gate.guarding
        if guarding is None:
            return worker.run(self.job.inputs, gate)
        members = self.job.runtime.members()
        crew = members[0] if len(members) == 1 else self.job.crew
        return guarding.run(worker, gate, crew if worker is self.job.runtime else worker.name)

    def _at_home(self, work: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        home = self.job.home
        return work if home is None else done_on(home, work)

    async def _watch(self, work: Coroutine[Any, Any, RuntimeResult], side: Side) -> Finding:
        loop = asyncio.get_running_loop()
        context = copy_context()
        doing = contained(work)
        task = loop.create_task(self._at_home(doing), context=context)
        task.add_done_callback(self._look_again, context=context)
        patience: float | None = None
        try:
            while not task.done():
                self._news = loop.create_future()
                stop = self._stop_of(side, inner=False)
                if stop is not None:
                    # What is stopped has a while to notice, and to hand over what it has.
                    patience = loop.time() + _GRACE_AFTER_A_LIMIT if patience is None else patience
                    if stop.reason not in _NOTICED or patience <= loop.time():
                        break
                await until(self._news, patience)
        except asyncio.CancelledError:
            self.gate.stop("run", Stop("cancelled", "run", detail="the run was cancelled"))
        if not task.done():
            task.cancel()
            grace = _GRACE_AFTER_CANCEL if self.job.home is None else _GRACE_AT_HOME
            await asyncio.wait({task}, timeout=grace)
        # It may have been cancelled before it began, on a loop that is held up only after this.
        if task.done():
            close_unbegun(doing, work)
        else:
            task.add_done_callback(lambda _: close_unbegun(doing, work))
        self._late += self.gate.close_open(late=not task.done())
        return self._finding(task, side)

    def _finding(self, task: asyncio.Future[RuntimeResult], side: Side) -> Finding:
        stop = self._stop_of(side)
        if not task.done() or task.cancelled():
            return Finding(stop=stop or Stop("cancelled", side, detail="its work was cancelled"))
        error = task.exception()
        result = None if error is not None else task.result()
        error = error or (result.error if result is not None else None)
        if error is None:
            return Finding(result, stop=stop or (result.stop if result is not None else None))
        left = left_of(error)
        if isinstance(error, RefusedError):
            return Finding(result, stop=stop or error.stop, left=left)
        if stop is not None:
            return Finding(result, stop=stop, left=left and words_of(error))
        node, by = node_of(error), agent_of(error)
        return Finding(result, error=words_of(error), fault=is_fault(error), node=node, by=by)

    def _stop_of(self, side: Side, *, inner: bool = True) -> Stop | None:
        """The stop that ended this side, wherever it was latched: the outermost first."""
        latches = self.gate.state.latches
        found = latches.get("run") or latches.get(side)
        if found is not None or not inner:
            return found
        kind = "agent:" if side == "crew" else "node:"
        return next((stop for scope, stop in tuple(latches.items()) if scope.startswith(kind)), None)

    def _dead(self) -> bool:
        return "run" in self.gate.state.latches or self.gate.state.ended is not None

    def _on_latch(self, scope: str, _stop: Stop) -> None:
        news = self._news
        if self._loop is not None and news is not None and scope in ("run", "crew", "fallback"):
            self._loop.call_soon_threadsafe(release, news)

    def _look_again(self, _task: object) -> None:
        if self._news is not None:
            release(self._news)
