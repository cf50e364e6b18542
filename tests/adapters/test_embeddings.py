"""Embeddings of all hosts under the gate, with their real classes against a server on loopback."""

import asyncio
from uuid import uuid4

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_core.memory import MemoryContent, MemoryMimeType
from autogen_ext.memory.chromadb import (
    ChromaDBVectorMemory,
    OpenAIEmbeddingFunctionConfig,
    PersistentChromaDBVectorMemoryConfig,
)
from autogen_ext.models.openai import OpenAIChatCompletionClient
from crewai.knowledge.source.string_knowledge_source import StringKnowledgeSource
from crewai.llms.providers.openai.completion import OpenAICompletion
from crewai.memory.unified_memory import Memory
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_openai import AzureOpenAIEmbeddings, OpenAIEmbeddings
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.embeddings.azure_openai import AzureOpenAIEmbedding
from llama_index.embeddings.openai import OpenAIEmbedding
from openai import OpenAI
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

from crew_guard import guard
from crew_guard.adapters import autogen, crewai, langgraph, llama_index
from crew_guard.core.policy import Policy
from crew_guard.errors import ConfigError
from tests.adapters.crewai_doubles import hungry_agent, hungry_crew
from tests.adapters.guarding import Guard, policy
from tests.adapters.langgraph_doubles import one_node
from tests.adapters.loopback import HungryServer

TEXT = "gzip compresses and zlib does"
SMALL = "text-embedding-3-small"


@pytest.fixture
def server():
    with HungryServer(answer="done") as server:
        yield server


def settled(guarded):
    """(agent, model, tokens, steps) of each embedding, in order."""
    begun = {
        event.action_id: event
        for event in guarded.events("Admitted")
        if event.kind == "model_call" and not event.reserved.steps
    }
    ended = [event for event in guarded.events("Settled") if event.action_id in begun]
    return [
        (begun[one.action_id].agent, begun[one.action_id].target, one.used.input_tokens, one.used.steps)
        for one in ended
        if one.status != "withdrawn"
    ]


# By host: what embeds TEXT once in a guarded run, and who does


def workflow_that(does):
    class Searching(Workflow):
        @step
        async def search(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=len(await does()))

    return Searching(timeout=None)


def by_llama_index(server, **options):
    embeds = OpenAIEmbedding(model=SMALL, api_key="none", api_base=server.url, **options)
    return llama_index, workflow_that(lambda: embeds.aget_text_embedding(TEXT)), "search"


def by_llama_index_sync(server, **options):
    embeds = OpenAIEmbedding(model=SMALL, api_key="none", api_base=server.url, **options)

    async def search():
        return embeds.get_query_embedding(TEXT)

    return llama_index, workflow_that(search), "search"


def by_llama_index_azure(server):
    embeds = AzureOpenAIEmbedding(
        model=SMALL,
        deployment_name=SMALL,
        api_key="none",
        azure_endpoint=server.url.removesuffix("/v1"),
        api_version="2024-06-01",
    )
    return llama_index, workflow_that(lambda: embeds.aget_text_embedding(TEXT)), "search"


def langchain(server, **options):
    options = {"check_embedding_ctx_length": False, "base_url": server.url, **options}
    return OpenAIEmbeddings(model=SMALL, api_key="none", **options)


def by_langchain(server, **options):
    embeds = langchain(server, **options)
    return langgraph, one_node(lambda state: {"found": [len(embeds.embed_query(TEXT))]}), "writer"


def by_langchain_async(server, **options):
    embeds = langchain(server, **options)

    async def write(state):
        return {"found": [len(await embeds.aembed_documents([TEXT]))]}

    return langgraph, one_node(write), "writer"


def by_langchain_azure(server):
    embeds = AzureOpenAIEmbeddings(
        model=SMALL,
        api_key="none",
        azure_endpoint=server.url.removesuffix("/v1"),
        api_version="2024-06-01",
        check_embedding_ctx_length=False,
    )
    return langgraph, one_node(lambda state: {"found": [len(embeds.embed_query(TEXT))]}), "writer"


def by_hand(server):
    """A node's own client of OpenAI's SDK."""
    client = OpenAI(api_key="none", base_url=server.url)

    def write(state):
        return {"found": [len(client.embeddings.create(model=SMALL, input=[TEXT]).data)]}

    return langgraph, one_node(write), "writer"


def by_raw_response(server):
    client = OpenAI(api_key="none", base_url=server.url)

    def write(state):
        raw = client.embeddings.with_raw_response.create(model=SMALL, input=(text for text in [TEXT]))
        return {"found": [len(raw.parse().data)]}

    return langgraph, one_node(write), "writer"


