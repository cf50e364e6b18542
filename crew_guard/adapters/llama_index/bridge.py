"""One agent's turns as a FunctionAgent's: its LLM asks through the gate, its tools execute through it.

The conversation that counts is the transcript of our loop. What the host adds to it, results of tools, is
said there as the host's LLM is asked; what the host doesn't know of, notices of the budget, stays there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from llama_index.core.agent.workflow import FunctionAgent, ToolCallResult
from llama_index.core.agent.workflow.workflow_events import AgentWorkflowStartEvent
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, LLMMetadata, TextBlock, ToolCallBlock
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.memory import BaseMemory, ChatMemoryBuffer
from llama_index.core.tools import AsyncBaseTool, ToolMetadata, ToolOutput
from pydantic import PrivateAttr
from workflows import Workflow

from crew_guard.adapters.llama_index.handlers import finished
from crew_guard.adapters.native.loop import AgentLoop
from crew_guard.core.messages import Message, ModelReply, ModelRequest, ToolRequest
from crew_guard.errors import RefusedError

_WITHOUT_END = 10**9
_RAW = "crew_guard_arguments"
"""The key that a tool request's arguments go by in the host, as the model wrote them: they may be no JSON."""
_HEIR = "hand_over"
"""What the host calls the tool handoff, whose name it has taken for a meaning of its own."""


@dataclass(slots=True)
class HostedLoop(AgentLoop):
    """An AgentLoop whose turns a FunctionAgent takes."""

    reply: ModelReply = field(default_factory=lambda: ModelReply(""))
    """The last one."""
    failure: BaseException | None = None
    """What ended a turn: the host may have made something else of it."""

    async def turns(self) -> Any:
        """See AgentLoop.turns."""
        if self._shape is None:
            self._measure()
        self.gate.moved(self.agent.name, self.task.name, "think")
        output = None
        while output is None and self.heir is None:
            await self._run_agent()
            if self.heir is None:
                output = await self._finish(self.reply)
        self.gate.moved(self.agent.name, self.task.name, "finish")
        return output

    async def _run_agent(self) -> None:
        said = self.transcript.messages
        history = [as_chat(message) for message in said[1:]]
        agent = agent_for(self, said[0].text)
        memory = ChatMemoryBuffer(token_limit=_WITHOUT_END, tokenizer_fn=_no_tokens)
        self.failure = None
        try:
            start = AgentWorkflowStartEvent(chat_history=history, memory=memory, max_iterations=_WITHOUT_END)
            await finished(Workflow.run(agent, start_event=start), at_once=True)  # its own run is for arguments of old
        except Exception:
            if self.failure is not None:
                raise self.failure from None
            raise

    async def ask(self) -> ModelReply:
        """One request with the transcript as it is: an agent's thought.

        Raises:
            RefusedError, ModelError: also where a tool's execution was refused before
        """
        if self.failure is not None:
            raise self.failure
        try:
            return await self._asked()
        except BaseException as error:
            self.failure = error
            raise

    async def _asked(self) -> ModelReply:
        shape = self._shape or self._measure()
        for notice in self.gate.notices(self.agent.name):
            self.say(Message("user", notice))
        tokens = self.transcript.tokens + shape.overhead
        if shape.window is not None and tokens > shape.fits:
            tokens = await self._compact(shape)
        request = ModelRequest(self.transcript.messages, shape.specs, self._schema, shape.output, tokens)
        self.reply = await self.gate.call_model(self.agent.name, self.model, request, shape.terms)
        self.say(Message("assistant", self.reply.text, self.reply.tool_requests))
        return self.reply

    async def execute(self, name: str, arguments: str) -> str:
        """One execution of a tool, or of what the process lets the agent do besides; what the agent reads."""
        tools = {tool.name: tool for tool in self.agent.tools}
        try:
            return (await self._call(ToolRequest("", name, arguments), tools)).text
        except RefusedError as error:
            self.failure = self.failure or error
            raise

    def observe(self, results: Sequence[tuple[str, str]]) -> None:
        """Say the results of tools, by request id, in the order of the requests."""
        if self.failure is not None:
            return  # a refusal ends the turns, and what came with it is read by nobody
        texts = dict(results)
        for request in self.reply.tool_requests:
            self.say(Message("tool", texts.get(request.id, ""), (), request.id))


