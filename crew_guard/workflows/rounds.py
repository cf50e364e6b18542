"""What a journal says of each node of a workflow: in a loop it may have finished, and acted, several times."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from crew_guard.core.events import (
    ApprovalGiven,
    Compensated,
    Compensating,
    Event,
    NodeFinished,
    NodeStarted,
    TakenOver,
)

OF_NODES = (TakenOver, NodeStarted, NodeFinished, ApprovalGiven, Compensating, Compensated)


@dataclass(slots=True)
class Round:
    """One time that a node finished, or some of its items did."""

    output: Any
    lost: str
    """Why the output is not just what it gave, as NodeFinished.lost."""
    undo: Literal["", "undone", "stays"] = ""
    """What came of undoing it, where that was tried."""


@dataclass(slots=True)
class Record:
    """One node."""

    rounds: list[Round] = field(default_factory=list[Round])
    begun: bool = False
    """Whether the run came to it."""
    over: bool = False
    """Whether it was taken over, and not begun since."""
    approved: bool = False
    """Whether it can't be undone, and may have acted."""
    unsure: str = ""
    """Why nobody knows whether its latest round, which has no clean end, was done: what follows the node's name."""
    cut: str = ""
    """Why nobody knows what an undo left."""
    undoing: bool = False
    """Whether an undo was begun, and has no end."""

    @property
    def standing(self) -> list[Round]:
        """What was not undone."""
        return [each for each in self.rounds if each.undo != "undone"]

    @property
    def lost(self) -> str:
        """Why what stands is not in the journal just as it was."""
        return max((each.lost for each in self.standing), default="")  # "text" is more than "form", and than nothing

    @property
    def once(self) -> bool:
        """Whether what one output says is all that acted, or may have: its first round, and no other."""
        standing = self.standing
        if self.unsure:
            return not self.rounds
        return not standing or (len(standing) == 1 and standing[0] is self.rounds[0])

    @property
    def stays(self) -> bool:
        """Whether an undo of it failed."""
        return any(each.undo == "stays" for each in self.rounds)

    @property
    def half_undone(self) -> str:
        """Why nobody knows what of it is undone; nothing where that is known."""
        if self.undoing:
            return "was being undone when its run ended"
        mixed = 0 < len(self.standing) < len(self.rounds)
        return self.cut or ("was undone in some of its rounds, and not in others" if mixed else "")

    def take(self, event: Event) -> None:
        """Note one event of the node, in order."""
        if isinstance(event, Compensating | Compensated):
            self._undo(event)
            return
        self.begun = True
        if isinstance(event, NodeStarted):
            self.over = False
        elif isinstance(event, ApprovalGiven):
            # All that it is to act on is asked about before it acts: a no is the whole node's.
            self.approved = self.approved or event.approved
            begun = "can't be undone, and was approved and begun, and has no end in the journal"
            self.unsure = begun if event.approved else ""
        elif isinstance(event, NodeFinished):
            self._finished(event)

    def take_over(self, event: TakenOver, node: str) -> None:
        """Note that it was done before the run began."""
        self.over, self.approved = True, node in event.irreversible
        lost = event.nodes[node] if node in event.outputs else "text"
        self.rounds = [Round(each, lost) for each in (*event.earlier.get(node, ()), event.outputs.get(node))]

    def _finished(self, event: NodeFinished) -> None:
        if event.error and self.unsure:
            self.unsure = f"can't be undone, and was approved and begun, and then failed ({event.error})"
        elif not event.error:
            self.unsure = ""
            if not (event.taken_from and self.over):  # what was taken over was done once
                self.rounds.append(Round(event.output, event.lost))

    def _undo(self, event: Compensating | Compensated) -> None:
        """The latest round is undone first; what had not finished counts as one that nobody knows the output of."""
        left = [each for each in self.rounds if not each.undo]
        if not left or (event.partial and not self.undoing):
            left = [Round(None, "text")]
            self.rounds += left
        self.undoing = isinstance(event, Compensating)
        if isinstance(event, Compensating):
            return
        left[-1].undo = "stays" if event.error else "undone"
        if event.cut:
            self.cut = f"was undone in part, or perhaps not at all ({event.error})"
        elif event.error and event.partial:
            self.cut = f"was done in part, and was not undone ({event.error})"


def records_of(workflow: str, events: Iterable[Event]) -> dict[str, Record]:
    """What a run's journal says of the workflow's nodes, by name, of those that it names."""
    records = defaultdict[str, Record](Record)
    for event in events:
        if not isinstance(event, OF_NODES) or event.workflow != workflow:
            continue
        if isinstance(event, TakenOver):
            for node in event.nodes:
                records[node].take_over(event, node)
        else:
            records[event.node].take(event)
    return dict(records)
