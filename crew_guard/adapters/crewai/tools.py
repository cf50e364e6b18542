"""CrewAI's tools under the gate: every execution that starts was admitted.

CrewAI runs a failing tool up to six times for one request, and answers some requests from its
cache or with a limit's message: what is gated is the tool's own function, so each start counts once.
A method may call those of its bases, and `_arun` what `run` does: the way through them is one execution, and
what is entered on it a second time, by whichever thread, is another.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any, TypeVar

from crewai.tools.base_tool import BaseTool, Tool

from crew_guard.adapters.crewai.families import ensure_gated
from crew_guard.adapters.crewai.inside import part_of, refuse_late_work
from crew_guard.adapters.hosted import RESULT_CHARS, RunNotes, json_of, looking, tool_failure
from crew_guard.adapters.stand_in import is_stand_in, own_value, seam_of, shown, stand_in
from crew_guard.adapters.taming import tamed
from crew_guard.adapters.tool_time import in_time, in_time_blocking
from crew_guard.core.actions import Grant, Outcome, ToolCall
from crew_guard.core.content import Check, withheld
from crew_guard.core.plain import error_text
from crew_guard.ports import Gate

PASSING_ON = (BaseTool, Tool)
"""CrewAI's own classes: their methods check the arguments and hand them on to what does the work."""


@dataclass(slots=True, eq=False)
class _Execution:
    """One execution under way."""

    tool: object
    ways: dict[object, object]
    """By the methods that led to it, those of its class and its bases: who entered each first."""

    def enters(self, method: object) -> bool:
        """Whether a method is entered for the first time, of all threads that work for it."""
        me = object()
        return self.ways.setdefault(method, me) is me


_running: ContextVar[_Execution | None] = ContextVar("crew_guard_running_tool", default=None)
T = TypeVar("T", bound=BaseTool)


def gated_tool(tool: T, agent: str, gate: Gate, notes: RunNotes) -> T:
    """A tool that CrewAI takes for the user's own."""
    ensure_gated(type(tool))
    return stand_in(tool, _ToolSeam(agent, gate, notes, tool.name, _positions(tool)), _methods)


@dataclass(frozen=True, slots=True)
class _ToolSeam:
    agent: str
    gate: Gate
    notes: RunNotes
    tool: str
    positions: tuple[str, ...]
    """Names of the arguments that may be given by position: rules know them by name."""
    functions: dict[int, tuple[object, Callable[..., Any]]] = field(default_factory=dict[int, Any])
    """By the id of a user's function: itself, and the same gated."""

    def action(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> ToolCall:
        self.notes.unanswered = False
        given = dict(kwargs)
        if args:
            given |= zip(self.positions, args, strict=False)
        if len(args) > len(self.positions):
            given["args"] = args[len(self.positions) :]
        refuse_late_work()
        return ToolCall(self.agent, self.tool, json_of(given), parent=part_of.get())

    def settle(self, grant: Grant, result: object) -> None:
        self.gate.settle(grant, Outcome("ok", text=str(result)[:RESULT_CHARS]))

    def seen(self, check: Check, result: object) -> object:
        """What the agent may read of a result."""
        if check.outcome == "pass":
            return result
        return check.value if check.outcome == "fix" else withheld(self.tool, check)

    def told(self, check: Check, error: BaseException) -> BaseException:
        """What the agent may read of an error: CrewAI tells it the text."""
        return error if check.outcome == "pass" else RuntimeError(str(self.seen(check, "")))

    def fail(self, grant: Grant, error: BaseException) -> None:
        self.gate.settle(grant, tool_failure(error))

    def checked(self, grant: Grant, result: object) -> object:
        """A check, in a thread: what the agent may read."""
        with looking(self.gate, grant):
            return self.seen(self.gate.check_blocking("tool_results", self.agent, self.tool, result), result)

    async def checked_async(self, grant: Grant, result: object) -> object:
        """The same on a loop."""
        with looking(self.gate, grant):
            return self.seen(await self.gate.check("tool_results", self.agent, self.tool, result), result)


def _is_part(tool: object, method: object) -> bool:
    """Whether a method of a tool is what its execution under way does, and not another execution of it."""
    running = _running.get()
    return running is not None and running.tool is tool and running.enters(method)


def _seam(tool: object) -> _ToolSeam | None:
    """What a tool was gated with; None where it is the user's own."""
    return seam_of(tool) if is_stand_in(tool) else None


def _positions(tool: BaseTool) -> tuple[str, ...]:
    work: Callable[..., Any] = tool.func if isinstance(tool, Tool) else tool._run  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    parameters = inspect.signature(work).parameters.values()
    return tuple(each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD))


