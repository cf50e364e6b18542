"""Whole crews of CrewAI under the gate: managers, delegation, planners, guardrails, tasks at the same time."""

import threading

import pytest
from crewai import Crew, Process, Task
from crewai.agent.planning_config import PlanningConfig
from crewai.tasks.conditional_task import ConditionalTask
from crewai.tasks.llm_guardrail import LLMGuardrail
from crewai.tools.agent_tools.agent_tools import AgentTools

from crew_guard import Policy
from crew_guard.adapters import crewai as adapter
from tests.adapters.crewai_doubles import ActingLLM, HungryLLM, Look, answering, eventually, hungry_agent, request
from tests.adapters.guarding import Guard, policy

HIERARCHICAL = {"process": Process.hierarchical}
BRANCHES = 8


def task(agent=None, **options):
    return Task(**{"description": "Find all about {topic}.", "expected_output": "all", "agent": agent, **options})


def delegating(to, times=1):
    """A manager that hands its task to a coworker as often as that, and then answers."""

    def does(number, messages):
        if number > times:
            return "managed"
        given = {"task": "look", "context": "none", "coworker": to}
        return [request("delegate_work_to_coworker", number, **given)]

    return ActingLLM(does)


def hierarchical(worker, manager, **options):
    agent = hungry_agent(worker, role="Worker")
    return Crew(agents=[agent], tasks=[task(name="find")], manager_llm=manager, **HIERARCHICAL, **options)


# Managers and delegation


def test_a_managers_calls_are_steps_of_its_own_role():
    """The manager that CrewAI makes at kickoff, and the worker it delegates to, are each charged."""
    worker, manager = HungryLLM(answer_after=1), delegating("Worker")
    guard = Guard(adapter, hierarchical(worker, manager), policy(max_steps=20))
    result = guard.run(topic="gzip")
    assert (result.status, result.output) == ("done", "managed")
    assert {name: usage.steps for name, usage in result.agents.items()} == {"Worker": 2, "Crew Manager": 2}
    assert result.usage.tokens == worker.served.tokens + manager.served.tokens
    assert guard.events("RunStarted")[0].members == ("Worker", "Crew Manager")


def test_delegation_is_a_handoff_and_no_tool_call():
    """It is in the journal as what it is, and what the worker does inside is a part of it."""
    guard = Guard(adapter, hierarchical(HungryLLM(answer_after=1), delegating("Worker")), policy(max_steps=20))
    result = guard.run(topic="gzip")
    admitted = guard.events("Admitted")
    handoff = next(event for event in admitted if event.kind == "handoff")
    assert (handoff.agent, handoff.target) == ("Crew Manager", "Worker")
    assert result.usage.tool_calls == 1
    inner = [event for event in admitted if event.agent == "Worker" and event.kind == "model_call"]
    assert [event.parent for event in inner] == [handoff.action_id] * 2


@pytest.mark.parametrize("steps", [0, 1, 3, 4])
def test_max_steps_holds_across_manager_and_worker(steps):
    """As many calls as the cap says, whoever makes them; the manager reads the worker's refusal and changes nothing."""
    worker, manager = HungryLLM(), delegating("Worker", times=50)
    result = Guard(adapter, hierarchical(worker, manager), policy(max_steps=steps)).run(topic="gzip")
    assert worker.served.calls + manager.served.calls == steps == result.usage.steps
    assert result.stopped.limit == "max_steps"


def test_a_manager_of_the_users_own_is_known_by_its_role():
    """manager_agent."""
    boss = hungry_agent(delegating("Worker"), role="Boss", tools=[])
    worker = hungry_agent(answering(), role="Worker")
    crew = Crew(agents=[worker], tasks=[task()], manager_agent=boss, **HIERARCHICAL)
    result = Guard(adapter, crew, policy(max_steps=20)).run(topic="gzip")
    assert {name: usage.steps for name, usage in result.agents.items()} == {"Worker": 1, "Boss": 2}


