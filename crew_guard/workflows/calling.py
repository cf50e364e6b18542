"""Calling what users wrote: sync or async, with as many of the arguments as it takes."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, ParamSpec, TypeAlias, TypeVar, cast

from crew_guard.core.plain import MOST_ITEMS, error_words, listed
from crew_guard.errors import RuntimeFailedError
from crew_guard.loops import is_being_cancelled
from crew_guard.threads import in_thread

T = TypeVar("T")
P = ParamSpec("P")
Begins: TypeAlias = Callable[[], Callable[[], object]]
"""Names something that goes on from now; gives what is called when it is over."""
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


async def call(function: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """What a function gives. One that may block runs beside the loop, so that other runs go on meanwhile.

    Raises:
        RuntimeFailedError: it would end the process, or the loop that all runs share
    """
    return await contained(_called, function, *given, **named)


async def contained(function: Callable[P, Awaitable[T]], *given: P.args, **named: P.kwargs) -> T:
    """What a coroutine function gives. What asyncio would let end the loop itself, a SystemExit say, is an error.

    So is a CancelledError where nobody cancels this: something that it waited for was, a closed pool's task say.

    Raises:
        RuntimeFailedError: it would end the process, or the loop that all runs share, or be taken for the run's end
    """
    try:
        return await function(*given, **named)
    except (Exception, GeneratorExit):
        raise
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
            raise
        raise RuntimeFailedError(f"raised {error_words(error)}") from error


def what_was_raised(error: Exception) -> BaseException:
    """What a user's code raised, without the error that `contained` made of it."""
    return error.__cause__ or error if isinstance(error, RuntimeFailedError) else error


async def _called(function: Callable[..., Any], *given: Any, **named: Any) -> Any:
    if is_async(function):
        return await function(*given, **named)
    made = await beside_the_loop(lambda: function(*given, **named))
    return await made if inspect.isawaitable(made) else made


def is_async(function: Callable[..., Any]) -> bool:
    """Whether it gives a coroutine, and so doesn't block."""
    own = getattr(function, "__call__", None)  # noqa: B004  an object that is called, not whether it may be
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(own)


async def settled(made: Any) -> Any:
    """What a node gave as it is handed on: an iterator, sync or async, as the list of what it gives."""
    if isinstance(made, AsyncIterator):
        found: list[Any] = []
        async for each in cast("AsyncIterator[Any]", made):
            found.append(each)
            if len(found) > MOST_ITEMS:
                raise ValueError(f"it gives more than {MOST_ITEMS:,} items: give a list, or fewer")
        return found
    return await call(listed, made) if isinstance(made, Iterator) else made


async def beside_the_loop(function: Callable[[], T]) -> T:
    """What a function that may block gives, or raises. If the caller is cancelled, its thread is left behind."""

    def outcome() -> tuple[T | None, BaseException | None]:
        try:
            return function(), None
        except BaseException as error:  # noqa: BLE001  it is raised where it is awaited
            return None, error

    value, error = await in_thread(outcome)
    if error is not None:
        raise error
    return cast("T", value)


def named_while_on(function: Callable[..., Any], begins: Begins) -> Callable[..., Any]:
    """The function, as something that is named while it goes on, e.g. in a thread that is left behind.

    Args:
        begins: called when it begins; see Gate.in_thread
    """
    if is_async(function):

        async def awaited(*given: Any, **more: Any) -> Any:
            over = begins()
            try:
                return await function(*given, **more)
            finally:
                over()

        return awaited

    def blocking(*given: Any, **more: Any) -> Any:
        over = begins()
        try:
            return function(*given, **more)
        finally:
            over()

    return blocking


async def call_with(function: Callable[..., Any], value: Any, more: Any, begins: Begins) -> Any:
    """The same for one that takes a value and, where it has a second parameter, more. See `named_while_on`."""
    return await call(named_while_on(function, begins), *((value, more) if takes_two(function) else (value,)))


def takes_two(function: Callable[..., Any]) -> bool:
    """Whether it has a second parameter without a default of its own."""
    try:
        given = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # built-in functions
        return False
    needed = [each for each in given if each.kind in _POSITIONAL and each.default is each.empty]
    return len(needed) > 1 or any(each.kind is each.VAR_POSITIONAL for each in given)
