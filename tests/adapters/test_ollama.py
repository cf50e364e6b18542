"""Ollama's real clients in LangChain and in AutoGen under the gate, against a server on loopback."""

import pytest
from autogen_core.models import ModelInfo
from autogen_ext.models.ollama import OllamaChatCompletionClient
from langchain_ollama import ChatOllama
from ollama import Options
from pydantic import BaseModel

from crew_guard.adapters import autogen, langgraph
from tests.adapters import autogen_doubles, langgraph_doubles
from tests.adapters.guarding import Guard, policy
from tests.adapters.ollama_loopback import OllamaServer

MODEL = "llama3.2"
INFO = ModelInfo(vision=False, function_calling=True, json_output=True, family="unknown", structured_output=True)


def llama(server, **options):
    return ChatOllama(**{"model": MODEL, "base_url": server.base, **options})


def client(server, **options):
    return OllamaChatCompletionClient(**{"model": MODEL, "host": server.base, "model_info": INFO, **options})


def by_langchain(server, *, streaming=False, length=None):
    return langgraph, langgraph_doubles.hungry_agent(llama(server, num_predict=length))


def by_autogen(server, *, streaming=False, length=None):
    given = {} if length is None else {"options": {"num_predict": length, "seed": 7}}
    return autogen, autogen_doubles.hungry_agent(client(server, **given), model_client_stream=streaming)


hosts = pytest.mark.parametrize("by", [by_langchain, by_autogen])


@hosts
@pytest.mark.parametrize("streaming", [False, True])
def test_ollamas_calls_are_gated_clamped_and_charged(by, streaming):
    """As many requests as max_steps says, each with a num_predict, and the tokens that the server counted."""
    with OllamaServer() as server:
        adapter, host = by(server, streaming=streaming)
        guard = Guard(adapter, host, policy(max_steps=3))
        result = guard.run()
        assert (result.stopped.limit, result.usage.steps, server.requests) == ("max_steps", 3, 3)
        assert result.usage.tokens == server.served.tokens == 6000
        assert result.unreported == 0
        assert server.asked == [4096] * 3
        assert set(guard.names) == {f"ollama:{MODEL}"}
        assert result.agents["seeker"].tokens == 6000


@hosts
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("cap", [10_000, 9_001])
def test_ollamas_calls_never_exceed_a_cap_of_tokens(by, cap, streaming):
    """The last one is shortened to what is left, or not sent."""
    with OllamaServer() as server:
        adapter, host = by(server, streaming=streaming)
        result = Guard(adapter, host, policy(max_tokens=cap)).run()
        assert server.served.tokens == result.usage.tokens <= cap
        assert (result.stopped.limit, result.overshoot.tokens) == ("max_tokens", 0)


@hosts
@pytest.mark.parametrize(("length", "asked"), [(700, 700), (-1, 4096), (-2, 4096)])
def test_a_length_of_the_users_own_stands(by, length, asked):
    """Where it is below what may be used; below 0 it means as long as it likes, which is clamped."""
    with OllamaServer() as server:
        adapter, host = by(server, length=length)
        Guard(adapter, host, policy(max_steps=2)).run()
        assert server.asked == [asked, asked]


@hosts
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_fails_gets_one_request_a_step(by, status, streaming, outcomes):
    """And that is an outage."""
    with OllamaServer(status) as server:
        adapter, host = by(server, streaming=streaming)
        result = Guard(adapter, host, policy(max_steps=2)).run()
        assert server.requests == result.usage.steps == 1
        ended = "rejected" if status == 429 else "failed"
        assert [(outcome.fault, outcome.status) for outcome in outcomes] == [(True, ended)]


@hosts
def test_nobody_at_the_other_end_is_an_outage(by, outcomes):
    """The connection is refused: one step, no tokens."""
    with OllamaServer() as server:
        adapter, host = by(server)
    result = Guard(adapter, host, policy()).run()
    assert (result.usage.steps, result.usage.tokens) == (1, 0)
    assert [(outcome.fault, outcome.status) for outcome in outcomes] == [(True, "rejected")]


@hosts
@pytest.mark.parametrize("streaming", [False, True])
def test_an_answer_is_settled_as_reported(by, streaming):
    """One step, and the tokens of the server, also where the host's own figures miss them."""
    with OllamaServer(answer="all is found") as server:
        adapter, host = by(server, streaming=streaming)
        result = Guard(adapter, host, policy()).run()
        assert (result.usage.steps, result.unreported, result.stopped) == (1, 0, None)
        assert "all is found" in str(result.output)
        assert server.served.tokens == result.usage.tokens


@pytest.mark.parametrize("streaming", [False, True])
def test_ollama_in_async_nodes_is_gated_too(streaming):
    """ainvoke and astream: the async client."""
    with OllamaServer(answer="done") as server:
        model = llama(server)

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


def test_options_given_with_a_call_are_clamped_and_kept():
    """They take the place of all that the model declares."""
    with OllamaServer(answer="done") as server:
        model = llama(server, num_predict=100).bind(options={"num_predict": 5000, "seed": 7})
        graph = langgraph_doubles.one_node(lambda _: {"found": [model.invoke("hello").text]})
        Guard(langgraph, graph, policy(max_tokens=1_500)).run(found=[])
        (options,) = [body["options"] for body in server.bodies]
        assert options["seed"] == 7
        assert 1_000 < options["num_predict"] < 1_500


class Found(BaseModel):
    """What was found."""

    words: str


def test_structured_output_of_ollama_is_a_step():
    """By its format."""
    with OllamaServer(answer='{"words": "gzip"}') as server:
        model = llama(server).with_structured_output(Found)
        graph = langgraph_doubles.one_node(lambda _: {"found": [model.invoke("what is it?").words]})
        result = Guard(langgraph, graph, policy()).run(found=[])
        assert (result.output, result.usage.tokens) == ({"found": ["gzip"]}, server.served.tokens)


@pytest.mark.parametrize("options", [{"seed": 7, "num_predict": 90}, Options(seed=7, num_predict=90)])
def test_options_of_autogens_client_are_kept(options):
    """As a mapping, and as Ollama's own object."""
    with OllamaServer() as server:
        made = client(server, options=options)
        before = dict(made._create_args)
        Guard(autogen, autogen_doubles.hungry_agent(made), policy(max_steps=1)).run()
        assert server.bodies[0]["options"] == {"seed": 7, "num_predict": 90}
        assert made._create_args == before
