"""Our own runtime: tasks in order, each an agent's loop of think, act, observe and finish.

The loop is bounded by the gate: every turn is a model call that has to be admitted.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio.to_thread
from pydantic import BaseModel, ValidationError

from crew_guard.core.events import AgentStep
from crew_guard.core.messages import Message, ModelReply, ModelRequest, ToolRequest, Transcript
from crew_guard.core.plain import plain
from crew_guard.core.roles import Agent, Crew, Task, TaskContext, Verdict, fill
from crew_guard.core.tools import Tool, explain_validation
from crew_guard.errors import ConfigError, RefusedError
from crew_guard.ports import CallTerms, Gate, Model, RuntimeResult

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
class NativeRuntime:
    """Runs a Crew. A Runtime of ports.py."""

    crew: Crew
    model_for: Callable[[Agent], Model]

    @property
    def name(self) -> str:
        return "native"

    def members(self) -> Sequence[str]:
        """The crew's agents."""
        return [agent.name for agent in self.crew.agents]

    async def run(self, inputs: Mapping[str, Any], gate: Gate) -> RuntimeResult:
        """Do the tasks in order; the last one's output is the crew's.

        Raises:
            ConfigError: a {variable} of a task or a role is not among the inputs
            ModelError: a provider failed for good
        """
        outputs: dict[str, Any] = {}
        output: Any = None
        for task in self.crew.tasks:
            agent = self.crew.agent(task.agent)
            loop = AgentLoop(agent, task, self.model_for(agent), gate)
            try:
                output = await loop.run(inputs, outputs)
            except UnfinishedError as error:
                return RuntimeResult(error.partial, outputs, partial=True, reason=f"{agent.name}: {error}")
            except RefusedError as error:
                return RuntimeResult(loop.so_far, outputs, partial=True, reason=str(error.stop), stop=error.stop)
            except asyncio.CancelledError:
                # The supervisor ends this work and reads its own latch; what there is goes with the result.
                return RuntimeResult(loop.so_far, outputs, partial=True, reason="it was ended")
            outputs[task.name] = output
            if task.verify is not None:
                verdict = await _judge(task, output, TaskContext(inputs, outputs))
                gate.judged(agent.name, task.name, verdict)
                if not verdict.passed:
                    reason = f"{agent.name}: the verifier of {task.name} said no: {verdict.reason or 'no reason given'}"
                    return RuntimeResult(output, outputs, partial=True, reason=reason)
        return RuntimeResult(output, outputs)


