"""Parts of AutoGen that act besides models and tools: code executors, memories, functions that approve."""

import asyncio
import threading

import pytest
from autogen_agentchat.agents import (
    ApprovalResponse,
    AssistantAgent,
    CodeExecutorAgent,
)
from autogen_agentchat.messages import TextMessage
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import CancellationToken
from autogen_core.code_executor import CodeBlock, CodeExecutor, CodeResult
from autogen_core.memory import ListMemory, Memory, MemoryContent, MemoryQueryResult, UpdateContextResult
from autogen_core.models import UserMessage
from autogen_core.tools import BaseStreamTool, StaticStreamWorkbench, StaticWorkbench, Workbench
from autogen_ext.code_executors.local import LocalCommandLineCodeExecutor
from autogen_ext.tools.code_execution import PythonCodeExecutionTool
from pydantic import BaseModel

from crew_guard import guard
from crew_guard.adapters import autogen
from crew_guard.core.policy import Policy
from crew_guard.errors import ConfigError
from crew_guard.supervisor.acting import RunGate
from tests.adapters.autogen_doubles import SYSTEM, HungryClient, WrittenClient, asking
from tests.adapters.guarding import Guard, policy

pytestmark = pytest.mark.filterwarnings("ignore:No approval function")
CODE = "I run this:\n```python\nprint(6 * 7)\n```"


class CountingExecutor(CodeExecutor):
    """Executes nothing, and remembers what."""

    component_type = "code_executor"

    def __init__(self):
        self.ran = []

    async def execute_code_blocks(self, code_blocks, cancellation_token):
        self.ran.append([block.code for block in code_blocks])
        return CodeResult(exit_code=0, output="42")

    async def start(self):
        pass

    stop = restart = start


@pytest.fixture
def admitted(monkeypatch):
    """Every action that was brought to the gate."""
    actions, admit = [], RunGate.admit

    async def noted(self, action):
        actions.append(action)
        return await admit(self, action)

    monkeypatch.setattr(RunGate, "admit", noted)
    return actions


@pytest.mark.filterwarnings("ignore:Using LocalCommandLineCodeExecutor")
def test_executed_code_is_a_tool_call_that_cant_be_undone(tmp_path, admitted):
    """Real code by the real executor: one execution of code_executor, its code in the journal."""
    executor = LocalCommandLineCodeExecutor(work_dir=tmp_path)
    client = WrittenClient([CODE, "it is 42"])
    agent = CodeExecutorAgent("coder", executor, model_client=client)
    guarded = Guard(autogen, agent, policy(max_steps=5))
    result = guarded.run()
    assert (result.status, result.output) == ("done", "it is 42")
    assert (result.usage.steps, result.usage.tool_calls) == (2, 1)
    (action,) = [one for one in admitted if one.kind == "tool_call"]
    assert (action.agent, action.tool, action.irreversible) == ("coder", "code_executor", True)
    assert "print(6 * 7)" in action.arguments
    assert "42" in [event.text.strip() for event in guarded.events("Settled")]


@pytest.mark.parametrize("cap", [0, 1, 2])
def test_max_tool_calls_bounds_executed_code(cap):
    """What an agent writes is executed no more often than the cap says."""
    executor = CountingExecutor()
    agent = CodeExecutorAgent("coder", executor, model_client=WrittenClient([CODE, "more"], repeat=True))
    result = Guard(autogen, RoundRobinGroupChat([agent]), policy(max_tool_calls=cap)).run()
    assert len(executor.ran) == cap == result.usage.tool_calls
    assert result.stopped.limit == "max_tool_calls"


def test_code_may_be_denied_by_the_executors_name():
    """The agent reads why, and goes on without."""
    executor, client = CountingExecutor(), WrittenClient([CODE, "then not"])
    agent = CodeExecutorAgent("coder", executor, model_client=client)
    result = Guard(autogen, agent, Policy.model_validate({"tools": {"deny": ["code_executor"]}})).run()
    assert (result.status, result.output, executor.ran) == ("done", "then not", [])
    assert "refused" in client.asked[1][-1].content


