"""What a host's tool may raise that would end more than its own execution: the process, a loop, a thread's waiter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from crew_guard.core.plain import error_words
from crew_guard.errors import RuntimeFailedError
from crew_guard.loops import is_being_cancelled


class ToolExitError(RuntimeFailedError):
    """A tool raised what is no failure of a tool, a SystemExit say. Its text is for the agent."""


class tamed:  # noqa: N801  used as a function
    """While a tool works, whatever it raises is an error like any other.

    So is a CancelledError where nobody cancels this, and a StopIteration, which no future takes from a thread.

    Args:
        is_ended: whether a CancelledError that comes out was meant for who calls the tool
    Raises:
        ToolExitError: in place of what is no Exception, or a StopIteration
    """

    __slots__ = ("_is_ended",)

    def __init__(self, is_ended: Callable[[], bool] = is_being_cancelled) -> None:
        self._is_ended = is_ended

    def __enter__(self) -> None: ...

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        match error:
            case None | GeneratorExit():
                return
            case asyncio.CancelledError():
                passes = self._is_ended()
            case _:
                passes = isinstance(error, Exception) and not isinstance(error, StopIteration)
        if not passes:
            raise ToolExitError(f"raised {error_words(error)}") from error
