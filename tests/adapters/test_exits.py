"""Hosts' tools that would end the process, or its loop: each is a failed one, and its caller's loop goes on."""

import asyncio
import threading

import pytest
from crewai.tools import tool as crewai_tool
from langchain_core.tools import StructuredTool
from llama_index.core.tools import FunctionTool
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

from crew_guard.adapters import crewai, langgraph, llama_index
from tests.adapters import crewai_doubles, langgraph_doubles, llama_index_doubles
from tests.adapters.guarding import Guard, policy

ERRORS = [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), StopIteration("none")]
WORDS = ["SystemExit: 3", "KeyboardInterrupt", "CancelledError", "StopIteration"]
each_error = pytest.mark.parametrize(("error", "told"), list(zip(ERRORS, WORDS, strict=True)), ids=WORDS)
either_way = pytest.mark.parametrize("awaited", [False, True], ids=["run", "awaited"])


def blocking(error):
    def look(query: str) -> str:
        """Look something up."""
        raise error

    return look


def waiting(error):
    async def look(query: str) -> str:
        """Look something up."""
        raise error

    return look


def of_crewai(look):
    def does(number, messages):
        return [crewai_doubles.request("look", query="x")] if number == 1 else "done"

    agent = crewai_doubles.hungry_agent(crewai_doubles.ActingLLM(does), tools=[crewai_tool("look")(look)])
    return crewai, crewai_doubles.hungry_crew(agent)


def of_langgraph(look):
    key = "coroutine" if asyncio.iscoroutinefunction(look) else "func"
    made = StructuredTool.from_function(**{key: look})
    return langgraph, langgraph_doubles.hungry_agent(langgraph_doubles.HungryChat(answer_after=1), tools=[made])


def of_llama_index(look):
    key = "async_fn" if asyncio.iscoroutinefunction(look) else "fn"
    made = FunctionTool.from_defaults(**{key: look})
    agent, _ = llama_index_doubles.hungry_agent(llama_index_doubles.HungryLLM(answer_after=1), tools=[made])
    return llama_index, agent


def run(adapter, host, awaited, **inputs):
    """The result, and the run's guard; where it is awaited, beside work of its caller's that must come to its end."""
    guard = Guard(adapter, host, policy(max_seconds=10))
    if not awaited:
        return guard, guard.run(**inputs)

    async def main():
        over = asyncio.Event()
        neighbour = asyncio.create_task(over.wait())
        result = await guard.start(inputs or {"task": "x"}, home=asyncio.get_running_loop()).result()
        over.set()
        assert await neighbour
        return result

    return guard, asyncio.run(main())


@either_way
@each_error
@pytest.mark.parametrize("look", [blocking, waiting])
@pytest.mark.parametrize("host", [of_crewai, of_langgraph, of_llama_index])
def test_a_tool_that_would_end_the_process_has_failed(host, look, error, told, awaited):
    """As with any other error of a tool, CrewAI's and LlamaIndex's agents go on, and LangChain's graphs end."""
    adapter, made = host(look(error))
    guard, result = run(adapter, made, awaited, **({"topic": "rivers"} if host is of_crewai else {}))
    assert (result.status, result.late) == ("failed" if host is of_langgraph else "done", ()), result
    failed = [event.text for event in guard.events("Settled") if event.status == "failed"]
    assert failed
    assert all(told in text for text in failed)


def leave(_):
    raise SystemExit(4)


def in_an_async_task(crew):
    crew.tasks[0].callback = leave
    crew.tasks[0].async_execution = True


def in_a_task(crew):
    crew.tasks[0].callback = leave


def in_every_task(crew):
    crew.task_callback = leave


def after_the_crew(crew):
    crew.after_kickoff_callbacks = [leave]


@pytest.mark.filterwarnings("ignore:function callbacks cannot be serialized")
@either_way
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("where", [in_every_task, in_a_task, in_an_async_task, after_the_crew])
def test_what_a_crews_callback_raises_ends_its_run_only(where, stream, awaited):
    """On CrewAI's thread no tool is between it and the loop; a thread of a task, or of a stream, tells only errors."""
    crew = crewai_doubles.hungry_crew(crewai_doubles.hungry_agent(crewai_doubles.answering()), stream=stream)
    where(crew)
    _, result = run(crewai, crew, awaited, topic="rivers")
    assert result.status == "failed"
    assert "raised SystemExit: 4" in result.error


def exiting_step(error):
    class Exiting(Workflow):
        @step
        async def leave(self, ev: StartEvent) -> StopEvent:
            raise error

    return Exiting(timeout=None)


def exiting_step_in_a_thread(error):
    class Exiting(Workflow):
        @step
        def leave(self, ev: StartEvent) -> StopEvent:
            raise error

    return Exiting(timeout=None)


class Waiting(Workflow):
    """Its one step waits until it is let go on."""

    def __init__(self):
        super().__init__(timeout=None)
        self.begun, self.over = threading.Event(), threading.Event()

    @step
    async def wait(self, ev: StartEvent) -> StopEvent:
        self.begun.set()
        await asyncio.to_thread(self.over.wait)
        return StopEvent(result="came to its end")


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=["SystemExit", "KeyboardInterrupt"])
@pytest.mark.parametrize("exiting", [exiting_step, exiting_step_in_a_thread])
def test_a_step_that_exits_ends_its_run_only(exiting, error):
    """All runs that nobody awaits share a loop: it turns on for those beside it, and for those after it."""
    beside = Waiting()
    neighbour = Guard(llama_index, beside, policy(max_seconds=20)).start({})
    assert beside.begun.wait(10)
    _, result = run(llama_index, exiting(error), awaited=False)
    assert (result.status, result.late) == ("failed", ()), result
    assert f"raised {type(error).__name__}" in result.error
    beside.over.set()
    later = Waiting()
    later.over.set()
    _, after = run(llama_index, later, awaited=False)
    assert neighbour.future.result(10).output == after.output == "came to its end"
