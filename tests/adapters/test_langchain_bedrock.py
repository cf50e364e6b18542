"""LangChain's real Bedrock client under the gate, against a server on loopback."""

import langchain_aws as aws
import pytest
from botocore.config import Config
from pydantic import BaseModel

from crew_guard.adapters import langgraph
from crew_guard.core.usage import Parts
from crew_guard.models.prices import rates_for
from tests.adapters.bedrock_loopback import BedrockServer
from tests.adapters.guarding import Guard, policy
from tests.adapters.langgraph_doubles import hungry_agent, one_node

MODEL = "anthropic.claude-sonnet-4-5-20250929-v1:0"


def at(server):
    keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none", "region_name": "us-east-1"}
    return {**keys, "endpoint_url": server.base}


def converse(server, **options):
    return aws.ChatBedrockConverse(**{"model": MODEL, **at(server), **options})


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    """Unguarded, botocore sleeps between its tries."""
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)


@pytest.mark.parametrize("streaming", [False, True])
def test_bedrocks_calls_are_gated_clamped_and_charged(streaming):
    """As many requests as max_steps says, each with a length, and the tokens that the server billed."""
    with BedrockServer() as server:
        agent = hungry_agent(converse(server, streaming=streaming))
        guard = Guard(langgraph, agent, policy(max_steps=3))
        result = guard.run()
        assert (result.stopped.limit, result.usage.steps, server.requests) == ("max_steps", 3, 3)
        assert result.usage.tokens == server.served.tokens == 6000
        assert (server.asked, result.unreported) == ([4096] * 3, 0)
        assert server.streamed == (3 if streaming else 0)
        assert set(guard.names) == {f"bedrock:{MODEL}"}
        assert result.agents["seeker"].tokens == 6000
    assert rates_for(f"bedrock:{MODEL}")


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("cap", [10_000, 9_001])
def test_bedrocks_calls_never_exceed_a_cap_of_tokens(cap, streaming):
    """The last one is shortened to what is left, or not sent."""
    with BedrockServer() as server:
        agent = hungry_agent(converse(server, streaming=streaming))
        result = Guard(langgraph, agent, policy(max_tokens=cap)).run()
        assert server.served.tokens == result.usage.tokens <= cap
        assert (result.stopped.limit, result.overshoot.tokens) == ("max_tokens", 0)


def test_a_length_of_the_users_own_stands():
    """Where it is below what may be used."""
    with BedrockServer() as server:
        Guard(langgraph, hungry_agent(converse(server, max_tokens=700)), policy(max_steps=2)).run()
        assert server.asked == [700, 700]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("mode", ["legacy", "standard", "adaptive"])
def test_botocores_retries_are_off(status, streaming, mode, outcomes):
    """In each of its modes: one request for each step, and that is an outage."""
    config = Config(retries={"mode": mode, "total_max_attempts": 4})
    with BedrockServer(status) as server:
        agent = hungry_agent(converse(server, streaming=streaming, config=config))
        result = Guard(langgraph, agent, policy(max_steps=2)).run()
        assert server.requests == result.usage.steps == 1
        ended = "rejected" if status == 429 else "failed"
        assert [(outcome.fault, outcome.status) for outcome in outcomes] == [(True, ended)]


def test_nobody_at_the_other_end_is_an_outage(outcomes):
    """The connection is refused: one step, no tokens."""
    with BedrockServer() as server:
        agent = hungry_agent(converse(server))
    result = Guard(langgraph, agent, policy()).run()
    assert (result.usage.steps, result.usage.tokens) == (1, 0)
    assert [(outcome.fault, outcome.status) for outcome in outcomes] == [(True, "rejected")]


@pytest.mark.parametrize("streaming", [False, True])
def test_what_bedrock_reads_and_writes_of_its_cache_is_told(streaming, outcomes):
    """Both stand beside its input."""
    kept = [{"ttl": "5m", "inputTokens": 100}, {"ttl": "1h", "inputTokens": 50}]
    bills = {"cacheReadInputTokens": 500, "cacheWriteInputTokens": 150, "cacheDetails": kept}
    with BedrockServer(answer="all is found", bills=bills) as server:
        result = Guard(langgraph, hungry_agent(converse(server, streaming=streaming)), policy()).run()
        assert (result.usage.tokens, result.usage.cached_tokens) == (server.served.tokens, 500)
        assert outcomes[0].parts == Parts(cache_written=150, kept_an_hour=50)


