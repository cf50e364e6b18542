"""CrewAI's Bedrock provider under the gate, the real clients of AWS against a server on loopback."""

import asyncio

import crewai.llms.retry
import pytest
from crewai import LLM, Crew, Task
from crewai.flow.flow import Flow, start
from crewai.llms.providers.bedrock import completion
from pydantic import BaseModel

from crew_guard.adapters import crewai as adapter
from crew_guard.adapters import hosted
from crew_guard.errors import ConfigError
from tests.adapters.bedrock_server import BedrockServer
from tests.adapters.crewai_doubles import hungry_agent
from tests.adapters.guarding import ByteFacts, Guard, policy

MODEL = "anthropic.claude-sonnet-4-5-v1:0"
KEYS = {"aws_access_key_id": "none", "aws_secret_access_key": "none", "region_name": "us-east-1"}


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    """Neither CrewAI nor botocore sleep between tries."""
    monkeypatch.setattr(crewai.llms.retry, "get_retry_delay_seconds", lambda **_: 0.0)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)


@pytest.fixture
def faults(monkeypatch):
    """Of each call that raised, whether its provider is to blame."""
    seen, own = [], hosted.failure

    def told(*given):
        outcome = own(*given)
        seen.append(outcome.fault)
        return outcome

    monkeypatch.setattr(hosted, "failure", told)
    return seen


@pytest.fixture
def claude(monkeypatch):
    """A model of Bedrock's at a server of ours."""

    def make(server, **options):
        monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", server.url.removesuffix("/v1"))
        return LLM(f"bedrock/{MODEL}", **KEYS, **options)

    return make


def asking(llm, times=9, **options):
    """A flow that asks, by the async client."""

    class Asking(Flow):
        @start()
        async def ask(self):
            return [await llm.acall("again " * 300, **options) for _ in range(times)]

    return Asking()


def calling(llm, times=9, **options):
    """A flow that asks, by the other."""

    class Calling(Flow):
        @start()
        def ask(self):
            return [llm.call("again " * 300, **options) for _ in range(times)]

    return Calling()


FLOWS = {"sync": calling, "async": asking}
ways = pytest.mark.parametrize("way", FLOWS)
streams = pytest.mark.parametrize("stream", [False, True])


def test_requests_are_gated_clamped_and_charged(claude):
    """As many as max_steps says, each with a length, and the tokens that the server billed."""
    with BedrockServer() as server:
        guard = Guard(adapter, hungry_agent(claude(server)), policy(max_steps=3))
        result = guard.run()
        assert (result.stopped.limit, result.usage.steps, server.requests) == ("max_steps", 3, 3)
        assert result.usage.tokens == server.served.tokens == 6000
        assert server.served.asked == [4096] * 3
        assert set(guard.names) == {f"bedrock:{MODEL}"}
        assert (result.unreported, set(result.agents)) == (0, {"Seeker"})
        asked = [one.tool_requests for one in guard.events("Settled") if one.tool_requests]
        assert [(one.tool, one.arguments) for one in asked[0]] == [("look", '{"query": "q1"}')]


@ways
@streams
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_max_steps_is_exactly_as_many_requests(claude, way, stream, steps):
    """By both clients, streaming or not; CrewAI reads an async stream no further than the usage."""
    with BedrockServer(answer="done") as server:
        result = Guard(adapter, FLOWS[way](claude(server, stream=stream)), policy(max_steps=steps)).run(id="1")
        assert (result.stopped.limit, result.usage.steps, server.requests) == ("max_steps", steps, steps)
        assert (result.usage.tokens, result.unreported) == (server.served.tokens, 0)


@ways
@streams
@pytest.mark.parametrize("cap", [10_000, 9_001])
def test_no_more_tokens_than_the_cap_are_served(claude, cap, way, stream):
    """The last request is shortened to what is left, or isn't sent."""
    with BedrockServer(answer="done") as server:
        result = Guard(adapter, FLOWS[way](claude(server, stream=stream)), policy(max_tokens=cap)).run(id="1")
        assert server.served.tokens == result.usage.tokens <= cap
        assert (result.stopped.limit, result.overshoot.tokens) == ("max_tokens", 0)


