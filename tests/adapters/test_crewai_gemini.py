"""CrewAI's Gemini provider under the gate, Google's real client against a server on loopback."""

import asyncio
import threading

import crewai.llms.retry
import pytest
from crewai import LLM, Crew, Task
from crewai.flow.flow import Flow, start
from google.genai import types
from pydantic import BaseModel

from crew_guard.adapters import crewai as adapter
from crew_guard.adapters import hosted
from crew_guard.errors import ConfigError
from tests.adapters.crewai_doubles import hungry_agent
from tests.adapters.gemini_server import GeminiServer
from tests.adapters.guarding import ByteFacts, Guard, policy

EAGER = types.HttpRetryOptions(attempts=5, initial_delay=0.001, max_delay=0.002, jitter=0.001)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    """CrewAI sleeps seconds between the tries that it makes at a provider that throttles."""
    monkeypatch.setattr(crewai.llms.retry, "get_retry_delay_seconds", lambda **_: 0.0)
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)


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


def gemini(server, *, model="gemini-2.0-flash", http=None, **options):
    base = {"base_url": server.url.removesuffix("/v1"), "retry_options": EAGER, **(http or {})}
    return LLM(f"gemini/{model}", api_key="none", client_params={"http_options": base}, **options)


def asking(llm, times=9, **options):
    """A flow that asks, by the async client."""

    class Asking(Flow):
        @start()
        async def ask(self):
            return [await llm.acall("again " * 300, **options) for _ in range(times)]

    return Asking()


def doing(llm, way):
    return hungry_agent(llm) if way == "sync" else asking(llm)


INPUTS = {"sync": {}, "async": {"id": "1"}}


@pytest.mark.parametrize("stream", [False, True])
def test_requests_are_gated_clamped_and_charged(stream):
    """As many as max_steps says, each with a length, and the tokens that the server billed."""
    with GeminiServer() as server:
        guard = Guard(adapter, hungry_agent(gemini(server, stream=stream)), policy(max_steps=3))
        result = guard.run()
        assert (result.stopped.limit, result.usage.steps, server.requests) == ("max_steps", 3, 3)
        assert result.usage.tokens == server.served.tokens == 6000
        assert server.served.asked == [4096] * 3
        assert set(guard.names) == {"gemini:gemini-2.0-flash"}
        assert (result.unreported, set(result.agents)) == (0, {"Seeker"})
        assert all(("stream" in path) is stream for path in server.paths)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("cap", [10_000, 9_001])
def test_no_more_tokens_than_the_cap_are_served(cap, way, stream):
    """The last request is shortened to what is left, or isn't sent."""
    with GeminiServer(answer=None if way == "sync" else "done") as server:
        llm = gemini(server, stream=stream)
        result = Guard(adapter, doing(llm, way), policy(max_tokens=cap)).run(**INPUTS[way])
        assert server.served.tokens == result.usage.tokens <= cap
        assert (result.stopped.limit, result.overshoot.tokens) == ("max_tokens", 0)


def test_what_is_thought_is_output_and_what_is_cached_is_cached():
    """Dollars, too: thoughts at the price of the output."""
    with GeminiServer(thought=600, cached=300) as server:
        result = Guard(adapter, hungry_agent(gemini(server, model="gemini-2.5-flash")), policy(max_steps=2)).run()
        usage = result.usage
        assert (usage.input_tokens, usage.output_tokens, usage.cached_tokens) == (2000, 2000, 600)
        assert usage.nano_usd == ByteFacts.rates.price(usage)


@pytest.mark.parametrize("option", ["max_output_tokens", "max_tokens"])
def test_a_length_of_the_users_own_stands(option):
    """Where it is below what may be used."""
    with GeminiServer() as server:
        Guard(adapter, hungry_agent(gemini(server, **{option: 700})), policy(max_steps=2)).run()
        assert server.served.asked == [700, 700]


def test_a_length_in_the_clients_own_options_is_no_way_out():
    """extra_body comes last in the SDK: the request has the grant's length all the same."""
    with GeminiServer() as server:
        http = {"extra_body": {"generationConfig": {"maxOutputTokens": 60_000}}}
        Guard(adapter, hungry_agent(gemini(server, http=http)), policy(max_steps=1)).run()
        assert server.served.asked == [4096]


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("way", ["sync", "async"])
def test_the_clients_own_retries_are_off(way, status, stream, faults):
    """A server that throttles, or fails, gets one request for each step; the provider is to blame."""
    with GeminiServer(status) as server:
        llm = gemini(server, stream=stream)
        result = Guard(adapter, doing(llm, way), policy(max_steps=2)).run(**INPUTS[way])
        assert server.requests == result.usage.steps <= 2
        assert faults == [True] * result.usage.steps
        assert faults


def test_a_request_that_is_wrong_is_rejected_and_costs_nothing(faults):
    """400: no tokens can have been made."""
    with GeminiServer(400) as server:
        guard = Guard(adapter, asking(gemini(server), times=1), policy())
        result = guard.run(id="1")
        assert server.requests == 1 == result.usage.steps
        assert (result.usage.tokens, [one.status for one in guard.events("Settled")]) == (0, ["rejected"])
        assert not any(faults)


@pytest.mark.parametrize("stream", [False, True])
def test_a_lost_connection_is_not_tried_again(stream, faults):
    """aiohttp's: the SDK asks again by itself, some seconds later, whatever its options say."""
    with GeminiServer() as server:
        server.breaks = True
        result = Guard(adapter, asking(gemini(server, stream=stream), times=1), policy()).run(id="1")
        assert server.requests == 1 == result.usage.steps
        assert faults == [True]


