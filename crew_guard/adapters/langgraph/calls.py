"""One call of a chat model under way: its attempts at the provider, and what it tells of them.

A model that asks another one before it has sent anything is no attempt itself; if it sends after that, it is admitted
anew.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from msgspec import Struct

from crew_guard.adapters.hearing import ClaudeAccount, Hear
from crew_guard.adapters.hosted import Attempt
from crew_guard.adapters.langgraph.prompts import Prompts
from crew_guard.adapters.langgraph.scope import Scope, in_graph
from crew_guard.core.actions import Grant, Outcome
from crew_guard.core.usage import Parts, Rates, Usage
from crew_guard.errors import RefusedError


class Call(Struct, eq=False):
    """One call of a model under way: what its stand-in finds instead of the model's own attributes."""

    scope: Scope
    agent: str
    model: str
    rates: Rates | None
    count: Prompts
    clampable: bool
    overrides: dict[str, Any] = {}
    attempt: Attempt | None = None
    sent: int = 0
    """How often the model's own code asked again within this call."""
    reached: bool = False
    """Whether its attempt may have sent: its SDK's client was at hand, or a piece of an answer came."""
    handed_over: bool = False
    """Whether its grant was given back, because it asked another model."""
    account: ClaudeAccount | None = None
    """What Anthropic's SDK told of the latest request, where it was one."""

    def begin(self, grant: Grant) -> None:
        """An attempt leaves."""
        self.attempt, self.sent, self.account = Attempt(self.scope.gate, grant), 0, None
        self.reached = self.handed_over = False
        self.scope.flights.begin(self)

    def hand_over(self) -> str | None:
        """Its own code asks another model. If it has sent nothing itself, its grant is given back.

        Returns:
            the action that the other one's is a part of, where this one has sent something
        """
        if self.attempt is None or self.attempt.settled:
            return None
        self.handed_over = not self.reached
        if self.handed_over:
            self.settle(Outcome("withdrawn", text="it asks another model"))
            return None
        self.scope.flights.end(self)  # it waits for who is asked now
        return self.attempt.grant.action_id

    def reach(self) -> None:
        """Its SDK's client is at hand: it may send. A grant that was given back is asked for again.

        Raises:
            RefusedError: it must not be sent
        """
        self.reached = True
        if self.handed_over and self.attempt is not None:
            self.handed_over = False
            try:
                self.attempt.follow(self.scope.gate.admit_blocking(self.attempt.following()))
            except RefusedError as error:
                raise in_graph(error) from None
            self.scope.flights.begin(self)

    def listen(self) -> Hear:
        """Anthropic's SDK sends a request."""
        self.account = ClaudeAccount()
        return self.account.hear

    def tokens(self, told: Callable[[], tuple[Usage | None, Parts]]) -> tuple[Usage | None, Parts]:
        """What the answer cost: as Anthropic's SDK said of a stream, else as LangChain tells."""
        return (self.account and self.account.tokens) or told()

    def settle(self, outcome: Outcome) -> None:
        """Its attempt is over; what comes later changes nothing."""
        if self.attempt is not None:
            self.attempt.settle(outcome)
        self.scope.flights.end(self)


under_way: ContextVar[Call | None] = ContextVar("crew_guard_graph_model_call", default=None)
"""The call whose own code runs now."""
