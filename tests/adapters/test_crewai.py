"""A CrewAI agent under the gate, held to what its model served. CrewAI prints: its output is not looked at."""

import threading

import crewai.llms.retry
import pytest
from crewai import LLM, Agent, Crew, Process, Task
from crewai.agent.planning_config import PlanningConfig
from crewai.agents.cache.cache_handler import CacheHandler
from crewai.knowledge.source.string_knowledge_source import StringKnowledgeSource
from crewai.llms.providers.openai.completion import OpenAICompletion
from crewai.tasks.llm_guardrail import LLMGuardrail
from crewai.tools import tool
from crewai.utilities.agent_utils import is_context_length_exceeded, is_native_tool_calling_unsupported_error
from crewai.utilities.internal_instructor import InternalInstructor
from pydantic import BaseModel

from crew_guard.adapters import crewai as adapter
from crew_guard.adapters.crewai.model import model_name
from crew_guard.adapters.crewai.tools import gated_tool
from crew_guard.adapters.hosted import RunNotes
from crew_guard.core.decisions import Stop
from crew_guard.core.policy import Policy
from crew_guard.errors import ConfigError, LimitExceededError, PolicyDeniedError
from crew_guard.testing.clock import no_time_passes
from tests.adapters.crewai_doubles import HeedlessLLM, HungryLLM, Look, eventually, hungry_agent, hungry_crew
from tests.adapters.guarding import ByteFacts, Guard, policy
from tests.adapters.loopback import HungryServer
from tests.supervisor.gates import gate_for


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    """CrewAI sleeps seconds between the tries that it makes at a provider that throttles."""
    monkeypatch.setattr(crewai.llms.retry, "get_retry_delay_seconds", lambda **_: 0.0)


def openai(server, **options):
    return OpenAICompletion(**{"model": "gpt-4o", "api_key": "none", "base_url": server.url, **options})


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_max_steps_is_exactly_as_many_model_calls(steps, native):
    """With native tool calls and with tools in text: as many calls as the cap says."""
    llm = HungryLLM(native=native)
    result = Guard(adapter, hungry_agent(llm), policy(max_steps=steps)).run()
    assert llm.served.calls == steps == result.usage.steps
    assert (result.status, result.stopped.limit, result.output) == ("stopped", "max_steps", None)


@pytest.mark.parametrize(("native", "parallel"), [(True, 1), (True, 3), (False, 1)])
@pytest.mark.parametrize("calls", [0, 2])
def test_max_tool_calls_is_exactly_as_many_executions(calls, native, parallel):
    """Executions are counted one by one, also where CrewAI runs three at once in threads."""
    agent = hungry_agent(HungryLLM(native=native, parallel=parallel))
    look = agent.tools[0]
    result = Guard(adapter, agent, policy(max_tool_calls=calls, max_steps=20)).run()
    assert len(look.executions) == calls == result.usage.tool_calls
    assert result.stopped.limit == "max_tool_calls"


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("cap", [10_000, 8_001, 2_500, 300, 0])
def test_max_tokens_is_never_passed_and_hardly_left(cap, native):
    """What was served stays below the cap; what is left is less than the refused call needed."""
    llm = HungryLLM(native=native)
    llm.served.completion = 3_000  # longer than what is left at the end
    result = Guard(adapter, hungry_agent(llm), policy(max_tokens=cap)).run()
    assert llm.served.tokens == result.usage.tokens <= cap
    assert cap - result.usage.tokens < result.stopped.asked
    assert result.overshoot.tokens == 0


def test_usage_that_is_not_reported_is_charged_as_reserved():
    """A model that keeps no counters can't make a run endless."""
    llm = HungryLLM(reports=False)
    result = Guard(adapter, hungry_agent(llm), policy(max_tokens=10_000)).run()
    assert llm.served.tokens <= result.usage.tokens <= 10_000
    assert result.unreported == llm.served.calls > 0


def test_a_model_without_a_notion_of_length_reserves_all_that_it_may_make():
    """Its code never reads max_tokens, so nothing is clamped that won't be."""
    llm = HeedlessLLM()
    result = Guard(adapter, hungry_agent(llm), policy(max_tokens=10_000)).run()
    assert llm.served.tokens == result.usage.tokens <= 10_000
    assert result.overshoot.tokens == 0
    assert 10_000 - result.usage.tokens < result.stopped.asked


