"""LangChain's tools under the gate: what is gated is a tool's own work, after its arguments were found to fit.

A refusal of one tool is told to the agent that asked for it, as the tool's message; any other ends the graph.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, cast

from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, ToolException
from langgraph.errors import GraphBubbleUp, GraphInterrupt
from langgraph.types import Command
from msgspec import Struct

from crew_guard.adapters.hosted import RESULT_CHARS, json_of, tool_failure
from crew_guard.adapters.langgraph.like import like
from crew_guard.adapters.langgraph.scope import Scope, in_graph, inside_tool
from crew_guard.adapters.stand_in import is_stand_in, seam_of, stand_in
from crew_guard.adapters.taming import tamed
from crew_guard.adapters.tool_time import ToolOverdueError, in_time, in_time_blocking
from crew_guard.adapters.way import Entry, Given, Way
from crew_guard.core.actions import Grant, Outcome, ToolCall
from crew_guard.core.content import Check, withheld
from crew_guard.errors import RefusedError


class Execution(Struct, eq=False):
    """One run of a tool: what its stand-in needs."""

    tool: BaseTool
    """The user's own."""
    scope: Scope
    action: ToolCall
    pair: bool
    """Whether the tool gives content and artifact."""
    way: Way
    grant: Grant | None = None


class OverdueInGraphError(ToolException):
    """A tool did not end in time: a failed tool to LangChain, whose own handle_tool_error is for it, too."""

    def __init__(self, error: ToolOverdueError, execution: Execution) -> None:
        super().__init__(str(error))
        self.execution = execution


def gated(
    tool: BaseTool,
    scope: Scope,
    method: Callable[..., Any],
    given: Any,
    *,
    config: Mapping[str, Any] | None,
    request: str | None,
) -> Any:
    """A tool that LangChain takes for the user's own, for one run of it.

    Args:
        method: what is called
        given: its arguments, as they were asked for
        config: LangChain's, of the call
        request: the id of the model's request; None where code runs the tool
    """
    around: Execution | None = seam_of(tool) if is_stand_in(tool) else None
    kept: Given = ((), dict(cast(dict[str, Any], given))) if isinstance(given, dict) else ((given,), {})
    entry = Entry(method.__name__, method, kept, partial(_parsed, tool, kept, request))
    if around is not None:
        if around.way.leads_to(entry):
            return tool
        tool = around.tool
    way = Way(entry) if around is None else around.way.another(entry)
    known = _asked(tool, scope, cast(dict[str, Any], given)) if isinstance(given, dict) else {"input": given}
    metadata = (config or {}).get("metadata")
    agent = scope.asker(request) or (around.action.agent if around else scope.actor(metadata or None))
    action = ToolCall(agent, tool.name, json_of(known), parent=inside_tool.get())
    pair = tool.response_format == "content_and_artifact"
    return stand_in(tool, Execution(tool, scope, action, pair, way), _methods)


