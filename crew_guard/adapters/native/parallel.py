"""Tasks at the same time, each as soon as the outputs that it needs are there."""

from __future__ import annotations

import asyncio

from crew_guard.adapters.native.work import TaskEndedError, Work
from crew_guard.core.roles import Task
from crew_guard.ports import RuntimeResult
from crew_guard.workflows.calling import contained


async def parallel(work: Work) -> RuntimeResult:
    """Do the tasks; one that fails ends the others, because the crew has no output without it."""
    running: set[asyncio.Task[None]] = set()
    begun: list[asyncio.Task[None]] = []
    waiting: list[Task] = list(work.crew.tasks)
    try:
        while waiting or running:
            ready = [task for task in waiting if all(name in work.outputs for name in task.context or ())]
            waiting = [task for task in waiting if task not in ready]
            started = [asyncio.ensure_future(_finished(work, task)) for task in ready]
            begun += started
            running |= set(started)
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()
    except TaskEndedError as error:
        await _end(begun)
        return work.unfinished(_with_all(work, error))
    except asyncio.CancelledError:
        await _end(begun)
        return work.unfinished(_with_all(work, TaskEndedError("it was ended")))
    except BaseException:
        await _end(begun)
        raise
    ends = [task.name for task in work.crew.results()]
    output = work.outputs[ends[0]] if len(ends) == 1 else {name: work.outputs[name] for name in ends}
    return RuntimeResult(output, work.outputs)


async def _finished(work: Work, task: Task) -> None:
    try:
        await contained(work.do, task)
    except TaskEndedError:
        work.outputs.pop(task.name, None)  # a verifier said no to it: nothing may build on it
        raise


async def _end(begun: list[asyncio.Task[None]]) -> None:
    for one in begun:
        one.cancel()
    # Each settles what it had begun; what else they raise is the first one's doing.
    await asyncio.gather(*begun, return_exceptions=True)


def _with_all(work: Work, error: TaskEndedError) -> TaskEndedError:
    """The same error with all outputs so far as its partial, in the order of the tasks."""
    found = {task.name: work.outputs[task.name] for task in work.crew.tasks if task.name in work.outputs}
    return TaskEndedError(str(error), found or error.partial, error.stop)
