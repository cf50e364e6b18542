"""CrewAI's async kickoffs under the gate: native ones, those in threads, and several at once."""

import asyncio
import threading

import pytest
from crewai import Crew, Process, Task
from crewai.flow.flow import Flow, listen, start
from crewai.llms.providers.openai.completion import OpenAICompletion
from pydantic import BaseModel

from crew_guard.adapters import crewai as adapter
from tests.adapters.crewai_doubles import ActingLLM, HungryLLM, answering, hungry_agent
from tests.adapters.guarding import Guard, policy
from tests.adapters.loopback import HungryServer

EACH = [{"topic": "gzip"}, {"topic": "zlib"}, {"topic": "bz2"}]


def openai(server, **options):
    return OpenAICompletion(**{"model": "gpt-4o", "api_key": "none", "base_url": server.url, **options})


def crew_of(llm, tools=None, **options):
    agent = hungry_agent(llm, tools=tools)
    task = Task(description="Find everything about {topic}.", expected_output="everything", agent=agent, name="find")
    return Crew(agents=[agent], tasks=[task], **options)


async def kickoff_async(crew):
    return [await crew.kickoff_async(inputs=EACH[0])]


async def akickoff(crew):
    return [await crew.akickoff(inputs=EACH[0])]


async def kickoff_for_each_async(crew):
    return await crew.kickoff_for_each_async(inputs=EACH)


async def akickoff_for_each(crew):
    return await crew.akickoff_for_each(inputs=EACH)


async def of_the_agent(crew):
    return [await crew.agents[0].akickoff("Find everything about gzip.")]


async def of_the_agent_async(crew):
    return [await crew.agents[0].kickoff_async("Find everything about gzip.")]


WAYS = [kickoff_async, akickoff, kickoff_for_each_async, akickoff_for_each, of_the_agent, of_the_agent_async]
ways = pytest.mark.parametrize("way", WAYS)


def flow_of(crew, way, *, swallow=False):
    class Outer(Flow):
        @start()
        async def gather(self):
            try:
                return [one.raw for one in await way(crew)]
            except Exception:
                if not swallow:
                    raise
                return "never mind"

    return Outer()


@ways
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_max_steps_is_exactly_as_many_model_calls(way, steps):
    """Whichever way the crew is kicked off, and however many of it at once."""
    with HungryServer() as server:
        result = Guard(adapter, flow_of(crew_of(openai(server)), way), policy(max_steps=steps)).run(id="1")
        assert server.requests == steps == result.usage.steps
        assert result.stopped.limit == "max_steps"
        assert result.usage.tokens == server.served.tokens


@ways
@pytest.mark.parametrize("cap", [10_000, 8_001])
def test_no_more_tokens_than_the_cap_are_served(way, cap):
    """Side by side, too."""
    with HungryServer() as server:
        host = flow_of(crew_of(openai(server)), way, swallow=True)
        result = Guard(adapter, host, policy(max_tokens=cap)).run(id="1")
        assert server.served.tokens == result.usage.tokens <= cap
        assert (result.stopped.limit, result.overshoot.tokens) == ("max_tokens", 0)


@ways
def test_what_is_done_is_charged_to_the_agent(way):
    """Answers come out, and the steps are the agent's, not the flow's method's."""
    with HungryServer(answer="done") as server:
        result = Guard(adapter, flow_of(crew_of(openai(server), tools=[]), way), policy()).run(id="1")
        assert result.output == ["done"] * len(result.output)
        assert {name: usage.steps for name, usage in result.agents.items()} == {"Seeker": server.requests}


@ways
def test_executions_of_tools_are_counted_one_by_one(way):
    """As many as the cap says."""
    with HungryServer() as server:
        crew = crew_of(openai(server))
        look = crew.agents[0].tools[0]
        result = Guard(adapter, flow_of(crew, way), policy(max_tool_calls=2, max_steps=30)).run(id="1")
        assert (result.usage.tool_calls, result.stopped.limit) == (2, "max_tool_calls")
        assert len(look.executions) <= 2  # copies of the crew have tools of their own


