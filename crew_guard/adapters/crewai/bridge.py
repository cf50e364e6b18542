"""The model and tool objects of CrewAI that a compiled crew's agents have: both act through a Table of ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, ClassVar

from crewai.events.types.llm_events import LLMCallType
from crewai.llms.base_llm import BaseLLM, llm_call_context
from crewai.tools.base_tool import BaseTool
from crewai.utilities.string_utils import sanitize_tool_name
from openai.types.chat import ChatCompletionMessageFunctionToolCall as HostRequest
from pydantic import BaseModel, PrivateAttr

from crew_guard.adapters.crewai.talk import PartEndedError, Table, may_go_on
from crew_guard.core.messages import ToolRequest
from crew_guard.core.tools import Tool
from crew_guard.errors import RefusedError

HOST_DELEGATES = "delegate_work_to_coworker"
table_of_run: ContextVar[Table | None] = ContextVar("crew_guard_table", default=None)
"""Where delegation between a compiled crew's agents is counted."""


class SeatModel(BaseLLM):
    """An agent's model: it asks ours, and hands CrewAI what its loop is to execute."""

    _crew_guard: ClassVar[bool] = True
    """Whatever gates CrewAI's own models leaves this one alone."""
    _table: Table = PrivateAttr()
    _agent: str = PrivateAttr()

    def __init__(self, table: Table, agent: str) -> None:
        super().__init__(model=table.seats[agent].model.name, provider="crew_guard")
        self._table, self._agent = table, agent

    def call(  # noqa: PLR0917  the host's signature
        self,
        messages: Any,
        tools: Any = None,
        callbacks: Any = None,  # noqa: ARG002  CrewAI's signature
        available_functions: Any = None,  # noqa: ARG002  see above
        from_task: Any = None,
        from_agent: Any = None,
        response_model: type[BaseModel] | None = None,
    ) -> Any:
        """One turn of the agent at its task."""
        with llm_call_context():
            self._emit_call_started_event(messages, tools, from_task=from_task, from_agent=from_agent)
            try:
                reply = self._table.wait_for(self._table.talk(self._agent, from_task).turn(messages))
            except PartEndedError as error:
                self._emit_call_failed_event(str(error), from_task=from_task, from_agent=from_agent)
                raise
            asks = not isinstance(reply, str)
            answer: Any = [_host_request(one) for one in reply] if asks else reply
            kind = LLMCallType.TOOL_CALL if asks else LLMCallType.LLM_CALL
            self._emit_call_completed_event(answer, kind, from_task, from_agent, messages)
        return response_model.model_validate_json(reply) if response_model and isinstance(reply, str) else answer

    # Retries are the gate's: CrewAI would put its own around a method that isn't marked.
    call._crewai_rate_limit_wrapped = True  # type: ignore[attr-defined]  # noqa: SLF001  # pyright: ignore[reportFunctionMemberAccess]

    def supports_function_calling(self) -> bool:
        """Tools are asked for natively, whatever our model's provider is."""
        return True

    def supports_stop_words(self) -> bool:
        """Our models have none."""
        return False

    def get_context_window_size(self) -> int:
        """So long that CrewAI never summarises: our transcript is kept short by itself."""
        return 10**9

    def get_input_tokens_count(self, messages: Any, tools: Any = None, response_model: Any = None) -> int:  # noqa: ARG002
        """Nothing that CrewAI need count; see above."""
        return 0


def _host_request(request: ToolRequest) -> HostRequest:
    name, arguments = sanitize_tool_name(request.name), request.arguments
    if request.name == "delegate":
        given = json.loads(arguments)
        name = HOST_DELEGATES
        arguments = json.dumps({"coworker": given["agent"], "task": given["task"], "context": ""})
    function = {"name": name, "arguments": arguments or "{}"}
    return HostRequest.model_validate({"id": request.id, "type": "function", "function": function})


class SeatTool(BaseTool):
    """An agent's tool: an execution by CrewAI is one of ours, through the gate."""

    _crew_guard: ClassVar[bool] = True
    _table: Table = PrivateAttr()
    _agent: str = PrivateAttr()
    _tool: Tool = PrivateAttr()

    def __init__(self, table: Table, agent: str, tool: Tool) -> None:
        super().__init__(
            name=tool.name, description=tool.description, args_schema=tool.arguments, cache_function=_never
        )
        self._table, self._agent, self._tool = table, agent, tool

    def run(self, *args: Any, **kwargs: Any) -> str:  # noqa: ARG002  CrewAI passes arguments by name
        """Execute it; arguments as the model wrote them, which our own tool validates."""
        return self._table.wait_for(self._used(kwargs))

    def _run(self, **kwargs: Any) -> str:
        return self.run(**kwargs)

    async def _used(self, arguments: dict[str, Any]) -> str:
        try:
            return (await self._table.seats[self._agent].use(self._tool, arguments)).text
        except RefusedError as error:
            if not may_go_on(error):
                raise
            return f"{self._tool.name} was refused: {error.stop}"


def _never(_arguments: Any = None, _result: Any = None) -> bool:
    """Two equal calls are two executions, as everywhere."""
    return False


def delegated(table: Table, boss: str, to: str, task: str, work: Callable[[], Any]) -> str:
    """Work that CrewAI lets one agent do for another, inside of a handoff."""

    async def answer() -> str:
        return str(await asyncio.to_thread(work))

    async def handed() -> str:
        try:
            return await table.work.gate.delegate(boss, to, task, answer)
        except RefusedError as error:
            if not may_go_on(error):
                raise
            return f"delegate was refused: {error.stop}"

    return table.wait_for(handed())