@dataclass(slots=True)
class AgentLoop:
    """One agent at one task: explicit states, an append-only transcript."""

    agent: Agent
    task: Task
    model: Model
    gate: Gate
    transcript: Transcript = field(default_factory=Transcript)
    repairs: int = 0

    async def run(self, inputs: Mapping[str, Any], earlier: Mapping[str, Any]) -> Any:
        """The task's output: text, or an instance of its output model.

        Raises:
            UnfinishedError: there is no usable answer
        """
        self._brief(inputs, earlier)
        tools = {tool.name: tool for tool in self.agent.tools}
        specs = tuple(tool.spec for tool in tools.values())
        schema = self.task.output.model_json_schema() if self.task.output else None
        overhead = self.model.bound_request(specs, schema)
        terms = CallTerms(self.agent.role.max_tokens, self.agent.role.completion_min)
        name = self.task.output.__name__ if self.task.output else "output"
        self.gate.moved(self.agent.name, self.task.name, "think")
        state: AgentStep = "think"
        reply, results, output = _NOTHING_YET, [], None
        while state != "finish":
            if state == "think":
                tokens = self.transcript.tokens + overhead
                request = ModelRequest(self.transcript.messages, specs, schema, name, tokens)
                reply = await self.gate.call_model(self.agent.name, self.model, request, terms)
                self._say(Message("assistant", reply.text, reply.tool_requests))
                if reply.tool_requests:
                    state = "act"
                elif (output := self._finish(reply)) is not None:
                    state = "finish"
            elif state == "act":
                results = await self._act(reply.tool_requests, tools)
                state = "observe"
            else:
                for message in results:
                    self._say(message)
                state = "think"
        self.gate.moved(self.agent.name, self.task.name, "finish")
        return output

    @property
    def so_far(self) -> str | None:
        """The last thing that the agent said or was told by a tool; None if there is nothing."""
        said = (message.text for message in reversed(self.transcript.messages) if message.speaker in _OF_USE)
        return next((text for text in said if text), None)

    def _brief(self, inputs: Mapping[str, Any], earlier: Mapping[str, Any]) -> None:
        role = self.agent.role
        system = f"You are {fill(role.title, inputs) or role.name}. {fill(role.goal, inputs)}"
        if role.instructions:
            system += f"\n{fill(role.instructions, inputs)}"
        wish = fill(self.task.description, inputs)
        shown = earlier if self.task.context is None else {name: earlier[name] for name in self.task.context}
        for name, output in shown.items():
            wish += f"\n\n{name}:\n{_as_text(output)}"
        self._say(Message("system", system))
        self._say(Message("user", wish))

    def _say(self, message: Message) -> None:
        self.transcript.append(message, self.model.bound(message))

    async def _act(self, requests: tuple[ToolRequest, ...], tools: Mapping[str, Tool]) -> list[Message]:
        if len(requests) == 1:
            return [await self._call(requests[0], tools)]
        # A refusal is raised only after the others have ended: what was begun is paid for.
        answers = await asyncio.gather(*(self._call(one, tools) for one in requests), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return [answer for answer in answers if isinstance(answer, Message)]

    async def _call(self, request: ToolRequest, tools: Mapping[str, Tool]) -> Message:
        tool = tools.get(request.name)
        if tool is None:
            known = ", ".join(tools) or "none"
            return Message("tool", f"there is no tool {request.name!r}; yours: {known}", (), request.id)
        try:
            result = await self.gate.call_tool(self.agent.name, tool, request.arguments)
        except RefusedError as error:
            if not error.stop.scope.startswith("tool:"):
                raise
            # Only this tool is closed: the agent may try otherwise.
            return Message("tool", f"{tool.name} was refused: {error.stop}", (), request.id)
        return Message("tool", result.text, (), request.id)

    def _finish(self, reply: ModelReply) -> Any:
        """The answer, or None where the agent is to mend it first."""
        output = self.task.output
        if reply.finish not in ("stop", "tool_calls", "end_turn"):
            raise UnfinishedError(_cut(reply), reply.text)
        if output is None:
            if reply.text.strip():
                return reply.text
            problem = "the answer is empty"
        else:
            try:
                return output.model_validate_json(_json_of(reply.text))
            except ValidationError as error:
                problem = explain_validation(error, "the answer")
        self.repairs += 1
        if self.repairs > _REPAIRS:
            raise UnfinishedError(problem, reply.text)
        self._say(Message("user", f"{problem}\nAnswer again, mended."))
        return None


def _cut(reply: ModelReply) -> str:
    if reply.finish == "length":
        used = reply.usage.output_tokens if reply.usage else None
        return f"the answer was cut at its longest length{f', {used:,} tokens' if used else ''}"
    return f"the provider ended the answer with {reply.finish!r}"


def _json_of(text: str) -> str:
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


async def _judge(task: Task, output: Any, context: TaskContext) -> Verdict:
    assert task.verify is not None  # noqa: S101  the caller looked
    try:
        # Beside the loop: it may take its time, and other runs go on meanwhile.
        verdict = await anyio.to_thread.run_sync(task.verify, output, context, abandon_on_cancel=True)
    except Exception as error:  # noqa: BLE001  a verifier that raises has not said yes
        return Verdict(passed=False, reason=f"the verifier raised {type(error).__name__}: {error}")
    return verdict if isinstance(verdict, Verdict) else Verdict(bool(verdict))


def check_inputs(crew: Crew, inputs: Mapping[str, Any]) -> None:
    """Whether every {variable} of the crew is given.

    Raises:
        ConfigError: names those that are not
    """
    if missing := sorted(crew.variables() - inputs.keys()):
        given = ", ".join(sorted(inputs)) or "none"
        needs = ", ".join(f"{{{name}}}" for name in missing)
        raise ConfigError(f"crew {crew.name!r} needs the input {needs}; given: {given}")