@pytest.mark.parametrize("streaming", [False, True])
def test_bedrock_in_async_nodes_is_gated_too(streaming):
    """ainvoke and astream, which LangChain runs in threads."""
    with BedrockServer(answer="done") as server:
        model = converse(server)

        async def ask(state):
            for _ in range(9):
                if streaming:
                    assert "".join([chunk.text async for chunk in model.astream("again " * 300)]) == "done"
                else:
                    await model.ainvoke("again " * 300)
            return {"found": []}

        result = Guard(langgraph, one_node(ask), policy(max_tokens=7_000)).run(found=[])
        assert server.served.tokens == result.usage.tokens <= 7_000
        assert result.stopped.limit == "max_tokens"


class look(BaseModel):  # noqa: N801  the server calls it so
    """What was found."""

    query: str


def test_structured_output_of_bedrock_is_a_step():
    """By a tool that it must call."""
    with BedrockServer() as server:
        model = converse(server).with_structured_output(look)
        graph = one_node(lambda _: {"found": [model.invoke("what is it?").query]})
        result = Guard(langgraph, graph, policy()).run(found=[])
        assert (result.output, result.usage.tokens) == ({"found": ["q1"]}, server.served.tokens)


@pytest.mark.parametrize(
    "bound",
    [
        {"inferenceConfig": {"maxTokens": 5000, "temperature": 0.5}},
        {"inference_config": {"max_tokens": 5000, "temperature": 0.5}},
        {"inferenceConfig": {"temperature": 0.5}},
        {"max_tokens": 5000, "temperature": 0.5},
        {"maxTokens": 5000, "temperature": 0.5},
    ],
)
def test_what_is_given_with_a_call_is_clamped(bound):
    """It outweighs what the model declares."""
    with BedrockServer(answer="done") as server:
        model = converse(server).bind(**bound)
        graph = one_node(lambda _: {"found": [model.invoke("hello").text]})
        Guard(langgraph, graph, policy(max_tokens=1_500)).run(found=[])
        (config,) = [body["inferenceConfig"] for body in server.bodies]
        assert (config["temperature"], 1_000 < config["maxTokens"] < 1_500) == (0.5, True)


def test_a_length_to_think_leaves_room_to_answer():
    """budget_tokens of Claude: the request's length stays above it, or the call is refused."""
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 2000}}
    with BedrockServer(answer="done") as server:
        agent = hungry_agent(converse(server, additional_model_request_fields=thinking))
        Guard(langgraph, agent, policy()).run()
        assert server.asked == [2000 + 4096]
        assert Guard(langgraph, agent, policy(max_tokens=3000)).run().stopped.limit == "max_tokens"
        assert server.requests == 1


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"max_tokens": 9000}, "additional_model_request_fields sets max_tokens"),
        ({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}}, "use 'medium'"),
    ],
)
@pytest.mark.parametrize("with_call", [False, True])
def test_what_no_length_bounds_is_refused_by_name(fields, error, with_call):
    """Before anything is sent."""
    given = {"additional_model_request_fields": fields}
    with BedrockServer(answer="done") as server:
        model = converse(server).bind(**given) if with_call else converse(server, **given)
        result = Guard(langgraph, one_node(lambda _: model.invoke("hello")), policy()).run(found=[])
        assert error in result.error
        assert server.requests == 0


def test_what_invokes_a_model_in_its_own_words_is_refused_by_name():
    """ChatBedrock, with the way out."""
    with BedrockServer() as server:
        model = aws.ChatBedrock(model=MODEL, **at(server))
        result = Guard(langgraph, one_node(lambda _: model.invoke("hello")), policy()).run(found=[])
        assert "ChatBedrock can't be clamped or kept from retrying; use ChatBedrockConverse" in result.error
        assert server.requests == 0


def test_a_client_outside_of_a_run_keeps_its_retries():
    """Also while a guarded run uses the same."""
    with BedrockServer(answer="done") as server:
        model = converse(server, max_tokens=900)
        own = model.client
        Guard(langgraph, hungry_agent(model), policy(max_tokens=2_100)).run()
        assert server.asked[0] < 900
        server.statuses = [503, 503]
        model.invoke("hello")
        assert server.asked[1:] == [900] * 3
        assert model.client is own
