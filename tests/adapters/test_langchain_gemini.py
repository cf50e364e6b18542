"""LangChain's real Gemini client under the gate, against a server on loopback."""

import langchain_google_genai as genai
import pytest
from pydantic import BaseModel

from crew_guard.adapters import langgraph
from crew_guard.core.usage import Parts
from crew_guard.models.prices import rates_for
from tests.adapters import gemini_server
from tests.adapters.gemini_loopback import GeminiServer
from tests.adapters.guarding import Guard, policy
from tests.adapters.langgraph_doubles import hungry_agent, one_node

MODEL = "gemini-2.5-flash"


def gemini(server, **options):
    return genai.ChatGoogleGenerativeAI(**{"model": MODEL, "api_key": "none", "base_url": server.base, **options})


@pytest.mark.parametrize("streaming", [False, True])
def test_geminis_calls_are_gated_clamped_and_charged(streaming):
    """As many requests as max_steps says, each with a length, and the tokens that the server billed."""
    with GeminiServer() as server:
        guard = Guard(langgraph, hungry_agent(gemini(server, streaming=streaming)), policy(max_steps=3))
        result = guard.run()
        assert (result.stopped.limit, result.usage.steps, server.requests) == ("max_steps", 3, 3)
        assert result.usage.tokens == server.served.tokens == 6000
        assert (server.asked, result.unreported) == ([4096] * 3, 0)
        assert set(guard.names) == {f"gemini:{MODEL}"}
        assert result.agents["seeker"].tokens == 6000
    assert rates_for(f"gemini:{MODEL}")


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("cap", [10_000, 9_001])
def test_geminis_calls_never_exceed_a_cap_of_tokens(cap, streaming):
    """The last one is shortened to what is left, or not sent."""
    with GeminiServer() as server:
        result = Guard(langgraph, hungry_agent(gemini(server, streaming=streaming)), policy(max_tokens=cap)).run()
        assert server.served.tokens == result.usage.tokens <= cap
        assert (result.stopped.limit, result.overshoot.tokens) == ("max_tokens", 0)


@pytest.mark.parametrize("name", ["max_output_tokens", "max_tokens"])
def test_a_length_of_the_users_own_stands(name):
    """Where it is below what may be used."""
    with GeminiServer() as server:
        Guard(langgraph, hungry_agent(gemini(server, **{name: 700})), policy(max_steps=2)).run()
        assert server.asked == [700, 700]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("retries", [0, 1, 6])
def test_geminis_own_retries_are_off(status, streaming, retries, outcomes):
    """Whatever the model says: 0 means the SDK's own number of them."""
    with GeminiServer(status) as server:
        agent = hungry_agent(gemini(server, streaming=streaming, max_retries=retries))
        result = Guard(langgraph, agent, policy(max_steps=2)).run()
        assert server.requests == result.usage.steps == 1
        ended = "rejected" if status == 429 else "failed"
        assert [(outcome.fault, outcome.status) for outcome in outcomes] == [(True, ended)]


@pytest.mark.parametrize("streaming", [False, True])
def test_what_gemini_thinks_and_reads_of_its_cache_is_told(streaming, outcomes):
    """Thoughts are billed beside the answer, as output."""
    with GeminiServer(answer="all is found", thought=300, cached=400) as server:
        result = Guard(langgraph, hungry_agent(gemini(server, streaming=streaming)), policy()).run()
        assert result.usage.tokens == server.served.tokens == 2000
        assert (result.usage.output_tokens, result.usage.cached_tokens) == (1000, 400)
        assert outcomes[0].parts == Parts(reasoning=300)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("answers", [True, False])