def test_a_model_that_declares_its_length_reserves_that():
    """max_tokens=1000 of a model that can't be clamped: 1,000 are reserved, not the policy's 4,096."""
    llm = HeedlessLLM(max_tokens=1000)
    guard = Guard(adapter, hungry_agent(llm), policy(max_steps=1))
    guard.run()
    assert guard.events("Admitted")[1].reserved.output_tokens == 1000


@pytest.mark.parametrize("native", [True, False])
def test_a_denied_tool_is_told_to_the_agent_and_the_agent_goes_on(native):
    """A denial refuses that action only: the agent reads why, and may answer without the tool."""
    agent = hungry_agent(HungryLLM(native=native, answer_after=2))
    look = agent.tools[0]
    guard = Guard(adapter, agent, Policy(tools={"deny": ["look"]}))
    result = guard.run()
    assert (result.status, result.output, look.executions) == ("done", "done", [])
    assert guard.events("Refused")


SEEN = Policy.model_validate({"tools": {"rules": {"look": [{"argument": "query", "seen_in": ("user",)}]}}})


@pytest.mark.parametrize(("native", "asked"), [(True, "q2.0"), (False, "q2")])
def test_a_rule_on_an_argument_refuses_what_the_user_did_not_give(native, asked):
    """Of two calls the one whose argument stands in the task is carried out; the agent goes on after the other."""
    agent = hungry_agent(HungryLLM(native=native, answer_after=2))
    guard = Guard(adapter, agent, SEEN)
    result = guard.run(f"Find '{asked}'.")
    assert (result.status, result.output, agent.tools[0].executions) == ("done", "done", [asked])
    assert {event.stop.limit for event in guard.events("Refused")} == {"tools.rules.look.0"}


def test_a_crews_task_texts_count_as_given_by_the_user():
    """As they were declared: what another run filled in was given to that run."""
    agent = hungry_agent(HungryLLM(answer_after=2))
    crew = hungry_crew(agent)
    crew.tasks[0].description = "Find q2.0 for {who}"
    guard = Guard(adapter, crew, SEEN)
    assert guard.run(who="q1.0").done
    assert agent.tools[0].executions == ["q1.0", "q2.0"]
    agent.tools[0].executions.clear()
    other = Guard(adapter, crew, SEEN)
    other.run(who="me")
    assert other.events("RunStarted")[0].given == ("Find q2.0 for {who}",)


def test_an_argument_given_by_position_is_judged_by_its_name():
    """Rules know names; how a caller passes the value makes no difference."""
    gate = gate_for(tools={"rules": {"look": [{"argument": "query", "equals": "good", "optional": True}]}})
    look = gated_tool(Look(), "ann", gate, RunNotes())
    assert look.run("good") == "found good"
    with pytest.raises(PolicyDeniedError, match=r'must be "good"; got "bad"'):
        look.run("bad")


def test_an_agent_that_finishes_gives_its_answer():
    """Below its caps a guarded agent does what it did before."""
    llm = HungryLLM(answer_after=2)
    agent = hungry_agent(llm)
    result = Guard(adapter, agent, policy(max_steps=10)).run()
    assert (result.status, result.output, llm.served.calls) == ("done", "done", 3)
    assert len(agent.tools[0].executions) == 2
    assert list(result.agents) == ["Seeker"]


def test_what_max_iter_ends_is_no_answer():
    """CrewAI hands the model's request for a tool out as its answer: that is a part, not an output."""
    result = Guard(adapter, hungry_agent(HungryLLM(), max_iter=2), policy(max_steps=20)).run()
    assert (result.status, result.output) == ("failed", None)
    assert "max_iter" in result.error


@pytest.mark.parametrize("caps", [{"max_steps": 2}, {"max_steps": 9}])
def test_the_agent_is_handed_back_as_it_was(caps):
    """Model, tools and executor are the user's own again; the model's counters have gone on."""
    llm = HungryLLM(answer_after=4)
    agent = hungry_agent(llm)
    before = {name: vars(agent)[name] for name in ("llm", "tools", "function_calling_llm", "agent_executor")}
    kind = type(agent.tools[0])
    Guard(adapter, agent, policy(**caps)).run()
    assert all(vars(agent)[name] is value for name, value in before.items())
    assert type(agent.tools[0]) is kind is Look
    assert type(agent.llm) is HungryLLM
    assert llm.get_token_usage_summary().total_tokens == llm.served.tokens
    assert llm.max_tokens is None


