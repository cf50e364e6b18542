"""What the shipped guardrails share: where they run, and how a library that isn't there is told."""

from __future__ import annotations

import importlib
from typing import Any, Literal

from crew_guard.errors import MissingDependencyError

Runs = Literal["here", "thread", "gate"]


class Shipped:
    """A guardrail that ships: in a thread, without sources, unless it says otherwise."""

    name: str = ""
    runs: Runs = "thread"
    reads: bool = False


def needed(module: str, what: str) -> Any:
    """A module of the extra guardrails.

    Raises:
        MissingDependencyError: it isn't installed
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(what, "guardrails") from error


def several(number: int, what: str) -> str:
    """2 cards, 1 card."""
    return f"{number} {what}{'' if number == 1 else 's'}"
