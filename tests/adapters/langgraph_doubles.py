"""LangChain models and graphs that would rather not be bounded."""

import operator
from typing import Annotated, Any, TypedDict

from langchain.agents import create_agent
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import StructuredTool
from langgraph.graph import START, StateGraph
from langgraph.types import Send

from tests.adapters.loopback import Served

SYSTEM = "You look things up until you know everything there is to know. " * 18
"""Longer in tokens than the 1,000 that the doubles bill for a prompt, counted in bytes."""


class HungryChat(BaseChatModel):
    """Always wants another tool, and bills what it is let."""

    served: Any = None
    answer_after: int | None = None
    reports: bool = True
    obeys: bool = True
    parallel: int = 1
    answer: str = "done"
    tool: str = "look"
    streaming: bool = False

    def __init__(self, **given):
        super().__init__(**given)
        self.served = Served()

    @property
    def _llm_type(self):
        return "hungry"

    def bind_tools(self, tools, **kwargs):
        return self.bind(tools=[{"name": tool.name, "description": tool.description} for tool in tools], **kwargs)

    def _reply(self, kwargs):
        number, completion = self.served.bill(kwargs.get("max_tokens") if self.obeys else None)
        prompt = self.served.prompt
        usage = {"input_tokens": prompt, "output_tokens": completion, "total_tokens": prompt + completion}
        usage = usage if self.reports else None
        if self.answer_after is not None and number > self.answer_after:
            return AIMessage(self.answer, usage_metadata=usage)
        calls = [
            {"name": self.tool, "args": {"query": f"q{number}.{i}"}, "id": f"c{number}.{i}"}
            for i in range(self.parallel)
        ]
        return AIMessage("", tool_calls=calls, usage_metadata=usage)

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        return ChatResult(generations=[ChatGeneration(message=self._reply(kwargs))])


class AsyncHungryChat(HungryChat):
    """The same with a coroutine of its own."""

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        return ChatResult(generations=[ChatGeneration(message=self._reply(kwargs))])


class StreamedHungryChat(HungryChat):
    """The same as a stream, whose usage comes last."""

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        reply = self._reply(kwargs)
        chunks = [
            {"name": call["name"], "args": '{"query": "q"}', "id": call["id"], "index": i}
            for i, call in enumerate(reply.tool_calls)
        ]
        yield ChatGenerationChunk(message=AIMessageChunk("loo"))
        yield ChatGenerationChunk(message=AIMessageChunk(reply.content, tool_call_chunks=chunks))
        yield ChatGenerationChunk(message=AIMessageChunk("", usage_metadata=reply.usage_metadata))


def looker(executions):
    """The tool `look`, which notes what it was asked."""

    def look(query: str) -> str:
        """Look something up."""
        executions.append(query)
        return f"{query} is there"

    return StructuredTool.from_function(look)


def hungry_agent(model, executions=None, **options):
    """create_agent of LangChain with one tool."""
    given = {"tools": [looker([] if executions is None else executions)], "name": "seeker", **options}
    return create_agent(model, system_prompt=SYSTEM, **given)


class Findings(TypedDict):
    """The state of a fan-out."""

    found: Annotated[list, operator.add]


def fan_out(node, branches=8):
    """A graph that sends to one node many times at once."""
    graph = StateGraph(Findings)
    graph.add_node("worker", node)
    graph.add_conditional_edges(START, lambda _: [Send("worker", {"found": []}) for _ in range(branches)])
    return graph.compile()


def fan_out_of_agents(model, branches, middleware=()):
    """A graph that sends to an agent many times at once."""
    agent = hungry_agent(model, middleware=list(middleware))
    graph = StateGraph(agent.builder.state_schema)
    graph.add_node("seeker", agent)
    graph.add_conditional_edges(START, lambda state: [Send("seeker", state) for _ in range(branches)])
    return graph.compile()


def one_node(node, **options):
    """A graph of one node, `writer`."""
    graph = StateGraph(Findings)
    graph.add_node("writer", node, **options)
    graph.add_edge(START, "writer")
    return graph.compile()