def test_an_agent_can_be_run_again():
    """Each run has its own caps, though the model's counters go on."""
    llm = HungryLLM()
    guard = Guard(adapter, hungry_agent(llm), policy(max_tokens=5_000))
    first, second = guard.run().usage, guard.run().usage
    assert first == second
    assert llm.served.tokens == first.tokens + second.tokens


def test_two_agents_may_share_a_model():
    """Side by side, each run is charged for what it used itself."""
    llm = HungryLLM()
    guards = [Guard(adapter, hungry_agent(llm), policy(max_steps=n)) for n in (2, 4)]
    running = [guard.start({"task": "go"}) for guard in guards]
    usages = [one.future.result(20).usage for one in running]
    assert [usage.steps for usage in usages] == [2, 4]
    assert sum(usage.tokens for usage in usages) == llm.served.tokens


def test_each_message_is_counted_once():
    """20 turns of one conversation are 20 times the new messages, not the history."""
    facts = ByteFacts()
    Guard(adapter, hungry_agent(HungryLLM()), policy(max_steps=20), facts).run()
    assert facts.counted <= 3 + 3 * 20


# Tools


@pytest.mark.parametrize(("native", "starts"), [(True, 1), (False, 6)])
def test_every_start_of_a_failing_tool_counts(native, starts):
    """For one request in text CrewAI runs a failing tool six times: that is six tool calls."""
    agent = hungry_agent(HungryLLM(native=native), tools=[Look(fails=True)])
    look = agent.tools[0]
    result = Guard(adapter, agent, policy(max_steps=1)).run()
    assert len(look.executions) == starts == result.usage.tool_calls


def test_a_failing_tool_is_stopped_within_its_tries():
    """max_tool_calls=4 of the six: exactly four were started."""
    agent = hungry_agent(HungryLLM(native=False), tools=[Look(fails=True)])
    look = agent.tools[0]
    result = Guard(adapter, agent, policy(max_tool_calls=4, max_steps=9)).run()
    assert len(look.executions) == 4 == result.usage.tool_calls


class Same(HungryLLM):
    """Asks for the same thing each time."""

    def call(self, *args, **kwargs):
        requests = super().call(*args, **kwargs)
        for request in requests if isinstance(requests, list) else ():
            request.function.arguments = '{"query": "same"}'
        return requests


def test_an_answer_from_crewais_cache_is_no_execution():
    """The tool ran once; the cache answered the rest."""
    agent = hungry_agent(Same(), cache_handler=CacheHandler())
    look = agent.tools[0]
    result = Guard(adapter, agent, policy(max_steps=4)).run()
    assert len(look.executions) == 1 == result.usage.tool_calls


def test_max_usage_count_still_holds():
    """CrewAI's own limit of a tool ends it before ours, and what it refuses is no execution."""
    agent = hungry_agent(HungryLLM(), tools=[Look(max_usage_count=2)])
    look = agent.tools[0]
    result = Guard(adapter, agent, policy(max_steps=5)).run()
    assert len(look.executions) == 2 == result.usage.tool_calls


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_decorated_function_is_gated_too(asynchronous, native):
    """@tool, sync and async: the function is what counts."""
    executed = []
    if asynchronous:

        @tool("look")
        async def look(query: str) -> str:
            """Look something up."""
            executed.append(query)
            return "found"
    else:

        @tool("look")
        def look(query: str) -> str:
            """Look something up."""
            executed.append(query)
            return "found"

    guard = Guard(adapter, hungry_agent(HungryLLM(native=native), tools=[look]), policy(max_tool_calls=2, max_steps=9))
    result = guard.run()
    assert len(executed) == 2 == result.usage.tool_calls
    assert [event.text for event in guard.events("Settled") if event.text == "found"] == ["found", "found"]


def test_a_tool_that_overrides_run_is_gated_once():
    """Wherever the work is done, it is one execution."""

    class Direct(Look):
        def run(self, *args, **kwargs):
            return super().run(*args, **kwargs)

    agent = hungry_agent(HungryLLM(), tools=[Direct()])
    look = agent.tools[0]
    result = Guard(adapter, agent, policy(max_tool_calls=2, max_steps=9)).run()
    assert len(look.executions) == 2 == result.usage.tool_calls


# Swallowing