def test_delegation_deeper_than_max_depth_is_refused_in_words():
    """Two coworkers who hand the task to each other: the refused one reads why and answers itself."""
    read = []

    def hands_to(other):
        def does(number, messages):
            read.extend(str(message.get("content")) for message in messages if message["role"] == "tool")
            if number > 1:
                return "myself, then"
            given = {"task": "look", "context": "none", "coworker": other}
            return [request("delegate_work_to_coworker", number, **given)]

        return ActingLLM(does)

    one = hungry_agent(hands_to("Two"), role="One", tools=[], allow_delegation=True)
    two = hungry_agent(hands_to("One"), role="Two", tools=AgentTools(agents=[one]).tools())
    crew = Crew(agents=[one, two], tasks=[task(one)])
    guard = Guard(adapter, crew, policy(max_depth=1, max_steps=20))
    result = guard.run(topic="gzip")
    assert result.status == "done"
    handoffs = [event for event in guard.events("Admitted") if event.kind == "handoff"]
    assert [(event.agent, event.target) for event in handoffs] == [("One", "Two")]
    assert "max_depth" in read[0]


def test_an_unknown_coworker_is_no_handoff():
    """CrewAI tells the agent whom it has; nothing was handed to anybody."""
    guard = Guard(adapter, hierarchical(answering(), delegating("Nobody")), policy(max_steps=20))
    assert guard.run(topic="gzip").status == "done"
    assert not [event for event in guard.events("Admitted") if event.kind == "handoff"]


# Tasks at the same time


def at_once(llms, **options):
    agents = [hungry_agent(llm, role=f"Reader {i}") for i, llm in enumerate(llms)]
    tasks = [task(agent, name=f"t{i}", async_execution=True) for i, agent in enumerate(agents)]
    last = hungry_agent(answering("all"), role="Writer", tools=[])
    return Crew(agents=[*agents, last], tasks=[*tasks, task(last, name="write", context=tasks)], **options)


@pytest.mark.parametrize("cap", [{"max_steps": 5}, {"max_tokens": 15_000}, {"max_tool_calls": 3, "max_steps": 99}])
def test_async_tasks_share_one_cap(cap):
    """Eight threads at one cap: nothing beyond it is served."""
    llms = [HungryLLM() for _ in range(BRANCHES)]
    crew = at_once(llms)
    result = Guard(adapter, crew, policy(**cap)).run(topic="gzip")
    calls, tokens = sum(llm.served.calls for llm in llms), sum(llm.served.tokens for llm in llms)
    executions = sum(len(agent.tools[0].executions) for agent in crew.agents if agent.tools)
    assert calls == result.usage.steps <= cap.get("max_steps", 99)
    assert tokens == result.usage.tokens <= cap.get("max_tokens", 10**9)
    assert executions == result.usage.tool_calls <= cap.get("max_tool_calls", 99)
    assert result.stopped.limit in cap
    assert result.overshoot.tokens == 0


def test_async_tasks_with_one_model_are_charged_to_each_agent():
    """One model object, eight agents in parallel: each has its own figures, and they sum up."""
    llm = ActingLLM(lambda number, messages: "done")
    result = Guard(adapter, at_once([llm] * BRANCHES), policy(max_steps=30)).run(topic="gzip")
    assert result.output == "all"
    assert {name: usage.steps for name, usage in result.agents.items()} == {
        **{f"Reader {i}": 1 for i in range(BRANCHES)},
        "Writer": 1,
    }
    assert result.usage.tokens == llm.served.tokens + 1010
    assert llm.get_token_usage_summary().total_tokens == llm.served.tokens


def test_a_conditional_task_is_skipped_as_ever():
    """Its condition decides; what isn't run costs nothing."""
    first, second = answering("nothing"), answering("never")
    one, two = hungry_agent(first, role="One", tools=[]), hungry_agent(second, role="Two", tools=[])
    maybe = ConditionalTask(
        description="more", expected_output="all", agent=two, condition=lambda output: "much" in output.raw
    )
    result = Guard(adapter, Crew(agents=[one, two], tasks=[task(one), maybe]), policy()).run(topic="gzip")
    assert (result.status, result.usage.steps, second.served.calls) == ("done", 1, 0)