class BridgeLLM(FunctionCallingLLM):
    """The host's model object of one agent: it asks through the gate."""

    _loop: HostedLoop = PrivateAttr()

    @property
    def metadata(self) -> LLMMetadata:
        loop = self._loop
        window = loop.model.window or _WITHOUT_END
        return LLMMetadata(
            context_window=window, is_chat_model=True, is_function_calling_model=True, model_name=loop.model.name
        )

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:  # noqa: ARG002  the host's signature
        """One turn: what the host says beyond the transcript is there already, in the transcript's own words."""
        reply = await self._loop.ask()
        return ChatResponse(
            message=as_chat(Message("assistant", reply.text, reply.tool_requests)), raw={"reply": reply}
        )

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        raise NotImplementedError("a crew's agents are asynchronous")

    complete = acomplete = stream_chat = astream_chat = stream_complete = astream_complete = chat  # pyright: ignore[reportAssignmentType]

    def _prepare_chat_with_tools(self, *_: Any, chat_history: Any = None, **__: Any) -> Any:
        return {"messages": chat_history or []}

    def get_tool_calls_from_response(self, *_: Any, **__: Any) -> list[ToolSelection]:
        return [
            ToolSelection(tool_id=one.id, tool_name=_there(one.name), tool_kwargs={_RAW: one.arguments})
            for one in self._loop.reply.tool_requests
        ]


class BridgeTool(AsyncBaseTool):
    """The host's tool object of one tool of an agent: it executes through the gate."""

    def __init__(self, loop: HostedLoop, name: str, description: str, arguments: Any) -> None:
        self._loop, self._name = loop, name
        direct = _there(name) == _HEIR
        self._metadata = ToolMetadata(description or name, _there(name), arguments, return_direct=direct)

    @property
    def metadata(self) -> ToolMetadata:
        return self._metadata

    def call(self, *_: Any, **__: Any) -> ToolOutput:
        raise NotImplementedError("a crew's tools are asynchronous")

    async def acall(self, *_: Any, **kwargs: Any) -> ToolOutput:
        raw = kwargs.pop(_RAW, None)
        arguments = json.dumps(kwargs, default=str) if raw is None else str(raw)
        text = await self._loop.execute(self._name, arguments)
        stays = self._metadata.return_direct and self._loop.heir is None
        return ToolOutput(content=text, tool_name=self._name, raw_input=kwargs, raw_output=text, is_error=stays)


class CrewAgent(FunctionAgent):
    """The host's agent of one agent of the crew."""

    _loop: HostedLoop = PrivateAttr()
    _tools: list[AsyncBaseTool] = PrivateAttr()

    async def get_tools(self, input_str: str | None = None) -> Sequence[AsyncBaseTool]:  # noqa: ARG002  the host's signature
        """Those of the crew's agent, and of its process."""
        return self._tools

    async def handle_tool_call_results(self, ctx: Any, results: list[ToolCallResult], memory: BaseMemory) -> None:
        """Say the results in the transcript, too."""
        known = {tool.metadata.name for tool in self._tools}
        for result in results:
            if result.tool_name not in known:
                result.tool_output.content = await self._loop.execute(result.tool_name, "{}")
        self._loop.observe([(result.tool_id, result.tool_output.content) for result in results])
        await super().handle_tool_call_results(ctx, results, memory)


def agent_for(loop: HostedLoop, system: str) -> CrewAgent:
    """The host's agent for one loop, with the name that it has in its crew."""
    agent = loop.agent
    llm = BridgeLLM()
    llm._loop = loop  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  pydantic sets no private attribute itself
    made = CrewAgent(
        name=agent.name, description=agent.role.goal, system_prompt=system, llm=llm, streaming=False, timeout=None
    )
    given = [(tool.name, tool.description, tool.arguments) for tool in agent.tools]
    given += [(name, one.tool.description, one.tool.arguments) for name, one in loop.built_in.items()]
    made._loop = loop  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    made._tools = [BridgeTool(loop, *one) for one in given]  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return made


def _no_tokens(_: str) -> list[int]:
    """The host's memory is never to leave anything out: what is too long is made shorter by the loop."""
    return []


def as_chat(message: Message) -> ChatMessage:
    """A message of ours as the host's."""
    more = {} if message.tool_request_id is None else {"tool_call_id": message.tool_request_id}
    asked = [
        ToolCallBlock(tool_call_id=one.id, tool_name=_there(one.name), tool_kwargs=one.arguments)
        for one in message.tool_requests
    ]
    return ChatMessage(role=message.speaker, blocks=[TextBlock(text=message.text), *asked], additional_kwargs=more)


def _there(name: str) -> str:
    return _HEIR if name == "handoff" else name
