"""Yes and no, recorded: what an admission reserves, what a refusal closes. Under the gate's lock."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from crew_guard.core.actions import Action, Grant, Handoff, ModelCall, ToolCall
from crew_guard.core.decisions import Stop
from crew_guard.core.events import Admitted, Asked, Refused, ScopeOpened, Side
from crew_guard.core.limits import POLICY_NAMES, UNCAPPED, Shortfall
from crew_guard.core.policy import Policy
from crew_guard.core.run import Path
from crew_guard.core.usage import NANO, Usage
from crew_guard.errors import LimitExceededError, PolicyDeniedError, RefusedError
from crew_guard.ports import Clock, Flushed, Store
from crew_guard.supervisor.outbox import Outbox
from crew_guard.supervisor.recording import Recorder

_RECORDED_REFUSALS = 10
"""A host that asks for the same thing in a loop fills no journal: later refusals are only answered."""


class Ticket(Struct, frozen=True, gc=False):
    """An admission, and when it is on disk. A NamedTuple would cost thrice as much to make."""

    grant: Grant
    flushed: Flushed


class Answerer(Recorder):
    """Grants and refuses in one run."""

    __slots__ = ("_asked", "_paths", "_refusals", "_terms", "_tool_prices", "_tool_seconds")

    def __init__(self, run_id: str, policy: Policy, store: Store, clock: Clock, outbox: Outbox) -> None:
        super().__init__(run_id, policy, store, clock, outbox)
        self._asked = 0
        self._terms = policy.terms
        self._tool_prices = policy.tool_prices
        self._tool_seconds = policy.tool_seconds
        self._paths: dict[tuple[str, str, str | None], Path] = {}
        """Of every actor and tool that asked: their caps are in force."""
        self._refusals: dict[tuple[str, str, str, str], int] = {}

    def _path(self, action: Action, side: Side) -> Path:
        tool = action.tool if isinstance(action, ToolCall) else None
        key = side, action.agent, tool
        known = self._paths.get(key)
        if known is None:
            known = self._paths[key] = self.state.path(side, action.agent, tool, None)
            for scope in known.scopes[2:]:
                caps = self.policy.caps_of(scope)
                if caps != UNCAPPED and scope not in self.state.ledgers:
                    self._note(ScopeOpened, scope, caps)
        return known if action.parent is None else self.state.path(side, action.agent, tool, action.parent)

    def _grant(self, action_id: str, action: Action, side: Side, reserved: Usage) -> Ticket:
        now = self.last_progress = self.clock.monotonic()
        seq, at, agent = self.state.seq + 1, self.clock.now(), action.agent
        if isinstance(action, ModelCall):
            of_call = "", action.parent, action.attempt, action.streams
            admitted = Admitted(seq, at, action_id, "model_call", agent, action.model, side, reserved, *of_call)
        else:
            words = self.redact(_words(action))
            admitted = Admitted(
                seq, at, action_id, action.kind, agent, action.target, side, reserved, words, action.parent
            )
        seconds = self._tool_seconds.get(action.target) if self._tool_seconds and action.kind == "tool_call" else None
        return Ticket(Grant(action_id, action, reserved.output_tokens, reserved, now, seconds), self._keep(admitted))

    def _refuse(self, action_id: str, action: Action, side: Side, stop: Stop, *, latch: bool) -> RefusedError:
        stop = self.redact.stop(self._explained(stop))
        key = (action.agent, action.target, stop.scope, stop.limit)
        self._refusals[key] = self._refusals.get(key, 0) + 1
        if self.state.ended is not None:
            return refusal(stop)
        if self._refusals[key] <= _RECORDED_REFUSALS or action_id in self.state.queued:
            self._note(
                Refused,
                action_id,
                action.kind,
                action.agent,
                action.target,
                side,
                stop,
            )
        if latch and not stop.scope.startswith("tool:"):
            # What the whole run has left may still be enough for the other side, which asks for itself.
            self._latch(side if stop.scope == "run" else stop.scope, stop)
        return refusal(stop)

    def _explained(self, stop: Stop) -> Stop:
        """The stop with what earlier runs used of the limit that was in the way."""
        earlier = self.policy.earlier.get((stop.scope, stop.limit), "")
        if not earlier or stop.reason not in ("limit", "deadline") or stop.detail.startswith(earlier):
            return stop
        return replace(stop, detail=f"{earlier}. {stop.detail}" if stop.detail else earlier)

    def _clean_requests(self, requests: tuple[tuple[str, str, str], ...]) -> tuple[Asked, ...]:
        return tuple([Asked(id_, self.redact(name), self.redact(arguments)) for id_, name, arguments in requests])


def _words(action: Action) -> str:
    if isinstance(action, ToolCall):
        return action.arguments
    return action.words if isinstance(action, Handoff) else ""


def spends(action: Action) -> bool:
    """Whether it takes what others may be in line for: tokens or dollars."""
    return isinstance(action, ModelCall) or (isinstance(action, ToolCall) and action.nano_usd > 0)


def refusal(stop: Stop) -> RefusedError:
    return PolicyDeniedError(stop) if stop.reason == "denied" else LimitExceededError(stop)


def stop_for(short: Shortfall, agent: str) -> Stop:
    """A shortfall as a stop; of too many agents it tells whose turn it was."""
    in_dollars = short.limit == "nano_usd"

    def figure(value: int) -> float:
        return value / NANO if in_dollars else value

    return Stop(
        "limit",
        short.scope,
        POLICY_NAMES[short.limit],
        figure(short.cap),
        figure(short.used + short.reserved),
        figure(short.asked),
        f"{agent} would be one too many" if short.limit == "agents" else "",
    )
