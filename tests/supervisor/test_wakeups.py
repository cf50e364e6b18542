"""Waiting on a loop for another thread's futures."""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import Future
from contextvars import ContextVar

import pytest

from crew_guard.promises import Promise
from crew_guard.supervisor.loop import EngineLoop
from crew_guard.supervisor.wakeups import done, rung_together


def resolve_all(futures: list[Future[None]]) -> threading.Thread:
    """Resolve them from a thread of its own."""

    def work() -> None:
        for number, future in enumerate(futures):
            if number % 2:
                future.set_exception(ValueError("odd"))
            else:
                future.set_result(None)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_everyone_is_woken_however_their_future_ended():
    """A thousand waiters, resolved together by a thread while the loop is busy waiting."""
    futures: list[Future[None]] = [Future() for _ in range(1_000)]

    async def main() -> int:
        waiting = [asyncio.ensure_future(done(future)) for future in futures]
        await asyncio.sleep(0)
        thread = resolve_all(futures)
        await asyncio.wait_for(asyncio.gather(*waiting), 10)
        thread.join()
        return sum(future.done() for future in futures)

    assert asyncio.run(main()) == 1_000


def test_what_finishes_together_wakes_the_loop_once():
    """However many futures a thread resolves before the loop turns."""
    futures: list[Future[None]] = [Future() for _ in range(50)]
    wakes: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        original = loop.call_soon_threadsafe
        loop.call_soon_threadsafe = lambda *args, **more: (wakes.append(1), original(*args, **more))[1]
        waiting = [asyncio.ensure_future(done(future)) for future in futures]
        await asyncio.sleep(0)
        resolve_all(futures).join()
        await asyncio.gather(*waiting)

    asyncio.run(main())
    assert wakes == [1]


def test_a_waiter_that_was_cancelled_leaves_the_future_alone():
    """The store goes on, and its future can be waited for again."""
    future: Future[None] = Future()

    async def main() -> None:
        waiting = asyncio.ensure_future(done(future))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        again = asyncio.ensure_future(done(future))
        await asyncio.sleep(0)
        future.set_result(None)
        await asyncio.wait_for(again, 10)

    asyncio.run(main())
    assert future.done()


def test_a_loop_that_is_gone_is_nobodys_trouble(caplog: pytest.LogCaptureFixture):
    """A future that is resolved after its waiter's loop was closed."""
    future: Future[None] = Future()
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(done(future))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    future.set_result(None)
    assert not caplog.records
    waiting.get_coro().close()  # type: ignore[union-attr]
    del waiting
    gc.collect()


TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


def test_what_is_handed_to_the_loop_runs_in_the_context_of_who_handed_it_over():
    """Also where several come before the loop has looked."""
    engine, busy, found = EngineLoop(), threading.Event(), {}
    engine.loop.call_soon_threadsafe(busy.wait, 30)

    async def tenant() -> str:
        return TENANT.get()

    def hand_over(name: str) -> None:
        TENANT.set(name)
        found[name] = engine.submit(tenant())

    for name in ("ann", "bob"):
        thread = threading.Thread(target=hand_over, args=(name,))
        thread.start()
        thread.join(30)
    busy.set()
    assert {name: one.result(30) for name, one in found.items()} == {"ann": "ann", "bob": "bob"}


def test_what_rings_together_may_stand_within_what_does():
    """Both wake who waits, once, at the outer end."""
    promises = [Promise[int](), Promise[int](), Promise[int]()]

    async def main() -> None:
        waiting = [asyncio.ensure_future(done(one)) for one in promises]
        await asyncio.sleep(0)
        with rung_together():
            promises[0].set_result(1)
            with rung_together():
                promises[1].set_result(2)
            promises[2].set_result(3)
        await asyncio.wait_for(asyncio.gather(*waiting), 10)

    asyncio.run(main())