HOSTS = [
    by_llama_index, by_llama_index_sync, by_llama_index_azure, by_langchain, by_langchain_async, by_langchain_azure,
    by_hand, by_raw_response,
]  # fmt: skip
RETRYING = [by_llama_index, by_llama_index_sync, by_langchain, by_langchain_async]


@pytest.mark.parametrize("by", HOSTS)
def test_an_embedding_is_charged_what_the_provider_reported(by, server):
    """Tokens and dollars to who embeds, and no step; max_steps and max_agents of 0 don't stop it."""
    adapter, host, agent = by(server)
    guarded = Guard(adapter, host, policy(max_steps=0, max_agents=0, max_usd=1))
    result = guarded.run(found=[])
    assert result.status == "done", result.error or result.stopped
    provider = "azure" if "azure" in by.__name__ else "openai"
    assert settled(guarded) == [(agent, f"{provider}:{SMALL}", 5, 0)]
    assert (result.usage.tokens, result.usage.steps, result.usage.agents) == (server.embedded_tokens, 0, 0)
    assert result.usage.nano_usd == 5 * 2000
    assert result.agents[agent].tokens == 5


@pytest.mark.parametrize("by", HOSTS)
@pytest.mark.parametrize("limits", [{"max_tokens": 20}, {"max_usd": 0.00002}])
def test_an_embedding_that_fits_no_cap_is_refused(by, server, limits):
    """Nothing is sent, and the run was stopped by that cap."""
    adapter, host, _ = by(server)
    result = Guard(adapter, host, policy(**limits)).run(found=[])
    assert (result.stopped.limit, server.requests) == (next(iter(limits)), 0)


@pytest.mark.parametrize("by", RETRYING)
def test_an_embedding_is_sent_once(by, server):
    """A server that throttles is asked once, whatever retries the class and its SDK have; that costs no tokens."""
    server.status = 429
    adapter, host, _ = by(server, max_retries=5)
    result = Guard(adapter, host, policy(max_steps=3)).run(found=[])
    assert result.status == "failed"
    assert (server.requests, result.usage.tokens) == (1, 0)


def test_a_model_that_embeds_can_be_denied(server):
    """models: deny knows it by name."""
    adapter, host, _ = by_langchain(server)
    result = Guard(adapter, host, Policy.model_validate({"models": {"deny": ["openai:text-embedding-*"]}})).run(
        found=[]
    )
    assert (result.stopped.limit, server.requests) == ("models.deny", 0)


def test_token_lists_count_what_they_are(server):
    """Lists of tokens, as LangChain sends them, are counted exactly: a cap of as many fits."""
    client = OpenAI(api_key="none", base_url=server.url)

    def write(state):
        return {"found": [len(client.embeddings.create(model=SMALL, input=[[1, 2, 3], [4, 5]]).data)]}

    result = Guard(langgraph, one_node(write), policy(max_tokens=5)).run(found=[])
    assert (result.output, result.usage.tokens) == ({"found": [2]}, 5)
    assert Guard(langgraph, one_node(write), policy(max_tokens=4)).run(found=[]).stopped.limit == "max_tokens"


def test_outside_of_a_guarded_run_an_embedding_is_as_ever(server):
    """The patched SDK does nothing there, retries included."""
    adapter, host, _ = by_langchain(server)
    Guard(adapter, host, policy())
    server.statuses = [500]
    client = OpenAI(api_key="none", base_url=server.url, max_retries=1)
    assert len(client.embeddings.create(model=SMALL, input=[TEXT]).data) == 1
    assert server.requests == 2


# Classes of one's own


class OwnLlamaIndex(BaseEmbedding):
    """A class of the user's own."""

    def _get_query_embedding(self, query):
        return [0.1]

    def _get_text_embedding(self, text):
        return self._get_query_embedding(text)

    async def _aget_query_embedding(self, query):
        return self._get_query_embedding(query)


class OwnLangChain(Embeddings):
    """A class of the user's own, whose one method calls the other."""

    def embed_documents(self, texts):
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text):
        return [0.1]


class OverTheSDK(OwnLangChain):
    """A class of the user's own that sends by OpenAI's SDK."""

    def __init__(self, server):
        self.client = OpenAI(api_key="none", base_url=server.url)

    def embed_query(self, text):
        return self.client.embeddings.create(model=SMALL, input=text).data[0].embedding


