"""What a journal says is done: the outputs of finished nodes, to resume a workflow from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, get_origin

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

from crew_guard.core.events import ApprovalGiven, Compensated, Event, NodeFinished, NodeStarted
from crew_guard.core.plain import plain, writable
from crew_guard.core.tools import explain_validation
from crew_guard.workflows.alike import alike
from crew_guard.workflows.shape import Shape


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a journal says of a workflow."""

    done: dict[str, Any]
    """Outputs by node, as JSON values, of all that is finished and was not undone, nor built on what was."""
    doubts: dict[str, str]
    """Nodes that can't be undone, and perhaps were done: why nobody knows, as what follows the node's name."""


def checkpoint_of(shape: Shape, workflow: str, events: Iterable[Event]) -> Checkpoint:
    """Where a run was.

    What can't be undone, or could not be, is done, whatever it was built on. Nodes of a loop are among them only where
    it was left: a round that is under way begins anew. Of other nodes an output that the journal has not as it was is
    made again.

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
    for name in after(shape, found.undone) - found.stay - for_good:
        done.pop(name, None)
    for source, body in shape.bodies.items():
        following = {shape.edges[place].target for place in shape.out[source]}
        if not following & found.begun:
            for name in body & done.keys():
                del done[name]
                if name in for_good:
                    doubts[name] = "was done in a round of a loop that begins anew"
    return Checkpoint({name: output for name, output in done.items() if name in shape.nodes}, doubts)


_OF_NODES = (NodeStarted, NodeFinished, ApprovalGiven, Compensated)
_TAKEN_OUT = "its secrets, without its end, or without characters that are no Unicode"


@dataclass(slots=True)
class _Found:
    """What a journal says of a workflow's nodes."""

    for_good: set[str]
    """Nodes that can't be undone."""
    done: dict[str, Any] = field(default_factory=dict[str, Any])
    begun: set[str] = field(default_factory=set[str])
    undone: set[str] = field(default_factory=set[str])
    stay: set[str] = field(default_factory=set[str])
    """Nodes that were to be undone, and whose effect is still there."""
    doubts: dict[str, str] = field(default_factory=dict[str, str])
    """See Checkpoint."""

    def take(self, event: NodeStarted | NodeFinished | ApprovalGiven | Compensated) -> None:
        node = event.node
        self.begun.add(node)
        if isinstance(event, ApprovalGiven):
            # All that it is to act on is asked about before it acts: a no is the whole node's.
            self.doubts.pop(node, None)
            if event.approved and node in self.for_good:
                self.doubts[node] = "was approved and begun, and has no end in the journal"
        elif isinstance(event, NodeFinished):
            self._finished(event)
        elif isinstance(event, Compensated) and event.error:
            self.stay.add(node)
        elif isinstance(event, Compensated):
            self.undone.add(node)
            self.done.pop(node, None)

    def _finished(self, event: NodeFinished) -> None:
        node = event.node
        begun = self.doubts.pop(node, "")
        if event.error:
            self.done.pop(node, None)
            if begun:
                self.doubts[node] = f"was approved and begun, and then failed ({event.error})"
        elif event.lost and node not in self.for_good:
            self.done.pop(node, None)
        elif event.lost == "text":
            self.doubts[node] = f"was done, and its output is in the journal without {_TAKEN_OUT}"
        else:
            self.done[node] = event.output


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
