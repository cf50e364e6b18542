"""Tools that execute themselves by both entries of their hosts: at the same time, as streams, with a retry.

Each is an execution but the first that is given what the tool was: the twin of what was admitted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypedDict

import pytest
from autogen_core.tools import BaseStreamTool, StaticWorkbench
from autogen_core.tools import BaseTool as AutoGenTool
from langchain_core.tools import BaseTool as LangChainTool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from llama_index.core.tools import FunctionTool
from llama_index.core.tools.types import AsyncBaseTool, ToolMetadata, ToolOutput
from pydantic import BaseModel
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

from crew_guard import Policy
from crew_guard.adapters import autogen, langgraph, llama_index
from tests.adapters import autogen_doubles, langgraph_doubles
from tests.adapters.guarding import Guard, policy

GIVEN = 9


@dataclass
class Calls:
    """How a tool that is executed by one entry of its host executes itself, with which number."""

    again: Callable[[int], Awaitable[object]]
    """By that entry."""
    twin: Callable[[int], Awaitable[object]]
    """By the other one."""
    items: Callable[[int], AsyncIterator[object]]
    """As a stream."""


class Work:
    """What the first execution does, and the numbers of those that began by either entry."""

    def __init__(self, does: Callable[[Calls], Awaitable[object]]) -> None:
        self.does = does
        self.begun: list[int] = []
        self.twins: list[int] = []

    async def begin(self, n: int, calls: Calls) -> None:
        self.begun.append(n)
        if len(self.begun) == 1:
            await self.does(calls)


class Number(BaseModel):
    n: int
    times: int = 1


def of_autogen(work: Work) -> tuple[Any, Any]:
    class Pay(BaseStreamTool[Number, str, str]):
        def __init__(self) -> None:
            super().__init__(Number, str, "pay", "Pays.")

        async def run(self, args: Number, cancellation_token: Any) -> str:
            work.twins.append(args.n)
            return "paid"

        async def run_stream(self, args: Number, cancellation_token: Any) -> Any:
            async def again(n: int) -> None:
                async for _ in items(n):
                    pass

            def items(n: int) -> Any:
                return self.run_json_stream({"n": n}, cancellation_token)

            def twin(n: int) -> Any:
                return self.run_json(Number(n=n).model_dump(), cancellation_token)

            await work.begin(args.n, Calls(again, twin, items))
            yield "paid"

    return autogen, _autogen_agent(Pay())


def _autogen_agent(*tools: Any, **options: Any) -> Any:
    client = autogen_doubles.WrittenClient([autogen_doubles.asking("pay", f'{{"n": {GIVEN}}}'), "done"])
    return autogen_doubles.hungry_agent(client, **({"tools": list(tools)} if tools else {"tools": None}), **options)


class State(TypedDict):
    x: str


def of_langgraph(work: Work) -> tuple[Any, Any]:
    class Pay(LangChainTool):
        name: str = "pay"
        description: str = "Pays."

        def _run(self, n: int, times: int = 1) -> str:
            work.twins.append(n)
            return "paid"

        async def _arun(self, n: int, times: int = 1) -> str:
            def twin(n: int) -> Any:
                return asyncio.to_thread(self.invoke, {"n": n, "times": times})

            def again(n: int) -> Any:
                return self.ainvoke({"n": n})

            await work.begin(n, Calls(again, twin, lambda n: self.astream({"n": n})))
            return "paid"

    return langgraph, _graph(lambda: Pay().ainvoke({"n": GIVEN}))


def _graph(does: Callable[[], Awaitable[object]]) -> Any:
    async def node(_: State) -> State:
        return {"x": str(await does())}

    graph = StateGraph(State)
    graph.add_node("pay", node)
    graph.add_edge(START, "pay")
    graph.add_edge("pay", END)
    return graph.compile()


def of_llama_index(work: Work) -> tuple[Any, Any]:
    class Pay(Paid):
        def call(self, n: int, times: int = 1) -> ToolOutput:
            work.twins.append(n)
            return paid()

        async def acall(self, n: int, times: int = 1) -> ToolOutput:
            def twin(n: int) -> Any:
                return asyncio.to_thread(self.call, n, times=times)

            async def items(n: int) -> Any:
                yield await self.acall(n)

            await work.begin(n, Calls(self.acall, twin, items))
            return paid()

    return llama_index, _workflow(lambda: Pay().acall(n=GIVEN))


class Paid(AsyncBaseTool):
    @property
    def metadata(self) -> ToolMetadata:
        return ToolMetadata("Pays.", "pay")


def paid() -> ToolOutput:
    return ToolOutput(content="paid", tool_name="pay", raw_input={}, raw_output="paid")


def _workflow(does: Callable[[], Awaitable[object]]) -> Any:
    class Paying(Workflow):
        @step
        async def pay(self, _: StartEvent) -> StopEvent:
            return StopEvent(result=str(await does()))

    return Paying(timeout=None)


HOSTS = [of_autogen, of_langgraph, of_llama_index]


def ran(made: Any, work: Work, **limits: int) -> Any:
    """The result of a host with a tool that works like this."""
    adapter, host = made(work)
    return Guard(adapter, host, policy(**limits)).run(**{"x" if adapter is langgraph else "task": "pay"})


async def four_again(calls: Calls) -> None:
    await asyncio.gather(*(calls.again(GIVEN) for _ in range(4)), return_exceptions=True)


async def four_twins(calls: Calls) -> None:
    await asyncio.gather(*(calls.twin(GIVEN) for _ in range(4)), return_exceptions=True)


async def four_threads(calls: Calls) -> None:
    def one() -> None:
        asyncio.run(awaited(calls.twin(GIVEN)))

    async def awaited(call: Awaitable[object]) -> None:
        await call

    await asyncio.gather(*(asyncio.to_thread(one) for _ in range(4)), return_exceptions=True)


async def four_others(calls: Calls) -> None:
    for n in range(4):
        await calls.twin(n)


async def four_streams(calls: Calls) -> None:
    for n in range(4):
        async for _ in calls.items(n):
            pass


async def two_twins(calls: Calls) -> None:
    await calls.twin(GIVEN)
    await calls.twin(GIVEN)


@pytest.mark.parametrize("made", HOSTS)
def test_those_at_the_same_time_count(made: Any) -> None:
    """By the entry that was admitted each is one more, also with the same arguments."""
    work = Work(four_again)
    result = ran(made, work, max_tool_calls=20)
    assert (result.status, result.error) == ("done", "")
    assert (len(work.begun), result.usage.tool_calls) == (5, 5)
    work = Work(four_again)
    assert ran(made, work, max_tool_calls=2).usage.tool_calls == len(work.begun) == 2


@pytest.mark.parametrize("made", HOSTS)
@pytest.mark.parametrize("does", [four_twins, four_threads])
def test_of_twins_at_the_same_time_one_is_the_execution_that_was_admitted(made: Any, does: Any) -> None:
    """On one loop, and on threads of the tool's."""
    work = Work(does)
    result = ran(made, work, max_tool_calls=20)
    assert (result.status, result.error) == ("done", "")
    assert (len(work.begun), len(work.twins), result.usage.tool_calls) == (1, 4, 4)
    work = Work(does)
    assert ran(made, work, max_tool_calls=2).usage.tool_calls == 2
    assert (len(work.begun), len(work.twins)) == (1, 2)


