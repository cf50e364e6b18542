"""Tasks one after the other, each by its agent."""

from __future__ import annotations

from crew_guard.adapters.native.work import Work, ending
from crew_guard.core.roles import Task
from crew_guard.ports import RuntimeResult


async def sequential(work: Work) -> RuntimeResult:
    """Do the tasks in order."""

    async def do(task: Task) -> None:
        await do_task(work, task)

    return await work.in_order(do)


async def do_task(work: Work, task: Task) -> None:
    """One task by its agent.

    Raises:
        TaskEndedError: there is no output that can be used
    """
    loop = work.loop(work.crew.agent(task.agent), task)
    with ending(task.agent, lambda: loop.so_far):
        output = await loop.run(work.inputs, work.earlier(task))
    await work.finish(task.agent, task, output)
