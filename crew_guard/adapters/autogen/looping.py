"""A loop of one of our agents whose turns an AssistantAgent takes.

It is what every process of our own runtime asks for turns, and so each of them runs on AutoGen's agents, and
counts the same: what it adds is to keep AutoGen's context and its own transcript in step.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from autogen_agentchat.messages import TextMessage
from autogen_core import CancellationToken
from autogen_core.model_context import ChatCompletionContext
from autogen_core.models import LLMMessage, UserMessage

from crew_guard.adapters.autogen.member import SILENT, HandedOverError, Member, as_ours, as_theirs
from crew_guard.adapters.native.loop import AgentLoop, json_in
from crew_guard.adapters.native.work import Work
from crew_guard.core.messages import Message, ModelReply, ModelRequest, ToolRequest
from crew_guard.core.roles import Agent, Task
from crew_guard.errors import RefusedError


@dataclass(slots=True)
class HostLoop(AgentLoop):
    """One agent at one task, as a Member of AutoGen. `turns` has it answer."""

    names: Mapping[str, str] = field(default_factory=dict[str, str])
    """The crew's names of agents by AutoGen's."""
    output: Any = None
    """The answer as it counts, once there is one."""
    error: BaseException | None = None
    """What ended the member's turn, which a team of AutoGen tells in words only."""
    in_team: bool = False
    """Whether a team asks for its turns, which ends by itself where one of them ended in an error."""
    context: ChatCompletionContext | None = None
    _member: Member | None = None
    _reply: ModelReply | None = None
    _known: int = 0
    """Messages of AutoGen's that the transcript has, or will not take."""
    _told: int = 0
    """Messages of the transcript that AutoGen has."""
    _asked: dict[str, ToolRequest] = field(default_factory=dict[str, ToolRequest])
    _texts: dict[str, str] = field(default_factory=dict[str, str])
    """By request: what our runtime would answer where AutoGen answers by itself."""
    _refusal: RefusedError | None = None
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set[asyncio.Task[Any]])

    async def turns(self) -> Any:
        """See AgentLoop.turns."""
        member = self.member()
        token = CancellationToken()
        self.gate.moved(self.agent.name, self.task.name, "think")
        try:
            await member.run(cancellation_token=token)
        except asyncio.CancelledError:
            token.cancel()  # its tools run in tasks of their own
            await asyncio.gather(*self._tasks, return_exceptions=True)
            raise
        self.gate.moved(self.agent.name, self.task.name, "finish")
        return self.output

    def member(self) -> Member:
        """The agent of AutoGen that takes this loop's turns; the same one each time."""
        if self._member is None:
            shape = self._shape or self._measure()
            system = self.transcript.messages[0].text
            self._member = Member(self, identifier(self.agent.name), system, shape.specs)
            self.context = self._member.model_context
        return self._member

    # What the member's client and tools lead to

    async def think(self, messages: Sequence[LLMMessage]) -> ModelReply:
        """One model call of the agent, with all that AutoGen would send.

        Raises:
            RefusedError, ModelError, HandedOverError
        """
        self._hear(messages)
        self._reply = None
        if self.heir is not None:
            raise HandedOverError
        if self._refusal is not None:
            raise self._refusal
        shape = self._shape or self._measure()
        for notice in self.gate.notices(self.agent.name):
            self.say(Message("user", notice))
            assert self.context is not None  # noqa: S101  a member asks
            await self.context.add_message(UserMessage(content=notice, source=SILENT))
            self._known += 1
        tokens = self.transcript.tokens + shape.overhead
        if shape.window is not None and tokens > shape.fits:
            tokens = await self._compact(shape)
        request = ModelRequest(self.transcript.messages, shape.specs, self._schema, shape.output, tokens)
        reply = await self.gate.call_model(self.agent.name, self.model, request, shape.terms)
        self.say(Message("assistant", reply.text, reply.tool_requests))
        self._known += 1
        self._told = len(self.transcript.messages)
        self._reply = reply
        self._asked = {one.id: one for one in reply.tool_requests}
        for one in reply.tool_requests:
            if not self._reaches_a_tool(one):
                self._texts[one.id] = (await self._call(one, self._tools())).text
        return reply

    async def act(self, name: str, call_id: str | None, arguments: str) -> str:
        """One execution that AutoGen asks for; a refusal that ends the task is raised again at the next model call."""
        if (task := asyncio.current_task()) is not None:
            self._tasks.add(task)
        request = self._asked.get(call_id or "") or ToolRequest(call_id or name, name, arguments)
        try:
            return (await self._call(request, self._tools())).text
        except RefusedError as error:
            self._refusal = error
            raise

    @property
    def answered(self) -> bool:
        """Whether the model has given an answer: nothing but AutoGen's own reading of it can fail now."""
        return self._reply is not None and not self._reply.tool_requests

    async def answer(self) -> Any:
        """The last reply as the task's answer, or None where the agent is to mend it.

        Raises:
            UnfinishedError: it can't be used
        """
        assert self._reply is not None  # noqa: S101  the member has asked
        return await self._finish(self._reply)

    def shown(self, reply: ModelReply) -> str:
        """An answer as AutoGen can read it: models like to fence JSON."""
        return reply.text if self.task.output is None else json_in(reply.text)

    # Keeping in step

    async def feed(self, context: ChatCompletionContext) -> list[TextMessage]:
        """Tell AutoGen what was said here since; what is left for the member to hear is handed back."""
        new = [message for message in self.transcript.messages[self._told :] if message.speaker != "system"]
        last = [new.pop()] if new and new[-1].speaker == "user" else []
        for message in new:
            await context.add_message(as_theirs(message, identifier(self.agent.name)))
        self._told = len(self.transcript.messages)
        self._known = 1 + len(await context.get_messages()) + len(last)  # and the system's message
        return [TextMessage(content=message.text, source=SILENT) for message in last]

    async def listen(self, context: ChatCompletionContext) -> None:
        """Take over what AutoGen's context holds at the end of a turn."""
        messages = await context.get_messages()
        self._hear([*messages[:1], *messages])

    def _hear(self, messages: Sequence[LLMMessage]) -> None:
        for message in messages[self._known :]:
            for ours in as_ours(message, self.names):
                if ours.speaker == "tool" and self._refusal is not None:
                    continue  # the refusal ends the task: what AutoGen made of it is nobody's result
                text = self._texts.get(ours.tool_request_id or "", ours.text)
                self.say(ours if text is ours.text else Message("tool", text, (), ours.tool_request_id))
        self._known = max(self._known, len(messages))
        self._told = len(self.transcript.messages)

    def _tools(self) -> dict[str, Any]:
        return {tool.name: tool for tool in self.agent.tools}

    def _reaches_a_tool(self, request: ToolRequest) -> bool:
        if request.name not in self._tools() and request.name not in self.built_in:
            return False
        try:
            json.loads(request.arguments)
        except ValueError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class HostWork(Work):
    """One run of one crew whose agents are AutoGen's."""

    def loop(self, agent: Agent, task: Task, built_in: Mapping[str, Any] | None = None) -> HostLoop:
        """See Work.loop."""
        names = {identifier(one.name): one.name for one in self.crew.everyone()}
        built_in = {} if built_in is None else built_in
        return HostLoop(agent, task, self.model_for(agent), self.gate, built_in=built_in, names=names)


def identifier(name: str) -> str:
    """A name as AutoGen takes it."""
    return re.sub(r"\W", "_", name)
