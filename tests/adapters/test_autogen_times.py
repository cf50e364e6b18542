"""How long tools of AutoGen's may take by the policy, and who is named that can't be ended."""

import asyncio
import threading

import pytest
from autogen_agentchat.agents import AssistantAgent, CodeExecutorAgent, UserProxyAgent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_agentchat.tools import TeamTool
from autogen_core.code_executor import CodeExecutor, CodeResult
from autogen_core.tools import BaseStreamTool, FunctionTool, StaticWorkbench
from autogen_ext.code_executors.local import LocalCommandLineCodeExecutor
from autogen_ext.tools.code_execution import PythonCodeExecutionTool
from autogen_ext.tools.langchain import LangChainToolAdapter
from langchain_core.tools import tool as langchain_tool
from pydantic import BaseModel

from crew_guard.adapters import autogen
from crew_guard.core.policy import Policy
from tests.adapters.autogen_doubles import SYSTEM, HungryClient, WrittenClient, asking
from tests.adapters.guarding import Guard

ENDED = "{} was ended after 0.1 s, its max_seconds"


def brief(tool, seconds=0.1, **limits):
    """A policy by which this tool has little time."""
    return Policy.model_validate({"limits": limits, "tools": {"limits": {tool: {"max_seconds": seconds}}}})


def agent_with(client, **options):
    """An agent that executes what its client asks for, and asks again."""
    return AssistantAgent("ann", client, system_message=SYSTEM, max_tool_iterations=2, **options)


def read_by(client):
    """What the agent read at its last model call of the tools it asked for."""
    return [result.content for result in client.asked[-1][-1].content]


async def nap(query: str) -> str:
    """Wait for ever."""
    await asyncio.Event().wait()
    return query


class Passing(StaticWorkbench):
    """A workbench of somebody's own, whose tools nobody can see."""

    async def call_tool(self, name, arguments=None, cancellation_token=None, call_id=None):
        return await super().call_tool(name, arguments, cancellation_token, call_id)


@pytest.mark.parametrize("kind", ["tools", "static", "own"])
def test_an_async_tool_is_ended_at_its_time_and_its_agent_goes_on(kind):
    """The agent reads why as a failed result, of a tool or of a workbench's."""
    client = WrittenClient([asking("nap", '{"query": "x"}'), "done without"])
    bench = {"static": StaticWorkbench, "own": Passing}.get(kind)
    given = {"tools": [nap]} if bench is None else {"workbench": bench([FunctionTool(nap, description="naps")])}
    result = Guard(autogen, agent_with(client, **given), brief("nap")).run()
    assert (result.status, result.output, result.usage.tool_calls) == ("done", "done without", 1)
    assert read_by(client) == [ENDED.format("nap")]
    assert client.asked[-1][-1].content[0].is_error


def test_a_tool_without_a_limit_takes_its_time():
    """Another tool's limit is another tool's, and one that is in time gives what it gives."""
    client = WrittenClient([asking("look", '{"query": "x"}'), "done"])

    async def look(query: str) -> str:
        """Look it up."""
        return f"found {query}"

    for rules in (brief("nap"), brief("look", 30)):
        client.asked.clear()
        assert Guard(autogen, agent_with(client, tools=[look]), rules).run().output == "done"
        assert read_by(client) == ["found x"]


def test_a_blocking_tool_is_left_behind_at_its_time_and_named():
    """Its agent goes on; the result names the thread that goes on."""
    go, client = threading.Event(), WrittenClient([asking("stuck", '{"query": "x"}'), "done without"])

    def stuck(query: str) -> str:
        """Wait for long."""
        go.wait(30)
        return query

    try:
        result = Guard(autogen, agent_with(client, tools=[stuck]), brief("stuck")).run()
    finally:
        go.set()
    assert (result.output, result.late) == ("done without", ("ann/stuck",))
    assert read_by(client) == [ENDED.format("stuck")]


def test_a_blocking_tool_that_has_ended_is_not_named():
    """Nothing is late where nothing is left."""
    client = WrittenClient([asking("look", '{"query": "x", "gate": "g", "work": "w"}'), "done"])

    def look(query: str, gate: str, work: str) -> str:
        """Look it up."""
        return query + gate + work

    result = Guard(autogen, agent_with(client, tools=[look]), Policy()).run()
    assert (read_by(client), result.late) == (["xgw"], ())


class Query(BaseModel):
    """What to look for."""

    query: str


class Pages(BaseStreamTool[Query, str, str]):
    """One page, and then it waits for ever."""

    def __init__(self, waits):
        super().__init__(Query, str, "pages", "reads")
        self.waits, self.closed = waits, False

    async def run(self, args, cancellation_token):
        raise NotImplementedError

    async def run_stream(self, args, cancellation_token):
        try:
            yield "page 1"
            if self.waits:
                await asyncio.Event().wait()
            yield "page 2"
        finally:
            self.closed = True


