"""How long one execution of a host's tool may take by the policy (`tools: {limits: {NAME: {max_seconds: …}}}`).

An async tool is ended; one that doesn't end, and a blocking one in its thread, is left behind, and the run's result
names it as long as it goes on. Either way the execution has failed, and the agent reads why.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from crew_guard.core.actions import Grant
from crew_guard.ports import Gate
from crew_guard.workflows.overdue import OverdueError, within

T = TypeVar("T")


class ToolOverdueError(Exception):
    """A tool did not end in time. Its text is for the agent."""


async def in_time(grant: Grant, work: Awaitable[T], left: float | None = None, *, gate: Gate | None = None) -> T:
    """Wait for what an async tool gives.

    Args:
        grant: its execution's
        work: the tool at work; a task of its own where its time is limited
        left: what is left of its time, where a part of it is used
        gate: where a tool that doesn't end when it is cancelled is named in the run's result
    Raises:
        ToolOverdueError: it was ended, because its time was over
    """
    seconds = grant.max_seconds if left is None else left
    if seconds is None:
        return await work
    try:
        return await within(seconds, work, partial(_named, gate, grant))
    except OverdueError:
        raise _overdue(grant) from None


def _named(gate: Gate | None, grant: Grant) -> Callable[[], object]:
    return gate.in_thread(grant) if gate is not None else lambda: None


def in_time_blocking(gate: Gate, grant: Grant, work: Callable[[], T]) -> T:
    """The same for a blocking tool; one whose time is limited runs on a thread of its own, in this context.

    Raises:
        ToolOverdueError: it was left behind, because its time was over
    """
    if grant.max_seconds is None:
        return work()
    future: Future[T] = Future()
    context, over = contextvars.copy_context(), gate.in_thread(grant)

    def run() -> None:
        try:
            made = context.run(work)
        except BaseException as error:  # noqa: BLE001  it is handed to whoever waits
            future.set_exception(error)
        else:
            future.set_result(made)
        finally:
            over()

    threading.Thread(target=run, name=f"crew_guard {grant.action.target}", daemon=True).start()
    try:
        return future.result(grant.max_seconds)
    except TimeoutError:
        if future.done():
            raise  # the tool's own
        raise _overdue(grant) from None


def _overdue(grant: Grant) -> ToolOverdueError:
    return ToolOverdueError(f"{grant.action.target} was ended after {grant.max_seconds:g} s, its max_seconds")
