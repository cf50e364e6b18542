"""Tasks one after the other, each by its agent."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from crew_guard.adapters.native.work import Work
from crew_guard.ports import RuntimeResult


def sequential(work: Work) -> Coroutine[Any, Any, RuntimeResult]:
    """Do the tasks in order."""
    return work.in_order(work.do)
