"""A workflow's own part of the gate: its nodes are recorded, their caps hold, their time is the run's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

from crew_guard.core.events import (
    ApprovalAsked,
    ApprovalGiven,
    Compensated,
    Compensating,
    NodeFinished,
    NodeStarted,
    ScopeOpened,
    Side,
    TakenOver,
)
from crew_guard.core.limits import Caps
from crew_guard.core.plain import plain, writable
from crew_guard.core.roles import Verdict
from crew_guard.core.run import scope_of
from crew_guard.ports import Handle, Taken
from crew_guard.supervisor.gate import Gatekeeper
from crew_guard.supervisor.wakeups import on_disk, release
from crew_guard.workflows.asking import cut

_works = count()
"""Of nodes, that were named."""
_LONGEST = 500
"""Characters of what was asked about that a journal keeps."""


@dataclass(frozen=True, slots=True)
class RunFlow:
    """The Flow of ports, of one run."""

    keeper: Gatekeeper
    side: Side
    workflow: str
    _asked: dict[str, float] = field(default_factory=dict[str, float])
    """Since when an answer is waited for, by node."""

    def cap(self, actor: str, caps: Caps) -> None:
        """See Flow.cap."""
        scope = scope_of(self.side, actor)
        self.keeper.record(ScopeOpened, scope, caps.within(self.keeper.policy.caps_of(scope)))

    def began(self, node: str, attempt: int = 1, round: int = 1, reason: str = "") -> None:  # noqa: A002  the event's word
        """See Flow.began."""
        self.keeper.progress()
        self.keeper.record(NodeStarted, self.workflow, node, attempt, round, self.keeper.redact(reason))

    def finished(
        self,
        node: str,
        output: Any,
        round: int = 1,  # noqa: A002  see above
        taken_from: str = "",
        *,
        exact: bool = True,
    ) -> None:
        """See Flow.finished."""
        self.keeper.progress()
        shown, lost = self._kept(output, exact=exact)
        self.keeper.record(NodeFinished, self.workflow, node, "", shown, round, taken_from, lost)

    def taken_over(self, nodes: Mapping[str, Taken]) -> None:
        """See Flow.taken_over."""
        kept = {
            name: [self._kept(output, exact=taken.exact) for output in (*taken.earlier, taken.output)]
            for name, taken in nodes.items()
        }
        # What of it is not as it was counts for all of a node's rounds: "text" is more than "form", and than nothing.
        lost = {name: max(why for _, why in rounds) for name, rounds in kept.items()}
        outputs = {name: rounds[-1][0] for name, rounds in kept.items()}
        earlier = {name: [shown for shown, _ in rounds[:-1]] for name, rounds in kept.items() if len(rounds) > 1}
        irreversible = tuple(name for name, taken in nodes.items() if taken.irreversible)
        self.keeper.record(TakenOver, self.workflow, lost, outputs, earlier, irreversible)

    def _kept(self, output: Any, *, exact: bool) -> tuple[Any, str]:
        """(what the journal keeps of an output, why that is not just what it was)."""
        whole = plain(output)
        shown = self.keeper.redact.value(whole)
        all_there = shown == whole and (exact or writable(whole))
        return shown, "text" if not all_there else "" if exact else "form"

    async def on_disk(self) -> None:
        """See Flow.on_disk."""
        await on_disk(self.keeper.store, self.keeper.flushed())

    def failed(self, node: str, error: str, round: int = 1) -> None:  # noqa: A002  see above
        """See Flow.failed."""
        self.keeper.progress()
        self.keeper.record(NodeFinished, self.workflow, node, self.keeper.redact(error), None, round)

    def in_thread(self, node: str) -> Callable[[], object]:
        """See Flow.in_thread."""
        threads, key = self.keeper.threads, f"{self.workflow}/{node} {next(_works)}"
        threads[key] = f"node:{node}"
        return partial(threads.pop, key, None)

    def undoing(self, node: str, *, partial: bool = False) -> None:
        """See Flow.undoing."""
        self.keeper.record(Compensating, self.workflow, node, partial)

    def undone(self, node: str, error: str = "", *, cut: bool = False, partial: bool = False) -> None:
        """See Flow.undone."""
        self.keeper.record(Compensated, self.workflow, node, self.keeper.redact(error), cut, partial)

    def asked(self, node: str, what: str) -> None:
        """See Flow.asked."""
        self._asked[node] = self.keeper.clock.monotonic()
        self.keeper.record(ApprovalAsked, self.workflow, node, cut(self.keeper.redact(what), _LONGEST))

    def answered(self, node: str, verdict: Verdict, by: str) -> None:
        """See Flow.answered."""
        seconds = round(self.keeper.clock.monotonic() - self._asked.pop(node), 3)
        reason = self.keeper.redact(verdict.reason)
        self.keeper.record(ApprovalGiven, self.workflow, node, verdict.passed, by, reason, seconds)

    async def pause(self, seconds: float) -> None:
        """See Flow.pause."""
        await pause(self.keeper, seconds)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Handle:
        """See Flow.call_later."""
        return self.keeper.clock.call_later(seconds, callback)

    def stand_still(self, *, still: bool) -> None:
        """See Flow.stand_still."""
        self.keeper.progress()
        self.keeper.standstill.set(still=still)


async def pause(keeper: Gatekeeper, seconds: float) -> None:
    """Wait on the run's clock: that is wall clock, and no idleness."""
    loop = asyncio.get_running_loop()  # a host's own, perhaps
    over: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        loop.call_soon_threadsafe(release, over)

    timer = keeper.clock.call_later(seconds, wake)
    keeper.pauses += 1
    try:
        await over
    finally:
        keeper.pauses -= 1
        keeper.progress()
        timer.cancel()
