"""A member of a crew of ours as an AssistantAgent: its model and its tools lead back to its loop.

What is said goes both ways: the loop's transcript is what the model is asked with and what other processes
read, AutoGen's model context is what its own features see. Each message is told to the other side once.
"""

from __future__ import annotations

# ruff: noqa: ARG002  what a host's call may say besides is the loop's to say
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import Response
from autogen_agentchat.messages import BaseAgentEvent, BaseChatMessage, TextMessage
from autogen_core import CancellationToken, FunctionCall
from autogen_core.models import (
    AssistantMessage,
    ChatCompletionClient,
    CreateResult,
    FunctionExecutionResult,
    FunctionExecutionResultMessage,
    LLMMessage,
    ModelInfo,
    RequestUsage,
    UserMessage,
)
from autogen_core.tools import BaseTool, ParametersSchema, ToolSchema
from pydantic import BaseModel

from crew_guard.core.messages import Message, ToolSpec

if TYPE_CHECKING:
    from crew_guard.adapters.autogen.looping import HostLoop

SILENT = "crew_guard"
"""Who says what no member said: tasks, notices, what is to be mended."""
_INFO = ModelInfo(vision=False, function_calling=True, json_output=True, family="unknown", structured_output=True)
_ENDS: Mapping[str, Any] = {"stop": "stop", "end_turn": "stop", "tool_calls": "function_calls", "length": "length"}
_NO_NAMES: Mapping[str, str] = {}
_ENDLESS = 1_000_000_000
"""Tool iterations of one turn: the gate bounds them."""


class BridgeClient(ChatCompletionClient):
    """The model client of one member: each call is a turn of its loop, through the gate."""

    component_type = "model"

    def __init__(self, loop: HostLoop) -> None:
        self._loop = loop
        self._total = RequestUsage(0, 0)

    async def create(self, messages: Sequence[LLMMessage], **options: Any) -> CreateResult:  # pyright: ignore[reportIncompatibleMethodOverride]  what it may be asked besides is the loop's to say
        """Ask the loop's model.

        Raises:
            RefusedError: the guard said no
            ModelError: the provider failed for good
        """
        reply = await self._loop.think(messages)
        used = reply.usage
        usage = RequestUsage(used.input_tokens, used.output_tokens) if used else RequestUsage(0, 0)
        self._total = RequestUsage(
            self._total.prompt_tokens + usage.prompt_tokens, self._total.completion_tokens + usage.completion_tokens
        )
        asked = [FunctionCall(id=one.id, name=one.name, arguments=one.arguments) for one in reply.tool_requests]
        return CreateResult(
            finish_reason="function_calls" if asked else _ENDS.get(reply.finish, "unknown"),
            content=asked or self._loop.shown(reply),
            usage=usage,
            cached=False,
            thought=(reply.text or None) if asked else None,
        )

    async def create_stream(  # pyright: ignore[reportIncompatibleMethodOverride]  as above
        self, messages: Sequence[LLMMessage], **options: Any
    ) -> AsyncGenerator[str | CreateResult, None]:
        """The same as a stream of one part."""
        result = await self.create(messages, **options)
        if isinstance(result.content, str):
            yield result.content
        yield result

    async def close(self) -> None:
        """Nothing is open."""

    def actual_usage(self) -> RequestUsage:
        """All tokens of this member's calls."""
        return self._total

    def total_usage(self) -> RequestUsage:
        """All tokens of this member's calls."""
        return self._total

    def count_tokens(self, messages: Sequence[LLMMessage], **options: Any) -> int:
        """An upper bound of a prompt's tokens."""
        bound = self._loop.model.bound
        return sum(bound(one) for message in messages for one in as_ours(message))

    def remaining_tokens(self, messages: Sequence[LLMMessage], **options: Any) -> int:
        """What is left of the model's window; a lot where nobody knows it."""
        window = self._loop.model.window
        return _ENDLESS if window is None else max(0, window - self.count_tokens(messages))

    @property
    def capabilities(self) -> Any:
        return _INFO

    @property
    def model_info(self) -> ModelInfo:
        return _INFO


class _Arguments(BaseModel, extra="allow"):
    """Whatever the model gives: the tool's own reading decides."""


