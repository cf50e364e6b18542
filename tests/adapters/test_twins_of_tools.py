"""Tools whose entries lead to each other are one execution, as their users write them, and keep nothing alive."""

import asyncio
import uuid
from typing import Any, TypedDict

import pytest
from autogen_core.tools import FunctionTool, StaticStreamWorkbench, StaticWorkbench
from langchain_core.tools import BaseTool as LangChainTool
from langgraph.graph import END, START, StateGraph
from llama_index.core.tools import FunctionTool as LlamaIndexTool
from llama_index.core.tools.types import AsyncBaseTool, ToolMetadata, ToolOutput
from pydantic import BaseModel, Field
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

from crew_guard.adapters import autogen, langgraph, llama_index
from crew_guard.testing.held import Kept
from tests.adapters import autogen_doubles
from tests.adapters.guarding import Guard, policy


def run(adapter, host, executed, **inputs):
    """How often a tool was executed and admitted, under a cap of one."""
    result = Guard(adapter, host, policy(max_tool_calls=1)).run(**(inputs or {"task": "x"}))
    assert (result.status, result.error) == ("done", "")
    return executed, result.usage.tool_calls


def test_a_blocking_twin_may_spell_its_arguments_otherwise():
    """LlamaIndex's RetrieverTool and QueryEngineTool take them by position and by name."""
    executed = []

    class Look(AsyncBaseTool):
        @property
        def metadata(self):
            return ToolMetadata("Looks.", "look")

        def call(self, *args: Any, **kwargs: Any):
            executed.append(args[0] if args else kwargs["input"])
            return ToolOutput(content="found", tool_name="look", raw_input={}, raw_output="found")

        async def acall(self, input):  # noqa: A002  its bases' name
            return await asyncio.to_thread(self.call, input)

    class Looking(Workflow):
        @step
        async def look(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=str(await Look().acall(input="rivers")))

    assert run(llama_index, Looking(timeout=None), executed) == (["rivers"], 1)


class Numbered(BaseModel):
    n: int
    request_id: str = Field(default_factory=lambda: uuid.uuid4().hex)


class State(TypedDict):
    x: str


@pytest.mark.parametrize("handed_on", [False, True])
def test_a_twin_may_be_given_what_the_schema_filled_in(handed_on):
    """A fresh id, say, whether it is handed on or made once more; and a number that was written as a text."""
    executed = []

    class Pay(LangChainTool):
        name: str = "pay"
        description: str = "Pays."
        args_schema: Any = Numbered

        def _run(self, n: int, request_id: str = "") -> str:
            executed.append(n)
            return "paid"

        async def _arun(self, n: int, request_id: str = "") -> str:
            given = {"n": n, "request_id": request_id} if handed_on else {"n": n}
            return await asyncio.to_thread(self.invoke, given)

    async def pay(_: State):
        return {"x": str(await Pay().ainvoke({"n": 9 if handed_on else "9"}))}

    graph = StateGraph(State)
    graph.add_node("pay", pay)
    graph.add_edge(START, "pay")
    graph.add_edge("pay", END)
    assert run(langgraph, graph.compile(), executed, x="x") == ([9], 1)


def _tool(name, executed):
    async def use(n: int) -> str:
        executed.append(name)
        return "done"

    return FunctionTool(use, "Works.", name=name)


def _agent(name, bench):
    client = autogen_doubles.WrittenClient([autogen_doubles.asking(name, '{"n": 9}'), "done"])
    return autogen_doubles.hungry_agent(client, tools=None, workbench=bench)


def test_a_workbench_may_ask_a_helper_first():
    """What it was asked for is still its work."""
    executed = []
    log = StaticWorkbench([_tool("audit", executed)])

    class Audited(StaticWorkbench):
        async def call_tool(self, name, arguments=None, cancellation_token=None, call_id=None):
            await log.call_tool("audit", {"n": 1}, cancellation_token)
            return await super().call_tool(name, arguments, cancellation_token, call_id)

    bench = Audited([_tool("pay", executed)])
    assert run(autogen, _agent("pay", bench), executed) == (["audit", "pay"], 1)


def test_a_workbench_may_call_its_tools_by_other_names():
    """By its other entry, too."""
    executed = []

    class Prefixed(StaticStreamWorkbench):
        async def list_tools(self):
            return [{**one, "name": f"fs_{one['name']}"} for one in await super().list_tools()]

        async def call_tool_stream(self, name, arguments=None, cancellation_token=None, call_id=None):
            yield await self.call_tool(name.removeprefix("fs_"), arguments, cancellation_token, call_id)

    bench = Prefixed([_tool("pay", executed)])
    assert run(autogen, _agent("fs_pay", bench), executed) == (["pay"], 1)


class Large:
    """What a tool is given by the code around it."""


def test_what_a_tool_was_given_is_let_go():
    """Though a timer of a pool's keeps the context that it was set in."""
    kept, timers = Kept(), []

    async def look(what: object) -> str:
        timers.append(asyncio.get_running_loop().call_later(3600, print))
        kept.add(what)
        return "found"

    class Looking(Workflow):
        @step
        async def look(self, ev: StartEvent) -> StopEvent:
            await LlamaIndexTool.from_defaults(async_fn=look, name="look").acall(what=Large())
            return StopEvent(result="x")

    assert run(llama_index, Looking(timeout=None), []) == ([], 1)
    assert (kept.left(), len(timers)) == ([], 1)
