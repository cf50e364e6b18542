"""Every state transition of a run, as a value. A run's state is the fold of its events.

An event holds what changed, never the state. Events are appended to the journal before the
action that they let through is carried out, and are never changed afterwards.
"""

from __future__ import annotations

import json
from typing import Any, Literal, TypeAlias

from msgspec import MsgspecError, Struct, structs, to_builtins
from msgspec.json import Decoder, Encoder

from crew_guard.core.actions import ActionKind, Ending
from crew_guard.core.content import CheckOutcome, Place
from crew_guard.core.decisions import Stop
from crew_guard.core.limits import Caps
from crew_guard.core.messages import JsonObject
from crew_guard.core.plain import plain
from crew_guard.core.reliability.trials import Source
from crew_guard.core.reliability.verdict import Way
from crew_guard.core.usage import NOTHING, Usage

FORMAT = 1
"""Version of the events' format, kept in each RunStarted."""

Side: TypeAlias = Literal["crew", "fallback"]
Via: TypeAlias = Literal["crew", "workflow"]
Status: TypeAlias = Literal["running", "done", "stopped", "denied", "failed"]
AgentStep: TypeAlias = Literal["think", "act", "observe", "compact", "finish"]


class _Event(Struct, frozen=True, omit_defaults=True, gc=False):
    seq: int
    """From 1 on, without a gap."""
    at: float
    """Unix seconds."""


class RunStarted(_Event, frozen=True, gc=True):
    """A supervisor took on a run."""

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
    given: tuple[str, ...] = ()
    """The texts of the tasks, kept where a rule of the policy asks what the user gave."""
    side: Side = "crew"
    """fallback where the job is a workflow's from the start."""


class ScopeOpened(_Event, frozen=True):
    """An agent or a tool with caps of its own was used for the first time."""

    scope: str
    caps: Caps


class Queued(_Event, frozen=True):
    """A model call waits for budget that others hold and may give back."""

    action_id: str
    kind: ActionKind
    agent: str
    target: str
    side: Side
    scope: str
    limit: str
    parent: str | None = None


class Admitted(_Event, frozen=True):
    """An action was let through, and what it may use was reserved."""

    action_id: str
    kind: ActionKind
    agent: str
    target: str
    side: Side
    reserved: Usage
    arguments: str = ""
    """For a tool call: its arguments, a JSON object. For a handoff: the task, or the reason."""
    parent: str | None = None
    attempt: int = 1
    streams: bool = False


class Refused(_Event, frozen=True):
    """An action was refused. Where that ends a scope, a Latched event follows."""

    action_id: str
    kind: ActionKind
    agent: str
    target: str
    side: Side
    stop: Stop


class Asked(Struct, frozen=True, gc=False, array_like=True):
    """A tool that a model asked for; in the journal [id, tool, arguments]. Tuples the collector would look into."""

    id: str
    tool: str
    arguments: str


class Settled(_Event, frozen=True):
    """An action ended; its reservation was swapped for what it really used."""

    action_id: str
    status: Ending
    used: Usage
    seconds: float
    reported: bool = True
    """False where the provider named no usage, so that the reservation was charged."""
    overshoot: Usage = NOTHING
    """What was used beyond the reservation."""
    text: str = ""
    tool_requests: tuple[Asked, ...] = ()


class Latched(_Event, frozen=True):
    """A scope was stopped for good: it answers every later action with this stop."""

    scope: str
    stop: Stop


class AgentMoved(_Event, frozen=True):
    """An agent took up a task, or finished it. What lies between is told by its actions."""

    agent: str
    task: str
    step: AgentStep


class NodeStarted(_Event, frozen=True):
    """A workflow began one of its nodes."""

    workflow: str
    node: str
    attempt: int = 1
    round: int = 1
    """Of the loop that it stands in."""
    reason: str = ""
    """Why it is tried again."""


class NodeFinished(_Event, frozen=True, gc=True):
    """A workflow's node ended: the checkpoint that a run may be resumed from."""

    workflow: str
    node: str
    error: str = ""
    output: Any = None
    """What it gave, as JSON values."""
    round: int = 1
    taken_from: str = ""
    """The finished task or node whose output was taken instead of running it."""
    lost: str = ""
    """Why `output` is not just what it gave: text, of which secrets, the end or lone surrogates were taken out; form,
    which JSON lacks."""


class TakenOver(_Event, frozen=True, gc=True):
    """Before a workflow's first node: all that is done already, whether the run comes to it or not."""

    workflow: str
    nodes: dict[str, str]
    """What is done, by node: why its output is not just what it gave, as NodeFinished.lost has it; mostly nothing."""
    outputs: dict[str, Any]
    """What they gave, as JSON values."""
    earlier: dict[str, list[Any]] = {}
    """What those of a loop that was left gave in the rounds before, the first one first."""
    irreversible: tuple[str, ...] = ()
    """Those that can't be undone."""