def test_a_crew_run_for_each_of_several_inputs_has_one_budget():
    """guarded.run({'for_each': […]}) is kickoff_for_each under one cap."""
    llm = ActingLLM(lambda number, messages: f"answer {number}")
    agent = hungry_agent(llm, role="Reader of {topic}", tools=[])
    crew = Crew(agents=[agent], tasks=[task(agent, name="find")])
    topics = [{"topic": "a"}, {"topic": "b"}, {"topic": "c"}]
    result = Guard(adapter, crew, policy(max_steps=5)).run(for_each=topics)
    assert result.output == ["answer 1", "answer 2", "answer 3"]
    assert list(result.agents) == ["Reader of {topic}"]
    stopped = Guard(adapter, crew, policy(max_steps=2)).run(for_each=topics)
    assert (stopped.status, stopped.usage.steps, llm.served.calls) == ("stopped", 2, 5)


def test_a_streaming_crew_is_run_to_its_end():
    """stream=True makes kickoff give an iterator: the run takes it to its end."""
    agent = hungry_agent(answering("streamed"), tools=[])
    crew = Crew(agents=[agent], tasks=[task(agent)], stream=True)
    result = Guard(adapter, crew, policy()).run(topic="gzip")
    assert (result.status, result.output, result.usage.steps) == ("done", "streamed", 1)


# Models that CrewAI calls beside the agents


def test_the_crews_planner_is_a_step():
    """planning=True: the planner's call is counted, by the name that CrewAI gives it."""
    plan = '{"list_of_plans_per_task": [{"task_number": 1, "task": "find", "plan": "look well"}]}'
    planner, llm = answering(plan), answering()
    agent = hungry_agent(llm, tools=[])
    crew = Crew(agents=[agent], tasks=[task(agent)], planning=True, planning_llm=planner)
    result = Guard(adapter, crew, policy(max_steps=9)).run(topic="gzip")
    assert result.status == "done"
    assert result.agents["Task Execution Planner"].steps == planner.served.calls > 0
    assert result.usage.steps == planner.served.calls + llm.served.calls


def test_an_agent_that_plans_pays_for_its_plan():
    """planning_config: the plan is made by another model object, and is the agent's step."""
    planner, llm = answering("READY: I am ready to execute the task."), answering()
    agent = hungry_agent(llm, planning_config=PlanningConfig(llm=planner, max_attempts=1))
    result = Guard(adapter, agent, policy(max_steps=12)).run()
    assert planner.served.calls > 0
    assert list(result.agents) == ["Seeker"]
    assert result.usage.steps == planner.served.calls + llm.served.calls


VALID = '{"valid": true, "feedback": null}'


@pytest.mark.parametrize("words", [True, False])
def test_a_guardrail_in_words_is_a_step(words):
    """CrewAI makes an agent that judges: its calls pass the gate, by the name that it has."""
    judge = answering(VALID)
    llm = ActingLLM(lambda number, messages: VALID if "guardrail" in str(messages) else "kind words")
    agent = hungry_agent(llm, tools=[])
    guardrail = "be kind" if words else LLMGuardrail("be kind", judge)
    crew = Crew(agents=[agent], tasks=[task(agent, guardrail=guardrail)])
    result = Guard(adapter, crew, policy(max_steps=9)).run(topic="gzip")
    assert (result.status, result.output) == ("done", "kind words")
    assert result.usage.steps == llm.served.calls + judge.served.calls
    assert result.agents["Guardrail Agent"].steps > 0


def test_a_guardrail_is_refused_when_the_steps_are_over():
    """The judge gets no call of its own."""
    llm = answering("words")
    agent = hungry_agent(llm, tools=[])
    crew = Crew(agents=[agent], tasks=[task(agent, guardrail="be kind")])
    result = Guard(adapter, crew, policy(max_steps=1)).run(topic="gzip")
    assert llm.served.calls == 1
    assert result.stopped.limit == "max_steps"


