"""What runtimes of our own crews share; on a host such a crew becomes the host's objects, and acts through seats.

A Seat is one agent's place there: the host's model object asks through it, the host's tool objects
execute through it, and so every attempt and every execution passes the gate just as in our own runtime.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from typing import Any, TypeVar

from crew_guard.core.messages import JsonObject, Message, ModelReply, ModelRequest, ToolSpec
from crew_guard.core.roles import Agent, Crew, fill
from crew_guard.core.tools import Tool
from crew_guard.ports import CallTerms, Gate, Model, ToolResult

T = TypeVar("T")


class Models(dict[str, Model]):
    """A crew's models by agent and by judge; called with an agent, it gives that agent's."""

    __slots__ = ()

    def __call__(self, agent: Agent) -> Model:
        return self[agent.name]


def called_on_host(names: Sequence[str], as_the_host: Callable[[str], str]) -> dict[str, str]:
    """What a host calls each of these where it can't have every name: no two the same, a number tells them apart.

    Args:
        names: no two the same
        as_the_host: a name as the host can have it; whatever it leaves as it is keeps its name
    """
    wanted = {name: as_the_host(name) for name in names}
    taken = {name for name in names if wanted[name] == name}
    for name in [name for name in names if wanted[name] != name]:
        numbered = (f"{wanted[name]} {number}" for number in count(2))
        wanted[name] = next(one for one in chain([wanted[name]], numbered) if one not in taken)
        taken.add(wanted[name])
    return wanted


@dataclass(frozen=True, slots=True)
class CrewRuntime:
    """What the runtimes of our own crews have in common, whichever host they run on."""

    crew: Crew
    model_for: Callable[[Agent], Model]

    def members(self) -> Sequence[str]:
        """The crew's agents, its manager or selector among them."""
        return [agent.name for agent in self.crew.everyone()]

    def task_texts(self, inputs: Mapping[str, Any]) -> Sequence[str]:
        """The tasks' descriptions; see Tasked."""
        return [fill(task.description, inputs) for task in self.crew.tasks]


@dataclass(slots=True)
class Seat:
    """One agent at one run's gate. Usable from the run's loop, and by the blocking methods from any other thread."""

    agent: Agent
    model: Model
    gate: Gate
    loop: asyncio.AbstractEventLoop
    """The run's."""
    _bounds: dict[Message, int] = field(default_factory=dict[Message, int])

    @property
    def name(self) -> str:
        """The agent's, as policies and journals know it."""
        return self.agent.name

    @property
    def terms(self) -> CallTerms:
        """How long its completions may be."""
        return CallTerms(self.agent.role.max_tokens, self.agent.role.completion_min)

    async def ask(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        schema: JsonObject | None = None,
        schema_name: str = "output",
        max_tokens: int | None = None,
    ) -> ModelReply:
        """One turn of the agent: what it is to be told of its budget is added, and each attempt is a step.

        Args:
            messages: the whole conversation, as the host has it
            tools: what the model may ask for
            schema: JSON Schema that the answer must follow
            max_tokens: the longest completion that the host asks for; the role's own wish counts where it has one
        Raises:
            RefusedError: the guard said no
            ModelError: the provider failed for good
        """
        told = tuple(Message("user", notice) for notice in self.gate.notices(self.name))
        conversation = (*messages, *told)
        tokens = sum(map(self._bound, conversation)) + self.model.bound_request(tools, schema)
        request = ModelRequest(conversation, tuple(tools), schema, schema_name, tokens)
        terms = self.terms
        if terms.max_tokens is None and max_tokens is not None:
            terms = CallTerms(max_tokens, terms.min_tokens)
        return await self.gate.call_model(self.name, self.model, request, terms)

    async def use(self, tool: Tool, arguments: str | Mapping[str, Any]) -> ToolResult:
        """One execution of a tool.

        Raises:
            RefusedError: the guard said no; where only the tool is stopped the agent may go on
        """
        return await self.gate.call_tool(self.name, tool, arguments)

    def ask_blocking(self, *args: Any, **options: Any) -> ModelReply:
        """The same for a host's thread; see `ask`."""
        return self.wait_for(self.ask(*args, **options))

    def use_blocking(self, tool: Tool, arguments: str | Mapping[str, Any]) -> ToolResult:
        """The same for a host's thread; see `use`."""
        return self.wait_for(self.use(tool, arguments))

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the run's loop and wait for it here, on another thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def _bound(self, message: Message) -> int:
        known = self._bounds.get(message)
        if known is None:
            known = self._bounds[message] = self.model.bound(message)
        return known