@pytest.mark.parametrize("method", ["aget_query_embedding", "aget_text_embedding", "get_text_embedding_batch"])
def test_a_class_of_your_own_is_charged_what_was_counted(method):
    """It tells no usage: each text's bound counts, once, whichever of its methods call each other."""
    embeds = OwnLlamaIndex()

    async def search():
        made = getattr(embeds, method)([TEXT] if "batch" in method else TEXT)
        return await made if method.startswith("a") else made

    guarded = Guard(llama_index, workflow_that(search), policy(max_tokens=100))
    result = guarded.run()
    assert result.status == "done", result.error
    assert settled(guarded) == [("search", "custom:OwnLlamaIndex", len(TEXT) + 8, 0)]


def test_a_class_of_your_own_on_langchain_is_charged_once():
    """Its inner calls are parts of it."""
    guarded = Guard(
        langgraph, one_node(lambda state: {"found": OwnLangChain().embed_documents([TEXT, TEXT])}), policy()
    )
    assert guarded.run(found=[]).usage.tokens == 2 * (len(TEXT) + 8)
    assert len(guarded.events("Admitted")) == 1


def test_what_a_class_of_your_own_sends_by_openais_sdk_is_charged_there(server):
    """Once, as reported, by the model's own name; what was reserved for the class comes back."""
    guarded = Guard(langgraph, one_node(lambda state: {"found": OverTheSDK(server).embed_documents([TEXT])}), policy())
    result = guarded.run(found=[])
    assert settled(guarded) == [("writer", f"openai:{SMALL}", 5, 0)]
    assert result.usage.tokens == 5


def test_classes_that_compute_here_cost_nothing():
    """LangChain's fake sends nothing anywhere."""
    node = one_node(lambda state: {"found": DeterministicFakeEmbedding(size=2).embed_query(TEXT)})
    result = Guard(langgraph, node, policy(max_tokens=0)).run(found=[])
    assert (result.status, result.usage.tokens) == ("done", 0)


def test_an_integration_that_retries_unseen_is_refused_by_name():
    """Its retries can't be switched off: max_retries=1 can be given to it."""

    class ElsewhereEmbeddings(OwnLangChain):
        model = "embed-1"
        max_retries = 4

        def embed_query(self, text):
            raise AssertionError("never")

    ElsewhereEmbeddings.__module__ = "langchain_elsewhere.embeddings"
    result = Guard(langgraph, one_node(lambda state: {"found": ElsewhereEmbeddings().embed_query(TEXT)}), policy()).run(
        found=[]
    )
    assert "elsewhere:embed-1: the retries of ElsewhereEmbeddings" in result.error
    assert "max_retries=1" in result.error


def test_a_provider_of_llama_index_whose_retries_are_unknown_is_refused():
    """By name, with the way out; nothing is sent."""
    kind = type("CohereEmbedding", (OwnLlamaIndex,), {"__module__": "llama_index.embeddings.cohere.base"})
    result = Guard(llama_index, workflow_that(lambda: kind().aget_query_embedding(TEXT)), policy()).run()
    assert "'search' embeds with llama_index.embeddings.cohere.base.CohereEmbedding" in result.error
    assert "OpenAIEmbedding" in result.error


# CrewAI


def crew_embedder(server, **config):
    return {"provider": "openai", "config": {"api_key": "none", "api_base": server.url, "model_name": SMALL, **config}}


def chat(server):
    return OpenAICompletion(model="gpt-4o", api_key="none", base_url=server.url)


def remembering_crew(server, tmp_path, embedder):
    agent = hungry_agent(chat(server), tools=[])
    memory = Memory(llm=chat(server), embedder=embedder, storage=str(tmp_path))
    return hungry_crew(agent, memory=memory)


def test_a_crews_memory_embeds_under_the_gate(server, tmp_path):
    """Looking up and keeping: every request is admitted, and the ledger has what was served."""
    guarded = Guard(crewai, remembering_crew(server, tmp_path, crew_embedder(server)), policy(max_steps=20))
    result = guarded.run(topic="gzip")
    assert result.status == "done", result.error or result.stopped
    assert len(server.embedded) == len(settled(guarded)) > 1
    assert sum(tokens for *_, tokens, _ in settled(guarded)) == server.embedded_tokens
    assert server.embedded_tokens < result.usage.tokens
    assert result.usage.steps == server.served.calls