def _methods(kind: Any) -> dict[str, Any]:
    """What a stand-in of this class overrides: its methods are gated in the classes that have them."""
    return shown(("func",), _gated_function) if issubclass(kind, PASSING_ON[1]) else {}


def _gated_function(tool: Any, name: str) -> Any:
    """The function of a tool that is one."""
    seam: _ToolSeam = seam_of(tool)
    value = own_value(tool, name)
    known = seam.functions.get(id(value))
    if known is None:

        def function(_: Any, *args: Any, **kwargs: Any) -> Any:
            return value(*args, **kwargs)

        known = seam.functions[id(value)] = value, gated(function, like=value)
    return partial(known[1], tool)


def gated(function: Callable[..., Any], like: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """A method that does a tool's work: of a gated tool it is admitted, of others it is as it was.

    Args:
        like: what has its name and signature, where it is called through another function
    """
    if inspect.iscoroutinefunction(like or function):

        @wraps(like or function)
        async def call_async(tool: Any, *args: Any, **kwargs: Any) -> Any:
            seam = _seam(tool)
            if seam is None or _is_part(tool, function):
                return await function(tool, *args, **kwargs)
            grant = await seam.gate.admit(seam.action(args, kwargs))
            return await _finished(function(tool, *args, **kwargs), _begun(tool, function), seam, grant)

        return call_async

    @wraps(like or function)
    def call(tool: Any, *args: Any, **kwargs: Any) -> Any:
        seam = _seam(tool)
        if seam is None or _is_part(tool, function):
            return function(tool, *args, **kwargs)
        grant = seam.gate.admit_blocking(seam.action(args, kwargs))
        execution = _begun(tool, function)
        token, inside = _running.set(execution), part_of.set(grant.action_id)
        try:
            with tamed():
                result = in_time_blocking(seam.gate, grant, partial(function, tool, *args, **kwargs))
        except Exception as error:
            with looking(seam.gate, grant):
                told = seam.told(
                    seam.gate.check_blocking("tool_results", seam.agent, seam.tool, error_text(error)), error
                )
            seam.fail(grant, told)
            if told is error:
                raise
            raise told from None
        except BaseException as error:
            seam.fail(grant, error)
            raise
        finally:
            _running.reset(token)
            part_of.reset(inside)
        if inspect.isawaitable(result):
            return _finished(result, execution, seam, grant)
        result = seam.checked(grant, result)
        seam.settle(grant, result)
        return result

    return call


def _begun(tool: object, method: object) -> _Execution:
    return _Execution(tool, {method: None})


async def _finished(work: Awaitable[Any], execution: _Execution, seam: _ToolSeam, grant: Grant) -> Any:
    token, inside = _running.set(execution), part_of.set(grant.action_id)
    try:
        with tamed():
            result = await in_time(grant, work, gate=seam.gate)
    except Exception as error:
        with looking(seam.gate, grant):
            told = seam.told(await seam.gate.check("tool_results", seam.agent, seam.tool, error_text(error)), error)
        seam.fail(grant, told)
        if told is error:
            raise
        raise told from None
    except BaseException as error:
        seam.fail(grant, error)
        raise
    finally:
        _running.reset(token)
        part_of.reset(inside)
    result = await seam.checked_async(grant, result)
    seam.settle(grant, result)
    return result
