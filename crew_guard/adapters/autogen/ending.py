"""What is left when a guarded run of AutoGen is over: nothing in flight, and teams that can be run again.

AutoGen leaves parallel speakers running where one of them failed, and locks and queues as they were.
"""

from __future__ import annotations

# AutoGen has no public way to end a runtime with what it has in flight, nor to see that.
# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false
import asyncio
from collections.abc import AsyncGenerator, Collection, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

from autogen_agentchat.teams import BaseGroupChat
from autogen_agentchat.teams._group_chat._graph._digraph_group_chat import GraphFlowManager
from autogen_core import CancellationToken


async def end(
    work: asyncio.Future[Any],
    token: CancellationToken,
    teams: Sequence[BaseGroupChat],
    tasks: Collection[asyncio.Task[Any]],
) -> None:
    """End everything that a run began, and make its teams usable again.

    Args:
        work: the run itself
        teams: the outermost first
        tasks: where something acted in it; those of other loops are their threads' own
    """
    here, loop = asyncio.current_task(), asyncio.get_running_loop()
    tidy = work.done() and not work.cancelled() and work.exception() is None
    left = {task for task in tasks if not task.done() and task is not here and task.get_loop() is loop}
    for team in teams:
        left |= {task for task in _runtime(team)._background_tasks if not task.done()}
    if tidy and not left:
        for team in teams:  # one behind a tool may have been ended by an error, which the tool's agent was told
            if not cast(Any, team)._is_running:
                _tidy_up(team)
        return
    token.cancel()  # tools and code that AutoGen runs beside its agents, in processes say, end by the token only
    _shut(teams)
    work.cancel()
    for task in left:
        task.cancel()
    await _emptied(teams)
    await asyncio.gather(work, *left, return_exceptions=True)
    await _usable_again(teams)


@asynccontextmanager
async def ended_after(teams: Sequence[BaseGroupChat], seconds: float) -> AsyncGenerator[None]:
    """Have teams end when this has taken so long: who runs one waits for it, also where that is cancelled itself.

    Args:
        teams: the outermost first
    """
    if not teams:
        yield
        return
    halts: list[asyncio.Future[None]] = []
    timer = asyncio.get_running_loop().call_later(seconds, lambda: halts.append(asyncio.ensure_future(_halted(teams))))
    try:
        yield
    finally:
        timer.cancel()
        if halts:
            await asyncio.gather(*halts, return_exceptions=True)
            await _usable_again(teams)


async def _halted(teams: Sequence[BaseGroupChat]) -> None:
    _shut(teams)
    for team in teams:
        for task in _runtime(team)._background_tasks:
            task.cancel()
    await _emptied(teams)


def _shut(teams: Sequence[BaseGroupChat]) -> None:
    for team in teams:
        if (context := _runtime(team)._run_context) is not None:
            context._stopped.set()  # or it would turn in circles at the queue that is shut down
            _runtime(team)._message_queue.shutdown(immediate=True)


async def _emptied(teams: Sequence[BaseGroupChat]) -> None:
    for team in reversed(teams):  # the innermost first: who runs a team waits for its queue
        await asyncio.gather(*_runtime(team)._background_tasks, return_exceptions=True)
        # A message whose task was cancelled before its first step is never counted as done, and is waited for.
        queue = _runtime(team)._message_queue
        queue._unfinished_tasks = 0
        queue._finished.set()


async def _usable_again(teams: Sequence[BaseGroupChat]) -> None:
    for team in teams:
        await _stopped(_runtime(team))
        _tidy_up(team)


async def _stopped(runtime: Any) -> None:
    """Stop a runtime that its team, cancelled itself, has not stopped."""
    if runtime._run_context is not None:
        running = runtime._run_context._run_task
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        runtime._run_context = None
        runtime._message_queue = type(runtime._message_queue)()


def _tidy_up(team: BaseGroupChat) -> None:
    """As it is after a run that came to its end: what was said stays, and nobody is about to speak."""
    runtime = _runtime(team)
    runtime._background_exception = None
    for agent in runtime._instantiated_agents.values():
        lock = getattr(agent, "_fifo_lock", None)
        if lock is not None:
            # A lock whose next holder was cancelled would be held for ever.
            agent._fifo_lock = type(lock)()
        speakers = getattr(agent, "_active_speakers", None)
        if isinstance(speakers, list):
            if isinstance(agent, GraphFlowManager):
                # A graph has taken them off its list of who is to speak, and without them would be done.
                names = [name for name in cast("list[str]", speakers) if name not in agent._ready]
                agent._ready.extendleft(reversed(names))
            speakers.clear()


@contextmanager
def on_this_loop(teams: Sequence[BaseGroupChat]) -> Generator[None]:
    """Have teams' queues, which are empty between runs, usable on this loop, and afterwards on any other."""
    _unbind(teams)
    try:
        yield
    finally:
        _unbind(teams)


def _unbind(teams: Sequence[BaseGroupChat]) -> None:
    for team in teams:
        cast(Any, team)._output_message_queue._loop = None


def _runtime(team: BaseGroupChat) -> Any:
    return cast(Any, team)._runtime