def test_a_crews_memory_is_refused_below_its_cap(server, tmp_path):
    """What CrewAI makes of the refusal, silence say, changes nothing: nothing more is sent."""
    host = remembering_crew(server, tmp_path, crew_embedder(server))
    result = Guard(crewai, host, policy(max_tokens=10)).run(topic="gzip")
    assert (server.requests, result.stopped.limit) == (0, "max_tokens")


def test_an_azure_embedder_of_crewai_is_gated(server, tmp_path):
    """Known as azure:MODEL."""
    config = {
        "provider": "azure",
        "config": {
            "api_key": "none",
            "api_base": server.url.removesuffix("/v1"),
            "deployment_id": "d",
            "model_name": SMALL,
        },
    }
    guarded = Guard(crewai, remembering_crew(server, tmp_path, config), policy(max_steps=20))
    result = guarded.run(topic="gzip")
    assert {name for _, name, _, _ in settled(guarded)} == {f"azure:{SMALL}"}
    assert sum(tokens for *_, tokens, _ in settled(guarded)) == server.embedded_tokens > 0
    assert result.usage.steps == server.served.calls


def test_an_agents_knowledge_is_embedded_under_the_gate(server, tmp_path, monkeypatch):
    """The sources as the agent takes up its work, and each look-up."""
    monkeypatch.setenv("CREWAI_STORAGE_DIR", uuid4().hex)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    fact = StringKnowledgeSource(content=TEXT, collection_name=uuid4().hex)
    agent = hungry_agent(chat(server), tools=[], knowledge_sources=[fact], embedder=crew_embedder(server))
    guarded = Guard(crewai, hungry_crew(agent), policy(max_steps=20))
    result = guarded.run(topic="gzip")
    assert result.status == "done", result.error or result.stopped
    assert [TEXT] in server.embedded
    assert len(server.embedded) == len(settled(guarded)) >= 2
    assert {agent for agent, *_ in settled(guarded)} == {"Seeker"}
    assert result.usage.tokens == server.served.tokens + server.embedded_tokens


@pytest.mark.parametrize("provider", ["cohere", "google-generativeai", "voyageai"])
def test_an_embedder_that_cant_be_reached_is_refused_by_name(provider):
    """With what works instead."""
    agent = hungry_agent(chat(HungryServer()), tools=[])
    host = hungry_crew(agent, memory=True, embedder=None)
    host._memory = Memory(embedder={"provider": provider, "config": {}})
    with pytest.raises(ConfigError, match=f"memory of the crew embeds with {provider}.*azure, openrouter.*onnx"):
        Guard(crewai, host, policy())


# AutoGen


async def _agent_with_memory(server, tmp_path):
    memory = ChromaDBVectorMemory(
        PersistentChromaDBVectorMemoryConfig(
            persistence_path=str(tmp_path),
            collection_name=f"c{uuid4().hex}",
            embedding_function_config=OpenAIEmbeddingFunctionConfig(api_key="none", model_name=SMALL),
        )
    )
    client = OpenAIChatCompletionClient(model="gpt-4o", api_key="none", base_url=server.url)
    return AssistantAgent("reader", client, memory=[memory]), memory


@pytest.mark.parametrize("used_before", [False, True])
def test_a_vector_memory_of_autogen_embeds_under_the_gate(server, tmp_path, monkeypatch, used_before):
    """Also where its client was made before the run."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    agent, memory = asyncio.run(_agent_with_memory(server, tmp_path))
    if used_before:
        asyncio.run(memory.add(MemoryContent(content=TEXT, mime_type=MemoryMimeType.TEXT)))
    before = server.embedded_tokens
    guarded = Guard(autogen, agent, policy(max_steps=3))
    result = guarded.run()
    assert result.status == "done", result.error or result.stopped
    assert [(agent, name) for agent, name, _, _ in settled(guarded)] == [("reader", f"openai:{SMALL}")]
    assert result.usage.tokens == server.served.tokens + server.embedded_tokens - before


def test_a_class_of_your_own_needs_a_price_where_a_dollar_cap_applies():
    """The refusal names it; a price of 0 lets it through."""
    node = one_node(lambda state: {"found": OwnLangChain().embed_documents([TEXT])})
    refused = guard(node).run({"found": []})
    assert "no price is known for custom:OwnLangChain" in str(refused.stopped)
    free = {"limits": {"max_usd": 1}, "prices": {"custom:OwnLangChain": {"input": 0, "output": 0}}}
    result = guard(node, Policy.model_validate(free)).run({"found": []})
    assert (result.status, result.usage.nano_usd) == ("done", 0)
    assert result.usage.tokens > 0
