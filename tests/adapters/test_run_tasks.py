"""The tasks that a run began are ended with it, and nobody else's."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from crew_guard.adapters import run_tasks
from crew_guard.adapters.run_tasks import noting, with_its_tasks


class OwnTask(asyncio.Task[Any]):
    """What a user's task factory makes."""


def own_tasks(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
    return OwnTask(work, loop=loop, **options)


class Left:
    """What ran, and how it ended."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.tasks: list[asyncio.Task[Any]] = []

    def begin(self, name: str, context: contextvars.Context | None = None) -> asyncio.Task[Any]:
        task = asyncio.create_task(self._wait(name), context=context)
        self.tasks.append(task)
        return task

    async def _wait(self, name: str) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.ended.append(name)
            raise


def on_a_loop(main: Callable[[], Coroutine[Any, Any, None]], factory: Callable[..., Any] | None = None) -> None:
    """Run on a user's loop, whose tasks are noted."""

    async def noted() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(factory)
        with noting(loop):
            await main()
        assert loop.get_task_factory() is factory

    asyncio.run(noted())


async def turn() -> None:
    """Let what was begun begin."""
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.mark.parametrize("factory", [None, own_tasks])
def test_what_a_run_leaves_behind_is_ended_with_it(factory: Callable[..., Any] | None) -> None:
    """Tasks of tasks as well, whoever makes them; what others have begun goes on."""
    left = Left()

    async def nested() -> None:
        left.begin("nested")

    async def work() -> str:
        left.begin("own")
        left.begin("in no context", contextvars.Context())
        await asyncio.create_task(nested())
        await turn()
        return "done"

    async def main() -> None:
        theirs = left.begin("theirs")
        assert await with_its_tasks(work) == "done"
        assert sorted(left.ended) == ["in no context", "nested", "own"]
        assert not theirs.done()
        theirs.cancel()

    on_a_loop(main, factory)


def test_another_ones_task_that_a_run_waits_for_goes_on() -> None:
    """Only who began it counts."""
    left = Left()

    async def main() -> None:
        theirs = left.begin("theirs")

        async def work() -> None:
            theirs.add_done_callback(lambda _: None)
            asyncio.create_task(_waits_for(theirs))  # noqa: RUF006  it is to be found
            await turn()

        await with_its_tasks(work)
        assert not theirs.done()
        theirs.cancel()

    on_a_loop(main)


async def _waits_for(task: asyncio.Task[Any]) -> None:
    await asyncio.shield(task)


def test_a_runs_task_that_another_one_waits_for_is_ended() -> None:
    """The same the other way round."""
    left = Left()

    async def main() -> None:
        async def work() -> None:
            own = left.begin("own")
            contextvars.Context().run(own.add_done_callback, lambda _: None)
            await turn()

        await with_its_tasks(work)
        assert left.ended == ["own"]

    on_a_loop(main)


def test_runs_side_by_side_end_their_own() -> None:
    """Each has a mark of its own, though they share a loop."""
    left = Left()

    async def main() -> None:
        both_begun, first_over = asyncio.Barrier(2), asyncio.Event()

        async def work(name: str) -> None:
            left.begin(name)
            await both_begun.wait()
            if name == "second":
                await first_over.wait()

        second = asyncio.create_task(with_its_tasks(lambda: work("second")))
        await with_its_tasks(lambda: work("first"))
        assert left.ended == ["first"]
        first_over.set()
        await second
        assert left.ended == ["first", "second"]

    on_a_loop(main)


def test_a_run_within_a_run_leaves_the_outer_ones_tasks() -> None:
    """They are ended later, with the outer one."""
    left = Left()

    async def main() -> None:
        async def inner() -> None:
            left.begin("inner")
            await turn()

        async def outer() -> None:
            left.begin("outer")
            await with_its_tasks(inner)
            assert left.ended == ["inner"]

        await with_its_tasks(outer)
        assert left.ended == ["inner", "outer"]

    on_a_loop(main)


@pytest.mark.parametrize("stopped", [False, True])
def test_at_home_only_work_that_did_not_come_to_its_end_is_cleared_away(stopped: bool) -> None:
    """What it opened may be what its user goes on with."""
    left = Left()

    async def main() -> None:
        async def work() -> None:
            left.begin("own")
            await turn()
            if stopped:
                raise ValueError("no")

        if stopped:
            with pytest.raises(ValueError, match="no"):
                await with_its_tasks(work, at_home=True)
        else:
            await with_its_tasks(work, at_home=True)
        assert left.ended == (["own"] if stopped else [])
        for task in left.tasks:
            task.cancel()

    on_a_loop(main)


def test_tasks_that_are_over_are_not_kept() -> None:
    """However many a run begins."""
    kept: list[int] = []

    async def work() -> None:
        for _ in range(1_000):
            await asyncio.create_task(asyncio.sleep(0))
        kept.append(len(run_tasks._tasks_of_run.get() or ()))  # pyright: ignore[reportPrivateUsage]

    on_a_loop(lambda: with_its_tasks(work))
    assert kept[0] <= 1
