"""Whose record a verdict on a workflow's node goes into: the node with its model and what defines its behaviour."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from pydantic import BaseModel

from crew_guard.core.reliability.trials import Subject
from crew_guard.core.reliance import behaviour_of, digest
from crew_guard.core.roles import Crew
from crew_guard.core.tools import Tool
from crew_guard.ports import Means, Model
from crew_guard.workflows.agents import Delegation
from crew_guard.workflows.nodes import Node
from crew_guard.workflows.shape import Shape


def subjects_of(workflow: str, shape: Shape, means: Means | None) -> dict[str, Subject]:
    """By node, and by NODE/AGENT for the agents inside of one."""
    found: dict[str, Subject] = {}
    for node in shape.nodes.values():
        if isinstance(node.function, Delegation):
            found.update(_inside(workflow, node.name, node.function.crew, means))
        else:
            found[node.name] = Subject(workflow, _model(node.model, means), node.name, _version(node))
    return found


def _inside(workflow: str, node: str, crew: Crew, means: Means | None) -> Iterator[tuple[str, Subject]]:
    models = {agent.name: _model(agent.model or agent.role.model or "", means) for agent in crew.everyone()}
    version = behaviour_of(crew, models)
    several = ", ".join(sorted(set(models.values())))
    yield node, Subject(workflow, several, node, version)
    for agent in crew.everyone():
        yield f"{node}/{agent.name}", Subject(workflow, models[agent.name], f"{node}/{agent.name}", version)


def _model(model: Model | str | None, means: Means | None) -> str:
    if model is None:
        return ""
    if isinstance(model, str):
        return model if means is None else means.model_named(model).name
    return model.name


def _version(node: Node) -> str:
    function = node.function.function if isinstance(node.function, Tool) else node.function
    output = None if node.output is None else _schema(node.output)
    return digest([_told(function), node.system, output, node.max_tokens, node.each, node.copies, node.ahead_by])


def _schema(output: type[BaseModel]) -> Any:
    """What its answers must be; the model's name where it has no JSON schema."""
    try:
        return output.model_json_schema()
    except Exception:  # noqa: BLE001  fields of users' own types, and hooks that raise what they like
        return output.__qualname__


def _told(function: Any) -> str:
    try:
        return _text(function)
    except Exception:  # noqa: BLE001  an object that can't be hashed, mostly
        return _text(function.__class__)


@lru_cache(maxsize=256)
def _text(function: Any) -> str:
    """A function as it is written; its name where nobody knows."""
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return str(getattr(function, "__qualname__", type(function).__qualname__))
