"""A run's state: a deterministic fold over its events, and what it answers to an action.

`apply` changes the state it is given and returns it: whoever folds owns the state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from crew_guard.core.actions import Action, Handoff, ModelCall, ToolCall
from crew_guard.core.decisions import Stop
from crew_guard.core.events import (
    Admitted,
    AgentMoved,
    Event,
    FellBack,
    Judged,
    Latched,
    Queued,
    Refused,
    Routed,
    RunEnded,
    RunStarted,
    ScopeOpened,
    Settled,
    Side,
    Status,
    Via,
)
from crew_guard.core.known import Known
from crew_guard.core.limits import (
    NOT_BOUND,
    UNCAPPED,
    Binding,
    Caps,
    Ledger,
    Meter,
    Shortfall,
    Terms,
    binding,
    fit_agent,
    fit_model_call,
    fit_tool_call,
    hold,
    settle,
)
from crew_guard.core.usage import NOTHING, ONE_TOOL_CALL, Usage

_BILLED = ("ok", "failed", "cancelled")
_KINDS: dict[Side, str] = {"crew": "agent", "fallback": "node"}
"""What an actor's scope is called: a workflow's node never meets the latch of an agent of its name."""


def is_agent(side: Side, actor: str) -> bool:
    """Whether an actor decides by itself: an agent of the crew, or one inside of a workflow's node, NODE/AGENT."""
    return side == "crew" or "/" in actor


def scope_of(side: Side, actor: str) -> str:
    """An agent's or a node's own scope."""
    return f"{_KINDS[side]}:{actor}"


class OpenAction(Struct, frozen=True, gc=False):
    """An action that was admitted and is not settled yet."""

    event: Admitted
    scopes: tuple[str, ...]
    ledgers: tuple[Ledger, ...]
    """Theirs, in the same order."""


class Path(Struct, gc=False):
    """What an action is charged to."""

    scopes: tuple[str, ...]
    """The outermost first."""
    ledgers: tuple[Ledger, ...] = ()
    """Of those of the scopes that were used or capped so far."""
    binding: Binding = NOT_BOUND
    as_of: int = -1
    """The state's count of changes when it was looked up."""