@ways
@streams
def test_what_a_cache_held_is_a_part_of_the_prompt(claude, way, stream):
    """Bedrock reports it beside the prompt; dollars, too."""
    with BedrockServer(answer="done", read=300, written=200) as server:
        result = Guard(adapter, FLOWS[way](claude(server, stream=stream), 2), policy()).run(id="1")
        usage = result.usage
        assert (usage.input_tokens, usage.output_tokens, usage.cached_tokens) == (3000, 2000, 600)
        assert usage.tokens == server.served.tokens
        assert usage.nano_usd == ByteFacts.rates.price(usage)


def test_a_length_of_the_users_own_stands(claude):
    """Where it is below what may be used."""
    with BedrockServer() as server:
        Guard(adapter, hungry_agent(claude(server, max_tokens=700)), policy(max_steps=2)).run()
        assert server.served.asked == [700, 700]


@ways
@streams
@pytest.mark.parametrize("status", [429, 500, 503])
def test_the_clients_own_retries_are_off(claude, way, status, stream, faults):
    """A server that throttles, or fails, gets one request for each step; the provider is to blame."""
    with BedrockServer(status) as server:
        result = Guard(adapter, FLOWS[way](claude(server, stream=stream)), policy(max_steps=2)).run(id="1")
        assert server.requests == result.usage.steps <= 2
        assert faults == [True] * result.usage.steps
        assert faults


@ways
def test_a_request_that_is_wrong_is_rejected_and_costs_nothing(claude, way, faults):
    """400: no tokens can have been made."""
    with BedrockServer(400) as server:
        guard = Guard(adapter, FLOWS[way](claude(server), 1), policy())
        result = guard.run(id="1")
        assert server.requests == 1 == result.usage.steps
        assert (result.usage.tokens, [one.status for one in guard.events("Settled")]) == (0, ["rejected"])
        assert faults == [False]


@ways
def test_a_lost_connection_is_not_tried_again(claude, way, faults):
    """Botocore takes that for a reason to try again."""
    with BedrockServer() as server:
        server.breaks = True
        result = Guard(adapter, FLOWS[way](claude(server), 1), policy()).run(id="1")
        assert server.requests == 1 == result.usage.steps
        assert faults == [True]


class Note(BaseModel):
    text: str


@ways
@streams
def test_a_structured_answer_is_made_under_the_gate(claude, way, stream):
    """By a tool of CrewAI's; streaming, it stops reading where the answer ends, and the usage comes later."""
    with BedrockServer(answer='{"text": "zlib"}') as server:
        host = FLOWS[way](claude(server, stream=stream), 1, response_model=Note)
        result = Guard(adapter, host, policy(max_steps=2)).run(id="1")
        assert result.output == [Note(text="zlib")], result.error
        assert server.requests == 1 == result.usage.steps
        assert server.bodies[0]["inferenceConfig"]["maxTokens"] == 4096
        assert (result.usage.tokens, result.unreported) == (server.served.tokens, 0)


@streams
def test_a_crew_with_tools_and_a_structured_output_is_gated(claude, stream):
    """output_pydantic beside tools."""
    with BedrockServer(answer='{"text": "zlib"}') as server:
        agent = hungry_agent(claude(server, stream=stream))
        task = Task(description="Look.", expected_output="a note", agent=agent, output_pydantic=Note)
        result = Guard(adapter, Crew(agents=[agent], tasks=[task]), policy(max_steps=9)).run(id="1")
        assert server.requests == result.usage.steps
        assert server.served.tokens == result.usage.tokens


LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look something up.",
        "parameters": {"type": "object", "properties": {"query": {"type": "string"}}},
    },
}


@ways
@streams
def test_what_crewai_asks_again_within_a_call_is_a_step(claude, way, stream):
    """It executes a function and asks with its result, as long as the model wants another."""
    with BedrockServer() as server:
        host = FLOWS[way](
            claude(server, stream=stream), 1, tools=[LOOK], available_functions={"look": lambda query: f"found {query}"}
        )
        result = Guard(adapter, host, policy(max_steps=3)).run(id="1")
        assert (result.stopped.limit, result.usage.steps, server.requests) == ("max_steps", 3, 3)
        assert (result.usage.tokens, result.unreported) == (server.served.tokens, 0)


