"""A run as a stream of its items: read it with `for` or with `async for`, and ask for its result.

The reader owns the run: when the loop over it is left early, however it is left, the run is ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from crew_guard.core.events import RunEnded
from crew_guard.core.result import Result
from crew_guard.core.stream import Missed, StreamItem
from crew_guard.errors import CrewGuardError, StoreError
from crew_guard.loops import works_here
from crew_guard.ports import Flushed
from crew_guard.promises import Promise
from crew_guard.supervisor.buffer import Buffer, Gap
from crew_guard.supervisor.life import Job
from crew_guard.supervisor.running import Running
from crew_guard.supervisor.wakeups import done

_GONE = "the reader of its stream went away"
_UNTIL_WRITTEN = 30.0
"""Seconds that a reader who is far behind waits for the journal to be written."""
_DONE: Promise[None] = Promise()
_DONE.set_result(None)


def open_stream(job: Job, begin: Callable[[Job], Running]) -> RunStream:
    """Start a run, and keep what happens in it for a reader."""
    buffer = Buffer()
    running = begin(replace(job, buffer=buffer))
    running.future.add_done_callback(lambda _: buffer.close())
    return RunStream(_Reader(running, buffer))


def this_loop() -> asyncio.AbstractEventLoop:
    """The loop that the caller runs on.

    Raises:
        CrewGuardError: there is none
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise CrewGuardError("astream() is for async code; where no event loop runs, use stream()") from None


