"""LlamaIndex's blocking steps, tools and models: what goes on in a thread is named, and a tool's time is kept."""

import asyncio
import os
import threading
from typing import Any

import pytest
from llama_index.core.tools import FunctionTool
from llama_index.core.tools.types import BaseTool, ToolMetadata, ToolOutput, adapt_to_async_tool
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

from crew_guard.adapters import llama_index
from crew_guard.adapters.llama_index import step_gate
from crew_guard.core.policy import Policy
from tests.adapters.guarding import Guard, policy
from tests.adapters.llama_index_doubles import HungryLLM, hungry_agent
from tests.forks import forked

SECONDS = 30


class Stuck:
    """Something that blocks its thread until the test is over."""

    def __init__(self):
        self.begun, self.over = threading.Event(), threading.Event()

    def __call__(self):
        self.begun.set()
        self.over.wait(SECONDS)


@pytest.fixture
def stuck():
    """Let go of at the end, and waited for by nobody."""
    one = Stuck()
    yield one
    one.over.set()


class StuckLLM(HungryLLM):
    """A model that doesn't answer."""

    wait: Any = None

    def chat(self, messages, max_tokens=None, **kwargs):
        self.wait()
        return super().chat(messages, max_tokens)


def blocking_step(stuck):
    """A step that isn't async blocks."""

    class Blocking(Workflow):
        @step
        def work(self, ev: StartEvent) -> StopEvent:
            stuck()
            return StopEvent()

    return Blocking(timeout=None)


def model_in_a_thread(stuck):
    """A step asks a model in a thread that it begins."""
    llm = StuckLLM(wait=stuck)

    class Asking(Workflow):
        @step
        async def ask(self, ev: StartEvent) -> StopEvent:
            await asyncio.to_thread(llm.complete, "x")
            return StopEvent()

    return Asking(timeout=None)


def tool_of_an_agent(stuck):
    """LlamaIndex runs a tool that isn't async in a thread."""

    def look(query: str) -> str:
        """Look something up."""
        stuck()
        return query

    return hungry_agent(HungryLLM(), tools=[FunctionTool.from_defaults(look)])[0]


class OwnTool(BaseTool):
    """A class of tools that knows no async."""

    def __init__(self, stuck):
        self.stuck = stuck

    @property
    def metadata(self):
        return ToolMetadata("Look something up.", name="look")

    def __call__(self, input):  # noqa: A002  so LlamaIndex calls it
        self.stuck()
        return ToolOutput(content=input, tool_name="look", raw_input={}, raw_output=input)


def tool_of_a_class_of_ones_own(stuck):
    """LlamaIndex runs it in a thread, too."""

    class Calling(Workflow):
        @step
        async def find(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=str(await adapt_to_async_tool(OwnTool(stuck)).acall("x")))

    return Calling(timeout=None)


def request_by_hand(stuck):
    """A step sends by an SDK that nothing knows of, in a thread."""

    def send():
        with step_gate().model("openai:gpt-4o", "x", max_tokens=5):
            stuck()

    class ByHand(Workflow):
        @step
        async def ask(self, ev: StartEvent) -> StopEvent:
            await asyncio.to_thread(send)
            return StopEvent()

    return ByHand(timeout=None)


THREADS = [
    (blocking_step, {"Blocking/work"}),
    (model_in_a_thread, {"ask/custom:StuckLLM"}),
    (tool_of_an_agent, {"seeker/look"}),
    (tool_of_a_class_of_ones_own, {"find/look"}),
    (request_by_hand, {"ask/openai:gpt-4o"}),
]


@pytest.mark.parametrize("awaited", [False, True], ids=["run", "arun"])
@pytest.mark.parametrize(("made", "late"), THREADS, ids=[made.__name__ for made, _ in THREADS])
def test_a_thread_that_is_left_behind_is_named(stuck, made, late, awaited):
    """The result is there while it still blocks, and says what goes on."""
    guard = Guard(llama_index, made(stuck), policy(max_seconds=60))
    assert set(_killed(guard, stuck, awaited=awaited).late) == late