def test_crewai_swallowing_our_error_buys_nothing():
    """A crew's agent is tried again after every error: the provider served exactly max_steps calls."""
    llm = HungryLLM()
    result = Guard(adapter, hungry_crew(hungry_agent(llm, max_retry_limit=50)), policy(max_steps=3)).run(topic="gzip")
    assert llm.served.calls == 3 == result.usage.steps
    assert (result.status, result.output) == ("stopped", None)


def test_a_callback_that_catches_our_error_50_times_buys_nothing():
    """The latch answers a model that is called by hand, too."""
    llm = HungryLLM(answer_after=0)
    caught = []

    def check(output):
        for _ in range(50):
            try:
                agent.llm.call("more")
            except LimitExceededError as error:
                caught.append(error)
        return True, output.raw

    agent = hungry_agent(llm, guardrail=check)
    result = Guard(adapter, agent, policy(max_steps=3)).run()
    assert (llm.served.calls, len(caught)) == (3, 48)
    assert result.status == "stopped"


def test_no_refusal_reads_as_something_to_try_again():
    """None of CrewAI's tests for a throttled, overlong or toolless call matches one of ours."""
    throttled = crewai.llms.retry._ThrottlingErrorClassifier.is_throttling_error
    for limit in ("max_steps", "max_tokens", "max_usd", "max_tool_calls", "max_seconds", "max_agents"):
        error = LimitExceededError(Stop("limit", "agent:Seeker", limit, 429, 428, 4096))
        assert not throttled(error)
        assert not is_context_length_exceeded(error)
        assert not is_native_tool_calling_unsupported_error(error)


def test_a_throttled_call_before_a_refusal_does_not_make_crewai_wait(monkeypatch):
    """Its retry test looks at what was being handled as well: our refusal is not taken for another 429."""
    waits = []
    monkeypatch.setattr(crewai.llms.retry, "get_retry_delay_seconds", lambda **_: waits.append(1) or 0.0)

    def check(output):
        throttled = RuntimeError("no")
        throttled.status_code = 429
        try:
            raise throttled
        except RuntimeError:
            agent.llm.call("once more")

    agent = hungry_agent(HungryLLM(answer_after=0), guardrail=check)
    result = Guard(adapter, agent, policy(max_steps=1)).run()
    assert (result.status, result.stopped.limit, waits) == ("stopped", "max_steps", [])


def test_crewais_own_retries_of_a_throttled_call_are_steps():
    """A crew's agent is tried again four times, three requests each: exactly max_steps left."""
    with HungryServer(status=429) as server:
        crew = hungry_crew(hungry_agent(openai(server), max_retry_limit=3))
        result = Guard(adapter, crew, policy(max_steps=5)).run(topic="gzip")
        assert server.requests == 5 == result.usage.steps


# Crews


class Mumbling(HungryLLM):
    """Asks for a tool in words that have to be made sense of by a second model."""

    def call(self, *args, **kwargs):
        super().call(*args, **kwargs)
        return "Thought: I must look.\nAction: look\nAction Input: gzip please"


def test_the_model_that_parses_tool_calls_is_gated_too():
    """function_calling_llm: its calls are steps, also where an executor of an unguarded run still holds it."""
    talker, parser = Mumbling(native=False, answer_after=99), HungryLLM(native=False)
    crew = hungry_crew(hungry_agent(talker, function_calling_llm=parser, max_iter=2))
    crew.kickoff(inputs={"topic": "gzip"})
    before = talker.served.calls, parser.served.calls
    executor = crew.agents[0].agent_executor
    guard = Guard(adapter, crew, policy(max_steps=4))
    result = guard.run(topic="gzip")
    after = talker.served.calls, parser.served.calls
    assert before[1] > 0
    assert after[1] > before[1]
    assert sum(after) - sum(before) == 4 == result.usage.steps
    assert crew.agents[0].agent_executor is executor


def test_a_crew_runs_under_its_caps():
    """Two agents, two tasks: the sums by agent are the run's, and what was served."""
    first, second = HungryLLM(answer_after=1), HungryLLM(answer_after=1)
    one = hungry_agent(first, role="Reader of {topic}")
    two = hungry_agent(second, role="Writer")
    read = Task(description="Read about {topic}.", expected_output="notes", agent=one, name="read")
    write = Task(description="Write about {topic}.", expected_output="a page", agent=two, name="write", tools=[Look()])
    guard = Guard(adapter, Crew(agents=[one, two], tasks=[read, write]), policy(max_steps=10))
    result = guard.run(topic="gzip")
    assert (result.status, result.output) == ("done", "done")
    assert {name: usage.steps for name, usage in result.agents.items()} == {"Reader of {topic}": 2, "Writer": 2}
    assert result.usage.tokens == first.served.tokens + second.served.tokens
    assert result.usage.tool_calls == 2 == len(one.tools[0].executions) + len(write.tools[0].executions)
    assert type(write.tools[0]) is Look


