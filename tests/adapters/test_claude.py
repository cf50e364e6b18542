"""Anthropic's real clients in LangChain and in AutoGen under the gate, against a server on loopback."""

import asyncio

import pytest
from autogen_core.models import ChatCompletionClient, UserMessage
from autogen_ext.models.anthropic import AnthropicChatCompletionClient
from langchain_anthropic import ChatAnthropic
from langchain_anthropic.middleware import AnthropicPromptCachingMiddleware
from pydantic import BaseModel

from crew_guard.adapters import autogen, langgraph
from crew_guard.core.usage import PartRates, Parts, Rate, Rates
from tests.adapters import autogen_doubles, langgraph_doubles
from tests.adapters.claude_loopback import ClaudeServer
from tests.adapters.guarding import ByteFacts, Guard, policy

MODEL = "claude-sonnet-4-5"
RATES = Rates(
    Rate(3_000_000_000),
    Rate(15_000_000_000),
    Rate(300_000_000),
    Rate(3_750_000_000),
    parts=PartRates(kept_an_hour=Rate(6_000_000_000)),
)


class Priced(ByteFacts):
    """What a Claude costs."""

    rates = RATES


def claude(server, **options):
    return ChatAnthropic(**{"model": MODEL, "api_key": "none", "base_url": server.base, **options})


def client(server, **options):
    return AnthropicChatCompletionClient(**{"model": MODEL, "api_key": "none", "base_url": server.base, **options})


def by_langchain(server, *, streaming=False, **options):
    return langgraph, langgraph_doubles.hungry_agent(claude(server, streaming=streaming, **options))


def by_autogen(server, *, streaming=False, **options):
    return autogen, autogen_doubles.hungry_agent(client(server, **options), model_client_stream=streaming)


hosts = pytest.mark.parametrize("by", [by_langchain, by_autogen])


@hosts
@pytest.mark.parametrize("streaming", [False, True])
def test_claudes_calls_are_gated_clamped_and_charged(by, streaming):
    """As many requests as max_steps says, each with a length, and the tokens that the server billed."""
    with ClaudeServer() as server:
        adapter, host = by(server, streaming=streaming)
        guard = Guard(adapter, host, policy(max_steps=3))
        result = guard.run()
        assert (result.stopped.limit, result.usage.steps, server.requests) == ("max_steps", 3, 3)
        assert result.usage.tokens == server.served.tokens == 6000
        assert server.asked == [4096] * 3
        assert bool(server.bodies[0].get("stream")) is streaming
        assert set(guard.names) == {f"anthropic:{MODEL}"}
        assert result.agents["seeker"].tokens == 6000


@hosts
@pytest.mark.parametrize("cap", [10_000, 9_001])
def test_claudes_calls_never_exceed_a_cap_of_tokens(by, cap):
    """The last one is shortened to what is left, or not sent."""
    with ClaudeServer() as server:
        adapter, host = by(server)
        result = Guard(adapter, host, policy(max_tokens=cap)).run()
        assert server.served.tokens == result.usage.tokens <= cap
        assert (result.stopped.limit, result.overshoot.tokens) == ("max_tokens", 0)


@hosts
def test_a_length_of_the_users_own_stands(by):
    """Where it is below what may be used."""
    with ClaudeServer() as server:
        adapter, host = by(server, max_tokens=700)
        Guard(adapter, host, policy(max_steps=2)).run()
        assert server.asked == [700, 700]


@hosts
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("status", [429, 500, 529])
def test_claudes_own_retries_are_off(by, status, streaming, outcomes):
    """A server that throttles, or fails, gets one request for each step, and that is an outage."""
    with ClaudeServer(status) as server:
        adapter, host = by(server, streaming=streaming)
        result = Guard(adapter, host, policy(max_steps=2)).run()
        assert server.requests == result.usage.steps == 1
        assert [(outcome.fault, outcome.status) for outcome in outcomes] == [
            (True, "rejected" if status == 429 else "failed")
        ]


@hosts
def test_a_request_that_anthropic_turns_down_costs_a_step_and_no_tokens(by, outcomes):
    """A 400 is no outage."""
    with ClaudeServer(400) as server:
        adapter, host = by(server)
        result = Guard(adapter, host, policy()).run()
        assert (server.requests, result.usage.steps, result.usage.tokens) == (1, 1, 0)
        assert [(outcome.fault, outcome.status) for outcome in outcomes] == [(False, "rejected")]


@hosts
def test_nobody_at_the_other_end_is_an_outage(by, outcomes):
    """The connection is refused: one step, no tokens."""
    with ClaudeServer() as server:
        adapter, host = by(server)
    result = Guard(adapter, host, policy()).run()
    assert (result.usage.steps, result.usage.tokens) == (1, 0)
    assert [(outcome.fault, outcome.status) for outcome in outcomes] == [(True, "rejected")]