def test_a_thread_that_came_to_its_end_is_not_named(stuck):
    """A step and a tool that have blocked, and gone on."""
    stuck.over.set()
    for made in (blocking_step, tool_of_an_agent, model_in_a_thread):
        assert Guard(llama_index, made(stuck), policy(max_steps=1)).run().late == ()


def _killed(guard, stuck, *, awaited):
    """What a run came to that was killed when its thread had begun; only then the thread may go on."""

    def kill(running):
        assert stuck.begun.wait(SECONDS)
        assert guard.supervisor.kill(guard.run_id)
        return running.future.result(SECONDS)

    async def on_this_loop():
        try:
            return await asyncio.to_thread(kill, guard.start({"task": "go"}, home=asyncio.get_running_loop()))
        finally:
            stuck.over.set()  # asyncio.run waits for the threads of its loop

    return asyncio.run(on_this_loop()) if awaited else kill(guard.start({"task": "go"}))


# A tool's time


def limited(seconds=0.2):
    """A policy that gives `look` this long."""
    return Policy.model_validate({"limits": {"max_steps": 2}, "tools": {"limits": {"look": {"max_seconds": seconds}}}})


def async_tool(stuck):
    """A tool that would wait for ever."""

    async def look(query: str) -> str:
        """Look something up."""
        await asyncio.Event().wait()
        return query

    return FunctionTool.from_defaults(async_fn=look)


def blocking_tool(stuck):
    """One that blocks."""

    def look(query: str) -> str:
        """Look something up."""
        stuck()
        return query

    return FunctionTool.from_defaults(look)


@pytest.mark.parametrize(("made", "late"), [(async_tool, ()), (blocking_tool, ("seeker/look",))])
def test_a_tool_that_takes_longer_than_the_policy_lets_it_has_failed(stuck, made, late):
    """Its agent reads why, and goes on to its second step; what blocks is left behind, and named."""
    heard = []

    class Listening(HungryLLM):
        def chat(self, messages, max_tokens=None, **kwargs):
            heard.append("\n".join(str(message.content) for message in messages))
            return super().chat(messages, max_tokens)

    agent, _ = hungry_agent(Listening(answer_after=1), tools=[made(stuck)])
    guard = Guard(llama_index, agent, limited())
    result = guard.run()
    assert (result.output, result.usage.tool_calls) == ("done", 1), result
    assert "look was ended after 0.2 s, its max_seconds" in heard[-1]
    tools = {event.action_id for event in guard.events("Admitted") if event.kind == "tool_call"}
    assert [event.status for event in guard.events("Settled") if event.action_id in tools] == ["failed"]
    assert set(result.late) == set(late)


def test_a_blocking_call_of_a_tool_in_a_step_is_ended_in_time_too(stuck):
    """Whichever way a step calls it."""
    tool = blocking_tool(stuck)

    class Calling(Workflow):
        @step
        def look(self, ev: StartEvent) -> StopEvent:
            try:
                return StopEvent(result=str(tool.call(query="x")))
            except Exception as error:
                return StopEvent(result=str(error))

    result = Guard(llama_index, Calling(timeout=None), limited()).run()
    assert result.output == "look was ended after 0.2 s, its max_seconds"


def test_a_tool_that_is_in_time_is_as_ever():
    """Its result, and nothing late."""
    agent, executions = hungry_agent(HungryLLM(answer_after=1))
    result = Guard(llama_index, agent, limited(SECONDS)).run()
    assert (result.output, len(executions), result.late) == ("done", 1, ())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_a_loop_of_its_own():
    """As under a server that forks its workers after a first run."""

    class Answering(Workflow):
        @step
        async def answer(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=(await asyncio.to_thread(threading.current_thread)).daemon)

    guard = Guard(llama_index, Answering(), policy(max_seconds=10))
    assert guard.run(task="x").output is True
    assert forked(lambda: guard.run(task="x").output is True)