class Note(BaseModel):
    text: str


COHERE = {"provider": "cohere", "config": {"api_key": "none"}}
FACT = StringKnowledgeSource(content="gzip compresses")


class Elsewhere(HungryLLM):
    """As if it were one of CrewAI's providers that can't be gated."""


Elsewhere.__module__ = "crewai.llms.providers.elsewhere"


def test_a_structured_answer_is_the_output():
    """output_pydantic: the object, and its conversion was a step."""
    with HungryServer(answer='{"text": "zlib"}') as server:
        agent = hungry_agent(openai(server), tools=[])
        task = Task(description="Look.", expected_output="a note", agent=agent, output_pydantic=Note)
        result = Guard(adapter, Crew(agents=[agent], tasks=[task]), policy(max_steps=9)).run(topic="x")
        assert result.output == Note(text="zlib")
        assert server.requests == result.usage.steps


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda _: hungry_agent(LLM("gpt-4o", api_key="none", n=3)), "n=3"),
        (lambda _: hungry_agent(HungryLLM(), knowledge_sources=[FACT], embedder=COHERE), "knowledge of agent"),
        (lambda _: hungry_agent(Elsewhere()), "elsewhere.Elsewhere, whose own retries"),
        (lambda agent: hungry_crew(agent, planning=True, planning_llm=Elsewhere()), "planning"),
        (lambda _: hungry_agent(HungryLLM(), planning_config=PlanningConfig(llm=Elsewhere())), "planning of agent"),
        (lambda agent: hungry_crew(agent, process=Process.hierarchical, manager_llm=Elsewhere()), "manager"),
        (lambda _: hungry_agent(HungryLLM(), guardrail=LLMGuardrail("be kind", Elsewhere())), "guardrail"),
    ],
)
def test_what_goes_around_the_guard_is_refused_in_words(build, named):
    """A crew that can't be bounded whole is not run at all; the error names the part."""
    host = build(hungry_agent(HungryLLM()))
    assert adapter.accepts(host)
    with pytest.raises(ConfigError, match=named):
        Guard(adapter, host, policy())


def test_a_task_whose_client_crewai_builds_itself_is_gated():
    """output_json: the object is made by the agent's own model, under the gate, and is the output."""
    with HungryServer(answer='{"text": "zlib"}') as server:
        agent = hungry_agent(openai(server), tools=[])
        task = Task(description="Look.", expected_output="a note", agent=agent, output_json=Note)
        result = Guard(adapter, Crew(agents=[agent], tasks=[task]), policy(max_steps=9)).run(topic="x")
        assert result.output == {"text": "zlib"}
        assert server.requests == result.usage.steps
        assert server.served.tokens == result.usage.tokens


def test_crewais_own_structured_client_asks_through_the_gate():
    """What InternalInstructor would send by a client of its own is a step of the agent's model."""
    with HungryServer(answer='{"text": "zlib"}') as server:
        seen = []

        class Asking(Look):
            def _run(self, query: str) -> str:
                seen.append(InternalInstructor("note: zlib", Note, llm=llm).to_pydantic())
                return "done"

        llm = openai(server)
        agent = hungry_agent(HungryLLM(answer_after=1), tools=[Asking()])
        result = Guard(adapter, agent, policy(max_steps=9)).run()
        assert seen == [Note(text="zlib")]
        assert server.requests == 1
        assert result.usage.steps == 3


def test_an_agent_needs_a_task():
    """The error says how to give one."""
    result = Guard(adapter, hungry_agent(HungryLLM()), policy()).run(topic="x")
    assert "task" in result.error


# Threads