class Note(BaseModel):
    text: str


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_structured_answer_is_made_under_the_gate(way, stream):
    """By a schema, in a response of its own."""
    with GeminiServer(answer='{"text": "zlib"}') as server:
        llm = gemini(server, stream=stream)

        class Asking(Flow):
            @start()
            async def ask(self):
                if way == "sync":
                    return llm.call("note", response_model=Note)
                return await llm.acall("note", response_model=Note)

        result = Guard(adapter, Asking(), policy(max_steps=2)).run(id="1")
        assert result.output == Note(text="zlib"), result.error
        assert server.requests == 1 == result.usage.steps
        assert server.bodies[0]["generationConfig"]["maxOutputTokens"] == 4096
        assert server.served.tokens == result.usage.tokens


@pytest.mark.parametrize("stream", [False, True])
def test_a_crew_with_tools_and_a_structured_output_is_gated(stream):
    """output_pydantic beside tools."""
    with GeminiServer(answer='{"text": "zlib"}') as server:
        agent = hungry_agent(gemini(server, stream=stream))
        task = Task(description="Look.", expected_output="a note", agent=agent, output_pydantic=Note)
        result = Guard(adapter, Crew(agents=[agent], tasks=[task]), policy(max_steps=9)).run(id="1")
        assert server.requests == result.usage.steps
        assert server.served.tokens == result.usage.tokens


def test_a_length_to_think_leaves_room_to_answer():
    """thinking_budget: the request's length stays above it, or the call is refused."""
    with GeminiServer(answer="done") as server:
        llm = gemini(server, model="gemini-2.5-flash", thinking_config=types.ThinkingConfig(thinking_budget=2000))
        Guard(adapter, hungry_agent(llm, tools=[]), policy()).run()
        assert server.served.asked == [2000 + 4096]
        tight = Guard(adapter, hungry_agent(llm, tools=[]), policy(max_tokens=3000))
        assert tight.run().stopped.limit == "max_tokens"
        assert server.requests == 1


def test_the_users_own_model_is_as_it_was():
    """Its client, its retries and its connections, before, during and after a run."""
    with GeminiServer(answer="done") as server:
        llm = gemini(server)
        own = llm._get_sync_client()
        state = {key: value for key, value in vars(own._api_client).items() if key != "_aiohttp_session"}
        assert llm.call("before") == "done"
        server.statuses = [500, 500]
        assert llm.call("tries again") == "done"
        assert server.requests == 4
        Guard(adapter, asking(llm, times=1), policy()).run(id="1")
        Guard(adapter, hungry_agent(llm, tools=[]), policy()).run()
        assert llm._get_sync_client() is own
        left = {key: value for key, value in vars(own._api_client).items() if key != "_aiohttp_session"}
        assert left == state
        server.statuses = [500, 500]
        assert llm.call("after") == "done"
        assert asyncio.run(llm.acall("after")) == "done"
        assert "maxOutputTokens" not in server.bodies[-1].get("generationConfig", {})
        assert server.requests == 10
        assert llm.get_token_usage_summary().total_tokens == server.served.tokens


def test_a_call_outside_is_not_counted_while_a_run_goes_on():
    """The same object, from a thread of the user's."""
    with GeminiServer(answer="done") as server:
        llm = gemini(server)

        class Asking(Flow):
            @start()
            async def ask(self):
                other = threading.Thread(target=lambda: llm.call("outside"))
                other.start()
                await asyncio.to_thread(other.join)
                return await llm.acall("inside " * 300)

        result = Guard(adapter, Asking(), policy(max_steps=1)).run(id="1")
        assert (result.output, result.usage.steps, server.requests) == ("done", 1, 2)
        assert result.usage.tokens * 2 >= server.served.tokens > result.usage.tokens


def test_a_model_shared_by_two_runs_is_charged_to_each():
    """Both at once."""
    with GeminiServer() as server:
        llm = gemini(server)
        guards = [Guard(adapter, hungry_agent(llm), policy(max_steps=3)) for _ in range(2)]
        running = [guard.start({"task": "Find."}) for guard in guards]
        results = [one.future.result(30) for one in running]
        assert [result.usage.steps for result in results] == [3, 3]
        assert sum(result.usage.tokens for result in results) == server.served.tokens == 12_000


def test_what_crewai_keeps_in_a_model_for_a_call_is_that_calls_own():
    """Another run's call, without tools, goes between request and answer."""
    with GeminiServer() as server:
        llm = gemini(server)
        reply = server.reply

        def between(*given):
            llm.tools = None
            reply(*given)

        server.reply = between
        result = Guard(adapter, hungry_agent(llm), policy(max_steps=3)).run()
        assert (result.stopped.limit, server.requests) == ("max_steps", 3)


def test_no_prompt_is_sent_to_be_counted():
    """countTokens would be a request past the gate: CrewAI's own estimate, four characters a token."""
    with GeminiServer(answer="done") as server:
        llm = gemini(server)

        class Asking(Flow):
            @start()
            def ask(self):
                counted = llm.get_input_tokens_count("how long")
                return counted, llm.call("how long " * 99)

        result = Guard(adapter, Asking(), policy()).run(id="1")
        assert (result.output, result.usage.steps, server.requests) == ((2, "done"), 1, 1)


def test_more_answers_than_one_are_refused_by_name():
    """candidateCount, which only the client's own options can say."""
    with GeminiServer() as server:
        llm = gemini(server, http={"extra_body": {"generationConfig": {"candidateCount": 3}}})
        with pytest.raises(ConfigError, match=r"Seeker.*candidateCount=3"):
            Guard(adapter, hungry_agent(llm), policy())
