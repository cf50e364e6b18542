"""Azure's real clients of all four hosts under the gate, against a server on loopback."""

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_ext.models.openai import AzureOpenAIChatCompletionClient
from crewai import LLM
from crewai.flow.flow import Flow, start
from crewai.llms import retry as crewai_retry
from langchain_openai import AzureChatOpenAI
from llama_index.llms.azure_openai import AzureOpenAI

from crew_guard.adapters import autogen, crewai, langgraph, llama_index
from crew_guard.errors import ConfigError
from tests.adapters import crewai_doubles, langgraph_doubles, llama_index_doubles
from tests.adapters.guarding import Guard, policy
from tests.adapters.loopback import HungryServer

VERSION = "2024-06-01"


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    """CrewAI sleeps seconds between the tries that it makes at a provider that throttles."""
    monkeypatch.setattr(crewai_retry, "get_retry_delay_seconds", lambda **_: 0.0)


def at(server):
    return {"azure_endpoint": server.url.removesuffix("/v1"), "api_key": "none", "api_version": VERSION}


def look(query: str) -> str:
    """Look something up."""
    return f"found {query}"


def by_autogen(server, *, streaming=False, length=None):
    given = {} if length is None else {"max_tokens": length}
    client = AzureOpenAIChatCompletionClient(model="gpt-4o", azure_deployment="d", **at(server), **given)
    options = {"max_tool_iterations": 30, "system_message": crewai_doubles.BACKSTORY, "model_client_stream": streaming}
    return autogen, AssistantAgent("seeker", client, tools=[look], **options)


def by_langchain(server, *, streaming=False, length=None):
    model = AzureChatOpenAI(azure_deployment="d", model="gpt-4o", streaming=streaming, max_tokens=length, **at(server))
    return langgraph, langgraph_doubles.hungry_agent(model)


def by_llama_index(server, *, streaming=False, length=None):
    model = AzureOpenAI(engine="d", model="gpt-4o", max_tokens=length, **at(server))
    return llama_index, llama_index_doubles.hungry_agent(model, streaming=streaming)[0]


def azure_llm(server, **options):
    endpoint = f"{server.url.removesuffix('/v1')}/openai/deployments/d"
    return LLM("azure/gpt-4o", endpoint=endpoint, api_key="none", **options)


def by_crewai(server, *, streaming=False, length=None):
    llm = azure_llm(server, stream=streaming, **({} if length is None else {"max_tokens": length}))
    return crewai, crewai_doubles.hungry_agent(llm)


HOSTS = [by_autogen, by_langchain, by_llama_index, by_crewai]
hosts = pytest.mark.parametrize("by", HOSTS)


@hosts
@pytest.mark.parametrize("streaming", [False, True])
def test_azures_calls_are_gated_clamped_and_charged(by, streaming):
    """As many requests as max_steps says, each with a length, and the tokens that the server billed."""
    with HungryServer() as server:
        adapter, host = by(server, streaming=streaming)
        guard = Guard(adapter, host, policy(max_steps=3))
        result = guard.run()
        assert (result.stopped.limit, result.usage.steps, server.requests) == ("max_steps", 3, 3)
        assert result.usage.tokens == server.served.tokens == 6000
        assert server.served.asked == [4096] * 3
        assert set(guard.names) == {"azure:gpt-4o"}


@hosts
@pytest.mark.parametrize("cap", [10_000, 9_001])
def test_azures_calls_never_exceed_a_cap_of_tokens(by, cap):
    """The last one is shortened to what is left."""
    with HungryServer() as server:
        adapter, host = by(server)
        result = Guard(adapter, host, policy(max_tokens=cap)).run()
        assert server.served.tokens == result.usage.tokens <= cap
        assert (result.stopped.limit, result.overshoot.tokens) == ("max_tokens", 0)


@hosts
def test_a_length_of_the_users_own_stands(by):
    """Where it is below what may be used."""
    with HungryServer() as server:
        adapter, host = by(server, length=700)
        Guard(adapter, host, policy(max_steps=2)).run()
        assert server.served.asked == [700, 700]


@hosts
@pytest.mark.parametrize("status", [429, 500])
def test_azures_own_retries_are_off(by, status):
    """A server that throttles, or fails, gets one request for each step."""
    with HungryServer(status) as server:
        adapter, host = by(server)
        result = Guard(adapter, host, policy(max_steps=2)).run()
        assert server.requests == result.usage.steps <= 2


def test_crewais_azure_is_gated_in_async_crews_too():
    """acall: the async client of azure-ai-inference."""
    with HungryServer() as server:
        llm = azure_llm(server)

        class Asking(Flow):
            @start()
            async def ask(self):
                return [await llm.acall("again " * 300) for _ in range(9)]

        result = Guard(crewai, Asking(), policy(max_tokens=7_000)).run(id="1")
        assert server.served.tokens == result.usage.tokens <= 7_000
        assert result.stopped.limit == "max_tokens"


def test_what_crewai_drops_from_a_request_is_put_back():
    """drop_params can take the length out: the request has one all the same."""
    with HungryServer() as server:
        llm = azure_llm(server, additional_params={"drop_params": True, "additional_drop_params": ["max_tokens"]})
        Guard(crewai, crewai_doubles.hungry_agent(llm), policy(max_steps=1)).run()
        assert server.served.asked == [4096]


def test_azures_responses_api_is_refused_by_name():
    """With the way out."""
    with HungryServer() as server:
        llm = azure_llm(server, api="responses")
        with pytest.raises(ConfigError, match=r"Azure's Responses API.*api='completions'"):
            Guard(crewai, crewai_doubles.hungry_agent(llm), policy())
