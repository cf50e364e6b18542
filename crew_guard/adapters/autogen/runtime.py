"""One AssistantAgent as a Runtime: wrapped, run, and handed back as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

from autogen_agentchat.agents import AssistantAgent
from autogen_core import CancellationToken
from autogen_core.models import ChatCompletionClient
from autogen_core.tools import StaticWorkbench, Workbench

from crew_guard.adapters.autogen.client import GatedClient, check_client
from crew_guard.adapters.autogen.workbench import gated_workbench, is_gated
from crew_guard.adapters.hosted import ModelFacts
from crew_guard.errors import ConfigError
from crew_guard.ports import Gate, RuntimeResult


@dataclass(frozen=True, slots=True)
class AutoGenRuntime:
    """Runs one AssistantAgent, and the agents that are its tools. A Runtime of ports."""

    agent: AssistantAgent
    facts: ModelFacts

    def __post_init__(self) -> None:
        for agent in _agents(self.agent):
            for client in _clients(agent):
                check_client(client)

    @property
    def name(self) -> str:
        return "autogen"

    def members(self) -> Sequence[str]:
        """The agent, and those that are its tools."""
        return [agent.name for agent in _agents(self.agent)]

    async def run(self, inputs: Mapping[str, Any], gate: Gate) -> RuntimeResult:
        """Run the agent on its task; the content of its last message is the output.

        Args:
            inputs: the task as AutoGen takes it, under "task" or "input"
            gate: every model call and tool call goes through it
        Raises:
            ConfigError: there is no task, or the agent is in another guarded run
            RefusedError: the guard refused a model call and the agent let that through
        """
        task = inputs.get("task", inputs.get("input"))
        if not task:
            raise ConfigError(f"agent {self.agent.name!r} needs a task: run('…') or run({{'task': '…'}})")
        token = CancellationToken()
        with ExitStack() as stack:
            for agent in _agents(self.agent):
                stack.enter_context(_wrapped(agent, gate, self.facts))
            try:
                result = await self.agent.run(task=task, cancellation_token=token)
            except asyncio.CancelledError:
                token.cancel()  # AutoGen runs tools in a task of its own, which only the token ends
                raise
        last = result.messages[-1]
        return RuntimeResult(getattr(last, "content", last.to_text()))


@contextmanager
def _wrapped(agent: AssistantAgent, gate: Gate, facts: ModelFacts) -> Generator[None]:
    """Swap every model client and workbench of an agent for a gated one.

    AutoGen has no hook around a client or a tool call: an agent's attributes are the lowest seam
    that knows which agent calls, also where several agents share a client.
    """
    before = dict(vars(agent))
    if any(isinstance(value, GatedClient) or is_gated(value) for value in before.values()):
        raise ConfigError(f"agent {agent.name!r} is in a guarded run already: run them one after the other")
    try:
        for name, value in before.items():
            if isinstance(value, ChatCompletionClient):
                setattr(agent, name, GatedClient(value, agent.name, gate, facts))
            elif isinstance(value, Workbench):
                setattr(agent, name, gated_workbench(value, agent.name, gate))
            elif workbenches := _workbenches(value):
                setattr(agent, name, [gated_workbench(one, agent.name, gate) for one in workbenches])
        yield
    finally:
        for name, value in before.items():
            if vars(agent).get(name) is not value and _is_seam(value):
                setattr(agent, name, value)


def _agents(agent: object, above: tuple[object, ...] = ()) -> Iterator[AssistantAgent]:
    """An agent, and the agents behind its tools (AgentTool, TeamTool), each once."""
    if not isinstance(agent, AssistantAgent):
        kind = type(agent).__name__
        raise ConfigError(
            f"crew_guard guards AutoGen's AssistantAgent, alone or as a tool of another; not a {kind} yet"
        )
    yield agent
    for value in vars(agent).values():
        for workbench in _workbenches(value):
            tools = cast(list[Any], getattr(workbench, "_tools", ())) if isinstance(workbench, StaticWorkbench) else ()
            for tool in tools:
                runner = getattr(tool, "_task_runner", None)
                if runner is not None and runner is not agent and runner not in above:
                    yield from _agents(runner, (*above, agent))


def _clients(agent: AssistantAgent) -> Iterator[ChatCompletionClient]:
    return (value for value in vars(agent).values() if isinstance(value, ChatCompletionClient))


def _workbenches(value: object) -> list[Workbench]:
    if isinstance(value, Workbench):
        return [value]
    if isinstance(value, list | tuple):
        found = [one for one in cast(Sequence[object], value) if isinstance(one, Workbench)]
        return found if len(found) == len(cast(Sequence[object], value)) else []
    return []


def _is_seam(value: object) -> bool:
    return isinstance(value, ChatCompletionClient) or bool(_workbenches(value))
