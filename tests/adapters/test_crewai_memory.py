"""What CrewAI's memory writes in the background is a part of the run: waited for, charged, ended with it."""

import asyncio
import threading
from concurrent.futures import Future

import pytest
from crewai.events import crewai_event_bus
from crewai.events.types.agent_events import LiteAgentExecutionCompletedEvent
from crewai.flow.flow import Flow, start
from crewai.memory.unified_memory import Memory

from crew_guard.adapters import crewai as adapter
from crew_guard.adapters.crewai.busy import Threads
from crew_guard.testing.crews import reason_of
from tests.adapters.crewai_doubles import answering, hungry_agent, hungry_crew
from tests.adapters.guarding import Guard, policy


@pytest.fixture
def answered():
    """Set when an agent has handed its answer over, and what it remembers is begun to be written."""
    answered = threading.Event()
    with crewai_event_bus.scoped_handlers():

        @crewai_event_bus.on(LiteAgentExecutionCompletedEvent)
        def tell(source, event):
            answered.set()

        yield answered


def remembering(tmp_path, held):
    """An agent whose memory is `held` by what it is to write, and not by what it looks up."""

    def embedder(texts):
        if agent.llm.served.calls and agent.crew is None:  # a crew waits by itself
            held.wait(30)
        return [[0.1] * 8 for _ in texts]

    memory = Memory(llm=answering(), embedder=embedder, storage=str(tmp_path))
    agent = hungry_agent(answering(), tools=[], memory=memory)
    return agent


def alone(agent):
    return agent, {}


def in_a_crew(agent):
    return hungry_crew(agent), {"topic": "rivers"}


def in_a_flow(agent):
    class Asking(Flow):
        @start()
        def ask(self):
            return agent.kickoff("Find everything.").raw

    return Asking(), {"id": "1"}


def in_a_flow_that_awaits_it(agent):
    class Asking(Flow):
        @start()
        async def ask(self):
            return (await agent.kickoff_async("Find everything.")).raw

    return Asking(), {"id": "1"}


@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.parametrize("made", [alone, in_a_crew, in_a_flow, in_a_flow_that_awaits_it])
def test_what_an_agent_remembers_is_written_in_its_run(made, awaited, answered, tmp_path):
    """And the model that the memory asks about it is charged to the agent."""
    agent = remembering(tmp_path, answered)
    host, inputs = made(agent)
    guard = Guard(adapter, host, policy())

    async def main():
        return await guard.start(inputs or {"task": "x"}, home=asyncio.get_running_loop()).result()

    result = asyncio.run(main()) if awaited else guard.run(**inputs)
    steps = agent.llm.served.calls + agent.memory.llm.served.calls
    assert (result.status, result.output) == ("done", "done"), result
    assert {name: usage.steps for name, usage in result.agents.items()} == {"Seeker": steps}
    assert agent.memory.llm.served.calls > 0
    assert len(agent.memory.list_records()) == 1
    agent.memory.drain_writes()
    assert agent.llm.served.calls + agent.memory.llm.served.calls == steps


@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.parametrize("made", [alone, in_a_flow_that_awaits_it])
def test_a_memory_that_does_not_end_keeps_no_result_from_coming_in_time(made, awaited, tmp_path):
    """The run's deadline holds, and the result tells what goes on."""
    go_on = threading.Event()
    agent = remembering(tmp_path, go_on)
    host, inputs = made(agent)
    guard = Guard(adapter, host, policy(max_seconds=2))

    async def main():
        try:
            return await guard.start(inputs or {"task": "x"}, home=asyncio.get_running_loop()).result()
        finally:
            go_on.set()

    try:
        result = asyncio.run(main()) if awaited else guard.run(**inputs)
    finally:
        go_on.set()
        agent.memory.drain_writes()
    assert (result.status, reason_of(result), result.late) == ("stopped", "deadline", ("Seeker/memory",)), result


@pytest.mark.parametrize("made", [alone, in_a_crew, in_a_flow])
def test_a_memory_that_was_waited_for_is_not_named(made, tmp_path):
    """Though whoever waits for a future may go on before it has told everybody."""

    ended = threading.Event()

    class Slow(Memory):
        def _on_save_done(self, future):
            ended.wait(0.3)  # the run is to wait for this
            super()._on_save_done(future)

    memory = Slow(llm=answering(), embedder=lambda texts: [[0.1] * 8 for _ in texts], storage=str(tmp_path))
    host, inputs = made(hungry_agent(answering(), tools=[], memory=memory))
    result = Guard(adapter, host, policy()).run(**inputs or {"task": "x"})
    ended.set()
    assert (result.status, result.late) == ("done", ()), result


def test_whoever_waits_for_a_runs_threads_goes_on_when_none_is_named_any_more():
    """Else a run could name what it has waited for."""
    threads, save, told = Threads(), Future(), []
    threads.until(save, lambda: told.append("not named"))
    threads.when_ended(lambda: told.append("goes on"))
    save.set_result(None)
    assert told == ["not named", "goes on"]
