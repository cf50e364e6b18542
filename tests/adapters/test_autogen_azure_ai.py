"""AutoGen's client of Azure AI Foundry and GitHub's models under the gate, against a server on loopback."""

import asyncio
from contextlib import suppress

import pytest
from autogen_core.models import ModelInfo, UserMessage
from autogen_ext.models.azure import AzureAIChatCompletionClient
from azure.core.credentials import AzureKeyCredential

from crew_guard.adapters import autogen
from crew_guard.errors import ConfigError
from tests.adapters.autogen_doubles import hungry_agent
from tests.adapters.guarding import Guard, policy
from tests.adapters.loopback import HungryServer

INFO = ModelInfo(vision=False, function_calling=True, json_output=True, family="unknown", structured_output=True)


made_clients = []


@pytest.fixture(autouse=True)
def _closed():
    """Each client's HTTP session: the collector would complain of them at any time."""
    yield
    while made_clients:
        with suppress(RuntimeError):  # it belongs to the run's loop, and has let go of all when that is found out
            asyncio.run(made_clients.pop().close())


def client(server, **options):
    given = {"endpoint": server.url, "credential": AzureKeyCredential("none"), "model": "Phi-4", "model_info": INFO}
    made_clients.append(AzureAIChatCompletionClient(**{**given, **options}))
    return made_clients[-1]


@pytest.mark.parametrize("model", ["Phi-4", "gpt-5-mini"])
@pytest.mark.parametrize("streaming", [False, True])
def test_calls_are_gated_clamped_and_charged(streaming, model):
    """As many requests as max_steps says, each with a length, and the tokens that the server billed."""
    with HungryServer() as server:
        guard = Guard(
            autogen, hungry_agent(client(server, model=model), model_client_stream=streaming), policy(max_steps=3)
        )
        result = guard.run()
        assert (server.requests, result.usage.steps) == (3, 3)
        assert result.usage.tokens == server.served.tokens == 6000
        assert (result.unreported, server.served.asked) == (0, [4096] * 3)
        assert set(guard.names) == {f"azure:{model}"}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("cap", [10_000, 9_001])
def test_calls_never_exceed_a_cap_of_tokens(cap, streaming):
    """The last one is shortened to what is left, or not sent."""
    with HungryServer() as server:
        agent = hungry_agent(client(server), model_client_stream=streaming)
        result = Guard(autogen, agent, policy(max_tokens=cap)).run()
        assert server.served.tokens == result.usage.tokens <= cap
        assert (result.stopped.limit, result.overshoot.tokens) == ("max_tokens", 0)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("status", [429, 503])
def test_its_own_retries_are_off(status, streaming, outcomes):
    """A server that throttles, or fails, gets one request for each step, and that is an outage."""
    with HungryServer(status) as server:
        agent = hungry_agent(client(server), model_client_stream=streaming)
        result = Guard(autogen, agent, policy(max_steps=2)).run()
        assert server.requests == result.usage.steps == 1
        ended = "rejected" if status == 429 else "failed"
        assert [(outcome.fault, outcome.status) for outcome in outcomes] == [(True, ended)]


def test_a_length_of_the_users_own_stands_and_their_client_stays_as_it_is():
    """Where it is below what may be used."""
    with HungryServer() as server:
        made = client(server, max_tokens=700)
        own = made._client
        Guard(autogen, hungry_agent(made), policy(max_steps=2)).run()
        assert server.served.asked == [700, 700]
        assert made._client is own
        assert made.total_usage().prompt_tokens == 2000


def test_outside_of_a_run_it_tries_again():
    """As Azure's SDK does by itself."""
    with HungryServer(answer="done") as server:
        server.statuses = [503]
        made = client(server)
        result = asyncio.run(made.create([UserMessage(content="hello", source="ann")]))
        assert (result.content, server.requests) == ("done", 2)


def test_a_length_in_model_extras_is_refused_by_name():
    """With the way out."""
    with HungryServer() as server:
        made = client(server, model_extras={"max_completion_tokens": 9})
        with pytest.raises(ConfigError, match="azure:Phi-4: model_extras sets max_completion_tokens"):
            Guard(autogen, hungry_agent(made), policy())