def test_a_stuck_thread_is_named_and_buys_nothing_more():
    """The result comes on time; the thread's later calls are refused, then the agent is handed back."""
    go, over = threading.Event(), threading.Event()

    class Stuck(Look):
        def _run(self, query: str) -> str:
            time_is_up()
            go.wait(60)
            over.set()
            return "late"

    llm = HungryLLM()
    agent = hungry_agent(llm, tools=[Stuck()])
    guard = Guard(adapter, agent, policy(max_seconds=9))
    with no_time_passes() as time_is_up:
        result = guard.run()
    assert not over.is_set()
    assert (result.status, result.stopped.limit) == ("stopped", "max_seconds")
    assert result.late == ("Seeker/look",)
    busy = Guard(adapter, hungry_agent(HungryLLM()), policy())
    object.__setattr__(busy.runtime, "host", agent)
    assert "guarded run already" in busy.run().error
    go.set()
    eventually(lambda: agent.llm is llm)
    assert llm.served.calls == 1


# The real client against a server


@pytest.mark.parametrize("steps", [1, 2])
def test_an_attempt_at_a_throttling_provider_is_a_step(steps):
    """Unguarded, one call to a server that answers 429 sends 9 requests; guarded, as many as there are steps."""
    with HungryServer(status=429) as server:
        llm = openai(server)
        result = Guard(adapter, hungry_agent(llm), policy(max_steps=steps)).run()
        assert server.requests == steps == result.usage.steps
        assert result.usage.tokens == 0
        assert llm._client.max_retries == 2


def test_a_broken_provider_is_asked_once_a_step():
    """A 500 may have been billed: it stays charged as reserved."""
    with HungryServer(status=500) as server:
        result = Guard(adapter, hungry_agent(openai(server)), policy(max_steps=5)).run()
        assert server.requests == 1 == result.usage.steps
        assert result.usage.tokens > 1000


@pytest.mark.parametrize("stream", [False, True])
def test_the_real_client_is_clamped(stream):
    """What the server billed is what the run says, streamed or not."""
    with HungryServer() as server:
        llm = openai(server, stream=stream)
        result = Guard(adapter, hungry_agent(llm), policy(max_tokens=10_000)).run()
        assert server.served.tokens == result.usage.tokens <= 10_000
        assert result.unreported == 0
        assert all(body["max_tokens"] <= 4096 for body in server.bodies)
        assert llm.get_token_usage_summary().total_tokens == server.served.tokens


def test_a_lower_length_of_the_users_own_is_kept():
    """By whatever name the user gave it, on the model or among its additional_params."""
    for options in ({"max_tokens": 50}, {"max_completion_tokens": 50}, {"additional_params": {"max_tokens": 50}}):
        with HungryServer() as server:
            Guard(adapter, hungry_agent(openai(server, **options)), policy(max_tokens=10_000, max_steps=2)).run()
            assert [body.get("max_tokens", body.get("max_completion_tokens")) for body in server.bodies] == [50, 50]


def test_a_second_request_within_a_call_is_a_step_of_its_own():
    """CrewAI asks again without an option that the model turned down: two requests, two steps."""
    unsupported = {"error": {"message": "Unrecognized request argument supplied: reasoning_effort", "code": "x"}}
    with HungryServer() as server:
        plain = server.reply

        def picky(handler, body):
            if "reasoning_effort" in body:
                server.bodies.append(body)
                from tests.adapters.loopback import send

                send(handler, 400, unsupported)
            else:
                plain(handler, body)

        server.reply = picky
        llm = openai(server, model="gpt-5-nano", reasoning_effort="low")
        unguarded = openai(server, model="gpt-5-mini", reasoning_effort="low")
        unguarded.call("hello")
        sent = server.requests
        result = Guard(adapter, hungry_agent(llm), policy(max_steps=3)).run()
        assert sent == 2
        assert server.requests - sent == 3 == result.usage.steps
        assert result.usage.tokens == server.served.tokens - 2000


def test_a_reasoning_model_is_clamped_by_its_own_word():
    """o3 turns max_tokens down: max_completion_tokens is sent."""
    with HungryServer() as server:
        Guard(adapter, hungry_agent(openai(server, model="o3-mini")), policy(max_steps=1)).run()
        assert "max_tokens" not in server.bodies[0]
        assert server.bodies[0]["max_completion_tokens"] == 4096


def test_models_go_by_the_names_that_policies_know():
    """provider:name."""
    assert model_name(LLM("openai/gpt-4o", api_key="none")) == "openai:gpt-4o"
    assert model_name(HungryLLM()) == "custom:hungry"
    assert isinstance(hungry_agent(HungryLLM()), Agent)
