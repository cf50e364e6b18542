"""What a journal says is done: the outputs of finished nodes, to resume a workflow from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast, get_origin

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

from crew_guard.core.events import (
    ApprovalGiven,
    Compensated,
    Compensating,
    Event,
    NodeFinished,
    NodeStarted,
    RunStarted,
    TakenOver,
)
from crew_guard.core.plain import plain, shown, writable
from crew_guard.core.tools import explain_validation
from crew_guard.errors import WorkflowError
from crew_guard.workflows.alike import alike
from crew_guard.workflows.shape import Shape


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a journal says of a workflow."""

    done: dict[str, Any]
    """Outputs by node, as JSON values, of all that is finished and was not undone, nor built on what was."""
    doubts: dict[str, str]
    """Nodes that perhaps are done: why nobody knows, as what follows the node's name."""


def journal_of(workflow: str, events: Any) -> list[Event]:
    """A run's journal, where the workflow of this name was begun in the run.

    Raises:
        WorkflowError: it is none, it has not all of the run's events, or nothing of the workflow was begun
    """
    whole = isinstance(events, Iterable) and not isinstance(events, str | bytes)
    journal = list(cast("Iterable[Any]", events)) if whole else []
    problem = _no_journal(workflow, journal) if whole else f"{_WANTED}, not {shown(events)}"
    if problem:
        raise WorkflowError(f"workflow {workflow!r}: {problem}")
    return journal


_WANTED = "it goes on from a run's journal, as store.read(run_id) gives it"


def _no_journal(workflow: str, journal: list[Any]) -> str:
    """Why nothing can go on from this; nothing where it can."""
    odd = [each for each in journal if not isinstance(each, Event)]
    if odd:
        return f"{_WANTED}, and {shown(odd[0])} is no event"
    if not journal:
        return f"{_WANTED}; this one is empty, or was read already"
    if not any(isinstance(each, RunStarted) for each in journal):
        return f"{_WANTED}; this one lacks its RunStarted, and perhaps more"
    names = {each.workflow: None for each in journal if isinstance(each, _OF_NODES)}
    if workflow in names:
        return ""
    if names:
        others = ", ".join(map(repr, names))
        return f"this journal is of {others}: what is to go on from it has to have that name"
    return (
        "none of its nodes was begun in the run of this journal. Run it from its start; or, if that run was to go on "
        "from an earlier one, go on from the journal of that one"
    )


def checkpoint_of(shape: Shape, workflow: str, events: Iterable[Event]) -> Checkpoint:
    """Where a run was.

    What can't be undone, or could not be, is done, whatever it was built on. Nodes of a loop are among them only where
    it was left: a round that is under way begins anew. Of other nodes an output that the journal has not as it was is
    made again. What the run itself had taken over is done, whether it came to it or not.

    Args:
        shape: the workflow's
        workflow: its name
        events: a run's journal
    """
    for_good = {node.name for node in shape.nodes.values() if node.irreversible}
    found = _Found(for_good)
    for event in events:
        if isinstance(event, _OF_NODES) and event.workflow == workflow:
            found.take(event)
    done, doubts = found.done, found.doubts
    unreached = {name for name, node in shape.nodes.items() if node.compensate} & found.over - found.begun
    for name in after(shape, found.undone) - found.stay - unreached - for_good:
        done.pop(name, None)
    for source, body in shape.bodies.items():
        following = {shape.edges[place].target for place in shape.out[source]}
        if source not in found.over and not following & found.begun:
            for name in body & done.keys():
                del done[name]
                if name in for_good:
                    doubts[name] = "can't be undone, and was done in a round of a loop that begins anew"
    doubts |= {name: why for name, why in found.undoing.items() if name in shape.nodes}
    return Checkpoint({name: output for name, output in done.items() if name in shape.nodes}, doubts)


_OfNode: TypeAlias = NodeStarted | NodeFinished | ApprovalGiven | Compensating | Compensated
_OF_NODES = (TakenOver, NodeStarted, NodeFinished, ApprovalGiven, Compensating, Compensated)
_TAKEN_OUT = "its secrets, without its end, or without characters that are no Unicode"


