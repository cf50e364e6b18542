"""The patches of tools: every execution that starts was admitted, and is charged to whoever asked for it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any, NamedTuple, cast

from llama_index.core.agent.workflow import multi_agent_workflow
from llama_index.core.tools import FunctionTool, ToolOutput
from llama_index.core.tools.function_tool import sync_to_async

from crew_guard.adapters.hosted import RESULT_CHARS, json_of, looking, tool_failure
from crew_guard.adapters.llama_index.scope import HostRun, Taken, current
from crew_guard.adapters.llama_index.threads import blocking
from crew_guard.adapters.llama_index.whose import step_here
from crew_guard.adapters.taming import tamed
from crew_guard.adapters.tool_time import in_time
from crew_guard.adapters.way import Entry, Way
from crew_guard.core.actions import Action, Grant, Handoff, Outcome, ToolCall
from crew_guard.core.content import Check, withheld
from crew_guard.core.plain import error_text
from crew_guard.errors import RefusedError
from crew_guard.ports import Gate

AWAITED = "_async_fn"
"""What `acall` of a FunctionTool awaits."""
_HANDOFF: Any = multi_agent_workflow.handoff
_RUN_FUNCTIONS = (FunctionTool.call, FunctionTool.acall)
"""What runs a tool's function: a FunctionTool that is called by its function is executed once more."""


class _Running(NamedTuple):
    """An execution under way."""

    tool: object
    gate: Gate
    grant: Grant
    step: object
    """Whose it is: a workflow that the tool runs has steps of its own."""
    way: Way


_running: ContextVar[_Running | None] = ContextVar("crew_guard_llama_index_tool", default=None)


def gated(name: str, method: Any) -> Any:
    """A patch of one method of a tool class: outside of a guarded run it hands through."""
    return _gated_async(name, method) if name == "acall" else _gated_sync(name, method)


def _gated_sync(name: str, method: Any) -> Any:
    @wraps(method)
    def call_tool(self: Any, *args: Any, **kwargs: Any) -> Any:
        run = current.get()
        if run is None:
            return method.__get__(self, type(self))(*args, **kwargs)
        way, part = _way_of(self, Entry(name, method, (args, kwargs), is_last=method in _RUN_FUNCTIONS))
        if part or not _starts(run, self, args, kwargs, is_async=False):
            return method.__get__(self, type(self))(*args, **kwargs)
        one = _Execution(run, self, args, kwargs)
        grant = run.gate.admit_blocking(one.action)
        token = _running.set(_Running(self, run.gate, grant, step_here(), way))
        try:
            with tamed():
                output = blocking(run.gate, grant, partial(method.__get__(self, type(self)), *args, **kwargs))
        except RefusedError as error:
            one.fail(grant, error)
            raise
        except Exception as error:
            with looking(one.run.gate, grant):
                told = one.told(run.gate.check_blocking("tool_results", one.agent, one.tool, error_text(error)), error)
            one.fail(grant, told)
            if told is error:
                raise
            raise told from None
        except BaseException as error:
            one.fail(grant, error)
            raise
        finally:
            _running.reset(token)
            way.over()
        text = _text(output)
        with looking(one.run.gate, grant):
            check = run.gate.check_blocking("tool_results", one.agent, one.tool, text)
        output, text = one.seen(check, output, text)
        one.settle(grant, output, text)
        return output

    return call_tool


def _gated_async(name: str, method: Any) -> Any:
    @wraps(method)
    async def call_tool(self: Any, *args: Any, **kwargs: Any) -> Any:
        run = current.get()
        if run is None:
            return await method.__get__(self, type(self))(*args, **kwargs)
        way, part = _way_of(self, Entry(name, method, (args, kwargs), is_last=method in _RUN_FUNCTIONS))
        if part or not _starts(run, self, args, kwargs, is_async=True):
            return await method.__get__(self, type(self))(*args, **kwargs)
        one = _Execution(run, self, args, kwargs)
        grant = await run.gate.admit(one.action)
        token = _running.set(_Running(self, run.gate, grant, step_here(), way))
        try:
            with tamed():
                output = await in_time(grant, method.__get__(self, type(self))(*args, **kwargs), gate=run.gate)
            text = _text(output)
            check = await run.gate.check("tool_results", one.agent, one.tool, text)
            output, text = one.seen(check, output, text)
        except RefusedError as error:
            one.fail(grant, error)
            raise
        except Exception as error:
            with looking(one.run.gate, grant):
                told = one.told(await run.gate.check("tool_results", one.agent, one.tool, error_text(error)), error)
            one.fail(grant, told)
            if told is error:
                raise
            raise told from None
        except BaseException as error:
            one.fail(grant, error)
            raise
        finally:
            _running.reset(token)
            way.over()
        one.settle(grant, output, text)
        return output

    return call_tool


def _way_of(tool: object, entry: Entry) -> tuple[Way, bool]:
    """The way that a call goes, and whether it is a part of the execution around it.

    What an agent executes that the tool itself runs is none: it is in another step.
    """
    running = _running.get()
    if running is None or running.tool is not tool or running.step is not step_here():
        return Way(entry), False
    if running.way.leads_to(entry):
        return running.way, True
    return running.way.another(entry), False


