"""One agent's loop of think, act, observe and finish, on an append-only transcript.

The loop is bounded by the gate: every turn is a model call that has to be admitted. What a process lets an
agent do besides its tools, delegate say, is a BuiltIn.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from crew_guard.adapters.native.compaction import Shape, compacted
from crew_guard.core.decisions import Stop
from crew_guard.core.events import AgentStep
from crew_guard.core.messages import JsonObject, Message, ModelReply, ModelRequest, ToolRequest, ToolSpec, Transcript
from crew_guard.core.plain import plain
from crew_guard.core.roles import Agent, Task, Verdict, fill
from crew_guard.core.tools import Tool, misfit
from crew_guard.errors import RefusedError
from crew_guard.ports import CallTerms, Gate, Model

_REPAIRS = 2
"""How often an agent may mend an answer that doesn't follow its task's output model."""


_NOTHING_YET = ModelReply("")
_OF_USE = ("assistant", "tool")


class UnfinishedError(Exception):
    """An agent's task ended without an answer that can be used. The text says why."""

    def __init__(self, reason: str, partial: Any = None) -> None:
        super().__init__(reason)
        self.partial = partial


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """Something that an agent's process lets it do: looks like a tool to its model, and is none."""

    tool: Tool
    """What the model is told, and what reads its arguments."""
    act: Callable[..., Awaitable[str]]
    """Does it: what comes back is for the agent to read."""


