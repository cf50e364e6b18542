"""An AutoGen agent under the gate, held to what its model served."""

import asyncio
import gc
import threading

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.tools import AgentTool
from autogen_core import FunctionCall
from autogen_core.models import ChatCompletionClient, CreateResult, ModelInfo, RequestUsage
from autogen_ext.models.openai import OpenAIChatCompletionClient

from crew_guard.adapters import autogen
from crew_guard.adapters.autogen.client import model_name
from crew_guard.core.policy import Policy
from crew_guard.errors import ConfigError
from crew_guard.supervisor import life
from crew_guard.testing.clock import no_time_passes
from tests.adapters.autogen_doubles import INFO, SYSTEM, HungryClient, SwallowingAgent, hungry_agent
from tests.adapters.guarding import ByteFacts, Guard, policy
from tests.adapters.loopback import HungryServer, Served

MINIMUM = 256


def openai(server, **options):
    options = {"model": "gpt-4o", "api_key": "none", "base_url": server.url, "model_info": INFO, **options}
    return OpenAIChatCompletionClient(**options)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_max_steps_is_exactly_as_many_model_calls(steps, stream):
    """The model served as many calls as the cap says, and the run says why it ended."""
    client = HungryClient()
    result = Guard(autogen, hungry_agent(client, model_client_stream=stream), policy(max_steps=steps)).run()
    assert client.served.calls == steps == result.usage.steps
    assert (result.status, result.stopped.limit, result.output) == ("stopped", "max_steps", None)


@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize("calls", [0, 2])
def test_max_tool_calls_is_exactly_as_many_executions(calls, parallel):
    """Executions are counted one by one, also where the model asks for three at once."""
    agent = hungry_agent(HungryClient(parallel=parallel))
    result = Guard(autogen, agent, policy(max_tool_calls=calls, max_steps=20)).run()
    assert len(agent.executions) == calls == result.usage.tool_calls
    assert result.stopped.limit == "max_tool_calls"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("cap", [10_000, 8_001, 2_500, 300, 0])
def test_max_tokens_is_never_passed_and_hardly_left(cap, stream):
    """What was served stays below the cap; what is left is less than the refused call needed."""
    client = HungryClient()
    client.served.completion = 3_000  # longer than what is left at the end
    result = Guard(autogen, hungry_agent(client, model_client_stream=stream), policy(max_tokens=cap)).run()
    assert client.served.tokens == result.usage.tokens <= cap
    assert cap - result.usage.tokens < result.stopped.asked
    assert result.overshoot.tokens == 0


def test_a_dollar_cap_holds():
    """$2 and $8 a million: each call is clamped to the dollars that are left."""
    client = HungryClient()
    result = Guard(autogen, hungry_agent(client), policy(max_usd="0.025")).run()
    served = client.served.calls * 1000
    cost = (served * 2 + (client.served.tokens - served) * 8) / 1_000_000
    assert float(result.usage.usd) == pytest.approx(cost)
    assert cost <= 0.025
    assert result.stopped.limit == "max_usd"


def test_usage_that_is_not_reported_is_charged_as_reserved():
    """A provider that names no usage can't make a run endless."""
    client = HungryClient(reports=False)
    result = Guard(autogen, hungry_agent(client), policy(max_tokens=10_000)).run()
    assert client.served.tokens <= result.usage.tokens <= 10_000
    assert result.unreported == client.served.calls > 0


def test_an_agent_that_swallows_our_error_50_times_buys_nothing_more(monkeypatch):
    """The latch answers each try; the run is stopped whatever the agent says it made."""
    monkeypatch.setattr(life, "_GRACE_AFTER_A_LIMIT", 20.0)  # for 47 tries on any machine
    client = HungryClient()
    agent = hungry_agent(client, SwallowingAgent)
    result = Guard(autogen, agent, policy(max_steps=3)).run()
    assert (client.served.calls, agent.caught) == (3, 47)
    assert (result.status, result.output) == ("stopped", None)


def test_a_denied_tool_is_told_to_the_agent_and_the_agent_goes_on():
    """A denial refuses that action only: the agent reads why, and may answer without the tool."""
    agent = hungry_agent(HungryClient(answer_after=2))
    guard = Guard(autogen, agent, Policy(tools={"deny": ["look"]}))
    result = guard.run()
    assert (result.status, result.output, agent.executions) == ("done", "done", [])
    assert len(guard.events("Refused")) == 2


def test_a_rule_on_an_argument_refuses_what_the_user_did_not_give():
    """Of two calls the one whose argument stands in the task is carried out; the agent goes on after the other."""
    agent = hungry_agent(HungryClient(answer_after=2))
    rules = {"look": [{"argument": "query", "seen_in": ("user",)}]}
    guard = Guard(autogen, agent, Policy.model_validate({"tools": {"rules": rules}}))
    result = guard.run("Find 'q2.0'.")
    assert (result.status, result.output, agent.executions) == ("done", "done", ["q2.0"])
    assert [event.stop.limit for event in guard.events("Refused")] == ["tools.rules.look.0"]