@ways
def test_the_result_of_a_function_counts_before_crewai_asks_with_it(claude, way):
    """A long one leaves no room: the request isn't sent."""
    with BedrockServer() as server:
        host = FLOWS[way](claude(server), 1, tools=[LOOK], available_functions={"look": lambda query: "found " * 3000})
        result = Guard(adapter, host, policy(max_tokens=16_000)).run(id="1")
        assert (result.stopped.limit, server.requests) == ("max_tokens", 1)


def test_a_length_to_think_leaves_room_to_answer(claude):
    """budget_tokens: the request's length stays above it, or the call is refused."""
    with BedrockServer(answer="done") as server:
        fields = {"thinking": {"type": "enabled", "budget_tokens": 2000}}
        llm = claude(server, additional_model_request_fields=fields)
        Guard(adapter, hungry_agent(llm, tools=[]), policy()).run()
        assert server.served.asked == [2000 + 4096]
        tight = Guard(adapter, hungry_agent(llm, tools=[]), policy(max_tokens=3000))
        assert tight.run().stopped.limit == "max_tokens"
        assert server.requests == 1


@streams
def test_without_aiobotocore_a_call_is_one_step(claude, stream, monkeypatch):
    """acall is call in a thread there."""
    monkeypatch.setattr(completion, "AIOBOTOCORE_AVAILABLE", False)
    with BedrockServer(answer="done") as server:
        result = Guard(adapter, asking(claude(server, stream=stream)), policy(max_steps=3)).run(id="1")
        assert (result.stopped.limit, result.usage.steps, server.requests) == ("max_steps", 3, 3)
        assert result.usage.tokens == server.served.tokens


def test_the_users_own_model_is_as_it_was(claude):
    """Its clients and their retries, before, during and after a run."""
    with BedrockServer(answer="done") as server:
        llm = claude(server)
        own, sends = llm._get_sync_client(), llm._get_sync_client()._endpoint
        state = dict(vars(sends))
        assert llm.call("before") == "done"
        server.statuses = [500, 500]
        assert llm.call("tries again") == "done"
        assert server.requests == 4
        Guard(adapter, calling(llm, 1), policy()).run(id="1")
        Guard(adapter, asking(llm, 1), policy()).run(id="1")
        assert (llm._get_sync_client(), own._endpoint, vars(sends)) == (own, sends, state)
        assert (llm._async_client, llm._async_client_initialized) == (None, False)
        server.statuses = [500, 500]
        assert llm.call("after") == "done"

        async def after():
            try:
                return await llm.acall("after")
            finally:
                await llm._async_exit_stack.aclose()

        assert asyncio.run(after()) == "done"
        assert "maxTokens" not in server.bodies[-1].get("inferenceConfig", {})
        assert server.requests == 10
        assert llm.get_token_usage_summary().total_tokens == server.served.tokens


def test_a_model_shared_by_two_runs_is_charged_to_each(claude):
    """Both at once."""
    with BedrockServer() as server:
        llm = claude(server)
        guards = [Guard(adapter, hungry_agent(llm), policy(max_steps=3)) for _ in range(2)]
        running = [guard.start({"task": "Find."}) for guard in guards]
        results = [one.future.result(30) for one in running]
        assert [result.usage.steps for result in results] == [3, 3]
        assert sum(result.usage.tokens for result in results) == server.served.tokens == 12_000


def test_no_prompt_is_sent_to_be_counted(claude):
    """count_tokens would be a request past the gate: CrewAI's own estimate, four characters a token."""
    with BedrockServer(answer="done") as server:
        llm = claude(server)

        class Asking(Flow):
            @start()
            def ask(self):
                return llm.get_input_tokens_count("how long"), llm.call("how long " * 99)

        result = Guard(adapter, Asking(), policy()).run(id="1")
        assert (result.output, result.usage.steps, server.requests) == ((2, "done"), 1, 1)


@pytest.mark.parametrize("fields", [{"max_tokens": 9}, {"inferenceConfig": {"max_new_tokens": 9}}, {"n": 2}])
def test_lengths_among_a_models_own_fields_are_refused_by_name(claude, fields):
    """They would come after the one that the guard sets."""
    with BedrockServer() as server:
        llm = claude(server, additional_model_request_fields=fields)
        with pytest.raises(ConfigError, match=r"Seeker.*additional_model_request_fields.*max_tokens=…"):
            Guard(adapter, hungry_agent(llm), policy())