@pytest.mark.parametrize("way", [akickoff, akickoff_for_each])
def test_a_hierarchical_crew_is_gated_when_it_is_kicked_off_natively(way):
    """The manager that CrewAI makes is charged, and its delegations are handoffs."""
    with HungryServer(tool="delegate_work_to_coworker") as server:
        agent = hungry_agent(openai(server), tools=[], role="Worker")
        task = Task(description="Find {topic}.", expected_output="it")
        crew = Crew(agents=[agent], tasks=[task], process=Process.hierarchical, manager_llm=openai(server))
        result = Guard(adapter, flow_of(crew, way), policy(max_steps=3)).run(id="1")
        assert server.requests == 3 == result.usage.steps
        assert "Crew Manager" in result.agents


@pytest.mark.parametrize("way", [akickoff, akickoff_for_each, kickoff_for_each_async])
def test_async_tasks_and_planning_are_gated(way):
    """Tasks that run beside each other, and the planner that CrewAI makes."""
    llm = ActingLLM(lambda number, messages: "done")
    agents = [hungry_agent(llm, tools=[], role=f"Seeker {i}") for i in range(3)]
    tasks = [
        Task(description=f"Find {i}.", expected_output="it", agent=agents[i], name=f"t{i}", async_execution=True)
        for i in range(2)
    ]
    last = Task(description="Join.", expected_output="all", agent=agents[2], name="join", context=tasks)
    crew = Crew(agents=agents, tasks=[*tasks, last])
    result = Guard(adapter, flow_of(crew, way), policy()).run(id="1")
    assert result.status == "done", result.error or result.stopped
    assert llm.served.calls == result.usage.steps == 3 * len(result.output)


class Note(BaseModel):
    text: str


def test_a_structured_answer_of_a_native_kickoff_is_made_under_the_gate():
    """output_pydantic, and a guardrail function beside it."""
    with HungryServer(answer='{"text": "zlib"}') as server:
        agent = hungry_agent(openai(server), tools=[])
        task = Task(
            description="Look.",
            expected_output="a note",
            agent=agent,
            output_pydantic=Note,
            guardrail=lambda output: (True, output.raw),
        )
        host = flow_of(Crew(agents=[agent], tasks=[task]), akickoff)
        result = Guard(adapter, host, policy(max_steps=9)).run(id="1")
        assert result.status == "done", result.error
        assert server.requests == result.usage.steps
        assert server.served.tokens == result.usage.tokens


def test_a_flow_in_a_flow_is_gated_whichever_way_it_is_kicked_off():
    """kickoff_async, akickoff: one budget, and the methods are charged by their names."""
    llm = answering("done")

    class Inner(Flow):
        @start()
        async def ask(self):
            return await llm.acall("ask " * 300)

    class Outer(Flow):
        @start()
        async def first(self):
            return await Inner().kickoff_async()

        @listen(first)
        async def second(self, _):
            return await Inner().akickoff()

        @listen(second)
        async def third(self, _):
            return await asyncio.to_thread(Inner().kickoff)

    result = Guard(adapter, Outer(), policy(max_steps=9)).run(id="1")
    assert (result.status, result.output) == ("done", "done")
    assert {name: usage.steps for name, usage in result.agents.items()} == {"ask": 3}
    again = Guard(adapter, Outer(), policy(max_steps=2)).run(id="1")
    assert (again.stopped.limit, llm.served.calls) == ("max_steps", 5)


def test_max_execution_time_ends_a_native_kickoff():
    """The run has its result at that time, and what the thread asks for later is refused."""
    go_on = threading.Event()

    class Waiting(HungryLLM):
        def call(self, *args, **kwargs):
            go_on.wait(30)
            return "too late"

    agent = hungry_agent(Waiting(), tools=[], max_execution_time=1)
    crew = Crew(agents=[agent], tasks=[Task(description="Wait.", expected_output="it", agent=agent)])
    running = Guard(adapter, flow_of(crew, akickoff), policy(max_seconds=20)).start({"id": "1"})
    try:
        result = running.future.result(10)
    finally:
        go_on.set()
    assert result.status == "stopped", result.error
    assert (result.stopped.limit, result.stopped.scope) == ("max_execution_time", "agent:Seeker")
