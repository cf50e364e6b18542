"""An agent of ours as LangChain sees it: a chat model and tools that act through its seat.

LangChain's callbacks and traces are told of every turn and every execution; the gate decides, as in our own runtime.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from crew_guard.adapters.compiling import Seat
from crew_guard.adapters.langgraph.prompts import asked_for, text_of
from crew_guard.core.messages import Message, ModelReply, ModelRequest, Speaker, ToolRequest, ToolSpec
from crew_guard.core.tools import Tool
from crew_guard.ports import CallTerms, ToolResult

_SPEAKERS: dict[str, Speaker] = {"system": "system", "ai": "assistant", "tool": "tool"}


@dataclass(slots=True)
class Turn:
    """One turn of our own loop on its way through LangChain: what is asked, exactly, and what was answered."""

    request: ModelRequest
    terms: CallTerms
    reply: ModelReply | None = None


@dataclass(slots=True)
class Run:
    """One execution of a tool on its way through LangChain."""

    arguments: str | Mapping[str, Any]
    result: ToolResult | None = None


_turn: ContextVar[Turn | None] = ContextVar("crew_guard_graph_turn", default=None)
_run: ContextVar[Run | None] = ContextVar("crew_guard_graph_execution", default=None)


class SeatedChat(BaseChatModel):
    """The model of one agent. Also for code that asks it with LangChain's own messages."""

    seat: Any
    cache: Any = False  # each turn is to be asked: an answer from a cache would be another conversation

    @property
    def _llm_type(self) -> str:
        return "crew_guard"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        provider, _, name = self.seat.model.name.partition(":")
        return {**super()._get_ls_params(stop, **kwargs), "ls_provider": provider, "ls_model_name": name}

    def bind_tools(self, tools: Sequence[Any], *, tool_choice: str | None = None, **kwargs: Any) -> Any:  # noqa: ARG002  LangChain's own signature
        """The same with tools that it may ask for."""
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    async def turn(self, turn: Turn) -> ModelReply:
        """One turn of our own loop."""
        token = _turn.set(turn)
        try:
            tools = [_function(spec) for spec in turn.request.tools]
            await self.ainvoke([told(message) for message in turn.request.messages], tools=tools)
        finally:
            _turn.reset(token)
        return cast(ModelReply, turn.reply)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,  # noqa: ARG002  LangChain's own signature
        run_manager: Any = None,  # noqa: ARG002  LangChain's own signature
        **kwargs: Any,
    ) -> ChatResult:
        seat: Seat = self.seat
        turn = _turn.get()
        if turn is None:
            tools = [_spec(tool) for tool in kwargs.get("tools") or ()]
            reply = await seat.ask([heard(message) for message in messages], tools)
        else:
            reply = turn.reply = await seat.gate.call_model(seat.name, seat.model, turn.request, turn.terms)
        return _result(seat, reply)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,  # noqa: ARG002  LangChain's own signature
        run_manager: Any = None,  # noqa: ARG002  LangChain's own signature
        **kwargs: Any,
    ) -> ChatResult:
        seat: Seat = self.seat
        tools = [_spec(tool) for tool in kwargs.get("tools") or ()]
        return _result(seat, seat.ask_blocking([heard(message) for message in messages], tools))


class SeatedTool(BaseTool):
    """One agent's tool."""

    seat: Any
    tool: Any

    async def execution(self, run: Run) -> ToolResult:
        """One execution that our own loop asks for."""
        token = _run.set(run)
        try:
            await self.ainvoke(_shown(run.arguments))
        finally:
            _run.reset(token)
        return cast(ToolResult, run.result)

    def _to_args_and_kwargs(
        self,
        tool_input: Any,
        tool_call_id: str | None,  # noqa: ARG002  LangChain's own signature
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (), {"arguments": tool_input}  # the tool itself checks them, in its own words

    async def _arun(self, *args: Any, arguments: Any = None, **kwargs: Any) -> str:  # noqa: ARG002  LangChain's own signature
        seat: Seat = self.seat
        run = _run.get()
        if run is None or run.result is not None:
            return (await seat.use(self.tool, arguments)).text
        _run.set(None)  # what the tool's own function runs is not this execution
        run.result = await seat.use(self.tool, run.arguments)
        return run.result.text

    def _run(self, *args: Any, arguments: Any = None, **kwargs: Any) -> str:  # noqa: ARG002  LangChain's own signature
        seat: Seat = self.seat
        return seat.use_blocking(self.tool, arguments).text


def seated_chat(seat: Seat) -> SeatedChat:
    """An agent's model."""
    return SeatedChat(seat=seat, name=seat.name)


def seated_tool(seat: Seat, tool: Tool) -> SeatedTool:
    """An agent's tool."""
    schema = dict(tool.spec.parameters)
    return SeatedTool(name=tool.name, description=tool.description, args_schema=schema, seat=seat, tool=tool)


def told(message: Message) -> BaseMessage:
    """A message of ours as LangChain's."""
    if message.speaker == "system":
        return SystemMessage(message.text)
    if message.speaker == "tool":
        return ToolMessage(message.text, tool_call_id=message.tool_request_id or "")
    if message.speaker == "assistant":
        return _answer(message.text, message.tool_requests)
    return HumanMessage(message.text)


def heard(message: BaseMessage) -> Message:
    """A message of LangChain's as ours."""
    asked = tuple(ToolRequest(*request) for request in asked_for(message))
    answers = message.tool_call_id if isinstance(message, ToolMessage) else None
    return Message(_SPEAKERS.get(message.type, "user"), text_of(message), asked, answers)


def _result(seat: Seat, reply: ModelReply) -> ChatResult:
    message = _answer(reply.text, reply.tool_requests)
    usage = reply.usage
    if usage is not None:
        message.usage_metadata = {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "total_tokens": usage.tokens,
            "input_token_details": {"cache_read": usage.cached_tokens},
        }
    message.response_metadata = {"finish_reason": reply.finish, "model_name": reply.model or seat.model.name}
    return ChatResult(generations=[ChatGeneration(message=message)])


def _answer(text: str, asked: Sequence[ToolRequest]) -> AIMessage:
    calls: list[Any] = []
    invalid: list[Any] = []
    for request in asked:
        arguments = _shown(request.arguments)
        if isinstance(arguments, dict):
            calls.append({"name": request.name, "args": arguments, "id": request.id, "type": "tool_call"})
        else:
            invalid.append({"name": request.name, "args": arguments, "id": request.id, "error": "not a JSON object"})
    return AIMessage(text, tool_calls=calls, invalid_tool_calls=invalid)


def _shown(arguments: str | Mapping[str, Any]) -> Any:
    """Arguments as LangChain has them: an object, or the text that isn't one."""
    if not isinstance(arguments, str):
        return dict(arguments)
    try:
        found = json.loads(arguments or "{}")
    except ValueError:
        return arguments
    return cast(Any, found) if isinstance(found, dict) else arguments


def _function(spec: ToolSpec) -> dict[str, Any]:
    function = {"name": spec.name, "description": spec.description, "parameters": spec.parameters}
    return {"type": "function", "function": function}


def _spec(tool: Mapping[str, Any]) -> ToolSpec:
    function = tool["function"]
    return ToolSpec(function["name"], function.get("description", ""), function.get("parameters", {}))
