"""One loop of model call and tool call, as each host's users write it: what guarding is measured on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any


@dataclass(frozen=True)
class Loop:
    """One host's crew, fresh: what guard() takes, how it runs on its own, and how often its model was asked."""

    adapter: str
    """The package."""
    crew: Any
    alone: Callable[[], object]
    asked: Callable[[], int]
    quiet: Callable[[], object] = lambda: None
    """Waits for what the host does beside a run."""
    inputs: Mapping[str, Any] = field(default_factory=lambda: {"task": "go"})
    """Those of a guarded run."""


def autogen(steps: int, latency: float) -> Loop:
    """An AssistantAgent with a tool."""
    from autogen_agentchat.agents import AssistantAgent

    from tests.benchmarks.autogen_turns import ZeroLatency, look

    client = ZeroLatency(steps - 1, latency)
    agent = AssistantAgent("agent", client, tools=[look], max_tool_iterations=steps + 1)
    return Loop("autogen", agent, lambda: asyncio.run(agent.run(task="go")), lambda: client.calls)


@cache
def _crewai_model() -> Any:
    from tests.adapters.crewai_doubles import HungryLLM

    class LLM(HungryLLM):
        latency: float = 0.0

        def call(self, *arguments: Any, **options: Any) -> Any:
            if self.latency:
                time.sleep(self.latency)
            return super().call(*arguments, **options)

    return LLM


def crewai(steps: int, latency: float) -> Loop:
    """An Agent with a tool, whose model calls it natively."""
    from crewai.events.event_bus import crewai_event_bus

    from tests.adapters.crewai_doubles import hungry_agent

    llm = _crewai_model()(answer_after=steps - 1, latency=latency)
    agent = hungry_agent(llm, max_iter=steps + 5)
    return Loop("crewai", agent, lambda: agent.kickoff("go"), lambda: llm.served.calls, crewai_event_bus.flush)


@cache
def _langgraph_model() -> Any:
    from tests.adapters.langgraph_doubles import AsyncHungryChat

    class Chat(AsyncHungryChat):
        latency: float = 0.0

        async def _agenerate(self, *arguments: Any, **options: Any) -> Any:
            if self.latency:
                await asyncio.sleep(self.latency)
            return await super()._agenerate(*arguments, **options)

    return Chat


def langgraph(steps: int, latency: float) -> Loop:
    """create_agent of LangChain with a tool."""
    from tests.adapters.langgraph_doubles import hungry_agent

    model = _langgraph_model()(answer_after=steps - 1, latency=latency)
    graph = hungry_agent(model)
    task = {"messages": [("user", "go")]}
    return Loop("langgraph", graph, lambda: asyncio.run(graph.ainvoke(task)), lambda: model.served.calls)


@cache
def _llama_index_model() -> Any:
    from tests.adapters.llama_index_doubles import HungryLLM

    class LLM(HungryLLM):
        latency: float = 0.0

        async def achat(self, *arguments: Any, **options: Any) -> Any:
            if self.latency:
                await asyncio.sleep(self.latency)
            return self.chat(*arguments, **options)

    return LLM


def llama_index(steps: int, latency: float) -> Loop:
    """A FunctionAgent with a tool."""
    from tests.adapters.llama_index_doubles import hungry_agent

    llm = _llama_index_model()(answer_after=steps - 1, latency=latency)
    agent = hungry_agent(llm)[0]

    async def run() -> None:
        await agent.run(user_msg="go", max_iterations=steps + 5)

    inputs = {"task": "go", "max_iterations": steps + 5}
    return Loop("llama_index", agent, lambda: asyncio.run(run()), lambda: llm.served.calls, inputs=inputs)


@cache
def _own_steps() -> Any:
    from llama_index.core.base.llms.types import ChatMessage
    from workflows import Workflow, step
    from workflows.events import Event, StartEvent, StopEvent

    from tests.adapters.llama_index_doubles import SYSTEM

    class Asked(Event):
        """The model is to be asked."""

    class Wanted(Event):
        """It wants tools."""

        calls: list[Any]

    class OwnSteps(Workflow):
        def __init__(self, llm: Any, tool: Any) -> None:
            super().__init__(timeout=None)
            self.llm, self.tool = llm, tool
            self.said = [ChatMessage(SYSTEM, role="system")]

        @step
        async def begin(self, ev: StartEvent) -> Asked:
            self.said.append(ChatMessage("go"))
            return Asked()

        @step
        async def ask(self, ev: Asked) -> Wanted | StopEvent:
            reply = await self.llm.achat_with_tools([self.tool], chat_history=self.said)
            self.said.append(reply.message)
            calls = self.llm.get_tool_calls_from_response(reply, error_on_no_tool_call=False)
            return Wanted(calls=calls) if calls else StopEvent(result="done")

        @step
        async def use(self, ev: Wanted) -> Asked:
            for call in ev.calls:
                found = await self.tool.acall(**call.tool_kwargs)
                self.said.append(
                    ChatMessage(found.content, role="tool", additional_kwargs={"tool_call_id": call.tool_id})
                )
            return Asked()

    return OwnSteps


def llama_index_workflow(steps: int, latency: float) -> Loop:
    """A Workflow that asks in one step and uses the tool in another."""
    from llama_index.core.tools import FunctionTool

    def look(query: str) -> str:
        """Look something up."""
        return f"something about {query}"

    llm = _llama_index_model()(answer_after=steps - 1, latency=latency)
    flow = _own_steps()(llm, FunctionTool.from_defaults(look))

    async def run() -> None:
        await flow.run()

    return Loop("llama_index", flow, lambda: asyncio.run(run()), lambda: llm.served.calls, inputs={})


LOOPS: dict[str, Callable[[int, float], Loop]] = {
    "AutoGen, agent": autogen,
    "CrewAI, agent": crewai,
    "LangGraph, create_agent": langgraph,
    "LlamaIndex, workflow": llama_index_workflow,
    "LlamaIndex, agent": llama_index,
}