@hosts
@pytest.mark.parametrize("streaming", [False, True])
def test_an_answer_is_settled_as_reported(by, streaming):
    """One step, and the tokens of the provider."""
    with ClaudeServer(answer="all is found") as server:
        adapter, host = by(server, streaming=streaming)
        result = Guard(adapter, host, policy()).run()
        assert (result.usage.steps, result.unreported, result.stopped) == (1, 0, None)
        assert "all is found" in str(result.output)
        assert server.served.tokens == result.usage.tokens


@hosts
@pytest.mark.parametrize("streaming", [False, True])
def test_what_claude_reads_and_writes_of_its_cache_is_priced_apart(by, streaming, outcomes):
    """Anthropic names both beside the input: tokens and dollars are those that it bills."""
    hour = {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 50}
    bills = {"cache_read_input_tokens": 500, "cache_creation_input_tokens": 150, "cache_creation": hour}
    with ClaudeServer(answer="done", bills=bills) as server:
        adapter, host = by(server, streaming=streaming)
        result = Guard(adapter, host, policy(), Priced()).run()
        assert result.usage.tokens == server.served.tokens == 2000
        assert result.usage.cached_tokens == 500
        assert outcomes[0].parts == Parts(cache_written=150, kept_an_hour=50)
        micro = 350 * 3 + 500 * 0.3 + 100 * 3.75 + 50 * 6 + 1000 * 15
        assert result.usage.nano_usd == int(micro * 1000)


@hosts
@pytest.mark.parametrize("tells", ["start", "end", "twice"])
def test_a_streams_prompt_is_charged_wherever_claude_names_it(by, tells, outcomes):
    """At its start only, as Anthropic documents it, at its end, or in both: what was billed, the cache's part too."""
    bills = {"cache_read_input_tokens": 500, "cache_creation_input_tokens": 150}
    if tells != "end":
        bills["cache_creation"] = {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 50}
    with ClaudeServer(bills=bills, tells=tells) as server:
        adapter, host = by(server, streaming=True)
        result = Guard(adapter, host, policy(max_tokens=10_000), Priced()).run()
        assert (result.stopped.limit, result.unreported, result.overshoot.tokens) == ("max_tokens", 0, 0)
        assert 4_000 <= result.usage.tokens == server.served.tokens <= 10_000
        assert result.usage.cached_tokens == 500 * server.requests
        assert {outcome.parts for outcome in outcomes} == {
            Parts(cache_written=150, kept_an_hour=0 if tells == "end" else 50)
        }


@hosts
def test_a_stream_whose_prompt_nobody_names_is_charged_as_reserved(by):
    """An answer of a prompt of 0 is no account: no cap is passed by it, and the result says so."""
    with ClaudeServer(tells="never") as server:
        adapter, host = by(server, streaming=True)
        result = Guard(adapter, host, policy(max_tokens=20_000)).run()
        assert result.stopped.limit == "max_tokens"
        assert result.unreported == server.requests >= 1
        assert server.served.tokens <= result.usage.tokens <= 20_000


@hosts
def test_a_length_to_think_leaves_room_to_answer(by):
    """budget_tokens: the request's max_tokens stays above it, or the call is refused."""
    thinking = {"type": "enabled", "budget_tokens": 2000}
    with ClaudeServer(answer="done") as server:
        Guard(*by(server, thinking=thinking), policy()).run()
        assert server.asked == [2000 + 4096]
        Guard(*by(server, thinking=thinking, max_tokens=3000), policy()).run()
        assert server.asked[1:] == [3000]
        assert server.bodies[1]["thinking"] == thinking
        adapter, host = by(server, thinking=thinking)
        assert Guard(adapter, host, policy(max_tokens=3000)).run().stopped.limit == "max_tokens"
        assert server.requests == 2


@hosts
def test_one_client_in_several_runs_at_once_is_charged_to_each(by):
    """Its retries and its length are its user's own, before, during and after."""
    with ClaudeServer() as server:
        adapter, host = by(server)
        _, other = by(server)
        shared = _client_of(host)
        _give(other, shared)
        runs = [Guard(adapter, each, policy(max_steps=3)) for each in (host, other)]
        started = [run.start({"task": "go"}) for run in runs]
        assert [each.future.result(30).usage.steps for each in started] == [3, 3]
        assert server.requests == 6


def _client_of(host):
    return getattr(host, "_model_client", None)


def _give(host, client):
    if client is not None:
        host._model_client = client


