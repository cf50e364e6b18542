"""A future of one value, from one thread to another, without the locks of concurrent.futures.

One is made for each run, and for each event that somebody waits for. What its methods do to its list is atomic
under the interpreter's lock: whoever takes a callback out of the list calls it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar, cast

from loguru import logger

from crew_guard.alarms import Alarm

T = TypeVar("T")


class Promise(Generic[T]):
    """Kept or broken once, by one thread; waited for from any."""

    __slots__ = ("_callbacks", "_done", "_error", "_value")

    def __init__(self) -> None:
        self._done = False
        self._error: BaseException | None = None
        self._value: T | None = None
        self._callbacks: list[Callable[[Any], object]] = []

    def done(self) -> bool:
        """Whether it is kept, or known not to be."""
        return self._done

    def set_result(self, value: T) -> None:
        """Keep it. Once."""
        self._value = value
        self._tell()

    def set_exception(self, error: BaseException) -> None:
        """Break it. Once."""
        self._error = error
        self._tell()

    def _tell(self) -> None:
        self._done = True
        while self._callbacks:
            try:
                callback = self._callbacks.pop(0)
            except IndexError:  # the one who added it saw that this is done
                break
            _call(callback, self)

    def add_done_callback(self, callback: Callable[[Any], object], /) -> None:
        """Call this when it is done: on the thread that keeps it, or here where it is done already."""
        self._callbacks.append(callback)
        if self._done:
            try:
                self._callbacks.remove(callback)
            except ValueError:  # the other thread took it
                return
            _call(callback, self)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait at most this many seconds; why it was broken, or None.

        Raises:
            TimeoutError: it is not done yet
        """
        if not self._done:
            alarm = Alarm()
            wake = alarm.ring
            try:
                self.add_done_callback(wake)
                if not alarm.wait(timeout):
                    raise TimeoutError
            finally:
                with suppress(ValueError):  # it was called, or is just now
                    self._callbacks.remove(wake)
        return self._error

    def result(self, timeout: float | None = None) -> T:
        """The same for its value; raises what is wrong."""
        if error := self.exception(timeout):
            raise error
        return cast("T", self._value)


def _call(callback: Callable[[Any], object], promise: Promise[Any]) -> None:
    try:
        callback(promise)
    except Exception as error:  # noqa: BLE001  those after it are told as well
        logger.opt(exception=error).error("what was to be told of a run's end raised")
