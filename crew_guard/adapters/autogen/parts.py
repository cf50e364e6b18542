"""What a gated call of AutoGen's does on the way to its work: a part of it, and no execution of its own."""

from __future__ import annotations

from typing import Any

from crew_guard.adapters.autogen.seams import Frame, Here
from crew_guard.adapters.way import Entry, Way
from crew_guard.core.actions import Grant, ToolCall


def way_of(frame: Frame | None, owner: object, kinds: tuple[str, ...], entry: Entry) -> tuple[Way, bool]:
    """The way that a call goes, and whether it is a part of the gated one around it: a base's method, or its one tool.

    Args:
        frame: of the gated call around it
        owner: what is called
        kinds: of the calls around it whose work it may be
        entry: the method that is called
    """
    around = None if frame is None else frame.way
    if frame is None or around is None:
        return Way(entry), False
    if frame.owner is not owner:
        return Way(entry), frame.kind in kinds and around.works(entry)
    if around.leads_to(entry):
        return around, True
    return around.another(entry), False


def within(now: Here, kind: Any, owner: object, way: Way, grant: Grant | None = None) -> Here:
    """Who acts, as part of a call of this owner."""
    return Here(now.run, now.agent, Frame(kind, owner, way, grant=grant))


def may_execute(frame: Frame | None) -> tuple[str, ...]:
    """Where executed code is what was admitted: in a tool that was admitted as one that executes some."""
    grant = granted(frame)
    known = grant is not None and isinstance(grant.action, ToolCall) and grant.action.irreversible
    return ("tool", "workbench") if known else ()


def granted(frame: Frame | None) -> Grant | None:
    """What was admitted, of a tool's execution."""
    return None if frame is None else frame.grant