def test_a_tool_that_executes_code_is_one_tool_call(admitted):
    """PythonCodeExecutionTool: the tool is the act, not the executor behind it."""
    executor = CountingExecutor()
    tool = PythonCodeExecutionTool(executor)
    client = WrittenClient([asking("CodeExecutor", '{"code": "print(1)"}'), "done"])
    agent = AssistantAgent("coder", client, tools=[tool], system_message=SYSTEM, max_tool_iterations=2)
    result = Guard(autogen, agent, policy(max_steps=5)).run()
    assert (result.status, len(executor.ran), result.usage.tool_calls) == ("done", 1, 1)
    (action,) = [one for one in admitted if one.kind == "tool_call"]
    assert (action.tool, action.irreversible) == ("CodeExecutor", True)


@pytest.mark.parametrize(("rules", "runs"), [({"deny": ["code_executor"]}, 0), ({}, 2)])
def test_code_that_a_function_executes_is_a_tool_call_of_its_own(rules, runs, admitted):
    """What was admitted before it was a function, of which nobody knew that."""
    executor = CountingExecutor()

    async def crunch(code: str) -> str:
        """Execute code, twice."""
        blocks = [CodeBlock(code=code, language="python")]
        return str([await executor.execute_code_blocks(blocks, CancellationToken()) for _ in range(2)])

    client = WrittenClient([asking("crunch", '{"code": "print(1)"}'), "done"])
    agent = AssistantAgent("coder", client, tools=[crunch], system_message=SYSTEM, max_tool_iterations=2)
    result = Guard(autogen, agent, Policy.model_validate({"tools": rules})).run()
    assert (result.status, len(executor.ran), result.usage.tool_calls) == ("done", runs, 1 + runs)
    tools = [(one.tool, one.irreversible) for one in admitted if one.kind == "tool_call"]
    assert tools == [("crunch", False), *[("code_executor", True)] * 2]


class Computing(BaseStreamTool):
    """Executes code, and tells of it."""

    def __init__(self, executor):
        super().__init__(Code, str, "compute", "Execute code.")
        self.executor = executor

    async def run(self, args, cancellation_token):
        blocks = [CodeBlock(code=args.code, language="python")]
        return (await self.executor.execute_code_blocks(blocks, cancellation_token)).output

    async def run_stream(self, args, cancellation_token):
        yield TextMessage(content="computing", source="compute")
        yield await self.run(args, cancellation_token)


class Code(BaseModel):
    code: str


def test_a_streaming_tool_that_holds_its_executor_is_one_tool_call(admitted):
    """As one that doesn't stream."""
    executor = CountingExecutor()
    client = WrittenClient([asking("compute", '{"code": "print(1)"}'), "done"])
    bench = StaticStreamWorkbench([Computing(executor)])
    agent = AssistantAgent("coder", client, workbench=bench, system_message=SYSTEM, max_tool_iterations=2)
    result = Guard(autogen, agent, policy(max_steps=5)).run()
    assert (result.status, len(executor.ran), result.usage.tool_calls) == ("done", 1, 1)
    assert [(one.tool, one.irreversible) for one in admitted if one.kind == "tool_call"] == [("compute", True)]


def test_a_function_that_asks_a_model_for_approval_is_gated():
    """As AutoGen's own documentation has it: the client is in a closure."""
    judge = WrittenClient(['{"approved": true, "reason": "fine"}'], repeat=True)

    async def approve(request):
        answer = await judge.create([UserMessage(content=request.code, source="user")])
        return ApprovalResponse.model_validate_json(answer.content)

    executor = CountingExecutor()
    agent = CodeExecutorAgent("coder", executor, model_client=WrittenClient([CODE, "done"]), approval_func=approve)
    result = Guard(autogen, agent, policy(max_steps=3)).run()
    assert (result.status, judge.served.calls, result.usage.steps, len(executor.ran)) == ("done", 1, 3, 1)


def test_a_memory_without_a_model_is_as_it_was():
    """ListMemory asks nobody."""
    memory = ListMemory()
    asyncio.run(memory.add(MemoryContent(content="gzip is old", mime_type="text/plain")))
    client = WrittenClient(["I know"])
    agent = AssistantAgent("ann", client, memory=[memory], system_message=SYSTEM)
    result = Guard(autogen, agent, policy(max_steps=1)).run()
    assert (result.output, result.usage.steps) == ("I know", 1)
    assert any("gzip is old" in str(message.content) for message in client.asked[0])


