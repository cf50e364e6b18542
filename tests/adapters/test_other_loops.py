"""Clients that were used on other event loops than a guarded run's, and what is open on the caller's."""

import asyncio
import gc
import sys
from importlib.util import find_spec
from weakref import ref

import httpx
import pytest
from autogen_core.models import ModelInfo, UserMessage
from autogen_ext.models.anthropic import AnthropicChatCompletionClient
from autogen_ext.models.azure import AzureAIChatCompletionClient
from autogen_ext.models.ollama import OllamaChatCompletionClient
from autogen_ext.models.openai import OpenAIChatCompletionClient
from autogen_ext.tools.mcp import McpWorkbench, StdioServerParams
from azure.core.credentials import AzureKeyCredential
from crewai.flow.flow import Flow, start
from crewai.llms.providers.anthropic.completion import AnthropicCompletion
from crewai.llms.providers.gemini.completion import GeminiCompletion
from crewai.llms.providers.openai.completion import OpenAICompletion
from langchain_anthropic import ChatAnthropic
from langchain_core.tools import tool as lc_tool
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_ollama import ChatOllama
from langchain_openai import ChatOpenAI
from llama_index.llms.anthropic import Anthropic
from llama_index.llms.google_genai import GoogleGenAI
from llama_index.llms.ollama import Ollama
from llama_index.llms.openai import OpenAI
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

from crew_guard import Policy, guard
from crew_guard.adapters import autogen, connections, crewai, langgraph, llama_index
from crew_guard.adapters.connections import http_here
from crew_guard.store.memory import MemoryStore
from crew_guard.testing.crews import Session
from tests.adapters import autogen_doubles, langgraph_doubles, llama_index_doubles
from tests.adapters.claude_loopback import ClaudeServer
from tests.adapters.crewai_doubles import hungry_agent as crewai_agent
from tests.adapters.gemini_loopback import GeminiServer
from tests.adapters.guarding import Guard, policy
from tests.adapters.loopback import HungryServer
from tests.adapters.ollama_loopback import OllamaServer

INFO = ModelInfo(vision=False, function_calling=True, json_output=True, family="unknown", structured_output=True)


def by_autogen(client):
    async def ask():
        await client.create([UserMessage(content="hello", source="ann")])

    return autogen, autogen_doubles.hungry_agent(client), ask


def by_langgraph(model):
    async def ask():
        await model.ainvoke("hello")

    return langgraph, langgraph_doubles.hungry_agent(model), ask


def by_llama_index(llm):
    async def ask():
        await llm.acomplete("hello")

    return llama_index, llama_index_doubles.hungry_agent(llm)[0], ask


def by_crewai(llm):
    async def ask():
        await llm.acall("hello")

    class Asking(Flow):
        @start()
        async def look(self):
            return (await crewai_agent(llm).akickoff("Say hello.")).raw

    return crewai, Asking(), ask


CASES = {
    "autogen-openai": (
        HungryServer,
        lambda s: by_autogen(OpenAIChatCompletionClient(model="gpt-4o", api_key="none", base_url=s.url)),
    ),
    "autogen-claude": (
        ClaudeServer,
        lambda s: by_autogen(
            AnthropicChatCompletionClient(model="claude-sonnet-4-5", api_key="none", base_url=s.base, max_tokens=900)
        ),
    ),
    "autogen-ollama": (
        OllamaServer,
        lambda s: by_autogen(OllamaChatCompletionClient(model="toy", host=s.base, model_info=INFO)),
    ),
    "langgraph-openai": (
        HungryServer,
        lambda s: by_langgraph(ChatOpenAI(model="gpt-4o", api_key="none", base_url=s.url)),
    ),
    "langgraph-claude": (
        ClaudeServer,
        lambda s: by_langgraph(ChatAnthropic(model="claude-sonnet-4-5", api_key="none", base_url=s.base)),
    ),
    "langgraph-ollama": (OllamaServer, lambda s: by_langgraph(ChatOllama(model="toy", base_url=s.base))),
    "langgraph-gemini": (
        GeminiServer,
        lambda s: by_langgraph(ChatGoogleGenerativeAI(model="gemini-2.5-flash", api_key="none", base_url=s.base)),
    ),
    "llama-index-openai": (
        HungryServer,
        lambda s: by_llama_index(OpenAI(model="gpt-4o", api_key="none", api_base=s.url)),
    ),
    "llama-index-claude": (
        ClaudeServer,
        lambda s: by_llama_index(Anthropic(model="claude-sonnet-4-5", api_key="none", base_url=s.base)),
    ),
    "llama-index-gemini": (
        GeminiServer,
        lambda s: by_llama_index(
            GoogleGenAI(
                model="gemini-2.5-flash",
                api_key="none",
                http_options={"base_url": s.base},
                max_tokens=900,
                context_window=9000,
            )
        ),
    ),
    "llama-index-ollama": (
        OllamaServer,
        lambda s: by_llama_index(Ollama(model="toy", base_url=s.base, context_window=32768)),
    ),
}


