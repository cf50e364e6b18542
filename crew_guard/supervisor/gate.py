"""The gate of one run: reserve, clamp, settle, under one lock, from any thread.

Every decision is taken by the pure core on the run's state, recorded as an event, and counts
from then on. Nothing suspends while the lock is held: waits and flushes are futures.
"""

from __future__ import annotations

import asyncio
import contextvars
import time

from msgspec.structs import replace

from crew_guard.core.actions import Action, Grant, Handoff, ModelCall, Outcome, ToolCall, charge, excess
from crew_guard.core.decisions import ALLOWED, Stop
from crew_guard.core.events import FellBack, Settled, Side
from crew_guard.core.judging import judge
from crew_guard.core.plain import error_words
from crew_guard.core.policy import Policy
from crew_guard.core.run import is_agent, scope_of
from crew_guard.core.usage import NOTHING, Usage
from crew_guard.errors import PolicyDeniedError, RefusedError
from crew_guard.ports import Clock, Flushed, Store
from crew_guard.supervisor.answers import Ticket, refusal, spends, stop_for
from crew_guard.supervisor.circles import Circles
from crew_guard.supervisor.estimating import Estimator, unbounded
from crew_guard.supervisor.guarding import Guarding
from crew_guard.supervisor.headroom import Headroom
from crew_guard.supervisor.line import Line, Waiter
from crew_guard.supervisor.outbox import Outbox
from crew_guard.supervisor.recording import NO_FLUSH
from crew_guard.supervisor.wakeups import done, written

inside: contextvars.ContextVar[tuple[Gatekeeper, str] | None] = contextvars.ContextVar(
    "crew_guard_inside", default=None
)
"""The gate and the action that the current code is a part of: what it does is charged there too."""


_HEARD_OF = frozenset({"ok", "failed", "rejected"})
"""How a model call may end whose provider was there, if it ended by no fault."""
_BLOCKS_A_LOOP = (
    "others may give some back, but a blocking call would hold up the event loop of its thread, and perhaps them: "
    "await the async method of the model there"
)
_IN_A_SHADOW = "{} can't be undone, and this run is a shadow: go on as if it had been done, and say what it would do"


