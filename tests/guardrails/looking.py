"""A guardrail under test, outside of any run."""

from __future__ import annotations

from typing import Any

from crew_guard.core.content import Check
from crew_guard.ports import Content, Guardrail
from crew_guard.supervisor.shapes import put_back, readable_of, text_of


def content(value: Any, *sources: str) -> Content:
    """Content of a tool's result, in a run that has read these sources."""
    return Content("tool_results", "a", "t", text_of(value), value, readable_of(value), {}, None, lambda: sources)


def look(guardrail: Guardrail, value: Any, *sources: str) -> Check:
    """What it says."""
    check = guardrail.check(content(value, *sources))
    assert isinstance(check, Check)
    return check


def mended(guardrail: Guardrail, value: Any) -> Any:
    """The value as its fix leaves it; the value itself where it passes."""
    check = look(guardrail, value)
    assert check.outcome != "reject"
    return value if check.outcome == "pass" else put_back(value, check)