def test_gemini_in_async_nodes_is_gated_too(streaming, answers, outcomes):
    """ainvoke and astream: the async client, also where nobody answers."""
    with GeminiServer(answer="done") as server:
        model = gemini(server)
        if not answers:
            server.status = 503

        async def ask(state):
            for _ in range(9):
                if streaming:
                    assert "".join([chunk.text async for chunk in model.astream("again " * 300)]) == "done"
                else:
                    await model.ainvoke("again " * 300)
            return {"found": []}

        result = Guard(langgraph, one_node(ask), policy(max_tokens=7_000)).run(found=[])
        if answers:
            assert server.served.tokens == result.usage.tokens <= 7_000
            assert result.stopped.limit == "max_tokens"
        else:
            assert (server.requests, outcomes[0].fault) == (1, True)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_nobody_at_the_other_end_is_an_outage(asynchronous, outcomes):
    """The connection is refused: one step, no tokens."""
    with GeminiServer() as server:
        model = gemini(server)

    async def ask(state):
        await model.ainvoke("hello")

    graph = one_node(ask) if asynchronous else one_node(lambda _: model.invoke("hello"))
    result = Guard(langgraph, graph, policy()).run(found=[])
    assert (result.usage.steps, result.usage.tokens) == (1, 0)
    assert [(outcome.fault, outcome.status) for outcome in outcomes] == [(True, "rejected")]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_lost_connection_is_not_tried_again(asynchronous, outcomes):
    """The SDK's async client would, whatever its options say."""
    with gemini_server.GeminiServer() as server:
        server.breaks = True
        model = genai.ChatGoogleGenerativeAI(model=MODEL, api_key="none", base_url=server.url.removesuffix("/v1"))

        async def ask(state):
            await model.ainvoke("hello")

        graph = one_node(ask) if asynchronous else one_node(lambda _: model.invoke("hello"))
        result = Guard(langgraph, graph, policy()).run(found=[])
        assert server.requests == result.usage.steps == 1
        assert outcomes[0].fault


class Found(BaseModel):
    """What was found."""

    words: str


def test_structured_output_of_gemini_is_a_step():
    """By its schema."""
    with GeminiServer(answer='{"words": "gzip"}') as server:
        model = gemini(server).with_structured_output(Found)
        graph = one_node(lambda _: {"found": [model.invoke("what is it?").words]})
        result = Guard(langgraph, graph, policy()).run(found=[])
        assert (result.output, result.usage.tokens) == ({"found": ["gzip"]}, server.served.tokens)


@pytest.mark.parametrize("name", ["max_output_tokens", "maxOutputTokens"])
def test_a_generation_config_given_with_a_call_is_clamped(name):
    """It outweighs what the model declares."""
    with GeminiServer(answer="done") as server:
        model = gemini(server).bind(generation_config={name: 5000, "seed": 7})
        graph = one_node(lambda _: {"found": [model.invoke("hello").text]})
        Guard(langgraph, graph, policy(max_tokens=1_500)).run(found=[])
        (config,) = [body["generationConfig"] for body in server.bodies]
        assert (config["seed"], 1_000 < config["maxOutputTokens"] < 1_500) == (7, True)


@pytest.mark.parametrize(
    ("bound", "error"),
    [
        ({"candidate_count": 2}, "n=2"),
        ({"generation_config": {"candidate_count": 2}}, "n=2"),
        ({"http_options": {"retry_options": {"attempts": 5}}}, "http_options sets retry_options"),
        ({"http_options": {"extra_body": {"generationConfig": {}}}}, "http_options sets extra_body"),
    ],
)
def test_what_goes_around_the_guard_is_refused_by_name(bound, error):
    """Before anything is sent."""
    with GeminiServer(answer="done") as server:
        model = gemini(server).bind(**bound)
        result = Guard(langgraph, one_node(lambda _: model.invoke("hello")), policy()).run(found=[])
        assert error in result.error
        assert server.requests == 0


def test_a_gemini_outside_of_a_run_keeps_its_retries(monkeypatch):
    """Also when a guarded run has used it."""
    monkeypatch.setattr("google.genai._api_client._RETRY_INITIAL_DELAY", 0.0)
    with GeminiServer(answer="done") as server:
        model = gemini(server, max_retries=3, max_output_tokens=900)
        Guard(langgraph, hungry_agent(model), policy(max_tokens=2_100)).run()
        assert server.asked[0] < 900
        server.statuses = [503]
        model.invoke("hello")
        assert server.asked[1:] == [900, 900]
