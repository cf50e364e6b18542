"""When something is on disk: a future of one value, without the locks of concurrent.futures.

One is made for each event that somebody waits for. What its methods do to its list is atomic under the
interpreter's lock: whoever takes a callback out of the list calls it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Flush:
    """Done once, by the writer; waited for from any thread. A Flushed of ports."""

    __slots__ = ("_callbacks", "_done", "_error")

    def __init__(self) -> None:
        self._done = False
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Any], object]] = []

    def done(self) -> bool:
        """Whether it is on disk, or known not to be."""
        return self._done

    def finish(self, error: BaseException | None = None) -> None:
        """Say that it is on disk, or why it isn't. Once."""
        self._error = error
        self._done = True
        while self._callbacks:
            try:
                callback = self._callbacks.pop(0)
            except IndexError:  # the one who added it saw that this is done
                break
            callback(self)

    def add_done_callback(self, callback: Callable[[Any], object], /) -> None:
        """Call this when it is done: on the writer's thread, or here where it is done already."""
        self._callbacks.append(callback)
        if self._done:
            try:
                self._callbacks.remove(callback)
            except ValueError:  # the writer took it
                return
            callback(self)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait at most this many seconds; why it isn't on disk, or None.

        Raises:
            TimeoutError: it is not done yet
        """
        if not self._done:
            woken = threading.Event()
            self.add_done_callback(lambda _: woken.set())
            if not woken.wait(timeout):
                raise TimeoutError
        return self._error

    def result(self, timeout: float | None = None) -> None:
        """The same, raising what is wrong."""
        if error := self.exception(timeout):
            raise error


def failed(error: BaseException) -> Flush:
    """One that is done, and isn't on disk."""
    flush = Flush()
    flush.finish(error)
    return flush


ON_DISK = Flush()
"""For what has nothing to wait for."""
ON_DISK.finish()