@dataclass(slots=True)
class RunState:
    """What is known of a run after some prefix of its events."""

    status: Status = "running"
    via: Via | None = None
    side: Side = "crew"
    seq: int = 0
    """The number of events folded."""
    ledgers: dict[str, Ledger] = field(default_factory=dict[str, Ledger])
    latches: dict[str, Stop] = field(default_factory=dict[str, Stop])
    open: dict[str, OpenAction] = field(default_factory=dict[str, OpenAction])
    queued: dict[str, Queued] = field(default_factory=dict[str, Queued])
    actors: dict[str, Meter] = field(default_factory=dict[str, Meter])
    """What each agent or node used by actions of its own; the sums equal the run's."""
    members: dict[tuple[str, str], None] = field(default_factory=dict[tuple[str, str], None])
    """Identities that were counted against max_agents, as keys: the collector looks into every set of every run."""
    steps_of: dict[str, str] = field(default_factory=dict[str, str])
    """What each agent does at the moment, by name: its model calls are thinking, its tool calls acting."""
    verdicts: list[Judged] = field(default_factory=list[Judged])
    started: RunStarted | None = None
    routed: Routed | None = None
    fell_back: FellBack | None = None
    ended: RunEnded | None = None
    overshoot: Usage = NOTHING
    unreported: int = 0
    """Model calls whose provider named no usage."""
    known: Known | None = field(default=None, compare=False)
    """What the run was told by those it may trust; kept where a rule of the policy asks for it."""
    _paths: dict[tuple[Side, str, str | None], Path] = field(default_factory=dict[Any, Any], compare=False)
    _changes: int = field(default=0, compare=False)
    """How often a ledger was opened or capped: what paths hold from before is looked up again."""

    def used(self, scope: str = "run") -> Usage:
        """What a scope has used so far; nothing for an unknown one."""
        ledger = self.ledgers.get(scope)
        return ledger.used.usage() if ledger else NOTHING

    def usage_by_agent(self) -> dict[str, Usage]:
        """What each agent or node has used, by name."""
        return {name: meter.usage() for name, meter in list(self.actors.items())}

    def usage_by_scope(self) -> dict[str, Usage]:
        """What each scope has used: the run, its sides, each agent or node with what it set off, and each tool."""
        return {scope: ledger.used.usage() for scope, ledger in list(self.ledgers.items())}

    def path(self, side: Side, agent: str, tool: str | None, parent: str | None) -> Path:
        """Every scope that an action is charged to, the outermost first, with the ledgers that there are so far."""
        path = self._paths.get((side, agent, tool))
        if path is None:
            own = ("run", side, scope_of(side, agent))
            path = self._paths[side, agent, tool] = Path(own if tool is None else (*own, f"tool:{tool}"))
        if parent is not None:
            chain = list(path.scopes)
            while parent is not None and (holder := self.open.get(parent)):
                chain += [scope for scope in holder.scopes if scope not in chain]
                parent = holder.event.parent
            path = Path(tuple(chain))
        if path.as_of != self._changes:
            self._look_up(path)
        return path

    def _look_up(self, path: Path) -> None:
        as_of = self._changes  # before looking: who looks from another thread may miss what is opened meanwhile
        path.ledgers = tuple([ledger for scope in path.scopes if (ledger := self.ledgers.get(scope))])
        path.binding = binding(path.ledgers)
        path.as_of = as_of

    def open_scope(self, scope: str, caps: Caps = UNCAPPED) -> None:
        """Keep a ledger of this scope from now on, below these caps."""
        ledger = self.ledgers.get(scope)
        if ledger is None:
            ledger = self.ledgers[scope] = Ledger(scope)
            self._changes += 1
        if caps != UNCAPPED:
            ledger.caps = caps
            self._changes += 1

    def over(self, side: Side) -> Stop | None:
        """Why nothing of this side is admitted any more, whatever the limits say; None while it may act."""
        if self.ended is not None:
            return Stop("cancelled", "run", detail="the run has ended")
        if side == "crew" and self.side == "fallback":
            return Stop("cancelled", "crew", detail="the crew's part has ended: its job went to the workflow")
        return None

    def latch(self, scopes: Iterable[str]) -> tuple[str, Stop] | None:
        """The first of these scopes that is stopped, with its stop."""
        if self.latches:
            for scope in scopes:
                if stop := self.latches.get(scope):
                    return scope, stop
        return None

    def ask(self, action: Action, path: Path, terms: Terms) -> Usage | Shortfall:
        """What the action may reserve below every cap, or which cap is in the way.

        Args:
            action: what is asked for
            path: what it is charged to, as `path` says
            terms: how long a completion may be
        """
        if path.as_of != self._changes:
            self._look_up(path)  # it waited, say
        newcomer = 0 if (path.scopes[1], action.agent) in self.members else 1
        if isinstance(action, ModelCall):
            wanted = terms.completion_default if action.max_tokens is None else action.max_tokens
            least = action.min_tokens if action.min_tokens is not None else terms.completion_min
            least = min(least, wanted) if action.clampable else wanted
            newcomer = 0 if action.embeds else newcomer
            ledgers = path.ledgers if newcomer else path.binding.calls
            return fit_model_call(ledgers, action, wanted, least, newcomer)
        if isinstance(action, ToolCall):
            if cost := action.nano_usd:
                return fit_tool_call(path.ledgers, cost) or Usage(tool_calls=1, nano_usd=cost)
            return fit_tool_call(path.binding.tools) or ONE_TOOL_CALL
        if isinstance(action, Handoff):
            return NOTHING
        return (fit_agent(path.ledgers) if newcomer else None) or Usage(agents=newcomer)

    def too_deep(self, action: Handoff, cap: int | None) -> Shortfall | None:
        """Whether the action nests deeper than the policy's max_depth: each handoff that it is inside of is one."""
        if cap is None or not action.nests:
            return None
        above = sum(1 for one in self._ancestors(action.parent) if one in self.open and self._nests(one))
        return Shortfall("run", "depth", cap, above, 0, 1) if above >= cap else None

    def _nests(self, action_id: str) -> bool:
        event = self.open[action_id].event
        return event.kind == "handoff" and is_agent(event.side, event.agent)

    def may_come_back(self, short: Shortfall, action_id: str, parent: str | None) -> bool:
        """Whether waiting can help: others hold enough of this limit and are not held up themselves.

        Steps and tool calls never come back. A reservation does not count while its holder waits,
        or a part of it does: nobody waits for an ancestor, and two families never wait for each other.
        """
        if short.limit not in ("tokens", "nano_usd"):
            return False
        held_up = self._ancestors(parent)
        for waiting in self.queued.values():
            if waiting.action_id != action_id:
                held_up |= self._ancestors(waiting.parent)
        held = 0
        for open_id, holder in self.open.items():
            if open_id not in held_up and holder.event.kind == "model_call" and short.scope in holder.scopes:
                reserved = holder.event.reserved
                held += reserved.tokens if short.limit == "tokens" else reserved.nano_usd
        return held >= short.missing

    def _ancestors(self, parent: str | None) -> set[str]:
        found: set[str] = set()
        while parent is not None and parent not in found:
            found.add(parent)
            holder = self.open.get(parent)
            parent = holder.event.parent if holder else None
        return found