class RunStream:
    """A run under way, item by item, in the order of its journal; the last one is RunEnded.

    For one reader. `with` or `async with` ends the run on the way out, and waits until its record is
    whole; without it, a loop that is left early, or a stream that nobody holds any more, ends the run
    too, and waits for nothing.
    """

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader

    @property
    def run_id(self) -> str:
        """The run's id, for its journal."""
        return self._reader.running.life.job.run_id

    def when_over(self, told: Callable[[Promise[Result]], object]) -> None:
        """Call this with the result's future when the run has ended, whoever still reads; on any thread."""
        self._reader.running.future.add_done_callback(told)

    @property
    def is_ending(self) -> Callable[[], bool]:
        """What to ask whether its run is being ended, its reader gone say; it holds no stream, which would keep it."""
        return self._reader.is_ending

    @property
    def result(self) -> Result:
        """How the run ended.

        Raises:
            CrewGuardError: it is under way
            StoreError: its journal could not be written
        """
        return self._reader.result()

    def __iter__(self) -> Iterator[StreamItem]:
        """Read on, blocking where nothing happens. Works where an event loop runs, as in a notebook.

        Raises:
            StoreError: the journal can't be written
        """
        return _Items(self, self._reader)

    def __aiter__(self) -> AsyncIterator[StreamItem]:
        """The same for async code."""
        return _AsyncItems(self, self._reader)

    def close(self) -> None:
        """End the run if it is under way, and wait up to two seconds until its record is whole."""
        self._reader.close()

    async def aclose(self) -> None:
        """The same from async code."""
        if not self._reader.is_settled:
            await asyncio.to_thread(self._reader.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        self._reader.drop()


class _Items:
    """Keeps the stream; whoever lets go of this one early has left the loop."""

    def __init__(self, stream: RunStream, reader: _Reader) -> None:
        self._stream = stream
        self._reader = reader

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> StreamItem:
        item = self._reader.next()
        if item is None:
            raise StopIteration
        return item

    def __del__(self) -> None:
        self._reader.drop()


class _AsyncItems:
    """The same for `async for`."""

    def __init__(self, stream: RunStream, reader: _Reader) -> None:
        self._stream = stream
        self._reader = reader

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Coroutine[Any, Any, StreamItem]:
        # No frame of a cancelled wait may hold this object: its traceback would keep the run alive.
        return self._reader.anext()

    def __del__(self) -> None:
        self._reader.drop()


class _Reader:
    """Takes a run's items from its buffer, and from its journal what the buffer let go of."""

    def __init__(self, running: Running, buffer: Buffer) -> None:
        self.running = running
        self.over = False
        """All is read, or nobody reads any more."""
        self._buffer = buffer
        self._result: Result | None = None
        self._reread: Iterator[StreamItem] = iter(())

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing left to wait for."""
        return self._result is not None or self.running.future.done()

    def is_ending(self) -> bool:
        return self.over or self.running.is_ending

    def result(self) -> Result:
        if self._result is None:
            future = self.running.future
            if not future.done():
                raise CrewGuardError("the run is under way: its result is there once the stream is read to its end")
            self._result = future.result()
        return self._result

    def next(self) -> StreamItem | None:
        """The next item; None where there are no more."""
        if self.running.engine.owns_this_thread() or works_here() or self._would_wait_for_itself():
            self.close()
            raise CrewGuardError("a stream was read with `for` on the loop that its run works on: use `async for`")
        try:
            while not self.over:
                closed, item = self._buffer.closed, self._look()
                if isinstance(item, Gap):
                    with suppress(TimeoutError):
                        self._written().exception(_UNTIL_WRITTEN)
                    self._reread = self._from_journal(item)
                elif isinstance(item, RunEnded) or (item is None and closed):
                    self.over = True
                    self._result = self._result or self.running.wait()
                    return item
                elif item is not None:
                    return item
                else:
                    self._buffer.wait(self.running.nap)
                    self._result = self._result or self.running.overdue()
        except (KeyboardInterrupt, SystemExit):
            self.close()
            raise
        return None

    def _would_wait_for_itself(self) -> bool:
        with suppress(RuntimeError):
            return self.running.life.job.home is asyncio.get_running_loop()
        return False

    async def anext(self) -> StreamItem:
        """The same for async code, with StopAsyncIteration at the end. Cancelled, it may be asked again."""
        while not self.over:
            closed, item = self._buffer.closed, self._look()
            if isinstance(item, Gap):
                with suppress(TimeoutError):
                    await asyncio.wait_for(done(self._written()), _UNTIL_WRITTEN)
                self._reread = self._from_journal(item)
            elif isinstance(item, RunEnded) or (item is None and closed):
                self.over = True
                self._result = self._result or await self.running.result()
                if item is not None:
                    return item
            elif item is not None:
                return item
            else:
                await asyncio.wait({self._news()}, timeout=self.running.patience)
                self._result = self._result or self.running.overdue()
        raise StopAsyncIteration

    def close(self) -> None:
        """End the run where it is not over, and give it a moment."""
        self.over = self._buffer.abandoned = True
        if self.is_settled:
            return
        if self.running.engine.owns_this_thread():
            self.running.interrupt(_GONE)
        else:
            self.running.leave(_GONE)

    def drop(self) -> None:
        """End the run where it is not over, from the garbage collector: any thread, any moment, no lock."""
        if not self.over:
            self.over = self._buffer.abandoned = True
            with suppress(RuntimeError):
                self.running.engine.loop.call_soon_threadsafe(self.running.interrupt, _GONE)

    def _look(self) -> StreamItem | Gap | None:
        item = next(self._reread, None)
        return self._buffer.take() if item is None else item

    def _news(self) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        news: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            with suppress(RuntimeError):  # its loop is closed: that reader is gone
                loop.call_soon_threadsafe(_release, news)

        self._buffer.on_news(wake)
        return news

    def _written(self) -> Flushed:
        """Done when the journal holds all that was recorded so far."""
        job = self.running.life.job
        return _DONE if self.running.future.done() else job.store.append(job.run_id, ())

    def _from_journal(self, gap: Gap) -> Iterator[StreamItem]:
        missing = gap.last - gap.first + 1
        job = self.running.life.job
        with suppress(StoreError):
            for event in job.store.read(job.run_id):
                if event.seq > gap.last:
                    break
                if event.seq >= gap.first:
                    missing -= 1
                    yield event
        if missing:
            yield Missed(missing)


def _release(news: asyncio.Future[None]) -> None:
    if not news.done():
        news.set_result(None)
