"""What a journal says is done: the outputs of finished nodes, to resume a workflow from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, get_origin

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

from crew_guard.core.events import Compensated, Event, NodeFinished, NodeStarted
from crew_guard.core.tools import explain_validation
from crew_guard.workflows.shape import Shape


def done_of(shape: Shape, workflow: str, events: Iterable[Event]) -> dict[str, Any]:
    """Outputs by node, as JSON values, of all that is finished and was not undone, nor built on what was.

    What can't be undone, or could not be, is done, whatever it was built on. Nodes of a loop are among them only where
    it was left: a round that is under way begins anew.

    Args:
        shape: the workflow's
        workflow: its name
        events: a run's journal
    """
    own = (event for event in events if isinstance(event, NodeStarted | NodeFinished | Compensated))
    found = _Found()
    for event in own:
        if event.workflow == workflow:
            found.take(event)
    done = found.done
    stays = found.stay | {node.name for node in shape.nodes.values() if node.irreversible}
    for name in _after(shape, found.undone) - stays:
        done.pop(name, None)
    for source, body in shape.bodies.items():
        after = {shape.edges[place].target for place in shape.out[source]}
        if not after & found.begun:
            for name in body:
                done.pop(name, None)
    return {name: output for name, output in done.items() if name in shape.nodes}


@dataclass(slots=True)
class _Found:
    """What a journal says of a workflow's nodes."""

    done: dict[str, Any] = field(default_factory=dict[str, Any])
    begun: set[str] = field(default_factory=set[str])
    undone: set[str] = field(default_factory=set[str])
    stay: set[str] = field(default_factory=set[str])
    """Nodes that were to be undone, and whose effect is still there."""

    def take(self, event: NodeStarted | NodeFinished | Compensated) -> None:
        self.begun.add(event.node)
        if isinstance(event, NodeFinished) and not event.error:
            self.done[event.node] = event.output
        elif isinstance(event, NodeFinished):
            self.done.pop(event.node, None)
        elif isinstance(event, Compensated) and event.error:
            self.stay.add(event.node)
        elif isinstance(event, Compensated):
            self.undone.add(event.node)
            self.done.pop(event.node, None)


def _after(shape: Shape, nodes: Iterable[str]) -> set[str]:
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