CASES |= {
    "crewai-openai": (
        HungryServer,
        lambda s: by_crewai(OpenAICompletion(model="gpt-4o", api_key="none", base_url=s.url)),
    ),
    "crewai-claude": (
        ClaudeServer,
        lambda s: by_crewai(AnthropicCompletion(model="claude-sonnet-4-5", api_key="none", base_url=s.base)),
    ),
    "crewai-gemini": (
        GeminiServer,
        lambda s: by_crewai(
            GeminiCompletion(
                model="gemini-2.5-flash", api_key="none", client_params={"http_options": {"base_url": s.base}}
            )
        ),
    ),
}


async def awaited(guarded):
    return await guarded.start({"task": "go"}, asyncio.get_running_loop()).result()


def check(run, server):
    """One that comes to its end at the first attempt of each step."""
    before = server.requests
    result = run()
    assert result.done, result.error
    assert server.requests - before == result.usage.steps


@pytest.mark.parametrize("case", CASES)
def test_a_client_that_another_loop_has_used_goes_on(case):
    """Its connections are that loop's: a guarded run opens its own."""
    server_of, made = CASES[case]
    with server_of(answer="done") as server:
        adapter, host, ask = made(server)
        asyncio.run(ask())
        guarded = Guard(adapter, host, policy(max_steps=5))
        for run in (guarded.run, lambda: asyncio.run(awaited(guarded)), guarded.run):
            check(run, server)


@pytest.mark.parametrize("case", CASES)
def test_a_loop_that_goes_on_keeps_its_connections(case):
    """As in a notebook: asked, guarded from there in both ways, and asked again."""
    server_of, made = CASES[case]

    async def cell():
        adapter, host, ask = made(server)
        await ask()
        guarded = Guard(adapter, host, policy(max_steps=5))
        check(guarded.run, server)
        await ask()
        assert (await awaited(guarded)).done
        await ask()

    with server_of(answer="done") as server:
        asyncio.run(cell())


def test_a_client_of_azure_ai_is_refused_on_a_second_loop():
    """It fails there without a guard, too, and can't open connections anew: the way out is named."""
    with HungryServer(answer="done") as server:
        client = AzureAIChatCompletionClient(
            endpoint=server.url, credential=AzureKeyCredential("none"), model="Phi-4", model_info=INFO
        )
        adapter, agent, ask = by_autogen(client)
        guarded = Guard(adapter, agent, policy(max_steps=5))

        async def cell():
            await ask()
            refused = guarded.run()
            assert "used on another event loop" in refused.error
            assert "await arun()" in refused.error
            assert (await awaited(guarded)).done
            await client.close()

        asyncio.run(cell())
        assert server.requests == 2


def test_a_workbench_that_is_open_on_the_callers_loop_is_asked_there():
    """A real MCP server's: its session is a task of the loop that opened it."""
    server_of_looks = find_spec("tests.adapters.mcp_look").origin

    async def main():
        async with McpWorkbench(StdioServerParams(command=sys.executable, args=[server_of_looks])) as bench:
            client = OpenAIChatCompletionClient(model="gpt-4o", api_key="none", base_url=server.url)
            agent = autogen_doubles.hungry_agent(client, tools=None, workbench=bench)
            return await asyncio.wait_for(guard(agent, policy(max_steps=3), store=store).arun("go"), 60)

    store = MemoryStore()
    with HungryServer() as server:
        result = asyncio.run(main())
    assert (result.stopped.limit, result.usage.steps, result.usage.tool_calls) == ("max_steps", 3, 3)
    told = [event.text for event in store.read(result.run_id) if type(event).__name__ == "Settled"]
    assert {"found q1", "found q2", "found q3"} <= set(told)


def of_a_graph(session):
    async def look(_):
        return {"found": [await session.ask("rivers")]}

    return langgraph_doubles.one_node(look), {"found": []}


def of_a_workflow(session):
    class Looking(Workflow):
        @step
        async def look(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=await session.ask("rivers"))

    return Looking(timeout=None), {}


@pytest.mark.parametrize("made", [of_a_graph, of_a_workflow])
def test_nodes_and_steps_may_ask_what_is_open_on_the_callers_loop(made):
    """Awaited, they run where they would run unguarded."""

    async def main():
        async with Session() as session:
            host, inputs = made(session)
            before = asyncio.get_running_loop().get_task_factory()
            result = await asyncio.wait_for(guard(host, policy(max_steps=3), store=MemoryStore()).arun(inputs), 30)
            assert asyncio.get_running_loop().get_task_factory() is before
            return result

    result = asyncio.run(main())
    assert result.done
    assert "answer to rivers" in str(result.output)