class AskingMemory(Memory):
    """Asks a model what to remember."""

    def __init__(self, client):
        self.client = client

    async def update_context(self, model_context):
        await self.client.create([UserMessage(content="what is of use?", source="memory")])
        return UpdateContextResult(memories=MemoryQueryResult(results=[]))

    async def query(self, query, cancellation_token=None, **options):
        return MemoryQueryResult(results=[])

    async def add(self, content, cancellation_token=None):
        pass

    async def clear(self):
        pass

    async def close(self):
        pass


def test_a_memory_that_asks_a_model_is_gated():
    """Its calls are steps of the agent that remembers."""
    asked = HungryClient(answer_after=0)
    agent = AssistantAgent("ann", HungryClient(answer_after=0), memory=[AskingMemory(asked)], system_message=SYSTEM)
    result = Guard(autogen, RoundRobinGroupChat([agent]), policy(max_steps=5)).run()
    assert (result.agents["ann"].steps, asked.served.calls) == (5, 3)


def test_a_memory_on_another_sdk_is_refused_by_name():
    """No seam of AutoGen is on its way."""
    import openai

    agent = AssistantAgent("ann", HungryClient(), memory=[AskingMemory(openai.OpenAI(api_key="none"))])
    with pytest.raises(ConfigError, match=r"agent 'ann'\._memory\[0\]\.client is a openai\.OpenAI"):
        Guard(autogen, agent, policy())


class Sampling(Workbench):
    """Stands in for an McpWorkbench whose server may ask for completions."""

    component_type = "workbench"

    def __init__(self, client):
        self._model_client = client

    async def list_tools(self):
        return []

    async def call_tool(self, name, arguments=None, cancellation_token=None, call_id=None):
        raise NotImplementedError

    async def start(self):
        pass

    stop = reset = start

    async def save_state(self):
        return {}

    async def load_state(self, state):
        pass


def test_a_workbench_whose_server_may_ask_a_model_is_refused():
    """It asks in a task that began before the run."""
    agent = AssistantAgent("ann", HungryClient(), workbench=Sampling(HungryClient()))
    with pytest.raises(ConfigError, match="lets its server ask a model"):
        Guard(autogen, agent, policy())


def test_a_workbench_around_a_workbench_counts_once():
    """One execution, whoever passes it on."""

    class Around(StaticWorkbench):
        def __init__(self, inner):
            super().__init__(inner._tools)
            self.inner = inner

        async def call_tool(self, name, arguments=None, cancellation_token=None, call_id=None):
            return await self.inner.call_tool(name, arguments, cancellation_token, call_id)

    from autogen_core.tools import FunctionTool

    executions = []

    async def look(query: str) -> str:
        """Look something up."""
        executions.append(query)
        return "found"

    inner = StaticWorkbench([FunctionTool(look, description="looks")])
    agent = AssistantAgent("ann", HungryClient(), workbench=Around(inner), system_message=SYSTEM, max_tool_iterations=9)
    result = Guard(autogen, agent, policy(max_tool_calls=3, max_steps=9)).run()
    assert len(executions) == 3 == result.usage.tool_calls


def test_what_is_guarded_already_is_not_guarded_again():
    """A Guarded is no agent."""
    agent = AssistantAgent("ann", HungryClient())
    with pytest.raises(ConfigError, match="guarded already"):
        guard(guard(agent, policy=policy()), policy=policy())


def test_a_tool_stuck_in_a_thread_does_not_hold_the_result_up():
    """The result of a kill comes at once; the client in the thread is refused afterwards."""
    begun, go = threading.Event(), threading.Event()
    hidden, answered = HungryClient(answer_after=0), threading.Event()

    def stuck(query: str) -> str:
        """Wait for ever."""
        begun.set()
        go.wait(10)
        try:
            return asyncio.run(hidden.create([UserMessage(content="x", source="user")])).content
        finally:
            answered.set()

    client = WrittenClient([asking("stuck", '{"query": "x"}')])
    agent = AssistantAgent("ann", client, tools=[stuck], system_message=SYSTEM)
    guarded = Guard(autogen, RoundRobinGroupChat([agent]), policy())
    running = guarded.start({"task": "go"})
    assert begun.wait(10)
    assert guarded.supervisor.kill(guarded.run_id)
    assert running.future.result(30).stopped.reason == "killed"
    go.set()
    assert answered.wait(30)
    assert hidden.served.calls == 0