def test_an_agent_that_finishes_gives_its_answer():
    """Below its caps a guarded agent does what it did before."""
    client = HungryClient(answer_after=2)
    agent = hungry_agent(client)
    result = Guard(autogen, agent, policy(max_steps=10)).run()
    assert (result.status, result.output) == ("done", "done")
    assert (client.served.calls, len(agent.executions)) == (3, 2)
    assert list(result.agents) == ["seeker"]


@pytest.mark.parametrize("caps", [{"max_steps": 2}, {"max_steps": 9}])
def test_the_agent_is_handed_back_as_it_was(caps):
    """Client and workbench are the user's own again, after an end and after a stop."""
    agent = hungry_agent(HungryClient(answer_after=4))
    before = dict(vars(agent))
    Guard(autogen, agent, policy(**caps)).run()
    assert dict(vars(agent)) == before


def test_an_agent_can_be_run_again():
    """A guarded agent has as many lives as it is given runs, each with its own caps."""
    client = HungryClient()
    guard = Guard(autogen, hungry_agent(client), policy(max_steps=2))
    assert [guard.run().usage.steps for _ in range(3)] == [2, 2, 2]
    assert client.served.calls == 6


def test_a_lower_length_of_the_users_own_is_kept():
    """What the user asked for is asked for; only what is longer than the grant is cut."""
    with HungryServer() as server:
        client = openai(server, max_tokens=50)
        Guard(autogen, hungry_agent(client), policy(max_tokens=10_000, max_steps=2)).run()
        assert [body["max_tokens"] for body in server.bodies] == [50, 50]


def test_a_client_that_ignores_its_length_is_not_believed():
    """Code that knows no max_tokens reserves all that it may make, so that the cap still holds."""

    class Endless(ChatCompletionClient):
        component_type = "model"
        model_info = INFO
        capabilities = INFO

        def __init__(self):
            self.served = Served()

        async def create(self, messages, **kwargs):
            number, completion = self.served.bill(None)
            call = FunctionCall(id=f"c{number}", name="look", arguments='{"query": "q"}')
            usage = RequestUsage(self.served.prompt, completion)
            return CreateResult(finish_reason="function_calls", content=[call], usage=usage, cached=False)

        def create_stream(self, messages, **kwargs):
            raise NotImplementedError

        async def close(self):
            pass

        def actual_usage(self):
            return RequestUsage(0, 0)

        total_usage = actual_usage

        def count_tokens(self, messages, **kwargs):
            return 0

        remaining_tokens = count_tokens

    client = Endless()
    result = Guard(autogen, hungry_agent(client), policy(max_tokens=10_000)).run()
    assert client.served.tokens == result.usage.tokens <= 10_000
    assert result.overshoot.tokens == 0


def test_a_client_that_breaks_its_word_is_not_believed_again():
    """The overshoot is booked and shown, and from then on nothing is clamped that won't be."""
    client = HungryClient(obeys=False)
    client.served.completion = 2000
    result = Guard(autogen, hungry_agent(client, system_message=SYSTEM), policy(max_tokens=4_900)).run()
    assert result.overshoot.tokens > 0
    assert client.served.tokens == result.usage.tokens
    assert client.served.calls == 2


@pytest.mark.parametrize("arguments", ['{"nonsense": 1}', "[1]", '"gzip"'])
def test_arguments_that_do_not_fit_start_no_execution(arguments):
    """AutoGen turns them down before the tool runs, so they count for nothing; also those that have no names."""

    class Misfit(HungryClient):
        async def create(self, messages, **kwargs):
            result = await super().create(messages, **kwargs)
            for call in result.content:
                call.arguments = arguments
            return result

    agent = hungry_agent(Misfit())
    result = Guard(autogen, agent, policy(max_steps=4, max_tool_calls=1)).run()
    assert (result.usage.tool_calls, len(agent.executions)) == (0, 0)
    assert result.stopped.limit == "max_steps"


def test_a_tool_that_raises_was_an_execution():
    """Each start counts, also of one that fails."""

    async def look(query: str) -> str:
        """Look something up."""
        raise RuntimeError("the index is gone")

    guard = Guard(autogen, hungry_agent(HungryClient(), tools=[look]), policy(max_tool_calls=2, max_steps=9))
    result = guard.run()
    assert result.usage.tool_calls == 2
    assert [event.status for event in guard.events("Settled") if "index is gone" in event.text] == ["failed", "failed"]


def test_an_agent_behind_a_tool_is_guarded_too():
    """AgentTool: the inner agent's calls are steps of the run, charged to the inner agent."""
    inner_client = HungryClient()
    inner = hungry_agent(inner_client)

    class Delegating(HungryClient):
        async def create(self, messages, **kwargs):
            result = await super().create(messages, **kwargs)
            for call in result.content:
                call.name, call.arguments = "seeker", '{"task": "find it"}'
            return result

    outer_client = Delegating()
    outer = AssistantAgent("boss", outer_client, tools=[AgentTool(inner)], system_message=SYSTEM, max_tool_iterations=9)
    guard = Guard(autogen, outer, policy(max_steps=5))
    result = guard.run()
    assert guard.runtime.members() == ["boss", "seeker"]
    assert outer_client.served.calls + inner_client.served.calls == 5 == result.usage.steps
    assert (result.agents["boss"].steps, result.agents["seeker"].steps) == (1, 4)
    assert inner._model_client is inner_client


