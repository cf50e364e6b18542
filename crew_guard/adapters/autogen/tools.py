"""Workbenches, tools and code executors under a gate: each execution is admitted, looked at and settled.

A refusal at a workbench or an executor is an error result, not an exception: AssistantAgent's tool loop waits
for ever for a workbench that raises. The agent may go on; the latch answers what it asks for next.
"""

from __future__ import annotations

import contextvars
import copy
import inspect
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from types import FunctionType
from typing import Any, cast

from autogen_agentchat.base import TaskResult
from autogen_agentchat.messages import BaseChatMessage, TextMessage
from autogen_agentchat.tools import TeamTool
from autogen_core import CancellationToken
from autogen_core.code_executor import CodeExecutor, CodeResult
from autogen_core.tools import (
    BaseStreamTool,
    BaseTool,
    FunctionTool,
    ImageResultContent,
    StaticWorkbench,
    TextResultContent,
    ToolResult,
    Workbench,
)

from crew_guard.adapters.autogen.parts import granted, may_execute, way_of, within
from crew_guard.adapters.autogen.seams import Here, Original, acted, acting, closed, here, leave
from crew_guard.adapters.autogen.timing import timed, timed_items
from crew_guard.adapters.hosted import RESULT_CHARS, json_of, tool_failure
from crew_guard.adapters.taming import ToolExitError, tamed
from crew_guard.adapters.tool_time import ToolOverdueError
from crew_guard.adapters.way import Entry, Given
from crew_guard.core.actions import Grant, Outcome, ToolCall
from crew_guard.core.content import withheld
from crew_guard.errors import RefusedError
from crew_guard.loops import is_being_cancelled
from crew_guard.ports import Gate

CODE_EXECUTOR = "code_executor"
"""What policies and journals call the tool that executes an agent's code."""
_VALIDATING = ((BaseTool, "run_json"), (BaseStreamTool, "run_json_stream"))
"""The methods that check a tool's arguments before they run it."""
_HANDOFF = "Handoff.handoff_tool"
_HOLDING = {"autogen_core.FunctionTool": "_func", "autogen_ext.LangChainToolAdapter": "_callable"}


