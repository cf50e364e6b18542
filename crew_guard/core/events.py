"""Every state transition of a run, as a value. A run's state is the fold of its events.

An event holds what changed, never the state. Events are appended to the journal before the
action that they let through is carried out, and are never changed afterwards.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from pydantic import TypeAdapter

from crew_guard.core.actions import ActionKind, Ending
from crew_guard.core.decisions import Stop
from crew_guard.core.limits import Caps
from crew_guard.core.messages import JsonObject
from crew_guard.core.plain import plain
from crew_guard.core.usage import NOTHING, Usage

FORMAT = 1
"""Version of the events' format, kept in each RunStarted."""

Side: TypeAlias = Literal["crew", "fallback"]
Via: TypeAlias = Literal["crew", "workflow"]
Status: TypeAlias = Literal["running", "done", "stopped", "denied", "failed"]
AgentStep: TypeAlias = Literal["think", "act", "observe", "finish"]


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A supervisor took on a run."""

    seq: int
    at: float
    """Unix seconds, in this and in every event."""
    crew: str
    runtime: str
    policy: str
    """The policy's name and the first digits of its hash."""
    inputs: JsonObject
    caps: Caps
    crew_caps: Caps
    """The run's caps minus what is kept back for the fallback."""
    max_seconds: float | None = None
    max_idle_seconds: float | None = None
    members: tuple[str, ...] = ()
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class ScopeOpened:
    """An agent or a tool with caps of its own was used for the first time."""

    seq: int
    at: float
    scope: str
    caps: Caps


@dataclass(frozen=True, slots=True)
class Queued:
    """A model call waits for budget that others hold and may give back."""

    seq: int
    at: float
    action_id: str
    kind: ActionKind
    agent: str
    target: str
    side: Side
    scope: str
    limit: str
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Admitted:
    """An action was let through, and what it may use was reserved."""

    seq: int
    at: float
    action_id: str
    kind: ActionKind
    agent: str
    target: str
    side: Side
    reserved: Usage
    arguments: str = ""
    """For a tool call: its arguments, a JSON object."""
    parent: str | None = None
    attempt: int = 1
    streams: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """An action was refused. Where that ends a scope, a Latched event follows."""

    seq: int
    at: float
    action_id: str
    kind: ActionKind
    agent: str
    target: str
    side: Side
    stop: Stop


@dataclass(frozen=True, slots=True)
class Settled:
    """An action ended; its reservation was swapped for what it really used."""

    seq: int
    at: float
    action_id: str
    status: Ending
    used: Usage
    seconds: float
    reported: bool = True
    """False where the provider named no usage, so that the reservation was charged."""
    overshoot: Usage = NOTHING
    """What was used beyond the reservation."""
    text: str = ""
    tool_requests: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Latched:
    """A scope was stopped for good: it answers every later action with this stop."""

    seq: int
    at: float
    scope: str
    stop: Stop


@dataclass(frozen=True, slots=True)
class AgentMoved:
    """An agent took up a task, or finished it. What lies between is told by its actions."""

    seq: int
    at: float
    agent: str
    task: str
    step: AgentStep


@dataclass(frozen=True, slots=True)
class NodeStarted:
    """A workflow began one of its nodes."""

    seq: int
    at: float
    workflow: str
    node: str


@dataclass(frozen=True, slots=True)
class NodeFinished:
    """A workflow's node ended."""

    seq: int
    at: float
    workflow: str
    node: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """A verifier gave its verdict on one trial: a task's output, or a node's."""

    seq: int
    at: float
    agent: str
    task: str
    passed: bool
    grade: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class FellBack:
    """The supervisor handed the job from the crew to the workflow."""

    seq: int
    at: float
    reason: str
    stop: Stop | None = None


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The run is over. Nothing of it is admitted afterwards."""

    seq: int
    at: float
    status: Status
    via: Via | None = None
    stop: Stop | None = None
    error: str = ""
    output: Any = None
    late: tuple[str, ...] = field(default=())
    """Actions that were still in flight and could not be ended, as agent/target."""


Event: TypeAlias = (
    RunStarted
    | ScopeOpened
    | Queued
    | Admitted
    | Refused
    | Settled
    | Latched
    | AgentMoved
    | NodeStarted
    | NodeFinished
    | Judged
    | FellBack
    | RunEnded
)

_CLASSES: tuple[type[Any], ...] = (
    RunStarted,
    ScopeOpened,
    Queued,
    Admitted,
    Refused,
    Settled,
    Latched,
    AgentMoved,
    NodeStarted,
    NodeFinished,
    Judged,
    FellBack,
    RunEnded,
)
_ADAPTERS: dict[str, TypeAdapter[Any]] = {}
EVENT_TYPES = {cls.__name__: cls for cls in _CLASSES}


_OPEN_FIELDS = ("inputs", "output")
"""What users fill with objects of their own."""
_OPEN_EVENTS = frozenset({"RunStarted", "RunEnded"})


def encode(event: Event) -> tuple[str, bytes]:
    """(the event's type, its fields as a JSON object). Never raises for what users put into an event.

    What has no JSON becomes its text, or its type's name where even that fails; lone surrogates become "?".
    """
    name = type(event).__name__
    adapter = _adapter(name)
    try:
        body = adapter.dump_json(event, exclude_defaults=True)
        if name in _OPEN_EVENTS:
            # Some values are written that can't be read: too deep, or integers of thousands of digits.
            adapter.validate_json(body)
    except Exception:  # noqa: BLE001  objects of users raise what they like when they are looked at
        body = _encode_odd(event, adapter)
    return name, body


def _encode_odd(event: Event, adapter: TypeAdapter[Any]) -> bytes:
    fields = {name: getattr(event, name) for name in type(event).__slots__}
    try:
        body = _json({name: plain(value) for name, value in fields.items()})
        adapter.validate_json(body)
    except Exception:  # noqa: BLE001  see above
        for name in _OPEN_FIELDS:
            if name in fields:
                fields[name] = {"left out": f"<{type(fields[name]).__name__}>"}
        body = _json({name: plain(value) for name, value in fields.items()})
    return body


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def decode(name: str, body: bytes | str) -> Event:
    """The event that `encode` wrote.

    Raises:
        KeyError: an unknown type
        ValueError: the body is not of this type
    """
    return _adapter(name).validate_json(body)


def _adapter(name: str) -> TypeAdapter[Any]:
    adapter = _ADAPTERS.get(name)
    if adapter is None:
        adapter = _ADAPTERS[name] = TypeAdapter(EVENT_TYPES[name])
    return adapter