def test_a_claude_outside_of_a_run_keeps_its_retries_and_its_length():
    """Also when a guarded run has used it, and while one does."""
    with ClaudeServer(answer="done") as server, asyncio.Runner() as loop:
        model = claude(server, max_tokens=900, max_retries=2)
        autogens = client(server, max_tokens=900)

        def asked_unguarded():
            server.statuses, before = [529, 529], server.requests
            model.invoke("hello")
            loop.run(autogens.create([UserMessage(content="hello", source="ann")]))
            return [body["max_tokens"] for body in server.bodies[before:]]

        assert asked_unguarded() == [900] * 4
        agent = langgraph_doubles.hungry_agent(model)
        tight = policy(max_tokens=2_100)
        assert Guard(langgraph, agent, tight).run().usage.steps == 1
        assert Guard(autogen, autogen_doubles.hungry_agent(autogens), tight).run().usage.steps == 1
        assert server.asked[-2] < 900 > server.asked[-1]
        assert asked_unguarded() == [900] * 4
        assert (model._client.max_retries, autogens._client.max_retries) == (2, 2)


@pytest.mark.parametrize("betas", [None, ["context-1m-2025-08-07"]])
@pytest.mark.parametrize("streaming", [False, True])
def test_claude_in_async_nodes_is_gated_too(streaming, betas):
    """ainvoke and astream: the async client, and its beta API's."""
    with ClaudeServer(answer="done", tells="start") as server:
        model = claude(server, betas=betas)

        async def ask(state):
            for _ in range(9):
                if streaming:
                    assert "".join([chunk.text async for chunk in model.astream("again " * 300)]) == "done"
                else:
                    await model.ainvoke("again " * 300)
            return {"found": []}

        result = Guard(langgraph, langgraph_doubles.one_node(ask), policy(max_tokens=7_000)).run(found=[])
        assert server.served.tokens == result.usage.tokens <= 7_000
        assert result.stopped.limit == "max_tokens"
        assert result.agents["writer"].tokens == result.usage.tokens


class Found(BaseModel):
    """What was found."""

    words: str


@pytest.mark.parametrize("method", ["function_calling", "json_schema"])
def test_structured_output_of_claude_is_a_step(method):
    """By a tool that it must call, or by a schema."""
    answer = '{"words": "gzip"}' if method == "json_schema" else None
    with ClaudeServer(tool="Found", filled={"words": "gzip"}, answer=answer) as server:
        model = claude(server).with_structured_output(Found, method=method)
        graph = langgraph_doubles.one_node(lambda _: {"found": [model.invoke("what is it?").words]})
        result = Guard(langgraph, graph, policy()).run(found=[])
        assert (result.output, result.usage.tokens) == ({"found": ["gzip"]}, server.served.tokens)


def test_the_middleware_that_caches_prompts_changes_no_cap():
    """It marks the last message; what is billed is charged."""
    with ClaudeServer(bills={"cache_read_input_tokens": 900}) as server:
        agent = langgraph_doubles.hungry_agent(claude(server), middleware=[AnthropicPromptCachingMiddleware()])
        result = Guard(langgraph, agent, policy(max_steps=2)).run()
        assert "cache_control" in str(server.bodies[0])
        assert (result.usage.tokens, result.usage.cached_tokens) == (server.served.tokens, 1800)


def test_a_length_in_extra_body_is_refused_by_name():
    """With the way out."""
    with ClaudeServer() as server:
        model = claude(server, model_kwargs={"extra_body": {"max_tokens": 9}})
        agent = langgraph_doubles.hungry_agent(model)
        result = Guard(langgraph, agent, policy()).run()
        assert "extra_body sets max_tokens" in result.error
        assert server.requests == 0


class Twice(ChatCompletionClient):
    """A client of the user's own, around another."""

    component_type = "model"

    def __init__(self, inner):
        self.inner = inner

    async def create(self, messages, **options):
        return await self.inner.create(messages, **options)

    def create_stream(self, messages, **options):
        return self.inner.create_stream(messages, **options)

    async def close(self):
        pass

    def actual_usage(self):
        return self.inner.actual_usage()

    def total_usage(self):
        return self.inner.total_usage()

    def count_tokens(self, messages, *, tools=()):
        return 0

    def remaining_tokens(self, messages, *, tools=()):
        return 0

    @property
    def capabilities(self):
        return self.inner.model_info

    @property
    def model_info(self):
        return self.inner.model_info


@pytest.mark.parametrize("streaming", [False, True])
def test_a_client_around_claudes_sends_one_request_a_step(streaming):
    """The retries of what is inside of it are off, too."""
    with ClaudeServer(529) as server:
        agent = autogen_doubles.hungry_agent(Twice(client(server)), model_client_stream=streaming)
        result = Guard(autogen, agent, policy(max_steps=3)).run()
        assert server.requests == result.usage.steps == 1
