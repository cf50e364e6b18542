"""Tools and agents of AutoGen that would end the process, or its loop: they have failed, and nothing else ends."""

import asyncio

import pytest
from autogen_agentchat.agents import AssistantAgent, BaseChatAgent, CodeExecutorAgent
from autogen_agentchat.base import Response, TerminationCondition
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.messages import TextMessage
from autogen_agentchat.teams import RoundRobinGroupChat, SelectorGroupChat
from autogen_core import CancellationToken
from autogen_core.tools import BaseStreamTool, FunctionTool, StaticStreamWorkbench, StaticWorkbench
from pydantic import BaseModel

from crew_guard.adapters import autogen
from tests.adapters.autogen_doubles import WrittenClient, asking
from tests.adapters.test_autogen_parts import CODE, CountingExecutor
from tests.adapters.test_exits import either_way, run

pytestmark = pytest.mark.filterwarnings("ignore:No approval function")
ERRORS = [
    (SystemExit(3), "raised SystemExit: 3"),
    (KeyboardInterrupt(), "raised KeyboardInterrupt"),
    (asyncio.CancelledError(), "raised CancelledError"),
]
each_error = pytest.mark.parametrize(("error", "told"), ERRORS, ids=[type(error).__name__ for error, _ in ERRORS])


class Query(BaseModel):
    query: str = ""


class Streaming(BaseStreamTool):
    """Says something, and raises."""

    def __init__(self, error):
        super().__init__(Query, str, "look", "Look something up.")
        self.error = error

    async def run(self, args, cancellation_token):
        raise self.error

    async def run_stream(self, args, cancellation_token):
        yield TextMessage(content="looking", source="look")
        raise self.error


class Raising(StaticWorkbench):
    """A workbench that raises itself."""

    error = None

    async def call_tool(self, name, arguments=None, cancellation_token=None, call_id=None):
        raise self.error


def in_a_thread(error):
    def look(query: str = "") -> str:
        """Look something up."""
        raise error

    return look


def async_tool(error):
    async def look(query: str = "") -> str:
        """Look something up."""
        raise error

    return look


def given_tools(made):
    return lambda error, client: AssistantAgent("seeker", client, tools=[made(error)])


def with_workbench(made):
    return lambda error, client: AssistantAgent("seeker", client, workbench=made(error))


def own_workbench(error):
    bench = Raising([FunctionTool(async_tool(error), "Look something up.")])
    bench.error = error
    return bench


SEEKERS = {
    "a thread": given_tools(in_a_thread),
    "async": given_tools(async_tool),
    "a stream": with_workbench(lambda error: StaticStreamWorkbench([Streaming(error)])),
    "no stream on a bench of streams": with_workbench(
        lambda error: StaticStreamWorkbench([FunctionTool(in_a_thread(error), "Look something up.")])
    ),
    "a workbench": with_workbench(own_workbench),
}


@either_way
@each_error
@pytest.mark.parametrize("seeker", SEEKERS.values(), ids=SEEKERS)
def test_a_tool_that_would_end_the_process_is_a_failed_tool_to_its_agent(seeker, error, told, awaited):
    """It reads what was raised, and goes on."""
    client = WrittenClient([asking("look"), "done all the same"])
    host = RoundRobinGroupChat([seeker(error, client)], termination_condition=MaxMessageTermination(2))
    guard, result = run(autogen, host, awaited)
    assert (result.status, result.usage.tool_calls, result.late) == ("done", 1, ()), result
    failed = [event for event in guard.events("Settled") if event.status == "failed"]
    assert [told in event.text for event in failed] == [True], failed
    client = WrittenClient([asking("look"), "done all the same"])
    agent = seeker(error, client)
    agent._reflect_on_tool_use = True
    assert run(autogen, agent, awaited)[1].output == "done all the same"
    (answer,) = client.asked[-1][-1].content
    assert answer.is_error
    assert told in answer.content