@dataclass(slots=True)
class ToolActs:
    """The seams of tools in one run."""

    gate: Gate
    seen: Callable[[], None]

    async def call_tool(self, original: Original, bench: Any, args: Any, options: Any) -> Any:
        """Workbench.call_tool."""
        now, name, arguments = self._asked(args, options)
        tool = _tool(bench, name)
        entry = Entry("call_tool", original, _kept(arguments))
        way, part = way_of(now.frame, bench, ("workbench",), entry)
        if part or not _starts(tool, arguments):
            with acting(within(now, "workbench", bench, way)):
                return await original(bench, *args, **options)
        try:
            grant = await self._admit(now.agent, name, arguments, irreversible=_runs_code(tool))
        except RefusedError as error:
            return _failed(name, error)
        try:
            with acting(within(now, "workbench", bench, way, grant)), _tamed(args, options):
                result = await timed(self.gate, grant, tool or bench, original(bench, *args, **options))
            result = await self._looked_at(now.agent, name, result)
        except (ToolOverdueError, ToolExitError) as error:
            result = _failed(name, error)
        except BaseException as error:
            self._ended(grant, error)
            raise
        finally:
            way.over()
        self._settle(grant, result)
        return result

    async def call_tool_stream(
        self, original: Original, bench: Any, args: Any, options: Any
    ) -> AsyncGenerator[Any, None]:
        """StaticStreamWorkbench.call_tool_stream."""
        now, name, arguments = self._asked(args, options)
        tool = _tool(bench, name)
        entry = Entry("call_tool_stream", original, _kept(arguments))
        way, part = way_of(now.frame, bench, ("workbench",), entry)
        if part or not _starts(tool, arguments):
            async for event in acted(within(now, "workbench", bench, way), original(bench, *args, **options)):
                yield event
            return
        try:
            grant = await self._admit(now.agent, name, arguments, irreversible=_runs_code(tool))
        except RefusedError as error:
            yield _failed(name, error)
            return
        inside = within(now, "workbench", bench, way, grant)
        events, settled = timed_items(self.gate, grant, tool or bench, original(bench, *args, **options)), False
        try:
            while True:
                token = here.set(inside)  # as `acted` does: one generator less for each item
                try:
                    with _tamed(args, options):
                        event = await anext(events)
                except StopAsyncIteration:
                    return
                except (ToolOverdueError, ToolExitError) as error:
                    event = _failed(name, error)
                finally:
                    leave(token)
                if isinstance(event, ToolResult):
                    event = await self._looked_at(now.agent, name, event)
                    self._settle(grant, event)
                    settled = True
                else:
                    self.gate.progress()
                yield event
        except BaseException as error:
            if not settled:
                self._ended(grant, error)
            raise
        finally:
            await closed(inside, events)
            way.over()

    async def run_json(self, original: Original, tool: Any, args: Any, options: Any) -> Any:
        """BaseTool.run_json: of a workbench's tool a part of its call, else an agent executes a tool by itself."""
        now, arguments = self._given(args, options)
        entry = _entry("run_json", original, tool, arguments)
        way, part = way_of(now.frame, tool, ("workbench",), entry)
        if part or _is_handoff(tool) or not _fits(tool, arguments):
            grant = granted(now.frame) if part else None
            with acting(within(now, "tool", tool, way, grant)), _tamed(args, options):
                return _as_answer(tool, await original(self._in_context(tool, grant), *args, **options))
        grant = await self._admit(now.agent, tool.name, arguments, irreversible=_runs_code(tool))
        try:
            with acting(within(now, "tool", tool, way, grant)), _tamed(args, options):
                value = await timed(self.gate, grant, tool, original(self._in_context(tool, grant), *args, **options))
            value = await self._value_looked_at(now.agent, tool, _as_answer(tool, value))
        except BaseException as error:
            self._ended(grant, error)
            raise
        finally:
            way.over()
        self.gate.settle(grant, Outcome("ok", text=tool.return_value_as_string(value)[:RESULT_CHARS]))
        return value

    async def run_json_stream(
        self, original: Original, tool: Any, args: Any, options: Any
    ) -> AsyncGenerator[Any, None]:
        """BaseStreamTool.run_json_stream, in the same way."""
        now, arguments = self._given(args, options)
        grant, items = None, original(tool, *args, **options)
        entry = _entry("run_json_stream", original, tool, arguments)
        way, part = way_of(now.frame, tool, ("workbench",), entry)
        if not part and _fits(tool, arguments):
            grant = await self._admit(now.agent, tool.name, arguments, irreversible=_runs_code(tool))
            items = timed_items(self.gate, grant, tool, items)
        items = acted(within(now, "tool", tool, way, granted(now.frame) if part else grant), items)
        try:
            with _tamed(args, options):
                async for item in items:
                    yield _as_answer(tool, item)
        except BaseException as error:
            if grant:
                self._ended(grant, error)
            raise
        finally:
            await items.aclose()
            if not part:
                way.over()
        if grant:
            self.gate.settle(grant, Outcome("ok"))

    async def execute_code_blocks(self, original: Original, executor: Any, args: Any, options: Any) -> Any:
        """CodeExecutor.execute_code_blocks: can't be undone, whatever the code does."""
        self.seen()
        now = _now()
        way, part = way_of(now.frame, executor, may_execute(now.frame), Entry("execute_code_blocks", original))
        inside = within(now, "code", executor, way)
        if part:
            with acting(inside):
                return await original(executor, *args, **options)
        blocks = args[0] if args else options["code_blocks"]
        code = {"code": "\n\n".join(f"# {block.language}\n{block.code}" for block in blocks)}
        try:
            grant = await self._admit(now.agent, CODE_EXECUTOR, code, irreversible=True)
        except RefusedError as error:
            return CodeResult(exit_code=1, output=str(error))
        try:
            with acting(inside), _tamed(args, options):
                result = await timed(self.gate, grant, executor, original(executor, *args, **options))
            check = await self.gate.check("tool_results", now.agent, CODE_EXECUTOR, result.output)
        except (ToolOverdueError, ToolExitError) as error:
            self._ended(grant, error)
            return CodeResult(exit_code=1, output=str(error))
        except BaseException as error:
            self._ended(grant, error)
            raise
        if check.outcome == "fix":
            result.output = check.value
        elif check.outcome == "reject":
            result.output, result.exit_code = withheld(CODE_EXECUTOR, check), result.exit_code or 1
        status = "failed" if result.exit_code else "ok"
        self.gate.settle(grant, Outcome(status, text=result.output[:RESULT_CHARS]))
        return result

    def _asked(self, args: Any, options: Mapping[str, Any]) -> tuple[Here, str, Mapping[str, Any]]:
        """Who asks a workbench for which tool with which arguments."""
        self.seen()
        name = args[0] if args else options["name"]
        arguments = args[1] if len(args) > 1 else options.get("arguments")
        return _now(), name, arguments or {}

    def _given(self, args: Any, options: Mapping[str, Any]) -> tuple[Here, Mapping[str, Any]]:
        self.seen()
        return _now(), (args[0] if args else options["args"])

    async def _admit(self, agent: str, name: str, arguments: Mapping[str, Any], *, irreversible: bool) -> Grant:
        action = ToolCall(agent, name, json_of(dict(arguments)), irreversible)
        return await self.gate.admit(action)

    async def _looked_at(self, agent: str, name: str, result: ToolResult) -> ToolResult:
        """What the agent may read of a result."""
        parts: list[TextResultContent | ImageResultContent] = []
        for part in result.result:
            if isinstance(part, TextResultContent):
                check = await self.gate.check("tool_results", agent, name, part.content)
                if check.outcome == "reject":
                    text = TextResultContent(content=withheld(name, check))
                    return ToolResult(name=name, result=[text], is_error=True)
                parts.append(TextResultContent(content=check.value) if check.outcome == "fix" else part)
            else:
                parts.append(part)
        return result if parts == result.result else result.model_copy(update={"result": parts})

    async def _value_looked_at(self, agent: str, tool: Any, value: Any) -> Any:
        check = await self.gate.check("tool_results", agent, tool.name, tool.return_value_as_string(value))
        if check.outcome == "pass":
            return value
        return check.value if check.outcome == "fix" else withheld(tool.name, check)

    def _settle(self, grant: Grant, result: ToolResult) -> None:
        text = result.to_text(replace_image="[image]")[:RESULT_CHARS]
        self.gate.settle(grant, Outcome("failed" if result.is_error else "ok", text=text))

    def _ended(self, grant: Grant, error: BaseException) -> None:
        self.gate.settle(grant, tool_failure(error))

    def _in_context(self, tool: Any, grant: Grant | None) -> Any:
        """The tool, its function taking who acts along to its thread: a model that it asks there is gated too."""
        held = _function_of(cast(type[Any], type(tool)))
        if held is None or _is_coroutine(function := getattr(tool, held)):
            return tool
        same = copy.copy(tool)
        setattr(same, held, threaded(self.gate, grant, function))
        return same