@pytest.mark.parametrize("waits", [True, False])
def test_a_tool_that_is_a_stream_is_ended_at_its_time(waits):
    """What it gave until then was passed on, and it is closed."""
    pages, client = Pages(waits), WrittenClient([asking("pages", '{"query": "x"}'), "done"])
    result = Guard(autogen, agent_with(client, tools=[pages]), brief("pages", 0.1 if waits else 30)).run()
    assert (result.output, pages.closed) == ("done", True)
    assert read_by(client) == [ENDED.format("pages") if waits else "page 2"]


class Waiting(HungryClient):
    """Never answers, until it is told to."""

    def __init__(self):
        super().__init__(answer_after=0)
        self.waits, self.ended = True, 0

    async def create(self, messages, **options):
        if self.waits:
            try:
                await asyncio.Event().wait()
            finally:
                self.ended += 1
        return await super().create(messages, **options)


def test_a_team_behind_a_tool_is_ended_at_the_tools_time():
    """Also its own agents, and it can be asked again."""
    slow = Waiting()
    members = [AssistantAgent(name, slow, system_message=SYSTEM) for name in ("bob", "cy")]
    team = RoundRobinGroupChat(members, max_turns=2)
    tool = TeamTool(team, name="team", description="asks", return_value_as_last_message=True)
    client = WrittenClient([asking("team", '{"task": "x"}'), "done without", asking("team", '{"task": "y"}'), "done"])
    guard = Guard(autogen, agent_with(client, tools=[tool]), brief("team", max_steps=9))
    result = guard.run()
    assert (result.output, slow.ended, result.late) == ("done without", 1, ())
    assert read_by(client) == [ENDED.format("team")]
    slow.waits = False
    again = Guard(autogen, guard.runtime.host, Policy()).run()
    assert (again.output, slow.served.calls) == ("done", 2)
    assert read_by(client) == ["done"]


class Sleeping(CodeExecutor):
    """Executes for ever."""

    component_type = "code_executor"

    async def execute_code_blocks(self, code_blocks, cancellation_token):
        await asyncio.Event().wait()
        return CodeResult(exit_code=0, output="slept")

    async def start(self):
        pass

    stop = restart = start


def test_executed_code_is_ended_at_its_time():
    """By the name that policies know all executors by; the agent reads why."""
    client = WrittenClient(["```python\nprint(1)\n```", "done without"])
    agent = CodeExecutorAgent("exec", Sleeping(), model_client=client)
    result = Guard(autogen, agent, brief("code_executor")).run()
    assert (result.output, result.usage.tool_calls) == ("done without", 1)
    assert ENDED.format("code_executor") in str(client.asked[-1][-1].content)


def test_code_in_a_process_is_ended_with_the_tool_that_runs_it(tmp_path):
    """An executor that makes a result of its end has failed all the same."""
    code = '{"code": "import threading; threading.Event().wait()"}'
    client = WrittenClient([asking("CodeExecutor", code), "done without"])
    tool = PythonCodeExecutionTool(LocalCommandLineCodeExecutor(work_dir=tmp_path))
    result = Guard(autogen, agent_with(client, tools=[tool]), brief("CodeExecutor")).run()
    assert (result.output, result.late) == ("done without", ())
    assert read_by(client) == [ENDED.format("CodeExecutor")]


class Own(FunctionTool):
    """A class of the user's own."""


def of_langchain(function, description):
    """A tool of LangChain's in AutoGen's adapter."""
    return LangChainToolAdapter(langchain_tool(function))


@pytest.mark.parametrize("kind", [FunctionTool, Own, of_langchain])
def test_a_tool_stuck_in_its_thread_at_the_deadline_is_named(kind):
    """The result comes at the deadline."""
    go, client = threading.Event(), WrittenClient([asking("stuck", '{"query": "x"}')])

    def stuck(query: str) -> str:
        """Wait for long."""
        go.wait(30)
        return query

    agent = agent_with(client, tools=[kind(stuck, description="waits")])
    try:
        result = Guard(autogen, agent, Policy.model_validate(ENDS_SOON)).run()
    finally:
        go.set()
    assert (result.stopped.limit, result.late) == ("max_seconds", ("ann/stuck",))


@pytest.mark.parametrize("own", [False, True])
def test_a_person_who_is_asked_in_a_thread_is_named_at_the_deadline(own):
    """A UserProxyAgent's input_func that blocks, and a class's of the user's own."""

    class Person(UserProxyAgent):
        pass

    go = threading.Event()
    person = (Person if own else UserProxyAgent)("user", input_func=lambda _: str(go.wait(30)))
    try:
        team = RoundRobinGroupChat([person], max_turns=1)
        result = Guard(autogen, team, Policy.model_validate(ENDS_SOON)).run()
    finally:
        go.set()
    assert (result.stopped.limit, result.late) == ("max_seconds", ("user/input_func",))


def test_a_model_that_is_asked_by_who_asks_a_person_is_gated():
    """In its thread, too."""
    hidden = HungryClient(answer_after=0)

    def ask(prompt: str) -> str:
        return asyncio.run(hidden.create([])).content

    result = Guard(autogen, UserProxyAgent("user", input_func=ask), Policy()).run()
    assert (result.output, result.usage.steps, hidden.served.calls) == ("done", 1, 1)
    assert result.late == ()


ENDS_SOON = {"limits": {"max_seconds": 0.5}}
