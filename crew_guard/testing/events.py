"""One event of every kind, with the values that break stores: all that a journal must give back unchanged."""

from __future__ import annotations

from typing import Any

from crew_guard.core.decisions import Stop
from crew_guard.core.events import (
    EVENT_TYPES,
    Admitted,
    AgentMoved,
    ApprovalAsked,
    ApprovalGiven,
    Asked,
    Compensated,
    Compensating,
    Event,
    FellBack,
    Guarded,
    Judged,
    Latched,
    NodeFinished,
    NodeStarted,
    Queued,
    Refused,
    Routed,
    RunEnded,
    RunStarted,
    ScopeOpened,
    Settled,
    TakenOver,
)
from crew_guard.core.limits import UNCAPPED, Caps
from crew_guard.core.usage import Usage

AWKWARD = "Zoë\n\t\"'\\ \0 \x7f 漢字 🧵 \u2028 \ufeff '; DROP TABLE runs; --"
HUGE = "ß" * 300_000
NESTED: dict[str, Any] = {"": [], "a": {"b": [None, True, -1, 1.5, 2**70, {"ключ": [[[]]]}]}, "text": AWKWARD}
_ASKED = Asked("", AWKWARD, "{not json"), Asked("", "", "")
_STOP = Stop("limit", "agent:Zoë", "max_usd", cap=0.1, used=1e-9, asked=1e300, detail=AWKWARD)


def started(seq: int = 1, at: float = 1.0, crew: str = "crew") -> RunStarted:
    """A plain first event."""
    return RunStarted(seq, at, crew, "native", "policy", {"topic": "gzip"}, UNCAPPED, UNCAPPED)


def moved(seq: int, at: float = 1.0) -> AgentMoved:
    """A small event."""
    return AgentMoved(seq, at, "writer", "task_1", "act")


def ended(seq: int, at: float = 2.0) -> RunEnded:
    """A plain last event."""
    return RunEnded(seq, at, "done", "crew", output="the answer")


def one_of_each() -> list[Event]:
    """Every kind of event, numbered from 1, the first a RunStarted; values chosen to be hard to keep."""
    caps = Caps(agents=0, steps=1, tool_calls=2, tokens=2**62, nano_usd=2**53 + 1)
    usage = Usage(1, 2, 3, 4, 2**60, 6, 7)
    kind = "tool_call"
    events: list[Event] = [
        RunStarted(
            1,
            1e9 + 0.123456,
            AWKWARD,
            "",
            AWKWARD,
            NESTED,
            caps,
            UNCAPPED,
            0.0,
            1e-9,
            ("a", AWKWARD),
            1,
            (),
            "fallback",
        ),
        ScopeOpened(2, 0.0, "tool:" + AWKWARD, caps),
        Queued(3, 1.0, "a1", "model_call", AWKWARD, "p:m", "crew", "run", "tokens", "a0"),
        Admitted(4, 1.0, "a2", kind, "", AWKWARD, "fallback", usage, '{"x": "\\u0000"}', "a1", 2, streams=True),
        Refused(5, 1.0, "a3", "spawn", AWKWARD, "", "crew", _STOP),
        Settled(
            6,
            1.0,
            "a2",
            "failed",
            usage,
            0.1 + 0.2,
            False,
            usage,
            HUGE,
            (Asked("", AWKWARD, "{not json"), Asked("", "", "")),
        ),
        Latched(7, 1.0, "run", Stop("killed", "run")),
        AgentMoved(8, 1.0, AWKWARD, "", "finish"),
        NodeStarted(9, 1.0, "", AWKWARD, 2, 3, AWKWARD),
        NodeFinished(10, 1.0, "w", "n", AWKWARD, NESTED, 3, AWKWARD),
        Judged(11, 1.0, "a", "t", passed=False, grade=1 / 3, reason=AWKWARD, blames=AWKWARD, source="later"),
        FellBack(12, 1.0, AWKWARD, _STOP),
        Guarded(13, 1.0, "tool_results", AWKWARD, "reject", "", AWKWARD, AWKWARD),
        ApprovalAsked(14, 1.0, AWKWARD, "n", AWKWARD),
        ApprovalGiven(15, 1.0, "w", AWKWARD, approved=False, by=AWKWARD, reason=AWKWARD, seconds=1e-9),
        Compensated(16, 1.0, "w", AWKWARD, AWKWARD, cut=True, partial=True),
        Routed(17, 1.0, "shadow", AWKWARD, {"lower": 1 / 3, AWKWARD: 1e300}, probe=True),
        TakenOver(18, 1.0, "w", {AWKWARD: "text", "": ""}, {AWKWARD: NESTED, "": None}, {"": [NESTED]}, ("",)),
        Compensating(19, 1.0, AWKWARD, "n", partial=True),
        RunEnded(20, -1.5, "stopped", "workflow", _STOP, AWKWARD, NESTED, (AWKWARD, "")),
    ]
    missing = EVENT_TYPES.keys() - {type(event).__name__ for event in events}
    if missing:
        raise AssertionError(f"one_of_each lacks {', '.join(sorted(missing))}")
    return events