@pytest.mark.parametrize("made", HOSTS)
def test_a_twin_is_the_same_execution_once(made: Any) -> None:
    """With what the tool takes where nothing is given, too; the second time it is one more."""
    work = Work(lambda calls: calls.twin(GIVEN))
    assert ran(made, work, max_tool_calls=20).usage.tool_calls == 1
    assert (work.begun, work.twins) == ([GIVEN], [GIVEN])
    assert ran(made, Work(two_twins), max_tool_calls=20).usage.tool_calls == 2


@pytest.mark.parametrize("made", HOSTS)
@pytest.mark.parametrize("does", [four_others, four_streams])
def test_other_arguments_are_another_execution_from_the_first_time_on(made: Any, does: Any) -> None:
    """By the other entry, or as a stream."""
    work = Work(does)
    result = ran(made, work, max_tool_calls=20)
    assert (result.status, result.error) == ("done", "")
    assert (work.begun + work.twins, result.usage.tool_calls) == ([GIVEN, 0, 1, 2, 3], 5)
    work = Work(does)
    assert ran(made, work, max_tool_calls=2).usage.tool_calls == 2
    assert work.begun + work.twins == [GIVEN, 0]


@pytest.mark.parametrize("made", HOSTS)
def test_a_rule_holds_for_the_arguments_of_the_first_twin(made: Any) -> None:
    """It wasn't asked about when the tool was."""
    work = Work(four_others)
    adapter, host = made(work)
    rules = Policy.model_validate({"tools": {"rules": {"pay": [{"argument": "n", "one_of": [GIVEN]}]}}})
    Guard(adapter, host, rules).run(**{"x" if adapter is langgraph else "task": "pay"})
    assert (work.begun, work.twins) == ([GIVEN], [])


