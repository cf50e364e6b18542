"""A tool's max_seconds holds for LangChain's tools: the agent reads that its execution was ended, and goes on."""

import asyncio
import threading
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import BaseTool, StructuredTool, ToolException
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from crew_guard import Policy
from crew_guard.adapters import langgraph
from tests.adapters.guarding import Guard, policy
from tests.adapters.langgraph_doubles import HungryChat, hungry_agent, looker, one_node

IN_TIME = Policy.model_validate({"tools": {"limits": {"look": {"max_seconds": 0.05}}}})
OVERDUE = "look was ended after 0.05 s, its max_seconds"


async def never(query: str) -> str:
    """Look something up."""
    await asyncio.Event().wait()


@pytest.fixture
def held():
    """A function that blocks until the test is over."""
    go = threading.Event()

    def look(query: str) -> str:
        """Look something up."""
        go.wait(20)
        return "late"

    yield look
    go.set()


class Looker(BaseTool):
    """A class of one's own, which knows only threads."""

    name: str = "look"
    description: str = "Look something up."
    work: object = None

    def _run(self, query: str) -> str:
        return self.work(query)


def waiting(held):
    return StructuredTool.from_function(coroutine=never, name="look")


def blocking(held):
    return StructuredTool.from_function(held)


def of_a_class(held):
    return Looker(work=held)


class Reading(HungryChat):
    """Notes what it is told."""

    heard: Any = None

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        self.heard = [(message.type, message.text, getattr(message, "status", "")) for message in messages]
        return super()._generate(messages, stop, run_manager, **kwargs)


@pytest.mark.parametrize("made", [waiting, blocking, of_a_class])
def test_a_tool_that_takes_too_long_is_a_failed_one_to_its_agent(made, held):
    """The run goes on and is done; a thread that can't be ended is named as long as it is there."""
    model = Reading(answer_after=1)
    guard = Guard(langgraph, hungry_agent(model, tools=[made(held)]), IN_TIME)
    result = guard.run()
    assert (result.status, result.output, result.usage.tool_calls) == ("done", "done", 1)
    assert model.heard[-1] == ("tool", OVERDUE, "error")
    assert result.late == (() if made is waiting else ("seeker/look",))
    failed = [event.text for event in guard.events("Settled") if event.status == "failed"]
    assert [OVERDUE in text for text in failed] == [True]


@pytest.mark.parametrize("by", ["node", "call"])
def test_a_graph_of_ones_own_goes_on_too(by, held):
    """By a ToolNode, and by a blocking call of the tool that the model asked for."""
    graph, tool = StateGraph(MessagesState), blocking(held)
    call = {"name": "look", "args": {"query": "x"}, "id": "c1", "type": "tool_call"}
    graph.add_node("ask", lambda _: {"messages": [AIMessage("", tool_calls=[call])]})
    graph.add_node("tools", ToolNode([tool]) if by == "node" else lambda _: {"messages": [tool.invoke(call)]})
    graph.add_edge(START, "ask")
    graph.add_edge("ask", "tools")
    result = Guard(langgraph, graph.compile(), IN_TIME).run(messages=[])
    assert (result.status, result.output) == ("done", OVERDUE)


def test_a_tools_own_way_to_tell_failures_stands(held):
    """handle_tool_error of LangChain is for an execution that was ended, too."""
    model = Reading(answer_after=1)
    tool = StructuredTool.from_function(held, handle_tool_error="try another source")
    assert Guard(langgraph, hungry_agent(model, tools=[tool]), IN_TIME).run().status == "done"
    assert model.heard[-1] == ("tool", "try another source", "error")


def test_code_that_runs_a_tool_gets_a_failed_tools_error(held):
    """Also where it is another tool's code: only the one that was ended is told as that."""
    tool = blocking(held)

    def outer(query: str) -> str:
        """Look it up by another tool."""
        try:
            return tool.invoke({"query": query})
        except ToolException as error:
            return f"failed: {error}"

    def unguarded(query: str) -> str:
        """Look it up by another tool."""
        return tool.invoke({"query": query})

    model = Reading(answer_after=1, tool="outer")
    agent = hungry_agent(model, tools=[StructuredTool.from_function(outer)])
    assert Guard(langgraph, agent, IN_TIME).run().status == "done"
    assert model.heard[-1] == ("tool", f"failed: {OVERDUE}", "success")
    agent = hungry_agent(Reading(answer_after=1, tool="unguarded"), tools=[StructuredTool.from_function(unguarded)])
    result = Guard(langgraph, agent, IN_TIME).run()
    assert (result.status, OVERDUE in result.error) == ("failed", True)


def test_a_tool_without_a_limit_stays_on_its_thread():
    """No thread is made for it, and one that is in time gives its result."""
    threads = []

    def look(query: str) -> str:
        """Look something up."""
        threads.append(threading.current_thread())
        return "found"

    tool = StructuredTool.from_function(look)

    def node(_):
        return {"found": [tool.invoke({"query": "x"}), threads[-1] is threading.current_thread()]}

    assert Guard(langgraph, one_node(node), policy()).run(found=[]).output == {"found": ["found", True]}
    limited = Policy.model_validate({"tools": {"limits": {"look": {"max_seconds": 20}}}})
    assert Guard(langgraph, one_node(node), limited).run(found=[]).output == {"found": ["found", False]}


def test_others_tools_have_the_time_that_they_need():
    """The limit is of one tool by its name."""
    limited = Policy.model_validate({"tools": {"limits": {"write": {"max_seconds": 0.01}}}})
    found = []
    result = Guard(langgraph, hungry_agent(HungryChat(answer_after=1), tools=[looker(found)]), limited).run()
    assert (result.status, found) == ("done", ["q1.0"])