def _now() -> Here:
    now = here.get()
    assert now is not None  # noqa: S101  a seam is only acted at where someone acts
    return now


def _tool(bench: Workbench, name: str) -> Any:
    if not isinstance(bench, StaticWorkbench):
        return None
    names: Mapping[str, str] = bench._override_name_to_original  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    tools: list[BaseTool[Any, Any]] = bench._tools  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    wanted = names.get(name, name)
    for tool in tools:
        if tool.name == wanted:
            return tool
    return None


def _starts(tool: Any, arguments: Mapping[str, Any]) -> bool:
    """Whether a call begins an execution: not if AutoGen turns its arguments down before that."""
    return tool is None or _fits(tool, arguments)


def _entry(name: str, method: Original, tool: Any, arguments: object) -> Entry:
    given = _kept(arguments)
    return Entry(name, method, given, partial(_read, tool, given[1]))


def _kept(arguments: object) -> Given:
    """Arguments as they are now, whatever a tool makes of them; a model may have written none that are named."""
    named = isinstance(arguments, Mapping)
    return ((), dict(cast(Mapping[str, Any], arguments))) if named else ((arguments,), {})


def _read(tool: Any, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    return tool.args_type().model_validate(arguments).model_dump(exclude_unset=True)


def _fits(tool: Any, arguments: Mapping[str, Any]) -> bool:
    if _has_its_own_way(cast(type[Any], type(tool))):
        return True
    try:
        tool.args_type().model_validate(arguments)
    except Exception:  # noqa: BLE001  whatever a validator of the user's raises, AutoGen turns the call down there
        return False
    return True


@cache
def _has_its_own_way(kind: type) -> bool:
    """Whether a class of tools doesn't check arguments as AutoGen does."""
    for base, run in _VALIDATING:
        own: Any = getattr(kind, run, None)
        if own is not None and inspect.unwrap(own) is not inspect.unwrap(vars(base)[run]):
            return True
    return False


def _runs_code(tool: Any) -> bool:
    held: Any = getattr(tool, "__dict__", {})
    return any(map(_executes, map(type, held.values())))


@cache
def _executes(kind: type) -> bool:
    return issubclass(kind, CodeExecutor)


def _is_handoff(tool: Any) -> bool:
    """Whether a tool only says who goes on: the handoff itself is what is admitted."""
    return type(tool) is FunctionTool and _HANDOFF in getattr(tool._func, "__qualname__", "")  # noqa: SLF001  AutoGen makes it there  # pyright: ignore[reportPrivateUsage]


def _is_coroutine(function: Any) -> bool:
    # The plain case by itself: inspect takes its time for it.
    plain = type(function) is FunctionType and function.__code__.co_flags & inspect.CO_COROUTINE
    return bool(plain) or inspect.iscoroutinefunction(function)


@cache
def _function_of(kind: type[Any]) -> str | None:
    """Where a class of tools keeps the function that its run calls, in a thread if it isn't async."""
    for base in kind.__mro__:
        if name := _HOLDING.get(f"{base.__module__.partition('.')[0]}.{base.__name__}"):
            runs: Any = base
            return name if kind.run is runs.run and kind.run_json is runs.run_json else None
    return None


def threaded(gate: Gate, work: Grant | str | None, function: Callable[..., Any]) -> Callable[..., Any]:
    """What blocks a thread, in its caller's context there; as long as it goes on, the run's result names it."""
    here_too = partial(contextvars.copy_context().run, function)
    return partial(_in_a_thread, gate, work, here_too)


def _in_a_thread(
    gate: Gate, work: Grant | str | None, function: Callable[..., Any], /, *given: Any, **more: Any
) -> Any:
    over = None if work is None else gate.in_thread(work)
    try:
        with tamed():
            return function(*given, **more)
    finally:
        if over is not None:
            over()


def _tamed(args: Any, options: Mapping[str, Any]) -> tamed:
    """While a tool works: it is ended with its task, and where the token is cancelled that it was given."""
    return tamed(partial(_is_ended, args, options))


def _is_ended(args: Any, options: Mapping[str, Any]) -> bool:
    given = (*args, *options.values())
    return is_being_cancelled() or any(isinstance(one, CancellationToken) and one.is_cancelled() for one in given)


def _as_answer(tool: Any, value: Any) -> Any:
    """What a tool gives; of a team that didn't speak, where its last message would be the task itself, why not."""
    if type(value) is not TaskResult or not isinstance(tool, TeamTool):
        return value
    if any(isinstance(one, BaseChatMessage) for one in value.messages[1:]):
        return value
    said = TextMessage(content=f"{tool.name} said nothing: {value.stop_reason}", source=tool.name)
    return TaskResult(messages=[said], stop_reason=value.stop_reason)


def _failed(name: str, error: Exception) -> ToolResult:
    return ToolResult(name=name, result=[TextResultContent(content=str(error))], is_error=True)