def _asked(tool: BaseTool, scope: Scope, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments that a model has written: LangChain adds others, and takes its time to tell them apart."""
    key = (id(tool), *given)
    known = scope.written.get(key)
    if known is None:
        written = cast(Any, tool)._filter_injected_args(given)  # noqa: SLF001
        known = scope.written[key] = (tool, frozenset(written))
    return {name: value for name, value in given.items() if name in known[1]}


def _parsed(tool: BaseTool, given: Given, request: str | None) -> Mapping[str, Any]:
    """What the tool's schema, and its method, make of its arguments: a text alone is the first of them."""
    named: Any = dict(zip(tool.args, given[0], strict=False)) | dict(given[1])
    parsed: Any = tool._parse_input(named, request)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    bound = inspect.signature(tool._run).bind_partial(**parsed)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    bound.apply_defaults()
    return bound.arguments


def goes_on(error: RefusedError, request: str | None) -> bool:
    """Whether an agent may go on after a refusal: only a tool is closed, and a model has asked for it."""
    return request is not None and error.stop.scope.startswith("tool:")


def told(tool: BaseTool, error: RefusedError, request: str | None) -> ToolMessage:
    """A refusal as the agent reads it, where the agent may go on.

    Raises:
        RefusedError: it may not, or code has asked, which would take the words for a result
    """
    if request is None or not goes_on(error, request):
        raise in_graph(error) from None
    text = f"{tool.name} was refused: {error.stop}"
    return ToolMessage(text, name=tool.name, tool_call_id=request, status="error")


def overdue(double: BaseTool, error: OverdueInGraphError, request: str | None) -> ToolMessage:
    """An execution that was ended, as the agent reads it that asked for it.

    Args:
        double: the stand-in of the tool that was run
    Raises:
        OverdueInGraphError: code has asked, or it is another tool's that this one ran
    """
    if request is None or error.execution is not seam_of(double):
        raise error
    return ToolMessage(str(error), name=double.name, tool_call_id=request, status="error")


def _methods(kind: type[BaseTool]) -> dict[str, Any]:
    own = [name for name in ("_run", "_arun") if getattr(kind, name) is not getattr(BaseTool, name)]
    return {name: _gate_of(getattr(kind, name)) for name in own}


def _gate_of(own: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(own):

        @like(own)
        async def work_async(tool: Any, *args: Any, **kwargs: Any) -> Any:
            seam: Execution = seam_of(tool)
            if seam.grant is not None:  # StructuredTool without a coroutine comes through both
                return await own(tool, *args, **kwargs)
            if _falls_back(tool):
                return await own(tool, *args, **kwargs)
            seam.grant = await seam.scope.gate.admit(seam.action)
            token = _begin(seam)
            try:
                with tamed():
                    work = own(tool, *args, **kwargs)
                    result = await (work if seam.grant.max_seconds is None else _in_time_async(seam, work))
                return await _seen_async(seam, result)
            except BaseException as error:
                _fail(seam, error)
                raise
            finally:
                inside_tool.reset(token)

        return work_async

    @like(own)
    def work(tool: Any, *args: Any, **kwargs: Any) -> Any:
        seam: Execution = seam_of(tool)
        if seam.grant is not None:
            return own(tool, *args, **kwargs)
        seam.grant = seam.scope.gate.admit_blocking(seam.action)
        token = _begin(seam)
        try:
            with seam.scope.threads.busy(), tamed():
                if seam.grant.max_seconds is None:
                    result = own(tool, *args, **kwargs)
                else:
                    result = _in_time(seam, partial(own, tool, *args, **kwargs))
            return _seen(seam, result)
        except BaseException as error:
            _fail(seam, error)
            raise
        finally:
            inside_tool.reset(token)

    return work


def _falls_back(tool: Any) -> bool:
    """Whether the tool has no coroutine, so that LangChain runs its function on a thread: gated there."""
    fields: Any = cast(Any, type(tool)).model_fields
    return "coroutine" in fields and "func" in fields and tool.coroutine is None


def _in_time(seam: Execution, work: Callable[[], Any]) -> Any:
    try:
        return in_time_blocking(seam.scope.gate, cast(Grant, seam.grant), work)
    except ToolOverdueError as error:
        raise OverdueInGraphError(error, seam) from None


async def _in_time_async(seam: Execution, work: Awaitable[Any]) -> Any:
    try:
        return await in_time(cast(Grant, seam.grant), work, gate=seam.scope.gate)
    except ToolOverdueError as error:
        raise OverdueInGraphError(error, seam) from None


def _begin(seam: Execution) -> Any:
    grant = cast(Grant, seam.grant)
    seam.scope.executions[seam.action.tool] += 1
    return inside_tool.set(grant.action_id)


def _fail(seam: Execution, error: BaseException) -> None:
    if isinstance(error, GraphInterrupt):
        # It asks a person, and begins anew with the answer: that is the execution.
        seam.scope.executions[seam.action.tool] -= 1
        _settle(seam, Outcome("withdrawn", text=type(error).__name__))
        return
    if isinstance(error, GraphBubbleUp):
        # A jump, which the tool itself asked for: no failure.
        _settle(seam, Outcome("ok", text=type(error).__name__))
        return
    _settle(seam, tool_failure(error))


def _settle(seam: Execution, outcome: Outcome) -> None:
    seam.scope.gate.settle(cast(Grant, seam.grant), outcome)


def _seen(seam: Execution, result: Any) -> Any:
    """What the agent may read of a result."""
    gate, action = seam.scope.gate, seam.action
    for place in _places(seam, result):
        check = gate.check_blocking("tool_results", action.agent, action.tool, place)
        result = _with(seam, result, place, check)
    return _settled(seam, result)


async def _seen_async(seam: Execution, result: Any) -> Any:
    gate, action = seam.scope.gate, seam.action
    for place in _places(seam, result):
        check = await gate.check("tool_results", action.agent, action.tool, place)
        result = _with(seam, result, place, check)
    return _settled(seam, result)


def _settled(seam: Execution, result: Any) -> Any:
    shown = "\n".join(str(place) for place in _places(seam, result))
    _settle(seam, Outcome("ok", text=shown[:RESULT_CHARS]))
    return result


def _places(seam: Execution, result: Any) -> list[Any]:
    """What an agent will read of a result: texts and values, in order."""
    if isinstance(result, ToolMessage):
        return [result.content]
    if isinstance(result, Command):
        update: Any = cast(Any, result).update
        messages: list[Any] = cast(Any, update).get("messages", []) if isinstance(update, dict) else []
        return [message.content for message in messages if isinstance(message, ToolMessage)]
    if seam.pair and isinstance(result, tuple):
        return [cast(tuple[Any, ...], result)[0]]
    return [] if result is None else [_readable(result)]


def _readable(value: Any) -> Any:
    return cast(Any, value) if isinstance(value, str | dict | list | int | float | bool) else str(value)


def _with(seam: Execution, result: Any, place: Any, check: Check) -> Any:
    if check.outcome == "pass":
        return result
    value = check.value if check.outcome == "fix" else withheld(seam.action.tool, check)
    if isinstance(result, ToolMessage):
        return result.model_copy(update={"content": value})
    if isinstance(result, Command):
        update: dict[str, Any] = cast(Any, result).update
        messages = [_changed(message, place, value) for message in update["messages"]]
        return Command(
            graph=result.graph,
            update={**update, "messages": messages},
            resume=result.resume,
            goto=cast(Any, result).goto,
        )
    if seam.pair and isinstance(result, tuple):
        return (value, *cast(tuple[Any, ...], result)[1:])
    return value


def _changed(message: Any, place: Any, value: Any) -> Any:
    if isinstance(message, ToolMessage) and message.content is place:
        return message.model_copy(update={"content": value})
    return message