def apply(state: RunState, event: Event) -> RunState:
    """Fold one event into the state, which is changed and returned."""
    state.seq = event.seq
    if (fold := _FOLDS.get(type(event))) is not None:
        fold(state, event)
    return state


def replay(events: Iterable[Event]) -> RunState:
    """The state after these events."""
    state = RunState()
    for event in events:
        apply(state, event)
    return state


def _started(state: RunState, event: RunStarted) -> None:
    state.started = event
    state.open_scope("run", event.caps)
    state.open_scope("crew", event.crew_caps)
    if event.side != "crew":
        state.side = event.side
        state.open_scope(event.side)
    if state.known is not None:
        state.known.give((event.inputs, event.given))


def _scope_opened(state: RunState, event: ScopeOpened) -> None:
    state.open_scope(event.scope, event.caps)


def _queued(state: RunState, event: Queued) -> None:
    state.queued[event.action_id] = event


def _admitted(state: RunState, event: Admitted) -> None:
    agent, reserved = event.agent, event.reserved
    if state.queued:
        state.queued.pop(event.action_id, None)
    tool = event.target if event.kind == "tool_call" else None
    path = state.path(event.side, agent, tool, event.parent)
    if reserved.agents:
        state.members[event.side, agent] = None
    ledgers = path.ledgers
    if len(ledgers) < len(path.scopes):
        for scope in path.scopes:
            state.open_scope(scope)
        ledgers = state.path(event.side, agent, tool, event.parent).ledgers
    if tool is None or reserved.nano_usd:
        hold(ledgers, reserved)
    else:
        for ledger in ledgers:
            ledger.reserved.tool_calls += 1
    if agent not in state.actors:
        state.actors[agent] = Meter()
    state.steps_of[agent] = "act" if tool is not None or event.kind == "handoff" else "think"
    state.open[event.action_id] = OpenAction(event, path.scopes, ledgers)


def _refused(state: RunState, event: Refused) -> None:
    state.queued.pop(event.action_id, None)


def _settled(state: RunState, event: Settled) -> None:
    opened = state.open.pop(event.action_id)
    reserved, used = opened.event.reserved, event.used
    if opened.event.kind == "tool_call":
        state.steps_of[opened.event.agent] = "observe"
        if state.known is not None and event.status == "ok":
            state.known.learn(opened.event.target, opened.event.arguments, event.text)
        if not reserved.nano_usd:
            _settle_free_tool_call(state, opened, used.tool_calls)
            return
    state.actors[opened.event.agent].add(used)
    settle(opened.ledgers, reserved, used)
    if not event.reported and opened.event.kind == "model_call" and event.status in _BILLED:
        state.unreported += 1
    if event.overshoot is not NOTHING and event.overshoot != NOTHING:
        state.overshoot += event.overshoot


def _settle_free_tool_call(state: RunState, opened: OpenAction, started: int) -> None:
    """A free tool call moves one count only: the half of all actions that need not be added up in full."""
    state.actors[opened.event.agent].tool_calls += started
    for ledger in opened.ledgers:
        ledger.reserved.tool_calls -= 1
        ledger.used.tool_calls += started


def _latched(state: RunState, event: Latched) -> None:
    state.latches.setdefault(event.scope, event.stop)


def _agent_moved(state: RunState, event: AgentMoved) -> None:
    state.steps_of[event.agent] = event.step


def _judged(state: RunState, event: Judged) -> None:
    state.verdicts.append(event)


def _routed(state: RunState, event: Routed) -> None:
    state.routed = event


def _fell_back(state: RunState, event: FellBack) -> None:
    state.fell_back = event
    state.side = "fallback"
    state.open_scope("fallback")


def _ended(state: RunState, event: RunEnded) -> None:
    state.ended, state.status, state.via = event, event.status, event.via


_FOLDS: dict[type[Any], Callable[[RunState, Any], None]] = {
    RunStarted: _started,
    ScopeOpened: _scope_opened,
    Queued: _queued,
    Admitted: _admitted,
    Refused: _refused,
    Settled: _settled,
    Latched: _latched,
    AgentMoved: _agent_moved,
    Judged: _judged,
    Routed: _routed,
    FellBack: _fell_back,
    RunEnded: _ended,
}