@dataclass(slots=True)
class _Found:
    """What a journal says of a workflow's nodes."""

    for_good: set[str]
    """Nodes that can't be undone."""
    done: dict[str, Any] = field(default_factory=dict[str, Any])
    begun: set[str] = field(default_factory=set[str])
    undone: set[str] = field(default_factory=set[str])
    over: set[str] = field(default_factory=set[str])
    """Nodes that were taken over, and not begun since."""
    undoing: dict[str, str] = field(default_factory=dict[str, str])
    """Nodes whose undo was begun, and has no clean end, each with why, as in Checkpoint.doubts."""
    stay: set[str] = field(default_factory=set[str])
    """Nodes that were to be undone, and whose effect is still there."""
    doubts: dict[str, str] = field(default_factory=dict[str, str])
    """See Checkpoint."""

    def take(self, event: TakenOver | _OfNode) -> None:
        if isinstance(event, TakenOver):
            for node, lost in event.nodes.items():
                self.over.add(node)
                self._done(node, event.outputs.get(node), lost if node in event.outputs else "text")
            return
        node = event.node
        self.begun.add(node)
        if isinstance(event, NodeStarted):
            self.over.discard(node)
        elif isinstance(event, ApprovalGiven):
            # All that it is to act on is asked about before it acts: a no is the whole node's.
            self.doubts.pop(node, None)
            if event.approved and node in self.for_good:
                self.doubts[node] = "can't be undone, and was approved and begun, and has no end in the journal"
        elif isinstance(event, NodeFinished):
            self._finished(event)
        elif isinstance(event, Compensating):
            self.undoing[node] = "was being undone when its run ended"
        else:
            self._compensated(event)

    def _compensated(self, event: Compensated) -> None:
        if event.cut:
            self.undoing[event.node] = f"was undone in part, or perhaps not at all ({event.error})"
            return
        self.undoing.pop(event.node, None)
        if event.error:
            self.stay.add(event.node)
        else:
            self.undone.add(event.node)
            self.done.pop(event.node, None)

    def _finished(self, event: NodeFinished) -> None:
        node = event.node
        begun = self.doubts.pop(node, "")
        if event.error:
            self.done.pop(node, None)
            if begun:
                self.doubts[node] = f"can't be undone, and was approved and begun, and then failed ({event.error})"
        else:
            self._done(node, event.output, event.lost)

    def _done(self, node: str, output: Any, lost: str) -> None:
        if lost and node not in self.for_good:
            self.done.pop(node, None)
        elif lost == "text":
            self.doubts[node] = f"can't be undone, and was done, and its output is in the journal without {_TAKEN_OUT}"
        else:
            self.done[node] = output


def after(shape: Shape, nodes: Iterable[str]) -> set[str]:
    """The nodes that come after these, in another round of a loop as well."""
    found: set[str] = set()
    todo = [name for name in nodes if name in shape.nodes]
    while todo:
        name = todo.pop()
        after = {shape.edges[place].target for place in shape.out[name]}
        if name in shape.loops:
            after.add(shape.loops[name].target)
        todo += after - found
        found |= after
    return found


def reads_back(hint: Any, value: Any) -> bool:
    """Whether what is kept of a value, as JSON values, gives just that value when it is read as this type."""
    kept = plain(value)
    try:
        back = read_as(hint, kept)
        return bool(back == value) and alike(back, value) and writable(kept)
    except Exception:  # noqa: BLE001  objects of users raise what they like when they are compared
        return False


def read_as(hint: Any, value: Any) -> Any:
    """A value as this type: itself where it is one, else read from JSON values.

    Raises:
        ValueError: it is none
    """
    if hint is Any or (isinstance(hint, type) and get_origin(hint) is None and isinstance(value, hint)):
        return value
    try:
        return TypeAdapter[Any](hint).validate_python(value)
    except ValidationError as error:
        raise ValueError(explain_validation(error, "it")) from None
    except (PydanticSchemaGenerationError, PydanticUserError, TypeError):
        return value  # a type that nothing can be read as: what there is is taken as it is
