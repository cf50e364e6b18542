"""What a workflow tells the gate, and asks of it, besides the actions of its nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from crew_guard.core.limits import Caps
from crew_guard.core.roles import Verdict
from crew_guard.ports.keeping import Handle


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """What is taken in place of running a node."""

    output: Any
    source: str
    """The finished task or node that gave it."""
    earlier: Sequence[Any] = ()
    """What it gave in the rounds before, where it stands in a loop that was left."""
    exact: bool = True
    """Whether all of it can be read back from JSON values."""
    irreversible: bool = False


class Flow(Protocol):
    """One workflow's record, the caps of its nodes, and the run's time."""

    def cap(self, actor: str, caps: Caps) -> None:
        """A node, or an agent inside of one (NODE/AGENT), has these caps at the most, within the run's and a policy's.

        Before its first action.
        """
        ...

    def began(self, node: str, attempt: int = 1, round: int = 1, reason: str = "") -> None:  # noqa: A002  the event's word
        """A node began: an attempt at it, in a round of its loop, and why it is tried again."""
        ...

    def finished(
        self,
        node: str,
        output: Any,
        round: int = 1,  # noqa: A002  see above
        taken_from: str = "",
        *,
        exact: bool = True,
    ) -> None:
        """A node is done; its output is kept as the run's checkpoint.

        Args:
            exact: whether the output can be read back from JSON values
        """
        ...

    def taken_over(self, nodes: Mapping[str, Taken]) -> None:
        """Before the first node: these nodes are done already, and gave this, whether the run comes to them or not."""
        ...

    async def on_disk(self) -> None:
        """Wait until what was told so far is on disk, whatever the policy's durability.

        Raises:
            StoreError: it can't be written
        """
        ...

    def failed(self, node: str, error: str, round: int = 1) -> None:  # noqa: A002  see above
        """An attempt at a node failed."""
        ...

    def in_thread(self, node: str) -> Callable[[], object]:
        """A node can't be ended, as one that blocks a thread: the run's result names it as long as it goes on.

        Returns:
            to be called when it is over
        """
        ...

    def undoing(self, node: str, *, partial: bool = False) -> None:
        """A finished node is about to be undone.

        Args:
            partial: whether it had not finished: what some of its items did is undone
        """
        ...

    def undone(self, node: str, error: str = "", *, cut: bool = False, partial: bool = False) -> None:
        """A finished node was undone, or could not be.

        Args:
            cut: whether nobody knows what is left
            partial: as for `undoing`
        """
        ...

    def asked(self, node: str, what: str) -> None:
        """Somebody is asked whether an irreversible node may act on `what`: the value in words, however long."""
        ...

    def answered(self, node: str, verdict: Verdict, by: str) -> None:
        """The answer is there."""
        ...

    async def pause(self, seconds: float) -> None:
        """Wait on the run's clock: that is wall clock, and no idleness."""
        ...

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Handle:
        """Call once after this many seconds of the run's clock, on any thread."""
        ...

    def stand_still(self, *, still: bool) -> None:
        """From now on the run waits for nothing but a person, or goes on: that time counts for no deadline."""
        ...
