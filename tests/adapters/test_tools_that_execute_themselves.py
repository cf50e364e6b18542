"""A tool whose own code executes it by its host's entry: each is an execution, admitted for itself.

What is its own work is none: a base class's method, a blocking twin, a function that calls itself.
"""

from __future__ import annotations

import asyncio
from typing import Any, TypedDict

import pytest
from autogen_core import CancellationToken
from autogen_core.tools import BaseTool as AutoGenTool
from crewai.tools import BaseTool as CrewAITool
from crewai.tools import tool as crewai_tool
from langchain_core.tools import BaseTool as LangChainTool
from langgraph.graph import END, START, StateGraph
from llama_index.core.tools.types import BaseTool as LlamaIndexTool
from llama_index.core.tools.types import ToolMetadata, ToolOutput
from pydantic import BaseModel
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

from crew_guard import Policy
from crew_guard.adapters import autogen, crewai, langgraph, llama_index
from tests.adapters import autogen_doubles, crewai_doubles
from tests.adapters.guarding import Guard, policy

TIMES = 5


class Log:
    """Which executions began, by how often they were to execute themselves once more."""

    def __init__(self) -> None:
        self.begun: list[int] = []


class Number(BaseModel):
    n: int


def of_autogen(log: Log) -> tuple[Any, Any]:
    class Pay(AutoGenTool[Number, str]):
        def __init__(self) -> None:
            super().__init__(Number, str, "pay", "Pays.")

        async def run_json(self, args: Any, cancellation_token: CancellationToken, call_id: str | None = None) -> Any:
            return await super().run_json(args, cancellation_token, call_id)

        async def run(self, args: Number, cancellation_token: CancellationToken) -> str:
            log.begun.append(args.n)
            return await self.run_json({"n": args.n - 1}, cancellation_token) if args.n else "paid"

    client = autogen_doubles.WrittenClient([autogen_doubles.asking("pay", f'{{"n": {TIMES}}}'), "done"])
    return autogen, autogen_doubles.hungry_agent(client, tools=[Pay()])


def of_crewai(log: Log) -> tuple[Any, Any]:
    class Pay(CrewAITool):
        name: str = "pay"
        description: str = "Pays."

        def run(self, *args: Any, **kwargs: Any) -> Any:
            return super().run(*args, **kwargs)

        def _run(self, n: int) -> Any:
            log.begun.append(n)
            return self.run(n=n - 1) if n else "paid"

    return crewai, _crewai_agent(Pay())


def of_a_function_of_crewai(log: Log) -> tuple[Any, Any]:
    @crewai_tool("pay")
    def pay(n: int) -> str:
        """Pay."""
        log.begun.append(n)
        return pay.run(n=n - 1) if n else "paid"

    return crewai, _crewai_agent(pay)


def _crewai_agent(tool: Any) -> Any:
    wanted = [crewai_doubles.request("pay", n=TIMES)]
    llm = crewai_doubles.ActingLLM(lambda count, _: wanted if count == 1 else "done")
    return crewai_doubles.hungry_agent(llm, tools=[tool])


class State(TypedDict):
    x: str


def of_langgraph(log: Log) -> tuple[Any, Any]:
    class Pay(LangChainTool):
        name: str = "pay"
        description: str = "Pays."

        def run(self, *args: Any, **kwargs: Any) -> Any:
            return super().run(*args, **kwargs)

        def _run(self, n: int) -> Any:
            log.begun.append(n)
            return self.invoke({"n": n - 1}) if n else "paid"

        async def _arun(self, n: int) -> Any:
            return self.invoke({"n": n})  # its blocking twin: the same execution

    tool = Pay()

    async def node(_: State) -> State:
        return {"x": str(await tool.ainvoke({"n": TIMES}))}

    graph = StateGraph(State)
    graph.add_node("pay", node)
    graph.add_edge(START, "pay")
    graph.add_edge("pay", END)
    return langgraph, graph.compile()


def of_llama_index(log: Log) -> tuple[Any, Any]:
    class Plain(LlamaIndexTool):
        @property
        def metadata(self) -> ToolMetadata:
            return ToolMetadata("Pays.", "pay")

        def __call__(self, n: int) -> ToolOutput:
            log.begun.append(n)
            text = str(self(n - 1)) if n else "paid"
            return ToolOutput(content=text, tool_name="pay", raw_input={}, raw_output=text)

    class Pay(Plain):
        def __call__(self, n: int) -> ToolOutput:
            return super().__call__(n)

    tool = Pay()

    class Paying(Workflow):
        @step
        async def pay(self, _: StartEvent) -> StopEvent:
            return StopEvent(result=str(tool(TIMES)))

    return llama_index, Paying(timeout=None)


HOSTS = [of_autogen, of_crewai, of_a_function_of_crewai, of_langgraph, of_llama_index]


@pytest.mark.parametrize("made", HOSTS)
def test_each_execution_counts(made: Any) -> None:
    """Also where a method of its class only calls its base's."""
    log = Log()
    adapter, host = made(log)
    inputs = {"x" if adapter is langgraph else "task": "pay"}
    result = Guard(adapter, host, policy(max_tool_calls=20)).run(**inputs)
    assert (result.status, result.error) == ("done", "")
    assert log.begun == [5, 4, 3, 2, 1, 0]
    assert result.usage.tool_calls == TIMES + 1


@pytest.mark.parametrize("made", HOSTS)
def test_a_cap_holds_for_them(made: Any) -> None:
    """The third of two is refused, whoever asks for it."""
    log = Log()
    adapter, host = made(log)
    inputs = {"x" if adapter is langgraph else "task": "pay"}
    result = Guard(adapter, host, policy(max_tool_calls=2)).run(**inputs)
    assert log.begun == [5, 4]
    assert result.usage.tool_calls == 2


@pytest.mark.parametrize("made", HOSTS)
def test_a_rule_holds_for_the_arguments_of_each(made: Any) -> None:
    """What the model wrote was allowed; what the tool made of it is not."""
    log = Log()
    adapter, host = made(log)
    inputs = {"x" if adapter is langgraph else "task": "pay"}
    rules = Policy.model_validate({"tools": {"rules": {"pay": [{"argument": "n", "one_of": [5, 4]}]}}})
    Guard(adapter, host, rules).run(**inputs)
    assert log.begun == [5, 4]


def test_an_async_tool_of_crewai_that_is_its_blocking_one_is_executed_once() -> None:
    """What `_arun` does by `run` is the same execution, the first time."""

    class Pay(CrewAITool):
        name: str = "pay"
        description: str = "Pays."

        def _run(self, n: int) -> str:
            return "paid"

        async def _arun(self, n: int) -> Any:
            return await asyncio.to_thread(self.run, n=n)

    tool = Pay()

    async def work() -> str:
        return await tool.arun(n=1)

    result = Guard(crewai, _flow_of(work), policy(max_tool_calls=5)).run(task="pay")
    assert (result.status, result.usage.tool_calls) == ("done", 1)


def _flow_of(work: Any) -> Any:
    from crewai.flow.flow import Flow, start

    class Paying(Flow[Any]):
        @start()
        async def pay(self) -> Any:
            return await work()

    return Paying()
