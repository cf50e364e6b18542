"""CrewAI's classes, patched once and for good: inert but in the context of a guarded run.

Crews and flows make models, agents and tools while they run (a manager, a planner, a guardrail in
words, whatever a flow's method builds), so what is gated is the class that acts, not the object.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial, wraps
from typing import Any, cast

from crewai import Agent, Crew, Task, lite_agent
from crewai.agents import agent_executor
from crewai.flow.flow import Flow
from crewai.llms import base_llm
from crewai.llms.base_llm import BaseLLM
from crewai.memory.unified_memory import Memory
from crewai.tools.agent_tools.base_agent_tools import BaseAgentTool
from crewai.tools.base_tool import BaseTool
from crewai.utilities.agent_utils import is_inside_event_loop
from crewai.utilities.converter import Converter
from crewai.utilities.internal_instructor import InternalInstructor
from crewai.utilities.llm_utils import create_llm
from crewai.utilities.message_utils import message_content_text

from crew_guard.adapters.crewai.bridge import delegated, table_of_run
from crew_guard.adapters.crewai.busy import named
from crew_guard.adapters.crewai.checks import called, name_of
from crew_guard.adapters.crewai.done import name_of_task
from crew_guard.adapters.crewai.families import TOOL_METHODS, gate_family, patch, patch_found
from crew_guard.adapters.crewai.inside import TimeUp
from crew_guard.adapters.crewai.leftovers import start_bus
from crew_guard.adapters.crewai.litellm_calls import asks_through_litellm, structured
from crew_guard.adapters.crewai.scope import RunScope, as_actor, scope_of_run
from crew_guard.adapters.crewai.timing import aon_time, on_time
from crew_guard.adapters.crewai.tools import PASSING_ON, gated
from crew_guard.adapters.run_tasks import contained
from crew_guard.adapters.stand_in import is_stand_in
from crew_guard.errors import RefusedError

_Method = Callable[..., Any]
_FLOWS = "crewai.flow."
_CHARS = 4
"""Characters that CrewAI takes for a token."""
_lock = threading.Lock()
_installed: list[bool] = []


def install() -> None:
    """Patch what acts. Only the first call does anything."""
    with _lock:
        if _installed:
            return
        _installed.append(True)
        start_bus()
        gate_family(BaseLLM, _patch_model)
        gate_family(BaseTool, _patch_tool)
        for kind in (Agent, cast(type, vars(lite_agent)["LiteAgent"])):
            for name in ("execute_task", "aexecute_task", "kickoff", "kickoff_async", "akickoff", "set_knowledge"):
                patch(kind, name, _acting)
        patch(Agent, "_execute_with_timeout", _in_time)
        patch(Agent, "_aexecute_with_timeout", _in_time_async)
        patch(BaseAgentTool, "_execute", _delegating)
        runner = next(kind for kind in Flow.__mro__ if "_execute_method" in vars(kind))
        patch(runner, "_execute_method", _flow_method)
        patch(Task, "_execute_core", _at_task)
        patch(Task, "_aexecute_core", _at_task)
        for name in ("kickoff", "akickoff"):
            patch(Crew, name, _at_crew)
        patch(Memory, "_submit_save", _saving)
        patch(InternalInstructor, "_create_instructor_client", _no_client)
        patch(InternalInstructor, "to_pydantic", _structured)
        patch(agent_executor, "check_repeated_tool_call", _repeated)


# Models


def _patch_model(kind: type) -> None:
    if kind is not BaseLLM:
        patch_found(kind, "call", _gated_call, root=BaseLLM)
        patch_found(kind, "acall", _gated_acall, root=BaseLLM)
        if kind.__module__.startswith("crewai.llms."):
            patch(kind, "get_input_tokens_count", _counted_here)


def _counted_here(own: _Method) -> _Method:
    """CrewAI's own estimate where there is no count to be had: to have a prompt counted is to send it."""

    def count(llm: BaseLLM, messages: Any, tools: Any = None, response_model: Any = None) -> int:
        if scope_of_run.get() is None:
            return own(llm, messages, tools, response_model)
        texts = [messages] if isinstance(messages, str) else map(message_content_text, messages)
        return -(-sum(map(len, texts)) // _CHARS)

    return count


def _gated_call(own: _Method) -> _Method:
    def call(llm: BaseLLM, *args: Any, **kwargs: Any) -> Any:
        scope = scope_of_run.get()
        if scope is None or is_stand_in(llm):
            return own(llm, *args, **kwargs)
        double = scope.model(llm, _caller(args, kwargs))
        with _KnownByBoth(llm, double):
            return double.call(*args, **kwargs)

    return call


def _gated_acall(own: _Method) -> _Method:
    async def acall(llm: BaseLLM, *args: Any, **kwargs: Any) -> Any:
        scope = scope_of_run.get()
        if scope is None or is_stand_in(llm):
            return await own(llm, *args, **kwargs)
        double = scope.model(llm, _caller(args, kwargs))
        with _KnownByBoth(llm, double):
            return await double.acall(*args, **kwargs)

    return acall


def _caller(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    position = 5  # of from_agent, after the messages
    return kwargs.get("from_agent") or (args[position] if len(args) > position else None)


class _KnownByBoth:
    """CrewAI keeps a call's stop words, and whether it streams, by the id of the model."""

    __slots__ = ("_double", "_kept", "_llm")

    def __init__(self, llm: BaseLLM, double: BaseLLM) -> None:
        self._llm, self._double = llm, double
        self._kept: list[tuple[Any, Any]] = []

    def __enter__(self) -> None:
        llm, double = id(self._llm), id(self._double)
        for variable in (base_llm._call_stop_override_var, base_llm._call_stream_override_var):  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            given: Any = variable.get()
            if given and llm in given:
                self._kept.append((variable, variable.set({**given, double: given[llm]})))

    def __exit__(self, *_: object) -> None:
        for variable, token in self._kept:
            variable.reset(token)


# Tools


def _patch_tool(kind: type) -> None:
    for name in TOOL_METHODS:
        patch_found(kind, name, partial(_gated_tool, name, works=kind not in PASSING_ON), root=BaseTool)


def _gated_tool(name: str, own: _Method, *, works: bool) -> _Method:
    at_work = gated(own) if works else own

    def double_of(tool: Any) -> Any:
        scope = scope_of_run.get()
        if scope is None or is_stand_in(tool) or isinstance(tool, BaseAgentTool):
            return None
        return scope.tool(tool)

    if inspect.iscoroutinefunction(own):

        async def use_async(tool: Any, *args: Any, **kwargs: Any) -> Any:
            double = double_of(tool)
            return await (at_work(tool, *args, **kwargs) if double is None else getattr(double, name)(*args, **kwargs))

        return use_async

    def use(tool: Any, *args: Any, **kwargs: Any) -> Any:
        double = double_of(tool)
        return at_work(tool, *args, **kwargs) if double is None else getattr(double, name)(*args, **kwargs)

    return use


def _delegating(own: _Method) -> _Method:
    def execute(tool: BaseAgentTool, agent_name: str | None, task: str, context: str | None = None) -> str:
        scope, table = scope_of_run.get(), table_of_run.get()
        wanted = tool.sanitize_agent_name(agent_name or "")
        coworker = next((one for one in tool.agents if tool.sanitize_agent_name(one.role) == wanted), None)
        work = partial(own, tool, agent_name, task, context)
        if coworker is not None and table is not None and table.work.crew.manager is not None:
            return delegated(table, table.work.crew.manager.name, name_of(coworker), task, work)
        if scope is None or coworker is None:
            return work()
        try:
            with scope.handed_to(name_of(coworker), task) as answer:
                answer.append(str(work()))
        except RefusedError as error:
            if error.stop.limit != "max_depth":
                raise
            return f"refused: {error.stop}"
        return answer[0]

    return execute


def _repeated(own: _Method) -> _Method:
    def check(*args: Any, **kwargs: Any) -> None:
        if table_of_run.get() is None:  # in a compiled crew, loops are the policy's to tell
            own(*args, **kwargs)

    return check


# Who acts, and for how long


def _acting(own: _Method) -> _Method:
    if inspect.iscoroutinefunction(own):

        async def act_async(agent: Any, *args: Any, **kwargs: Any) -> Any:
            scope = scope_of_run.get()
            if scope is None:
                return await own(agent, *args, **kwargs)
            with contained(), scope.acting(agent) as name:
                work = own(agent, *args, **kwargs)
                seconds = getattr(agent, "max_execution_time", None)
                if own.__name__ != "kickoff_async" or not seconds:
                    return await work
                return await aon_time(scope, TimeUp(name, seconds), work)

        return act_async

    def act(agent: Any, *args: Any, **kwargs: Any) -> Any:
        scope = scope_of_run.get()
        if scope is None:
            return own(agent, *args, **kwargs)
        with scope.threads.busy(), scope.acting(agent) as name:
            seconds = getattr(agent, "max_execution_time", None)
            if own.__name__ != "kickoff" or not seconds or is_inside_event_loop():
                return own(agent, *args, **kwargs)  # on a loop it is CrewAI's kickoff_async
            work = partial(own, agent, *args, **kwargs)
            return on_time(scope, TimeUp(name, seconds), "kickoff", work)  # CrewAI's own minds it in tasks only

    return act


def _in_time(own: _Method) -> _Method:
    def execute(agent: Any, task_prompt: str, task: Any, timeout: int) -> Any:
        scope = scope_of_run.get()
        if scope is None:
            return own(agent, task_prompt, task, timeout)
        work = partial(agent._execute_without_timeout, task_prompt, task)  # noqa: SLF001
        return on_time(scope, TimeUp(name_of(agent), timeout), name_of_task(task, agent), work)

    return execute


def _in_time_async(own: _Method) -> _Method:
    async def execute(agent: Any, task_prompt: str, task: Any, timeout: int) -> Any:  # noqa: ASYNC109  the host's name
        scope = scope_of_run.get()
        if scope is None:
            return await own(agent, task_prompt, task, timeout)
        work = agent._aexecute_without_timeout(task_prompt, task)  # noqa: SLF001
        return await aon_time(scope, TimeUp(name_of(agent), timeout), work)

    return execute


def _flow_method(own: _Method) -> _Method:
    async def as_one(scope: RunScope, flow: Any, method_name: str, method: _Method, given: Any) -> Any:
        if not asyncio.iscoroutinefunction(method):  # pyright: ignore[reportDeprecated]  as CrewAI tells them apart
            method = _in_its_thread(method, scope, f"{called(flow)}/{method_name}")
        with contained(), as_actor(str(method_name)):
            found = await own(flow, method_name, method, *given[0], **given[1])
        scope.done.method(flow, str(method_name), found[0])
        return found

    def execute(flow: Any, method_name: str, method: _Method, *args: Any, **kwargs: Any) -> Any:
        scope = scope_of_run.get()
        if scope is None or _is_crewais_own(flow):
            return own(flow, method_name, method, *args, **kwargs)
        return as_one(scope, flow, method_name, method, (args, kwargs))

    return execute


def _is_crewais_own(flow: object) -> bool:
    """Whether a flow is what somebody else does, an agent's executor say: they go through a dozen methods a step."""
    module = type(flow).__module__
    return module.startswith("crewai.") and not module.startswith(_FLOWS)  # a declared one is a plain Flow


def _in_its_thread(method: _Method, scope: RunScope, name: str) -> _Method:
    @wraps(method)
    def work(*args: Any, **kwargs: Any) -> Any:
        with scope.threads.busy(), named(scope.gate, name):
            return method(*args, **kwargs)

    return work


def _at_task(own: _Method) -> _Method:
    if inspect.iscoroutinefunction(own):

        async def do_async(task: Any, agent: Any, *args: Any) -> Any:
            scope = scope_of_run.get()
            if scope is None:
                return await own(task, agent, *args)
            with contained(), scope.done.at_task(task, agent or task.agent) as note:
                return note(await own(task, agent, *args))

        return do_async

    def do(task: Any, agent: Any, *args: Any) -> Any:
        scope = scope_of_run.get()
        if scope is None:
            return own(task, agent, *args)
        with contained(), scope.done.at_task(task, agent or task.agent) as note:
            return note(own(task, agent, *args))

    return do


def _at_crew(own: _Method) -> _Method:
    """CrewAI looks out for errors only, where it streams: for what would end the process it gives no reason."""
    if inspect.iscoroutinefunction(own):

        async def kick_off_async(crew: Any, *args: Any, **kwargs: Any) -> Any:
            with nullcontext() if scope_of_run.get() is None else contained():
                return await own(crew, *args, **kwargs)

        return kick_off_async

    def kick_off(crew: Any, *args: Any, **kwargs: Any) -> Any:
        with nullcontext() if scope_of_run.get() is None else contained():
            return own(crew, *args, **kwargs)

    return kick_off


# What a memory writes in the background


def _saving(own: _Method) -> _Method:
    def submit(memory: Memory, *args: Any, **kwargs: Any) -> Any:
        future, scope = own(memory, *args, **kwargs), scope_of_run.get()
        if scope is not None:
            scope.saving(future)
        return future

    return submit


# The client that CrewAI builds by itself for output_json


def _no_client(own: _Method) -> _Method:
    def create(instructor: Any) -> Any:
        return own(instructor) if scope_of_run.get() is None else None

    return create


def _structured(own: _Method) -> _Method:
    """The same question to the model itself, by the way that output_pydantic takes."""

    def to_pydantic(instructor: Any) -> Any:
        if scope_of_run.get() is None:
            return own(instructor)
        if asks_through_litellm(instructor.llm):
            return structured(partial(own, instructor))
        llm: Any = create_llm(instructor.llm) if isinstance(instructor.llm, str) else instructor.llm
        model = instructor.model
        messages = [{"role": "user", "content": instructor.content}]
        reply = llm.call(messages=messages, response_model=model, from_agent=instructor.agent)
        converter = Converter(text=instructor.content, llm=llm, model=model, instructions="")
        return cast(Any, converter)._coerce_response_to_pydantic(reply)  # noqa: SLF001

    return to_pydantic
