"""What a journal says is done: the outputs of finished nodes, to resume a workflow from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_origin

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

from crew_guard.core.events import Compensated, Event, NodeFinished, NodeStarted
from crew_guard.core.tools import explain_validation
from crew_guard.workflows.shape import Shape


def done_of(shape: Shape, workflow: str, events: Iterable[Event]) -> dict[str, Any]:
    """Outputs by node, as JSON values, of all that is finished and was not undone.

    Nodes of a loop are among them only where it was left: a round that is under way begins anew.

    Args:
        shape: the workflow's
        workflow: its name
        events: a run's journal
    """
    done: dict[str, Any] = {}
    begun: set[str] = set()
    for event in events:
        if isinstance(event, NodeStarted | NodeFinished | Compensated) and event.workflow == workflow:
            begun.add(event.node)
            if isinstance(event, NodeFinished) and not event.error:
                done[event.node] = event.output
            elif not isinstance(event, NodeStarted):
                done.pop(event.node, None)
    for source, body in shape.bodies.items():
        after = {shape.edges[place].target for place in shape.out[source]}
        if not after & begun:
            for name in body:
                done.pop(name, None)
    return {name: output for name, output in done.items() if name in shape.nodes}


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