class Gatekeeper(Line):
    """Decides and keeps the ledger of one run. A RunGate is one side's door to it."""

    __slots__ = (
        "_known_good",
        "_last_flush",
        "_named",
        "around",
        "circles",
        "estimator",
        "faults",
        "guarding",
        "headroom",
        "held_back",
        "outage",
        "pauses",
        "shadow",
        "threads",
    )

    def __init__(
        self, run_id: str, policy: Policy, store: Store, clock: Clock, outbox: Outbox, *, estimator: Estimator
    ) -> None:
        super().__init__(run_id, policy, store, clock, outbox)
        self._known_good: Flushed | None = None
        """A flush that was seen to succeed: the store in memory hands out the same one each time."""
        self._last_flush: Flushed = NO_FLUSH
        self.estimator = estimator
        self.guarding: Guarding | None = None
        """The run's guardrails; None where it has none."""
        self.pauses = 0
        """Model calls that wait to be tried again."""
        self.threads: dict[str, str] = {}
        """What can't be ended while it goes on, as a tool in a thread: agent/tool, or node:NAME, each by its key."""
        self.around: dict[str, str] = {}
        """The same of threads whose tools have names of their own."""
        self._named: dict[str, None] = {}
        """Of those, as keys: that were named as left behind."""
        self.faults = 0
        """Attempts that a provider could not be used for."""
        self.outage = False
        """Whether the last attempt that ended was one of them."""
        self.shadow = False
        """Whether the crew only works beside its workflow: its irreversible tools are denied."""
        self.held_back: int | None = None
        """How many verdicts there were when the first of those was; None where none was."""
        self.circles = Circles(policy.loops)
        seconds: dict[Side, float | None] = dict.fromkeys(("crew", "fallback"), policy.limits.max_seconds)
        self.headroom = Headroom(self.state, clock, self.standstill, policy.warn_at, seconds)

    # The door

    async def admit(self, action: Action, side: Side) -> Grant:
        """See Gate.admit."""
        try:
            ticket = self._enter(action, side)
        except RefusedError:
            # A host that catches this and asks again in a loop must not starve the deadline's timers.
            await asyncio.sleep(0)
            raise
        if isinstance(ticket, Waiter):
            ticket = await self._wait(ticket)
        grant, flushed = ticket.grant, ticket.flushed
        if flushed is not self._known_good:
            if self._write_ahead and not flushed.done():
                await self._flush(grant, flushed)
            self._check(flushed)
        return grant

    def admit_blocking(self, action: Action, side: Side) -> Grant:
        """See Gate.admit_blocking."""
        try:
            ticket = self._enter(action, side)
        except RefusedError:
            time.sleep(0.0005)  # let other threads run: a host may ask again at once, and for ever
            raise
        if isinstance(ticket, Waiter):
            ticket = self._wait_blocking(ticket)
        grant, flushed = ticket.grant, ticket.flushed
        if self._write_ahead and not flushed.done():
            self.store.push()
            flushed.exception()  # waits, and doesn't raise
        self._check(flushed)
        return grant

    def settle(self, grant: Grant, outcome: Outcome) -> None:
        """See Gate.settle. After the run's end, or a deadline's, a late answer changes nothing."""
        with self._lock:
            held = self.state.open.get(grant.action_id)
            if held is None:
                return
            now = self.last_progress = self.clock.monotonic()
            action, reported = grant.action, outcome.usage
            used = charge(grant, outcome)
            settled = Settled(
                self.state.seq + 1,
                self.clock.now(),
                grant.action_id,
                outcome.status,
                used,
                int((now - grant.started) * 1e6 + 0.5) / 1e6,  # as round() would, at a tenth of its cost
                reported is not None or action.kind != "model_call",
                NOTHING if used is grant.reserved else excess(used, grant.reserved),
                outcome.text if len(outcome.text) < self.redact.shortest else self.redact(outcome.text),
                self._clean_requests(outcome.tool_requests) if outcome.tool_requests else (),
            )
            self._log(settled)
            if outcome.fault:
                self.outage, self.faults = True, self.faults + 1
            elif self.outage and action.kind == "model_call" and outcome.status in _HEARD_OF:
                self.outage = False
            if reported is not None and isinstance(action, ModelCall):
                counted = action.counted or action.prompt_tokens
                if reported.input_tokens > counted or self.estimator.learned:
                    self.estimator.observe(action.model, counted, reported.input_tokens)
            if not outcome.tool_requests and is_agent(side := held.event.side, action.agent):
                stop = self.circles.settled(action, outcome)
                if stop is not None:
                    stop = _placed_on(side, stop)
                    self._latch(stop.scope, stop)
            if self._waiters:
                self._pump()
            news = self._take_news() if self._news else None
        if news or self._outbox.waiting:
            self._tell(news or ())

    def fall_back(self, reason: str, stop: Stop | None) -> None:
        """Hand the run to the sibling scope of its workflow; who of the crew still waits is refused."""
        self.record(FellBack, self.redact(reason), stop)
        with self._lock:
            self._pump()
            news = self._take_news()
        self._tell(news)

    def stop(self, scope: str, stop: Stop) -> None:
        """Latch a scope from outside: a deadline, a kill. Callable from any thread."""
        with self._lock:
            self._latch(scope, self._explained(stop))
            self._pump()
            news = self._take_news()
        self._tell(news)

    def close_open(self, late: bool) -> tuple[str, ...]:
        """Settle what is in flight as cancelled, charged as reserved, and send off who waits.

        Args:
            late: whether the work itself did not end: then what is in flight is named
        Returns:
            what could not be ended, as agent/target, each once; threads that are stuck in a tool always
        """
        with self._lock:
            own = {action_id: f"{held.event.agent}/{held.event.target}" for action_id, held in self.state.open.items()}
            stuck = own | self.threads if late else dict(self.threads)
            if not stuck and not self._named:
                stuck = dict(self.around)
            names = tuple(dict.fromkeys(name for key, name in stuck.items() if key not in self._named))
            self._named |= dict.fromkeys(stuck)
            for action_id, held in list(self.state.open.items()):
                began = held.event.at
                seconds = round(max(0.0, self.clock.now() - began), 6)
                self._note(
                    Settled,
                    action_id,
                    "cancelled",
                    held.event.reserved,
                    seconds,
                    held.event.kind != "model_call",
                )
            gone = Stop("cancelled", self.state.side, detail="its part of the run has ended")
            for waiter in tuple(self._waiters.values()):
                self._answer(waiter, self._refuse(waiter.action_id, waiter.action, waiter.side, gone, latch=False))
        self._tell(())
        return names

    # Under the lock

    def _enter(self, action: Action, side: Side) -> Ticket | Waiter:
        if isinstance(action, ModelCall) and (type(action.prompt_tokens) is not int or action.prompt_tokens < 0):
            raise unbounded(action)
        with self._lock:
            answer = self._decide(self._placed(action), side)
            news = self._take_news() if self._news else None
        if news or self._outbox.waiting:
            self._tell(news or ())
        if isinstance(answer, RefusedError):
            raise answer
        return answer

    def _placed(self, action: Action) -> Action:
        if self._tool_prices and isinstance(action, ToolCall):
            # Here, and not where a tool is known: a host's own tools have no price but the policy's.
            action = replace(action, nano_usd=max(action.nano_usd, self._tool_prices.get(action.tool, 0)))
        if self.estimator.learned and isinstance(action, ModelCall):
            action = self._bounded(action)
        around = inside.get()
        if around is None or around[0] is not self or action.parent is not None:
            return action
        return replace(action, parent=around[1])

    def _bounded(self, action: ModelCall) -> ModelCall:
        """The action with its prompt as long as this model's provider has been seen to count it."""
        counted = action.counted or action.prompt_tokens
        bound = self.estimator.bound(action.model, counted)
        return action if bound == counted else replace(action, prompt_tokens=bound, counted=counted)

    def _decide(self, action: Action, side: Side) -> Ticket | Waiter | RefusedError:
        # A crew that could not be ended, a thread say, finds its side closed, not the workflow's open.
        state = self.state
        if (state.ended is not None or state.side != side) and (over := state.over(side)):
            return refusal(over)
        path = self._path(action, side)
        scopes = path.scopes
        if state.latches and (latched := state.latch(scopes)):
            return refusal(latched[1])
        decision = ALLOWED
        if self.policy.may_deny(action):
            try:
                decision = judge(self.policy, action, self.state.known, scopes[2])
            except Exception as error:  # noqa: BLE001  a policy that can't be evaluated ends the run
                stop = Stop("failed", "run", detail=f"the policy could not be evaluated: {error_words(error)}")
                self._latch("run", stop)
                return PolicyDeniedError(stop)
        self._asked += 1
        action_id = f"a{self._asked}"
        if decision is not ALLOWED and decision.effect != "allow":
            own = scopes[3 if isinstance(action, ToolCall) else 2]  # its own come first, then its parents'
            stop = Stop("denied", own, decision.rule, detail=self.redact.short(decision.told))
            return self._refuse(action_id, action, side, stop, latch=False)
        if not isinstance(action, ModelCall) and is_agent(side, action.agent) and (stop := self._astray(action, side)):
            stop = _placed_on(side, stop)
            return self._refuse(action_id, action, side, stop, latch=stop.scope.startswith(("agent:", "node:")))
        answer = self.state.ask(action, path, self._terms)
        if isinstance(answer, Usage):
            if not self._waiters or action.parent is not None or not spends(action) or not self._behind(scopes):
                return self._grant(action_id, action, side, answer)
            answer = self._head_of(scopes)
        elif not self.state.may_come_back(answer, action_id, action.parent):
            refused = self._refuse(action_id, action, side, stop_for(answer, action.agent), latch=True)
            self._pump()  # what was latched is closed to those in line, too
            return refused
        return self._queue(Waiter(action_id, action, side, path, answer))

    def _astray(self, action: Action, side: Side) -> Stop | None:
        """Why an action leads nowhere, whatever is left to spend: a loop, or too deep a delegation."""
        if isinstance(action, ToolCall):
            if self.shadow and side == "crew" and action.irreversible:
                self.held_back = len(self.state.verdicts) if self.held_back is None else self.held_back
                return Stop("denied", f"tool:{action.tool}", "shadow", detail=_IN_A_SHADOW.format(action.tool))
            return self.circles.asks(action) if self.circles.repeating else None
        if isinstance(action, Handoff) and (short := self.state.too_deep(action, self.policy.limits.max_depth)):
            return stop_for(short, action.agent)
        return None

    # Outside of the lock

    async def _flush(self, grant: Grant, flushed: Flushed) -> None:
        try:
            await written(self.store, flushed)
        except asyncio.CancelledError:
            self.settle(grant, Outcome("withdrawn"))
            raise

    async def _wait(self, waiter: Waiter) -> Ticket:
        try:
            await done(waiter.answer)
        except asyncio.CancelledError:
            self._leave(waiter, Stop("cancelled", waiter.scopes[-1], detail="its caller stopped waiting for budget"))
            if waiter.answer.exception() is None:  # it was granted just now
                self.settle(waiter.answer.result().grant, Outcome("withdrawn"))
            raise
        return waiter.answer.result()

    def _wait_blocking(self, waiter: Waiter) -> Ticket:
        if _turns_a_loop():
            # What would give budget back may be on that very loop, and then nobody would ever go on.
            self._leave(waiter, replace(stop_for(waiter.short, waiter.action.agent), detail=_BLOCKS_A_LOOP))
        return waiter.answer.result()

    def _leave(self, waiter: Waiter, stop: Stop) -> None:
        """Send somebody off who can't wait any more, unless they were answered just now."""
        with self._lock:
            if waiter.action_id in self._waiters:
                self._answer(waiter, self._refuse(waiter.action_id, waiter.action, waiter.side, stop, latch=False))
                self._pump()
            news = self._take_news()
        self._tell(news)

    def _check(self, flushed: Flushed) -> None:
        """Raise, and end the run for good, if what was recorded is known not to be on disk."""
        if not self._write_ahead:
            # Nobody waited for this one: the one before tells whether the journal is still written.
            flushed, self._last_flush = self._last_flush, flushed
        if not flushed.done():
            return
        error = flushed.exception()
        if error is None:
            self._known_good = flushed
            return
        self.stop("run", Stop("failed", "run", detail=f"the journal can't be written: {error}"))
        raise error


def _turns_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _placed_on(side: Side, stop: Stop) -> Stop:
    """The same stop, of an agent's scope as this side calls it."""
    kind, _, name = stop.scope.partition(":")
    return stop if side == "crew" or kind != "agent" else replace(stop, scope=scope_of(side, name))
