"""Models whose own code asks another model, before or after they have sent a request of their own: both are charged."""

import pytest
from langchain_openai import ChatOpenAI
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.llm import LLMChatEndEvent
from llama_index.llms.openai_like import OpenAILike

from crew_guard.adapters import langgraph, llama_index
from tests.adapters.guarding import Guard, policy
from tests.adapters.langgraph_doubles import one_node
from tests.adapters.llama_index_doubles import AskingWorkflow, HungryLLM, openai_like
from tests.adapters.loopback import HungryServer, Served

SAID = "Say something of rivers, and of what they carry to the sea. " * 20
"""Longer in tokens than the 1,000 that the server bills for a prompt, counted in bytes."""


@pytest.fixture
def server():
    with HungryServer(answer="hello") as serving:
        yield serving


def chat(server, kind=ChatOpenAI):
    return kind(model="small", api_key="none", base_url=server.url)


def judged_chat(judge):
    """A chat model whose answers are judged before they are given."""

    class Judged(ChatOpenAI):
        def _generate(self, *args, **kwargs):
            answer = super()._generate(*args, **kwargs)
            judge.invoke(SAID)
            return answer

        async def _agenerate(self, *args, **kwargs):
            answer = await super()._agenerate(*args, **kwargs)
            await judge.ainvoke(SAID)
            return answer

        def _stream(self, *args, **kwargs):
            for number, chunk in enumerate(super()._stream(*args, **kwargs)):
                if number == 0:
                    judge.invoke(SAID)
                yield chunk

    return Judged


def sorted_chat(judge):
    """A chat model whose questions are looked at before they are sent."""

    class Sorted(ChatOpenAI):
        def _generate(self, *args, **kwargs):
            judge.invoke(SAID)
            return super()._generate(*args, **kwargs)

        async def _agenerate(self, *args, **kwargs):
            await judge.ainvoke(SAID)
            return await super()._agenerate(*args, **kwargs)

        def _stream(self, *args, **kwargs):
            judge.invoke(SAID)
            yield from super()._stream(*args, **kwargs)

    return Sorted


def graph(model, way, times):
    """A graph whose node asks a model so many times."""

    def ask(state):
        for _ in range(times):
            list(model.stream(SAID)) if way == "stream" else model.invoke(SAID)

    async def ask_async(state):
        for _ in range(times):
            await model.ainvoke(SAID)

    return one_node(ask_async if way == "ainvoke" else ask)


def judged_llm(judge, kind):
    """An LLM whose answers are judged before they are given."""

    class Judged(kind):
        def chat(self, messages, **kwargs):
            answer = super().chat(messages, **kwargs)
            judge.complete(SAID)
            return answer

        async def achat(self, messages, **kwargs):
            answer = await super().achat(messages, **kwargs)
            await judge.acomplete(SAID)
            return answer

    return Judged


def sorted_llm(judge, kind):
    """An LLM whose questions are looked at before they are sent."""

    class Sorted(kind):
        def chat(self, messages, **kwargs):
            judge.complete(SAID)
            return super().chat(messages, **kwargs)

        async def achat(self, messages, **kwargs):
            await judge.acomplete(SAID)
            return await super().achat(messages, **kwargs)

    return Sorted


def llm(server, kind):
    return kind(model="small", api_key="none", api_base=server.url, is_chat_model=True)


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream"])
@pytest.mark.parametrize("made", [judged_chat, sorted_chat])
def test_langchains_model_and_its_judge_are_both_charged(server, made, way):
    model = chat(server, made(chat(server)))
    result = Guard(langgraph, graph(model, way, times=3), policy(max_steps=50)).run(found=[])
    assert (result.status, server.requests) == ("done", 6), result
    assert (result.usage.steps, result.usage.tokens) == (6, server.served.tokens)


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream"])
@pytest.mark.parametrize("limits", [{"max_tokens": 9_000}, {"max_steps": 5}])
def test_langchains_model_and_its_judge_keep_to_a_cap(server, limits, way):
    """The judge doesn't wait for what the model around it holds: the run stops at once."""
    model = chat(server, judged_chat(chat(server)))
    result = Guard(langgraph, graph(model, way, times=50), policy(max_seconds=20, **limits)).run(found=[])
    assert (result.status, result.stopped.limit) == ("stopped", next(iter(limits))), result
    assert result.usage.steps >= server.requests > 1
    assert server.served.tokens <= result.usage.tokens <= limits.get("max_tokens", 20_000)


@pytest.mark.parametrize("way", ["chat", "achat"])
@pytest.mark.parametrize("made", [judged_llm, sorted_llm])
@pytest.mark.parametrize("kind", [OpenAILike, HungryLLM])
def test_llama_indexs_llm_and_its_judge_are_both_charged(server, kind, made, way):
    asking = made(llm(server, OpenAILike), kind)
    model = llm(server, asking) if kind is OpenAILike else asking()
    result = Guard(llama_index, AskingWorkflow(model, way, times=3), policy(max_steps=50)).run()
    own = Served() if kind is OpenAILike else model.served  # OpenAI's are the server's, too
    asked, tokens = server.requests + own.calls, server.served.tokens + own.tokens
    assert (result.status, result.usage.steps, result.usage.tokens) == ("done", asked, tokens), result
    assert asked >= 6


@pytest.mark.parametrize("way", ["chat", "achat"])
@pytest.mark.parametrize("limits", [{"max_tokens": 9_000}, {"max_steps": 5}])
def test_llama_indexs_llm_and_its_judge_keep_to_a_cap(server, limits, way):
    model = llm(server, judged_llm(llm(server, OpenAILike), OpenAILike))
    result = Guard(llama_index, AskingWorkflow(model, way), policy(max_seconds=20, **limits)).run()
    assert (result.status, result.stopped.limit) == ("stopped", next(iter(limits))), result
    assert (result.usage.steps, result.usage.tokens) == (server.requests, server.served.tokens)


@pytest.mark.parametrize("way", ["chat", "achat"])
def test_an_llm_whose_answers_a_handler_has_judged_is_charged(server, way):
    """LlamaIndex tells its handlers within the LLM's own call."""
    judge = openai_like(server)

    class Judging(BaseEventHandler):
        busy: bool = False

        def handle(self, event, **kwargs):
            if isinstance(event, LLMChatEndEvent) and not self.busy:
                self.busy = True
                judge.complete(SAID)
                self.busy = False

    dispatcher, handler = get_dispatcher(), Judging()
    dispatcher.add_event_handler(handler)
    try:
        result = Guard(llama_index, AskingWorkflow(openai_like(server), way, times=2), policy(max_steps=50)).run()
    finally:
        dispatcher.event_handlers.remove(handler)
    assert (result.status, server.requests) == ("done", 4), result
    assert (result.usage.steps, result.usage.tokens) == (4, server.served.tokens)