# An agent's own time


def test_max_execution_time_ends_the_agents_work_without_waiting_for_its_thread():
    """A tool that blocks: the run has ended while it is still blocked, and it buys nothing when it goes on."""
    begun, go, ended = threading.Event(), threading.Event(), threading.Event()

    class Stuck(Look):
        def _run(self, query: str) -> str:
            begun.set()
            go.wait(60)
            ended.set()
            return "late"

    llm = HungryLLM()
    agent = hungry_agent(llm, tools=[Stuck()], max_execution_time=1)
    result = Guard(adapter, Crew(agents=[agent], tasks=[task(agent)]), policy(max_seconds=60)).run(topic="x")
    assert begun.is_set()
    assert not ended.is_set()
    assert (result.status, result.stopped.limit, result.stopped.scope) == (
        "stopped",
        "max_execution_time",
        "agent:Seeker",
    )
    go.set()
    assert ended.wait(10)
    assert llm.served.calls == 1


def by_itself(agent):
    return agent, {"task": "x"}


def at_a_task(agent):
    return Crew(agents=[agent], tasks=[task(agent)]), {"topic": "x"}


def at_a_task_with_a_name(agent):
    return Crew(agents=[agent], tasks=[task(agent, name="find")]), {"topic": "x"}


@pytest.mark.parametrize(
    ("made", "late"),
    [(by_itself, "Seeker/kickoff"), (at_a_task, "Seeker/task_1"), (at_a_task_with_a_name, "Seeker/find")],
)
def test_a_thread_that_max_execution_time_leaves_behind_is_named_and_keeps_its_agent(made, late):
    """One thread at a time works on an agent: its next run is refused until that has ended."""
    go = threading.Event()

    class Stuck(HungryLLM):
        def call(self, *args, **kwargs):
            at_work.append(threading.current_thread())
            go.wait(60)
            return "done"

    at_work = []
    agent = hungry_agent(Stuck(), tools=[], max_execution_time=1)

    def run():
        host, inputs = made(agent)
        return Guard(adapter, host, policy(max_seconds=60)).run(**inputs)

    try:
        first, second = run(), run()
    finally:
        go.set()
    assert (first.status, first.stopped.limit, first.late) == ("stopped", "max_execution_time", (late,))
    assert (second.status, second.late) == ("failed", ())
    assert "a thread of one that was ended still works on it" in second.error
    [left] = at_work
    left.join(10)
    eventually(lambda: run().status == "done")  # CrewAI tells who listens that the first one's time was over


@pytest.mark.parametrize("made", [by_itself, at_a_task])
def test_a_thread_that_max_execution_time_leaves_behind_in_a_tool_is_named_by_that(made):
    """Where the tool's own thread tells what goes on, the agent's around it need not."""
    go = threading.Event()

    class Stuck(Look):
        def _run(self, query: str) -> str:
            go.wait(60)
            return "late"

    agent = hungry_agent(HungryLLM(), tools=[Stuck()], max_execution_time=1)
    rules = Policy.model_validate({"limits": {"max_seconds": 60}, "tools": {"limits": {"look": {"max_seconds": 50}}}})
    host, inputs = made(agent)
    try:
        result = Guard(adapter, host, rules).run(**inputs)
    finally:
        go.set()
    assert (result.status, result.stopped.limit, result.late) == ("stopped", "max_execution_time", ("Seeker/look",))


def test_an_agent_in_time_is_left_alone():
    """Its answer is the output; an agent guarded by itself has the same clock."""
    agent = hungry_agent(HungryLLM(answer_after=1), max_execution_time=30)
    assert Guard(adapter, agent, policy()).run().output == "done"
    crew = Crew(agents=[agent], tasks=[task(agent)])
    assert Guard(adapter, crew, policy()).run(topic="x").status == "done"
