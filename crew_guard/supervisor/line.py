"""The line of those who wait for budget that others hold and may give back. Under the gate's lock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from crew_guard.core.actions import Action
from crew_guard.core.decisions import Stop
from crew_guard.core.events import Queued, Side
from crew_guard.core.limits import Shortfall
from crew_guard.core.policy import Policy
from crew_guard.core.run import Path
from crew_guard.core.usage import Usage
from crew_guard.errors import RefusedError
from crew_guard.ports import Clock, Store
from crew_guard.promises import Promise
from crew_guard.supervisor.answers import Answerer, Ticket, stop_for
from crew_guard.supervisor.outbox import Outbox


@dataclass(slots=True)
class Waiter:
    """A model call, or a tool call that costs, in line for budget that others may give back."""

    action_id: str
    action: Action
    side: Side
    path: Path
    short: Shortfall
    answer: Promise[Ticket] = field(default_factory=Promise[Any])

    @property
    def scopes(self) -> tuple[str, ...]:
        """What it is charged to."""
        return self.path.scopes


class Line(Answerer):
    """First come, first served; a part of something that runs already goes before, or nothing would end."""

    __slots__ = ("_waiters",)

    def __init__(self, run_id: str, policy: Policy, store: Store, clock: Clock, outbox: Outbox) -> None:
        super().__init__(run_id, policy, store, clock, outbox)
        self._waiters: dict[str, Waiter] = {}

    @property
    def waiting(self) -> bool:
        """Whether somebody is in line for budget: that is wall clock, not idleness."""
        return bool(self._waiters)

    def _queue(self, waiter: Waiter) -> Waiter:
        action, short = waiter.action, waiter.short
        self._waiters[waiter.action_id] = waiter
        self._note(
            Queued,
            waiter.action_id,
            action.kind,
            action.agent,
            action.target,
            waiter.side,
            short.scope,
            short.limit,
            action.parent,
        )
        if action.parent is not None:
            self._pump()  # it holds up what others may have been waiting for
        return waiter

    def _behind(self, scopes: tuple[str, ...]) -> bool:
        return any(waiter.short.scope in scopes for waiter in self._waiters.values())

    def _head_of(self, scopes: tuple[str, ...]) -> Shortfall:
        return next(waiter.short for waiter in self._waiters.values() if waiter.short.scope in scopes)

    def _pump(self) -> None:
        """Answer everyone in line who can be answered now; what closes a scope sends others off in turn."""
        while self._pump_once():
            pass

    def _pump_once(self) -> bool:
        """One pass, first come first served; True if somebody was refused for good."""
        blocked: set[str] = set()
        for waiter in tuple(self._waiters.values()):
            if stop := self._closed(waiter):
                self._answer(waiter, self._refuse(waiter.action_id, waiter.action, waiter.side, stop, latch=False))
                continue
            if waiter.action.parent is None and not blocked.isdisjoint(waiter.scopes):
                continue  # somebody before it waits for the same
            found = self.state.ask(waiter.action, waiter.path, self._terms)
            if isinstance(found, Usage):
                self._answer(waiter, self._grant(waiter.action_id, waiter.action, waiter.side, found))
            elif self.state.may_come_back(found, waiter.action_id, waiter.action.parent):
                waiter.short = found
                blocked.add(found.scope)
            else:
                stop = stop_for(found, waiter.action.agent)
                refused = self._refuse(waiter.action_id, waiter.action, waiter.side, stop, latch=True)
                self._answer(waiter, refused)
                return True
        return False

    def _closed(self, waiter: Waiter) -> Stop | None:
        latched = self.state.latch(waiter.scopes)
        return self.state.over(waiter.side) or (latched[1] if latched else None)

    def _answer(self, waiter: Waiter, answer: Ticket | RefusedError) -> None:
        del self._waiters[waiter.action_id]
        if isinstance(answer, Ticket):
            waiter.answer.set_result(answer)
        else:
            waiter.answer.set_exception(answer)