def test_each_message_is_counted_once():
    """20 turns of one conversation are 20 times the new messages, not the history."""
    facts = ByteFacts()
    Guard(autogen, hungry_agent(HungryClient()), policy(max_steps=20), facts).run()
    assert facts.counted <= 2 + 2 * 20


def test_a_run_needs_a_task():
    """The error says how to give one."""
    result = Guard(autogen, hungry_agent(HungryClient()), policy()).run(topic="x")
    assert result.status == "failed"
    assert "task" in result.error


def test_a_length_in_extra_body_is_refused():
    """It would reach the provider past the clamp."""
    client = OpenAIChatCompletionClient(model="gpt-4o", api_key="none", extra_body={"max_tokens": 9})
    with pytest.raises(ConfigError, match="extra_body"):
        Guard(autogen, hungry_agent(client), policy())


def test_a_deadline_ends_the_tool_in_flight():
    """The result comes on time and nothing of AutoGen goes on."""
    ended = threading.Event()

    async def look(query: str) -> str:
        """Look something up."""
        time_is_up()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    agent = hungry_agent(HungryClient(), tools=[look])
    before = dict(vars(agent))
    with no_time_passes() as time_is_up:
        result = Guard(autogen, agent, policy(max_seconds=9)).run()
    assert ended.wait(30)
    assert (result.status, result.stopped.limit, result.usage.tool_calls) == ("stopped", "max_seconds", 1)
    assert dict(vars(agent)) == before
    gc.collect()


def test_two_runs_of_one_agent_at_once_are_refused():
    """The second would be charged to the first."""
    holding, go = threading.Event(), threading.Event()

    def look(query: str) -> str:
        """Look something up."""
        holding.set()
        go.wait(30)
        return "found"

    agent = hungry_agent(HungryClient(answer_after=1), tools=[look])
    guard = Guard(autogen, agent, policy(max_steps=3))
    running = guard.start({"task": "go"})
    holding.wait(30)
    second = Guard(autogen, agent, policy(max_steps=3)).run()
    go.set()
    assert running.future.result(30).status == "done"
    assert "guarded run already" in second.error


def test_two_agents_may_share_a_client():
    """Each is charged for its own, though they run at once."""
    client = HungryClient()
    guards = [Guard(autogen, hungry_agent(client), policy(max_steps=n)) for n in (2, 4)]
    running = [guard.start({"task": "go"}) for guard in guards]
    assert [one.future.result(10).usage.steps for one in running] == [2, 4]
    assert client.served.calls == 6


# The real client against a server


@pytest.mark.parametrize("status", [429, 500])
def test_an_attempt_is_a_step_also_where_the_client_would_retry(status):
    """The openai client retries twice by itself: under the guard one step is one request."""
    with HungryServer(status=status) as server:
        client = openai(server)
        result = Guard(autogen, hungry_agent(client), policy(max_steps=5)).run()
        assert server.requests == 1 == result.usage.steps
        assert client._client.max_retries == 2
    assert (result.usage.tokens == 0) is (status == 429)
    assert result.status == "failed"


def test_a_host_that_retries_a_429_itself_pays_a_step_each_time():
    """50 tries at a server that turns them down: exactly max_steps requests."""
    with HungryServer(status=429) as server:
        agent = hungry_agent(openai(server), SwallowingAgent)
        result = Guard(autogen, agent, policy(max_steps=4)).run()
        assert server.requests == 4 == result.usage.steps
    assert result.usage.tokens == 0


@pytest.mark.parametrize("stream", [False, True])
def test_the_real_client_is_clamped_and_asked_for_its_usage(stream):
    """What the server billed is what the run says, streamed or not."""
    with HungryServer() as server:
        client = openai(server)
        agent = hungry_agent(client, model_client_stream=stream)
        result = Guard(autogen, agent, policy(max_tokens=10_000)).run()
        assert server.served.tokens == result.usage.tokens <= 10_000
        assert result.unreported == 0
        assert all(body["max_tokens"] <= 4096 for body in server.bodies)
        assert client.total_usage().prompt_tokens == server.served.calls * 1000


def test_a_reasoning_model_is_clamped_by_its_own_word():
    """o3 turns max_tokens down: max_completion_tokens is sent."""
    with HungryServer() as server:
        info = ModelInfo(**{**INFO, "family": "o3"})
        result = Guard(
            autogen, hungry_agent(openai(server, model="o3-mini", model_info=info)), policy(max_steps=1)
        ).run()
        assert "max_tokens" not in server.bodies[0]
        assert server.bodies[0]["max_completion_tokens"] == 4096
        assert result.usage.steps == 1


def test_models_go_by_the_names_that_policies_know():
    """provider:name."""
    client = OpenAIChatCompletionClient(model="gpt-4o", api_key="none")
    assert model_name(client) == "openai:gpt-4o"
    assert model_name(HungryClient()) == "custom:HungryClient"