class Flaky:
    """Pays when it is tried the second time."""

    def __init__(self) -> None:
        self.tried = 0

    def __call__(self) -> str:
        self.tried += 1
        if self.tried == 1:
            raise OSError("flaky")
        return "paid"


def retrying_autogen(flaky: Flaky) -> tuple[Any, Any]:
    class Pay(AutoGenTool[Number, str]):
        def __init__(self) -> None:
            super().__init__(Number, str, "pay", "Pays.")

        async def run(self, args: Number, cancellation_token: Any) -> str:
            return flaky()

        async def run_json(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return await super().run_json(*args, **kwargs)
            except OSError:
                return await super().run_json(*args, **kwargs)

    return autogen, _autogen_agent(Pay())


def retrying_langgraph(flaky: Flaky) -> tuple[Any, Any]:
    class Pay(LangChainTool):
        name: str = "pay"
        description: str = "Pays."

        def run(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().run(*args, **kwargs)
            except OSError:
                return super().run(*args, **kwargs)

        def _run(self, n: int) -> str:
            return flaky()

    return langgraph, _graph(lambda: asyncio.to_thread(Pay().invoke, {"n": GIVEN}))


def retrying_llama_index(flaky: Flaky) -> tuple[Any, Any]:
    class Plain(Paid):
        def call(self, n: int) -> ToolOutput:
            flaky()
            return paid()

        async def acall(self, n: int) -> ToolOutput:
            return self.call(n)

    class Pay(Plain):
        def call(self, n: int) -> ToolOutput:
            try:
                return super().call(n)
            except OSError:
                return super().call(n)

    return llama_index, _workflow(lambda: Pay().acall(GIVEN))


@pytest.mark.parametrize("made", [retrying_autogen, retrying_langgraph, retrying_llama_index])
def test_a_retry_by_super_is_another_execution(made: Any) -> None:
    """Of the entry; below it a tool does its work as often as it likes."""
    flaky = Flaky()
    adapter, host = made(flaky)
    result = Guard(adapter, host, policy(max_tool_calls=9)).run(**{"x" if adapter is langgraph else "task": "pay"})
    assert (result.status, flaky.tried, result.usage.tool_calls) == ("done", 2, 2)


def retrying_within_autogen(begun: list[str]) -> tuple[Any, Any]:
    class Plain(AutoGenTool[Number, str]):
        async def run(self, args: Number, cancellation_token: Any) -> str:
            return "paid"

        async def run_json(self, args: Any, cancellation_token: Any, call_id: str | None = None) -> Any:
            begun.append("plain")
            return len(begun) > 1 and await self.run_json({"n": 0}, cancellation_token)

    class Pay(Plain):
        async def run_json(self, args: Any, cancellation_token: Any, call_id: str | None = None) -> Any:
            if args["n"] == 0:
                begun.append("pay")
                return "paid"
            return await super().run_json(args, cancellation_token) or await super().run_json(args, cancellation_token)

    return autogen, _autogen_agent(Pay(Number, str, "pay", "Pays."))


def retrying_within_llama_index(begun: list[str]) -> tuple[Any, Any]:
    class Plain(Paid):
        def call(self, n: int) -> Any:
            begun.append("plain")
            return len(begun) > 1 and self.call(0)

        async def acall(self, n: int) -> Any:
            return self.call(n)

    class Pay(Plain):
        def call(self, n: int) -> Any:
            if n == 0:
                begun.append("pay")
                return paid()
            return super().call(n) or super().call(n)

    return llama_index, _workflow(lambda: Pay().acall(GIVEN))


@pytest.mark.parametrize("made", [retrying_within_autogen, retrying_within_llama_index])
def test_a_retry_that_executes_the_tool_anew_is_asked_about_both(made: Any) -> None:
    """From a base's method the way leads down, and not back to the class's own."""
    begun: list[str] = []
    adapter, host = made(begun)
    result = Guard(adapter, host, policy(max_tool_calls=9)).run()
    assert (result.status, begun, result.usage.tool_calls) == ("done", ["plain", "plain", "pay"], 3)


def test_a_workbench_of_autogen_that_executes_its_tool_once_more_is_asked_about_it() -> None:
    """After its base's method has executed it."""
    begun: list[int] = []

    class Pay(AutoGenTool[Number, str]):
        def __init__(self) -> None:
            super().__init__(Number, str, "pay", "Pays.")

        async def run(self, args: Number, cancellation_token: Any) -> str:
            begun.append(args.n)
            return "paid"

    tool = Pay()

    class Twice(StaticWorkbench):
        async def call_tool(self, name: str, arguments: Any = None, cancellation_token: Any = None, **more: Any) -> Any:
            result = await super().call_tool(name, arguments, cancellation_token, **more)
            await tool.run_json({"n": 0}, cancellation_token)
            return result

    result = Guard(autogen, _autogen_agent(workbench=Twice([tool])), policy(max_tool_calls=9)).run()
    assert (begun, result.usage.tool_calls) == ([GIVEN, 0], 2)


class Logged(FunctionTool):
    """Calls its base's, as one that logs does."""

    def call(self, *args: Any, **kwargs: Any) -> ToolOutput:
        return super().call(*args, **kwargs)

    async def acall(self, *args: Any, **kwargs: Any) -> ToolOutput:
        return await super().acall(*args, **kwargs)


class Awaited(FunctionTool):
    """Has its blocking twin do its work."""

    async def acall(self, *args: Any, **kwargs: Any) -> ToolOutput:
        return self.call(*args, **kwargs)


@pytest.mark.parametrize("kind", [FunctionTool, Logged, Awaited])
@pytest.mark.parametrize("entry", ["call", "acall"])
def test_a_function_tool_of_llama_index_is_executed_and_paid_once(kind: Any, entry: str) -> None:
    """Also where a class of the user's is between it and its function."""
    begun: list[int] = []
    tool = kind.from_defaults(begun.append, name="pay", description="Pays.")

    async def does() -> object:
        return tool.call(GIVEN) if entry == "call" else await tool.acall(GIVEN)

    rules = Policy.model_validate({"limits": {"max_tool_calls": 1}, "tools": {"limits": {"pay": {"usd": "1"}}}})
    result = Guard(llama_index, _workflow(does), rules).run()
    assert (result.status, begun, result.usage.tool_calls, result.usage.usd) == ("done", [GIVEN], 1, 1)


@pytest.mark.parametrize("kind", [FunctionTool, Logged])
@pytest.mark.parametrize("entry", ["call", "acall"])
def test_a_function_that_executes_its_own_tool_is_asked_about_each_time(kind: Any, entry: str) -> None:
    """With the same arguments, and by the other entry, too: a function is no twin of its tool's."""
    begun: list[int] = []

    def pay(n: int) -> str:
        """Pay."""
        begun.append(n)
        if len(begun) > 2:
            return "paid"
        return str(asyncio.run(tool.acall(n=n)) if entry == "call" else tool.call(n=n))

    tool = kind.from_defaults(pay, name="pay")

    async def does() -> object:
        return await (asyncio.to_thread(tool.call, n=GIVEN) if entry == "call" else tool.acall(n=GIVEN))

    result = Guard(llama_index, _workflow(does), policy(max_tool_calls=20)).run()
    assert (result.status, result.error) == ("done", "")
    assert (len(begun), result.usage.tool_calls) == (3, 3)


def test_what_a_workflow_within_a_tool_executes_is_another_execution() -> None:
    """Of the same tool, by its twin and with the same arguments: another step asks."""
    begun: list[int] = []

    class Pay(Paid):
        def call(self, n: int) -> ToolOutput:
            begun.append(n)
            return paid()

        async def acall(self, n: int) -> ToolOutput:
            begun.append(n)
            tool = self

            class Inner(Workflow):
                @step
                async def pay(self, _: StartEvent) -> StopEvent:
                    return StopEvent(result=str(tool.call(n)))

            await Inner(timeout=None).run()
            return paid()

    result = Guard(llama_index, _workflow(lambda: Pay().acall(GIVEN)), policy(max_tool_calls=20)).run()
    assert (begun, result.usage.tool_calls) == ([GIVEN, GIVEN], 2)


def test_who_asked_for_a_tool_of_langgraph_asks_for_what_it_executes() -> None:
    """The node whose model wrote the request, and not the one that executes it."""

    class Look(LangChainTool):
        name: str = "look"
        description: str = "Looks."

        def _run(self, query: str) -> str:
            return self.invoke({"query": "more"}) if query != "more" else "found"

    model = langgraph_doubles.HungryChat(answer_after=1)
    graph = StateGraph(MessagesState)
    graph.add_node("thinker", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_node("doer", ToolNode([Look()]))
    graph.add_edge(START, "thinker")
    graph.add_edge("thinker", "doer")
    graph.add_edge("doer", END)
    guard = Guard(langgraph, graph.compile(), policy(max_tool_calls=20))
    assert guard.run(messages=[("user", "go")]).status == "done"
    asked = [(event.target, event.agent) for event in guard.events("Admitted") if event.kind == "tool_call"]
    assert asked == [("look", "thinker")] * 2