@pytest.mark.parametrize("made", [in_a_thread, async_tool])
def test_a_tool_that_raises_stop_iteration_is_a_failed_one(made):
    """No future takes one from a thread: AutoGen would wait for ever."""
    client = WrittenClient([asking("look"), "done all the same"])
    agent = AssistantAgent("seeker", client, tools=[made(StopIteration("none"))], reflect_on_tool_use=True)
    assert run(autogen, agent, awaited=False)[1].output == "done all the same"
    assert "StopIteration" in client.asked[-1][-1].content[0].content


@either_way
@each_error
def test_a_code_executor_that_would_end_the_process_has_failed(error, told, awaited):
    """Its code is a failed execution to the agent."""

    class Leaving(CountingExecutor):
        async def execute_code_blocks(self, code_blocks, cancellation_token):
            raise error

    client = WrittenClient([CODE, "it can't be executed"])
    guard, result = run(autogen, CodeExecutorAgent("coder", Leaving(), model_client=client), awaited)
    assert (result.status, result.output) == ("done", "it can't be executed"), result
    assert [told in event.text for event in guard.events("Settled") if event.status == "failed"] == [True]


@either_way
@pytest.mark.parametrize("team", [False, True])
def test_an_agent_that_would_end_the_process_ends_its_run(team, awaited):
    """Whose error says what was raised."""

    class Leaving(BaseChatAgent):
        produced_message_types = (TextMessage,)

        async def on_messages(self, messages, cancellation_token):
            raise SystemExit(7)

        async def on_reset(self, cancellation_token):
            pass

    leaving = Leaving("leaving", "leaves")
    host = RoundRobinGroupChat([leaving], termination_condition=MaxMessageTermination(2)) if team else leaving
    _, result = run(autogen, host, awaited)
    assert result.status == "failed"
    assert "raised SystemExit: 7" in result.error


def test_a_tool_whose_token_was_cancelled_is_not_told_as_failed():
    """Whoever cancels it meant that: the call ends as without a guard."""
    heard = []

    class Impatient(BaseChatAgent):
        produced_message_types = (TextMessage,)

        async def on_messages(self, messages, cancellation_token):
            async def look(query: str = "") -> str:
                """Look something up."""
                await asyncio.Event().wait()

            bench, token = StaticWorkbench([FunctionTool(look, "Look something up.")]), CancellationToken()
            asyncio.get_running_loop().call_later(0.05, token.cancel)
            try:
                await bench.call_tool("look", {}, token)
            except asyncio.CancelledError:
                heard.append("cancelled")
            return Response(chat_message=TextMessage(content="without it", source=self.name))

        async def on_reset(self, cancellation_token):
            pass

    guard, result = run(autogen, Impatient("impatient", "doesn't wait"), awaited=False)
    assert (result.status, result.output, heard) == ("done", "without it", ["cancelled"])
    assert [event.status for event in guard.events("Settled") if not event.text] == ["ok"]
    assert [event.status for event in guard.events("Settled") if event.text] == ["cancelled"]


class Condition(TerminationCondition):
    """Raises, once a certain one has spoken."""

    terminated = False

    def __init__(self, error, after):
        self.error, self.after = error, after

    async def __call__(self, messages):
        if any(message.source == self.after for message in messages):
            raise self.error

    async def reset(self):
        pass


def leaving(place, error):
    """A team whose own code raises."""

    def choose(messages):
        raise error

    members = [AssistantAgent(name, WrittenClient(["I say"], repeat=True)) for name in ("ann", "bob")]
    if place in {"start", "turn"}:
        ends = Condition(error, after="user" if place == "start" else "ann")
        return RoundRobinGroupChat(members, termination_condition=ends)
    ends, chooser = MaxMessageTermination(4), WrittenClient(["ann"], repeat=True)
    return SelectorGroupChat(members, chooser, termination_condition=ends, **{place: choose})


@either_way
@each_error
@pytest.mark.parametrize("place", ["start", "turn", "selector_func", "candidate_func"])
def test_a_team_whose_own_code_would_end_the_process_ends_its_run(place, error, told, awaited):
    """At once, and the run's error says what was raised."""
    _, result = run(autogen, leaving(place, error), awaited)
    assert result.stopped is None
    assert told in (result.error or result.reason), result