class AsyncOfBlocking:
    """The attribute of a FunctionTool that `acall` awaits. Of one that blocks, it begins a thread."""

    def __get__(self, tool: Any, owner: object = None) -> Any:
        if tool is None:
            return self
        try:
            function = cast(Any, vars(tool)[AWAITED])
        except KeyError:
            raise AttributeError(AWAITED) from None
        running = _running.get()
        if running is None or running.tool is not tool or not _made_by_llama_index(function):
            return function
        return sync_to_async(partial(_in_its_thread, running, tool.fn))

    def __set__(self, tool: Any, function: Any) -> None:
        vars(tool)[AWAITED] = function


def _in_its_thread(running: _Running, function: Any, *args: Any, **kwargs: Any) -> Any:
    over = running.gate.in_thread(running.grant)
    try:
        with tamed():
            return function(*args, **kwargs)
    finally:
        over()


def _made_by_llama_index(function: Any) -> bool:
    """Whether the async function of a tool was made of the other one, or the other way round."""
    return getattr(function, "__module__", None) == FunctionTool.__module__


class _Execution:
    """One execution of a tool: what is asked of the gate, and what the agent may read of its result."""

    def __init__(self, run: HostRun, tool: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.run = run
        self.agent = run.who()
        self.tool: str = tool.metadata.get_name()
        self.action = self._action(tool, args, kwargs)

    def _action(self, tool: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Action:
        if isinstance(tool, FunctionTool) and tool.real_fn is _HANDOFF:
            return Handoff(self.agent, str(kwargs.get("to_agent")), str(kwargs.get("reason", "")), nests=False)
        context = getattr(tool, "ctx_param_name", None)
        given = {name: value for name, value in kwargs.items() if name != context} | _by_position(tool, args)
        is_code = isinstance(tool, FunctionTool) and any(tool.real_fn is one for one in self.run.code)
        return ToolCall(self.agent, self.tool, json_of(given), is_code)

    def settle(self, grant: Grant, output: Any, text: str) -> None:
        failed = isinstance(output, ToolOutput) and output.is_error
        self.run.gate.settle(grant, Outcome("failed" if failed else "ok", text=text[:RESULT_CHARS]))

    def fail(self, grant: Grant, error: BaseException) -> None:
        self.run.gate.settle(grant, tool_failure(error))

    def seen(self, check: Check, output: Any, text: str) -> tuple[Any, str]:
        """The output that the agent gets, and its text."""
        if check.outcome == "pass":
            return output, text
        text = str(check.value) if check.outcome == "fix" else withheld(self.tool, check)
        rejected = check.outcome == "reject"
        if not isinstance(output, ToolOutput):
            return text, text
        shown = ToolOutput(
            content=text, tool_name=self.tool, raw_input=output.raw_input, raw_output=text, is_error=rejected
        )
        return shown, text

    def told(self, check: Check, error: Exception) -> Exception:
        if check.outcome == "pass":
            return error
        return RuntimeError(str(check.value) if check.outcome == "fix" else withheld(self.tool, check))


def _text(output: Any) -> str:
    return output.content if isinstance(output, ToolOutput) else str(output)


def _by_position(tool: Any, args: tuple[Any, ...]) -> dict[str, Any]:
    if not args:
        return {}
    names = [name for name in inspect.signature(_called(tool)).parameters if name != "self"]
    given: dict[str, Any] = dict(zip(names, args, strict=False))
    return given | ({"args": args[len(names) :]} if len(args) > len(names) else {})


def _called(tool: Any) -> Callable[..., Any]:
    """What says which arguments a tool takes."""
    return tool.real_fn if isinstance(tool, FunctionTool) else tool.call if hasattr(tool, "call") else tool


def _starts(run: HostRun, tool: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, is_async: bool) -> bool:
    """Whether a call begins an execution: not if the function of the tool doesn't take these arguments."""
    if not isinstance(tool, FunctionTool):
        return True
    function: Any = tool.async_fn if is_async else tool.fn
    if _made_by_llama_index(function):
        function = tool.fn if is_async else tool.async_fn
    known = run.takes.get(id(function))
    if known is None:
        known = run.takes[id(function)] = function, _names(function)
    given = {**tool.partial_params, **kwargs} if tool.partial_params else kwargs
    names = known[1]
    if names is not None and not args:
        return names[0] <= given.keys() <= names[1]
    return _binds(function, args, given)


def _names(function: Any) -> Taken | None:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(each.kind in (each.POSITIONAL_ONLY, each.VAR_KEYWORD) for each in parameters):
        return None
    named = [each for each in parameters if each.kind is not each.VAR_POSITIONAL]
    return frozenset(each.name for each in named if each.default is each.empty), frozenset(each.name for each in named)


def _binds(function: Any, args: tuple[Any, ...], given: Mapping[str, Any]) -> bool:
    try:
        inspect.signature(function).bind(*args, **given)
    except TypeError:
        return False
    except ValueError:
        return True
    return True
