"""Threads that work for a run: none can be ended, so the run's result names each that goes on, by what it does there.

LlamaIndex runs steps and tools that block in threads, and lets go of them where it is cancelled.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from crew_guard.adapters.llama_index.scope import current
from crew_guard.adapters.tool_time import in_time_blocking
from crew_guard.core.actions import Grant
from crew_guard.ports import Gate

T = TypeVar("T")

_RUNS_A_STEP = "_run_with_tags"
"""What a thread calls with a step that blocks. It is LlamaIndex's own: where a version has none, no step is named."""
_lock = threading.Lock()
_installed: list[bool] = []


def named(gate: Gate, grant: Grant) -> Callable[[], object] | None:
    """Have this thread named by an action that blocks it; on an event loop's, which is waited for, nothing is done.

    Returns:
        to be called when the action is over
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return gate.in_thread(grant)
    return None


def blocking(gate: Gate, grant: Grant, tool: Callable[[], T]) -> T:
    """Execute a blocking tool, in its time.

    Raises:
        ToolOverdueError: its time was over
    """
    over = named(gate, grant) if grant.max_seconds is None else None
    try:
        return in_time_blocking(gate, grant, tool)
    finally:
        if over is not None:
            over()


def name_steps() -> None:
    """Have the threads of steps named, in guarded runs; the second time nothing happens."""
    from workflows.runtime.types import step_function  # pyright: ignore[reportMissingTypeStubs]

    from crew_guard.adapters.llama_index.whose import step_under_way

    with _lock:
        own: Any = getattr(step_function, _RUNS_A_STEP, None)
        if _installed or own is None:
            return
        _installed.append(True)

        @wraps(own)
        def run_step(*args: Any) -> Any:
            run = current.get()
            if run is None:
                return own(*args)
            over = run.gate.in_thread(step_under_way())
            try:
                return own(*args)
            finally:
                over()

        setattr(step_function, _RUNS_A_STEP, run_step)