class BridgeTool(BaseTool[_Arguments, Any]):
    """A tool, or something else that a process lets its agents ask for, as a tool of AutoGen."""

    def __init__(self, spec: ToolSpec, loop: HostLoop) -> None:
        super().__init__(_Arguments, str, spec.name, spec.description)
        self._spec = spec
        self._loop = loop

    @property
    def schema(self) -> ToolSchema:
        parameters = cast(ParametersSchema, dict(self._spec.parameters))
        return ToolSchema(name=self._spec.name, description=self._spec.description, parameters=parameters)

    async def run(self, args: _Arguments, cancellation_token: CancellationToken) -> str:
        """Execute it with these arguments."""
        return await self.run_json(args.model_dump(), cancellation_token)

    async def run_json(
        self, args: Mapping[str, Any], cancellation_token: CancellationToken, call_id: str | None = None
    ) -> str:
        """One execution through the gate: what the agent reads of it."""
        return await self._loop.act(self.name, call_id, json.dumps(args, default=str))


class Member(AssistantAgent):
    """An agent of a crew, under its own name: one turn of it ends with an answer that counts."""

    def __init__(self, loop: HostLoop, name: str, system: str, specs: Sequence[ToolSpec]) -> None:
        super().__init__(
            name,
            BridgeClient(loop),
            tools=[BridgeTool(spec, loop) for spec in specs],
            description=loop.agent.role.goal,
            system_message=system,
            max_tool_iterations=_ENDLESS,
            reflect_on_tool_use=False,
            output_content_type=loop.task.output,
        )
        self._loop = loop

    async def on_messages_stream(
        self, messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken
    ) -> AsyncGenerator[BaseAgentEvent | BaseChatMessage | Response, None]:
        """Turns until there is an answer that follows the task's model and that its guardrails let pass."""
        loop, response = self._loop, None
        loop.output = loop.error = None
        try:
            told = [*await loop.feed(self.model_context), *messages]
            while loop.output is None and loop.heir is None:
                try:
                    async for item in super().on_messages_stream(told, cancellation_token):
                        if isinstance(item, Response):
                            response = item
                        else:
                            yield item
                except Exception as error:
                    if not isinstance(error, HandedOverError) and not loop.answered:
                        raise
                    # What doesn't follow the model is turned down below, in the loop's own words.
                    response = None
                if loop.heir is None:
                    loop.output = await loop.answer()
                    told = await loop.feed(self.model_context)
        except BaseException as error:
            loop.error = error
            if not loop.in_team or not isinstance(error, Exception):
                raise
            # Its termination condition ends the team: an exception would be logged there, at every ordinary stop.
        finally:
            await loop.listen(self.model_context)
        yield self._told(response)

    def _told(self, response: Response | None) -> Response:
        """What the others hear of a turn: an answer as it counts, which is not always as the model gave it."""
        loop = self._loop
        if loop.error is not None or response is None:
            said = "it was ended" if loop.error else str(loop.output) if loop.heir is None else f"{loop.heir} goes on"
            return Response(chat_message=TextMessage(content=said, source=self.name))
        message: Any = response.chat_message
        if loop.heir is None and message.content != loop.output:
            message = message.model_copy(update={"content": loop.output})
        return Response(chat_message=message, inner_messages=response.inner_messages)


class HandedOverError(Exception):
    """The member has handed over: its model is not asked again."""


def as_ours(message: LLMMessage, names: Mapping[str, str] = _NO_NAMES) -> list[Message]:
    """A message of AutoGen as the loop says it; another member's words carry its name.

    Args:
        names: the crew's names of agents by AutoGen's
    """
    if isinstance(message, FunctionExecutionResultMessage):
        return [Message("tool", result.content, (), result.call_id) for result in message.content]
    content = message.content
    text = content if isinstance(content, str) else ""
    if isinstance(message, UserMessage):
        return [Message("user", text if message.source not in names else f"{names[message.source]}: {text}")]
    return [Message("assistant" if isinstance(message, AssistantMessage) else "system", text)]


def as_theirs(message: Message, agent: str) -> LLMMessage:
    """A message of the loop as AutoGen keeps it."""
    if message.speaker == "tool":
        result = FunctionExecutionResult(
            content=message.text, name="tool", call_id=message.tool_request_id or "", is_error=False
        )
        return FunctionExecutionResultMessage(content=[result])
    if message.speaker == "user":
        return UserMessage(content=message.text, source=SILENT)
    asked = [FunctionCall(id=one.id, name=one.name, arguments=one.arguments) for one in message.tool_requests]
    if asked:
        return AssistantMessage(content=asked, thought=message.text or None, source=agent)
    return AssistantMessage(content=message.text, source=agent)
