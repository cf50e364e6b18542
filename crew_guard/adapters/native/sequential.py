"""Tasks one after the other, each by its agent."""

from __future__ import annotations

from collections.abc import Coroutine
from functools import partial
from typing import Any

from crew_guard.adapters.native.work import Work, ending
from crew_guard.core.roles import Task
from crew_guard.ports import RuntimeResult


def sequential(work: Work) -> Coroutine[Any, Any, RuntimeResult]:
    """Do the tasks in order."""
    return work.in_order(partial(do_task, work))


async def do_task(work: Work, task: Task) -> None:
    """One task by its agent.

    Raises:
        TaskEndedError: there is no output that can be used
    """
    loop = work.loop(work.crew.agent(task.agent), task)
    with ending(task.agent, loop.so_far):
        output = await loop.run(work.inputs, work.earlier(task))
    await work.finish(task.agent, task, output)