def test_a_guardrail_of_a_sync_tool_in_an_async_node_waits_for_nobody():
    """The tool blocks the loop that the run works on: its guardrail is asked on another."""

    @lc_tool
    def look(query: str) -> str:
        """Look something up."""
        return f"found {query}: write to ann@example.org"

    async def node(_):
        return {"found": [look.invoke({"query": "rivers"})]}

    rules = Policy.model_validate(
        {
            "limits": {"max_seconds": 10},
            "content": {"tool_results": [{"personal_data": {"kinds": ["email"], "action": "fix"}}]},
        }
    )
    guarded = guard(langgraph_doubles.one_node(node), rules, store=MemoryStore())
    result = asyncio.run(guarded.arun({"found": []}))
    assert result.done, result
    assert "ann@example.org" not in str(result.output)


def test_a_twin_of_an_http_client_differs_in_its_connections_only():
    """Headers, hooks, TLS, socket options and limits are the user's."""

    async def main():
        signed = [lambda request: None]
        own = httpx.AsyncClient(
            headers={"x-team": "a"},
            event_hooks={"request": signed},
            auth=("ann", "secret"),
            follow_redirects=False,
            transport=httpx.AsyncHTTPTransport(socket_options=[(6, 1, 1)], limits=httpx.Limits(max_connections=7)),
        )
        twin = http_here(own)
        assert twin is not own
        assert twin is http_here(own)
        assert (twin.headers, twin.event_hooks, twin.auth) == (own.headers, own.event_hooks, own.auth)
        assert (twin.follow_redirects, twin._transport._pool._max_connections) == (False, 7)
        assert twin._transport._pool._socket_options == [(6, 1, 1)]
        assert twin._transport._pool._ssl_context is own._transport._pool._ssl_context
        assert twin._transport is not own._transport

    asyncio.run(main())
    assert not [loop for loop in connections._on_loops if loop.is_closed()]


class Signing(httpx.AsyncHTTPTransport):
    """A user's own way to send."""


@pytest.mark.parametrize(
    "made",
    [
        lambda: httpx.AsyncClient(proxy="http://127.0.0.1:9"),
        lambda: httpx.AsyncClient(transport=Signing()),
        lambda: httpx.AsyncClient(transport=httpx.MockTransport(lambda request: httpx.Response(200))),
        type("Mine", (httpx.AsyncClient,), {}),
    ],
)
def test_what_can_not_be_copied_is_used_as_it_is(made):
    """A proxy above all: requests must not go around it."""

    async def main():
        own = made()
        assert http_here(own) is own

    asyncio.run(main())


def test_a_key_that_is_changed_between_runs_is_sent():
    """A client's variant is as the client is now."""
    keys = []
    with HungryServer(answer="done") as server:
        reply = server.reply

        def noted(handler, body):
            keys.append(handler.headers["authorization"])
            reply(handler, body)

        server.reply = noted
        client = OpenAIChatCompletionClient(model="gpt-4o", api_key="old", base_url=server.url)
        guarded = Guard(autogen, autogen_doubles.hungry_agent(client), policy(max_steps=5))
        assert guarded.run().done
        client._client.api_key = "new"
        assert guarded.run().done
    assert keys == ["Bearer old", "Bearer new"]


@pytest.mark.parametrize("is_async", [False, True], ids=["invoke", "ainvoke"])
def test_a_client_that_a_node_makes_is_let_go_of(is_async):
    """A service that makes a model for each request keeps no key and no connection of those before."""
    made = []

    def model():
        own = {"http_client": httpx.Client(), "http_async_client": httpx.AsyncClient()}
        one = ChatOpenAI(model="gpt-4o", api_key="none", base_url=server.url, **own)
        made.append(ref(one.root_async_client if is_async else one.root_client))
        return one

    def ask(_):
        model().invoke("hello")

    async def ask_async(_):
        await model().ainvoke("hello")

    with HungryServer(answer="done") as server:
        guarded = Guard(langgraph, langgraph_doubles.one_node(ask_async if is_async else ask), policy(max_steps=5))
        for _ in range(5):
            assert guarded.run(found=[]).done
    gc.collect()
    assert sum(client() is not None for client in made) <= 1, "all but the last, which a thread's frame may hold"


def test_what_a_step_opens_on_the_callers_loop_stays_open():
    """A pool that is begun when it is first used: a run that came to its end takes nothing of it along."""

    class Opening(Workflow):
        @step
        async def open(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=asyncio.ensure_future(asyncio.Event().wait()))

    async def main():
        result = await guard(Opening(timeout=None), policy(max_steps=3), store=MemoryStore()).arun({})
        assert not result.output.done()
        result.output.cancel()

    asyncio.run(main())