class ApprovalAsked(_Event, frozen=True):
    """A person, or a function in their place, was asked whether an irreversible node may run."""

    workflow: str
    node: str
    what: str
    """What it is about to act on, in short."""


class ApprovalGiven(_Event, frozen=True):
    """The answer to the latest question about this node."""

    workflow: str
    node: str
    approved: bool
    by: str
    reason: str = ""
    seconds: float = 0.0
    """How long the answer took."""


class Compensating(_Event, frozen=True):
    """A finished node is about to be undone because a later one failed; of a loop's nodes the latest round first."""

    workflow: str
    node: str
    partial: bool = False
    """Whether it had not finished: what some of its items did is undone."""


class Compensated(_Event, frozen=True):
    """A finished node was undone because a later one failed, or could not be undone."""

    workflow: str
    node: str
    error: str = ""
    cut: bool = False
    """Whether nobody knows what is left: the run or its timeout ended it, or only some items were undone."""
    partial: bool = False
    """See Compensating."""


class Judged(_Event, frozen=True):
    """A verifier gave its verdict on one trial: a task's output, or a node's."""

    agent: str
    task: str
    passed: bool
    grade: float | None = None
    reason: str = ""
    blames: str = ""
    """The agent or the task whose fault it is, where it is another's."""
    source: Source = "check"
    """Where the verdict comes from; outcome is one on the whole job's output."""


class Routed(_Event, frozen=True, gc=True):
    """Before a run: who does the job, as far as reliability decides."""

    to: Way
    """crew; workflow; or shadow: the crew works beside the workflow, which counts."""
    why: str
    figures: dict[str, float] = {}
    """What it was decided by: threshold, estimate, lower, upper, measured and others, as far as they are known."""
    probe: bool = False
    """Whether the shadow is a probe of a crew that was taken out."""


class Guarded(_Event, frozen=True):
    """A guardrail fixed or rejected content. What it was is not kept, only why."""

    place: Place
    guardrail: str
    outcome: CheckOutcome
    agent: str
    target: str
    """The input, the task or the tool whose content it was."""
    reason: str = ""


class FellBack(_Event, frozen=True):
    """The supervisor handed the job from the crew to the workflow."""

    reason: str
    stop: Stop | None = None


class RunEnded(_Event, frozen=True, gc=True):
    """The run is over. Nothing of it is admitted afterwards."""

    status: Status
    via: Via | None = None
    stop: Stop | None = None
    error: str = ""
    output: Any = None
    late: tuple[str, ...] = ()
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
    | TakenOver
    | ApprovalAsked
    | ApprovalGiven
    | Compensating
    | Compensated
    | Judged
    | Routed
    | Guarded
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
    TakenOver,
    ApprovalAsked,
    ApprovalGiven,
    Compensating,
    Compensated,
    Judged,
    Routed,
    Guarded,
    FellBack,
    RunEnded,
)
EVENT_TYPES = {cls.__name__: cls for cls in _CLASSES}
_ENCODER = Encoder()
_DECODERS = {name: Decoder(cls) for name, cls in EVENT_TYPES.items()}
_OPEN_FIELDS = ("inputs", "output", "outputs")
"""What users fill with objects of their own."""
_OPEN_EVENTS = frozenset({"RunStarted", "RunEnded", "NodeFinished", "TakenOver"})


def encode(event: Event) -> tuple[str, bytes]:
    """(the event's type, its fields as a JSON object). Never raises for what users put into an event.

    What has no JSON becomes its text, or its type's name where even that fails; lone surrogates become "?".
    """
    name = type(event).__name__
    try:
        body = _ENCODER.encode(event)
        if name in _OPEN_EVENTS:
            _DECODERS[name].decode(body)  # some values are written that can't be read: too deep, say
    except Exception:  # noqa: BLE001  objects of users raise what they like when they are looked at
        body = _encode_odd(event)
    return name, body


def _encode_odd(event: Event) -> bytes:
    fields = structs.asdict(event)
    opened = {name: fields[name] for name in _OPEN_FIELDS if name in fields}
    try:
        return _readable(event, {name: plain(value) for name, value in opened.items()})
    except Exception:  # noqa: BLE001  see above
        return _readable(event, {name: {"left out": f"<{type(value).__name__}>"} for name, value in opened.items()})


def _readable(event: Event, opened: dict[str, Any]) -> bytes:
    values = to_builtins(structs.replace(event, **opened))
    body = json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
    _DECODERS[type(event).__name__].decode(body)
    return body


def decode(name: str, body: bytes | str) -> Event:
    """The event that `encode` wrote.

    Raises:
        KeyError: an unknown type
        ValueError: the body is not of this type
    """
    try:
        return _DECODERS[name].decode(body)
    except MsgspecError as error:
        raise ValueError(f"not a {name}: {error}") from None
