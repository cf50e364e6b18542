"""From a run's deadline to its typed result in hand: a stalled provider, a tool that sleeps, a stuck thread.

The median of some runs each; what was still in flight where it could not be ended is named in the result.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

from crew_guard import Agent, Crew, Policy, Result, Role, Supervisor, Task, tool
from crew_guard.core.tools import Tool
from crew_guard.testing import MemoryStore, Reply, ScriptedModel

DEADLINE = 0.2
ROUNDS = 15
POLICY = Policy.model_validate({"limits": {"max_seconds": DEADLINE}})
RELEASE = threading.Event()


async def stall() -> None:
    """Never answers."""
    await asyncio.Event().wait()


@tool
async def nap(query: str) -> str:
    """Sleep."""
    await asyncio.sleep(60)
    return query


@tool
def stick(query: str) -> str:
    """Block a thread."""
    RELEASE.wait(60)
    return query


def stalled_provider() -> Result:
    """A model that never answers."""
    return _run(ScriptedModel([Reply("never", wait=stall)]), ())


def sleeping_tool() -> Result:
    """An async tool that sleeps."""
    return _run(ScriptedModel([Reply(tools=(("nap", '{"query": "x"}'),))]), (nap,))


def stuck_thread() -> Result:
    """A tool that blocks its thread."""
    result = _run(ScriptedModel([Reply(tools=(("stick", '{"query": "x"}'),))]), (stick,))
    if result.late != ("agent/stick",):
        raise RuntimeError(f"the stuck tool is not named: {result.late}")
    return result


def _run(model: Any, tools: tuple[Tool, ...]) -> Result:
    crew = Crew([Agent(Role(name="agent", goal="go on"), tools)], [Task("go")])
    return Supervisor(POLICY, model=model, store=MemoryStore()).run(crew)


def late_by(work: Callable[[], Result]) -> float:
    """Milliseconds from the deadline to the result, the median."""
    took: list[float] = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        result = work()
        took.append((time.perf_counter() - began - DEADLINE) * 1e3)
        if result.stopped is None or result.stopped.reason != "deadline":
            raise RuntimeError(f"the deadline did not end it: {result}")
    return statistics.median(took)


def main() -> bool:
    """Print the table; True if every bound holds."""
    stalled_provider()
    print(f"{'from the deadline to the result':<44}{'ms':>8}{'at most':>10}")
    held = True
    for what, work, most in (
        ("a provider that stalls", stalled_provider, 50),
        ("an async tool that sleeps", sleeping_tool, 50),
        ("a tool stuck in a thread, named", stuck_thread, 100),
    ):
        late = late_by(work)
        held = held and late <= most
        print(f"{what:<44}{late:>8.1f}{most:>10}  {'ok' if late <= most else 'MISSED'}")
    RELEASE.set()
    return held


if __name__ == "__main__":
    raise SystemExit(0 if main() else 1)