@dataclass(slots=True)
class AgentLoop:
    """One agent at one task: explicit states, an append-only transcript."""

    agent: Agent
    task: Task
    model: Model
    gate: Gate
    transcript: Transcript = field(default_factory=Transcript)
    built_in: Mapping[str, BuiltIn] = field(default_factory=dict[str, BuiltIn])
    heir: str | None = None
    """Who goes on in this agent's place: it handed over."""
    repairs: int = 0
    _shape: Shape | None = None
    _schema: JsonObject | None = None

    def run(self, inputs: Mapping[str, Any], earlier: Mapping[str, Any], more: str = "") -> Coroutine[Any, Any, Any]:
        """Brief the agent, and await the task's output: text, or an instance of its output model.

        Raises:
            UnfinishedError: there is no usable answer
        """
        self.brief(inputs, wish_of(self.task, inputs, earlier) + more)
        return self.turns()

    async def turns(self) -> Any:
        """Turns of the agent until it has an answer, which is given back; None where it handed over.

        Raises:
            UnfinishedError: there is no usable answer
        """
        tools = {tool.name: tool for tool in self.agent.tools}
        shape = self._shape or self._measure()
        self.gate.moved(self.agent.name, self.task.name, "think")
        state: AgentStep = "think"
        reply, results, output = _NOTHING_YET, (), None
        while state != "finish":
            if state == "think":
                for notice in self.gate.notices(self.agent.name):
                    self.say(Message("user", notice))
                tokens = self.transcript.tokens + shape.overhead
                if shape.window is not None and tokens > shape.fits:
                    tokens = await self._compact(shape)
                request = ModelRequest(self.transcript.messages, shape.specs, self._schema, shape.output, tokens)
                reply = await self.gate.call_model(self.agent.name, self.model, request, shape.terms)
                self.say(Message("assistant", reply.text, reply.tool_requests))
                if reply.tool_requests:
                    state = "act"
                elif (output := await self._finish(reply)) is not None:
                    state = "finish"
            elif state == "act":
                requests = reply.tool_requests
                if len(requests) == 1:
                    results = (await self._call(requests[0], tools),)
                else:
                    results = await self._act_at_once(requests, tools)
                state = "observe"
            else:
                for message in results:
                    self.say(message)
                state = "think" if self.heir is None else "finish"
        self.gate.moved(self.agent.name, self.task.name, "finish")
        return output

    def so_far(self) -> str | None:
        """The last thing that the agent said or was told by a tool; None if there is nothing."""
        said = (message.text for message in reversed(self.transcript.messages) if message.speaker in _OF_USE)
        return next((text for text in said if text), None)

    def brief(self, inputs: Mapping[str, Any], wish: str = "") -> None:
        """Say who the agent is, and what is wished of it."""
        role = self.agent.role
        system = f"You are {fill(role.title, inputs) or role.name}. {fill(role.goal, inputs)}"
        if role.instructions:
            system += f"\n{fill(role.instructions, inputs)}"
        self.say(Message("system", system))
        if wish:
            self.say(Message("user", wish))

    def say(self, message: Message) -> None:
        """Add a message to what the agent knows; it is counted here, once."""
        self.transcript.append(message, self.model.bound(message))

    def _measure(self) -> Shape:
        specs: list[ToolSpec] = [tool.spec for tool in self.agent.tools]
        specs += [one.tool.spec for one in self.built_in.values()]
        output, role = self.task.output, self.agent.role
        schema = self._schema = output.model_json_schema() if output else None
        terms = CallTerms(role.max_tokens, role.completion_min)
        overhead = self.model.bound_request(specs, schema)
        name = output.__name__ if output else "output"
        shape = self._shape = Shape(tuple(specs), overhead, self.model.window, terms, name)
        return shape

    async def _compact(self, shape: Shape) -> int:
        agent, task = self.agent.name, self.task.name
        self.gate.moved(agent, task, "compact")
        self.transcript = await compacted(agent, self.model, self.gate, self.transcript, shape)
        self.gate.moved(agent, task, "think")
        return self.transcript.tokens + shape.overhead

    async def _act_at_once(self, requests: tuple[ToolRequest, ...], tools: Mapping[str, Tool]) -> tuple[Message, ...]:
        # A refusal is raised only after the others have ended: what was begun is paid for.
        answers = await asyncio.gather(*(self._call(one, tools) for one in requests), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return tuple([answer for answer in answers if isinstance(answer, Message)])

    async def _call(self, request: ToolRequest, tools: Mapping[str, Tool]) -> Message:
        tool = tools.get(request.name)
        built_in = self.built_in.get(request.name) if tool is None else None
        if tool is None and built_in is None:
            known = ", ".join((*tools, *self.built_in)) or "none"
            return Message("tool", f"there is no tool {request.name!r}; yours: {known}", (), request.id)
        try:
            if tool is not None:
                text = (await self.gate.call_tool(self.agent.name, tool, request.arguments)).text
            else:
                text = await _do(built_in, request.arguments)
        except RefusedError as error:
            if not _may_go_on(error.stop):
                raise
            text = f"{request.name} was refused: {error.stop}"
        return Message("tool", text, (), request.id)

    async def _finish(self, reply: ModelReply) -> Any:
        """The answer as it counts, or None where the agent is to mend it first."""
        output = self._parsed(reply)
        return None if output is None else await self._guarded(output)

    def _parsed(self, reply: ModelReply) -> Any:
        output = self.task.output
        if reply.finish not in ("stop", "tool_calls", "end_turn"):
            raise self._unfinished(_cut(reply), reply.text)
        if output is None:
            if reply.text.strip():
                return reply.text
            problem = "the answer is empty"
        else:
            try:
                return output.model_validate_json(json_in(reply.text))
            except Exception as error:  # noqa: BLE001  a validator of a user's may raise what it likes
                problem = misfit(error, "the answer")
        self._mend(problem, reply.text)
        return None

    def _mend(self, problem: str, partial: Any = None) -> None:
        self.repairs += 1
        if self.repairs > _REPAIRS:
            raise self._unfinished(problem, partial)
        self.say(Message("user", f"{problem}\nAnswer again, mended."))

    def _unfinished(self, problem: str, partial: Any) -> UnfinishedError:
        """No answer that can be used is a "no" where the task says what counts as success."""
        if self.task.output is not None or self.task.verify is not None:
            self.gate.judged(self.agent.name, self.task.name, Verdict(passed=False, reason=problem, source="schema"))
        return UnfinishedError(problem, partial)

    async def _guarded(self, output: Any) -> Any:
        check = await self.gate.check("outputs", self.agent.name, self.task.name, output)
        if check.outcome != "reject":
            return check.value if check.outcome == "fix" else output
        if not check.mendable or self.repairs >= _REPAIRS:
            self.gate.judged(self.agent.name, self.task.name, Verdict(passed=False, reason=check.reason))
            raise UnfinishedError(f"the answer to {self.task.name} was turned down by {check.reason}")
        self._mend(f"Your answer was turned down by {check.reason}")
        return None


async def _do(built_in: BuiltIn | None, arguments: str) -> str:
    assert built_in is not None  # noqa: S101  the caller looked
    try:
        values = built_in.tool.parse(arguments)
    except ValueError as error:
        return str(error)
    return await built_in.act(**values)


def _may_go_on(stop: Stop) -> bool:
    """Only a tool, or a delegation, is closed: the agent may try otherwise."""
    return stop.scope.startswith("tool:") or stop.limit == "max_depth"


def wish_of(task: Task, inputs: Mapping[str, Any], earlier: Mapping[str, Any]) -> str:
    """What a task asks for: its description, and the outputs that it builds on."""
    wish = fill(task.description, inputs)
    for name, output in earlier.items():
        wish += f"\n\n{name}:\n{_as_text(output)}"
    return wish


def _cut(reply: ModelReply) -> str:
    if reply.finish == "length":
        used = reply.usage.output_tokens if reply.usage else None
        return f"the answer was cut at its longest length{f', {used:,} tokens' if used else ''}"
    return f"the provider ended the answer with {reply.finish!r}"


def json_in(text: str) -> str:
    """The JSON in an answer: models like to fence it."""
    text = text.strip()
    if text.startswith("```") and text.endswith("```"):
        return text.removesuffix("```").split("\n", 1)[-1]
    return text


def _as_text(output: Any) -> str:
    if isinstance(output, str):
        return output
    if isinstance(output, BaseModel):
        return output.model_dump_json()
    return json.dumps(plain(output), ensure_ascii=False)
