"""An async tool that is cancelled while a guardrail looks at what came of it: on each host its action is settled."""

import asyncio
import contextlib
import threading

import pytest
from crewai.flow.flow import Flow, start
from crewai.tools import BaseTool
from langchain_core.tools import StructuredTool
from llama_index.core.tools import FunctionTool
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

from crew_guard.adapters import crewai, langgraph, llama_index
from tests.adapters.guarding import Guard, policy
from tests.adapters.langgraph_doubles import one_node
from tests.adapters.test_langgraph import with_guardrail


class Pondering:
    """A guardrail that never comes to an end."""

    name, runs, reads = "pondering", "gate", False

    def __init__(self):
        self.entered = threading.Event()

    async def check(self, content):
        self.entered.set()
        await asyncio.Event().wait()


async def look(query: str, fails: bool = False) -> str:
    """Look something up."""
    if fails:
        raise RuntimeError("the index is gone")
    return f"found {query}"


class AsyncLook(BaseTool):
    name: str = "look"
    description: str = "Look something up."

    def _run(self, query: str, fails: bool = False) -> str:
        raise AssertionError("never")

    async def _arun(self, query: str, fails: bool = False) -> str:
        return await look(query, fails)


async def cancelled_in_between(guardrail, use, after):
    """Use the tool, cancel that while it is looked at, and use another one."""
    task = asyncio.create_task(use())
    await asyncio.to_thread(guardrail.entered.wait, 10)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return after()


def by_crewai(guardrail, fails, after):
    tool = AsyncLook()

    class Looking(Flow):
        @start()
        async def look(self):
            return await cancelled_in_between(guardrail, lambda: tool.arun(query="x", fails=fails), after)

    return crewai, Looking()


def by_llama_index(guardrail, fails, after):
    tool = FunctionTool.from_defaults(async_fn=look, name="look")

    class Looking(Workflow):
        @step
        async def look(self, ev: StartEvent) -> StopEvent:
            use = lambda: tool.acall(query="x", fails=fails)  # noqa: E731
            return StopEvent(result=await cancelled_in_between(guardrail, use, after))

    return llama_index, Looking(timeout=None)


def by_langgraph(guardrail, fails, after):
    tool = StructuredTool.from_function(coroutine=look, name="look")

    async def node(state):
        use = lambda: tool.ainvoke({"query": "x", "fails": fails})  # noqa: E731
        return {"found": [await cancelled_in_between(guardrail, use, after)]}

    return langgraph, one_node(node)


@pytest.mark.parametrize(
    ("by", "fails"),
    [
        (by_crewai, False),
        (by_crewai, True),
        (by_llama_index, False),
        (by_llama_index, True),
        (by_langgraph, False),  # whose tools that raise are not looked at
    ],
)
def test_a_tool_that_is_cancelled_while_it_is_looked_at_leaves_nothing_open(by, fails):
    """Its grant is settled then and there, as cancelled, and not at the run's end."""
    guardrail, settled = Pondering(), []

    def after():
        settled.extend(guard.events("Settled"))
        return "went on"

    adapter, host = by(guardrail, fails, after)
    guard = Guard(adapter, host, policy())
    guard.supervisor = with_guardrail(guard.supervisor, guardrail)
    result = guard.run(found=[]) if adapter is langgraph else guard.run(id="1")
    assert result.status == "done", result.error
    assert guardrail.entered.is_set()
    assert [event.status for event in settled] == ["cancelled"]
