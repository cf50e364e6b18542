"""Agents whose middleware has one form of its hooks: run in a thread, or refused where no way leads through."""

import asyncio

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, before_model, wrap_model_call, wrap_tool_call
from langchain_core.tools import StructuredTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

from crew_guard.adapters import langgraph
from crew_guard.errors import ConfigError
from tests.adapters.guarding import Guard, policy
from tests.adapters.langgraph_doubles import HungryChat


@wrap_model_call
def blocking_model(request, handler):
    return handler(request)


@wrap_tool_call
def blocking_tool(request, handler):
    return handler(request)


@wrap_model_call
async def awaited_model(request, handler):
    return await handler(request)


@wrap_tool_call
async def awaited_tool(request, handler):
    return await handler(request)


@before_model
async def awaited_before(state, runtime):
    return None


@before_model
def blocking_before(state, runtime):
    return None


class OfAClass(AgentMiddleware):
    def wrap_model_call(self, request, handler):
        return handler(request)


class BothWays(OfAClass):
    async def awrap_model_call(self, request, handler):
        return await handler(request)


def look(query: str) -> str:
    """Look something up."""
    return f"found {query}"


async def alook(query: str) -> str:
    """Look something up."""
    return f"found {query}"


LOOK = StructuredTool.from_function(look)
ALOOK = StructuredTool.from_function(coroutine=alook, name="look")


def agent(*middleware, tools=(LOOK,), **options):
    return create_agent(HungryChat(answer_after=1), list(tools), middleware=list(middleware), **options)


def nested(inner):
    graph = StateGraph(MessagesState)
    graph.add_node("inner", inner)
    graph.add_edge(START, "inner")
    return graph.compile()


WAYS = {
    "model": lambda: agent(blocking_model),
    "tool": lambda: agent(blocking_tool),
    "class": lambda: agent(OfAClass()),
    "beside one with both": lambda: agent(BothWays(), blocking_tool, blocking_before),
    "two": lambda: agent(blocking_model, OfAClass()),
    "awaited": lambda: agent(awaited_model, awaited_tool, awaited_before, tools=[ALOOK]),
    "nested": lambda: nested(agent(blocking_model)),
}


@pytest.mark.parametrize("way", WAYS)
def test_middleware_of_one_form_runs(way):
    """As LangChain's own invoke, or ainvoke, runs it: each call at the gate, also where the run is awaited."""
    for _ in range(2):
        guard = Guard(langgraph, WAYS[way](), policy(max_steps=5))
        result = guard.run(messages=[("user", "go")])
        assert (result.error, result.status) == ("", "done")
        assert (result.usage.steps, result.usage.tool_calls) == (2, 1)

    async def awaited():
        guard = Guard(langgraph, WAYS[way](), policy(max_steps=5))
        return await guard.start({"messages": [("user", "go")]}, asyncio.get_running_loop()).result()

    assert asyncio.run(awaited()).status == "done"


def test_it_is_stopped_there_as_anywhere():
    """At the cap, and not a request later."""
    guard = Guard(langgraph, agent(blocking_model, checkpointer=InMemorySaver()), policy(max_steps=1))
    result = guard.run(messages=[("user", "go")], config={"configurable": {"thread_id": "1"}})
    assert (result.stopped.limit, result.usage.steps) == ("max_steps", 1)


MIXED = {
    "blocking_model .only wrap_model_call.*awaited_tool .only awrap_tool_call": lambda: agent(
        blocking_model, awaited_tool
    ),
    "OfAClass .only wrap_model_call.*awaited_before.* .async only": lambda: agent(OfAClass(), awaited_before),
    "blocking_tool .only wrap_tool_call.*look .async only": lambda: agent(blocking_tool, tools=[ALOOK]),
    "blocking_model.*awaited_model": lambda: nested(agent(awaited_model, blocking_model)),
}


@pytest.mark.parametrize("told", MIXED)
def test_what_can_be_run_no_way_is_refused_by_name(told):
    """Before anything is paid: LangChain would say so when it comes to it."""
    with pytest.raises(ConfigError, match=f"neither in async code.*{told}"):
        Guard(langgraph, MIXED[told](), policy())
