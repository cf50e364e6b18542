"""Every dialect against llmock: real sockets, each provider's own form, and its failures.

The strict verdict is llmock's judgement of a client: whether it waited as long as it was asked, backed off,
tried again what may succeed and nothing else, and took half an answer for none.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from llmock.scenarios import Fail, Reply, StreamFault, ToolCall
from llmock.testing import LLMockServer
from llmock.verdict import judge

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task, tool
from crew_guard.core.messages import Message, ModelReply, ModelRequest, ToolSpec
from crew_guard.core.usage import FREE
from crew_guard.errors import ModelError
from crew_guard.models.any_llm import AnyLLMModel
from crew_guard.models.registry import model_for
from crew_guard.ports import Model
from crew_guard.testing import MemoryStore

KEY = "sk-very-secret-0123456789"
SEARCH = ToolSpec(
    "search", "Find passages.", {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
)
HELLO = ModelRequest((Message("system", "Be brief."), Message("user", "Hello")))
NAMES = {
    "openai": "openai:gpt-4.1-mini",
    "anthropic": "anthropic:claude-sonnet-4-5",
    "gemini": "gemini:gemini-2.5-flash",
    "mistral": "mistral:mistral-large-latest",
    "groq": "groq:llama-3.3-70b-versatile",
    "together": "together:meta-llama/Llama-3.3-70B-Instruct-Turbo",
    "xai": "xai:grok-4",
    "perplexity": "perplexity:sonar",
}
UNASKED = ("mistral", "perplexity")
"""They send usage without being asked, and Mistral refuses to be asked; llmock sends it only to who asks."""
DIALECTS = ["openai", "anthropic", "gemini"]


@pytest.fixture(scope="module")
def server() -> Iterator[LLMockServer]:
    # paced, so that a client that hangs up does so before all is sent
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LLMOCK_STREAM_CHUNK_DELAY_MS", "2")
        with LLMockServer() as running:
            yield running


@pytest.fixture
def llmock(server: LLMockServer) -> Iterator[LLMockServer]:
    server.state.journal.records(wait=2.0)
    server.state.scenarios.clear()
    server.state.journal.clear()
    yield server
    server.state.scenarios.clear()


def model_at(server: LLMockServer, provider: str) -> Any:
    return model_for(NAMES[provider], base_url=server.base_url(provider), api_key=KEY, rates=FREE)


def via_any_llm(server: LLMockServer) -> Any:
    return AnyLLMModel("anthropic", "claude-sonnet-4-5", base_url=server.base_url("anthropic"), api_key=KEY, rates=FREE)


def ask(model: Model, request: ModelRequest = HELLO, max_tokens: int = 64) -> ModelReply:
    async def main() -> ModelReply:
        pieces: list[str] = []
        reply = await model.complete(request, max_tokens, pieces.append)
        assert "".join(pieces) == reply.text
        return reply

    return asyncio.run(main())


@pytest.mark.parametrize("provider", NAMES)
def test_each_provider_streams_text_usage_and_an_end(llmock: LLMockServer, provider: str) -> None:
    """The text, what was used, the same words for the end everywhere; one request is one attempt."""
    llmock.state.scenarios.add(Reply(text="Hello there, how are you?"))
    model = model_at(llmock, provider)
    reply = ask(model)
    assert isinstance(model, Model)
    assert reply.text == "Hello there, how are you?"
    assert reply.finish == "stop"
    assert len(llmock.state.journal.records(wait=2.0)) == 1
    if provider in UNASKED:
        return
    assert reply.usage is not None
    assert reply.usage.input_tokens > 0 < reply.usage.output_tokens


@pytest.mark.parametrize("provider", NAMES)
def test_each_provider_calls_a_tool_and_reads_its_result(llmock: LLMockServer, provider: str) -> None:
    """A call in fragments or whole is one request, and the next turn holds it with its result."""
    llmock.state.scenarios.add(Reply(tool_calls=(ToolCall("search", {"query": "gzip " * 9}),)))
    model = model_at(llmock, provider)
    first = ask(model, ModelRequest(HELLO.messages, (SEARCH,)))
    assert first.finish == "tool_calls"
    assert [(call.name, json.loads(call.arguments)) for call in first.tool_requests] == [
        ("search", {"query": "gzip " * 9})
    ]
    asked = Message("assistant", first.text, first.tool_requests)
    answer = Message("tool", "found it", (), first.tool_requests[0].id)
    second = ask(model, ModelRequest((*HELLO.messages, asked, answer), (SEARCH,)))
    assert second.text
    assert not second.tool_requests


@pytest.mark.parametrize("provider", DIALECTS)
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "rejected"), (401, "rejected"), (404, "rejected"), (408, "throttled"), (409, "throttled"),
        (429, "throttled"), (500, "unavailable"), (529, "unavailable"),
    ],
)  # fmt: skip
def test_each_status_has_its_kind(llmock: LLMockServer, provider: str, status: int, kind: str) -> None:
    """One request each; the provider's wish to wait is kept, and the key is not in the message."""
    llmock.state.scenarios.add(Fail(status, retry_after=7 if status == 429 else None, message=f"no, {KEY}"))
    with pytest.raises(ModelError) as caught:
        ask(model_at(llmock, provider))
    assert (caught.value.kind, caught.value.status) == (kind, status)
    assert caught.value.charged == (kind == "unavailable")
    assert status != 429 or caught.value.retry_after == 7
    assert KEY not in str(caught.value)
    assert len(llmock.state.journal.records(wait=2.0)) == 1


@pytest.mark.parametrize("provider", DIALECTS)
@pytest.mark.parametrize(
    ("fault", "kind"), [("disconnect", "broken"), ("truncate", "broken"), ("malformed", "malformed")]
)
def test_half_an_answer_is_none(llmock: LLMockServer, provider: str, fault: Any, kind: str) -> None:
    """A stream that breaks, ends early in silence, or holds garbage is an error that is charged and kept."""
    llmock.state.scenarios.add(Reply(text="one two three four five six"), StreamFault(fault, after_chunks=4))
    with pytest.raises(ModelError) as caught:
        ask(model_at(llmock, provider))
    assert caught.value.kind == kind
    assert caught.value.text
    assert "one two three four five six".startswith(caught.value.text)
    assert caught.value.charged


@tool
def search(query: str) -> str:
    """Find passages."""
    return f"about {query}"


def run_through(server: LLMockServer, model: Model, prompt: str, *faults: Any) -> tuple[Any, int]:
    """A crew of one on this model; (its result, how many requests the server saw)."""
    server.state.scenarios.add(*faults)
    crew = Crew([Agent(Role(name="writer", goal="Write."), [search])], [Task(prompt)])
    result = Supervisor(Policy.model_validate({"attempts": 3}), model=model, store=MemoryStore()).run(crew)
    return result, len(server.state.journal.records(wait=2.0))


WORDS = "word " * 100
FAULTS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "two busy answers": lambda: (Fail(429, retry_after=0.2, times=2),),
    "two that fail": lambda: (Fail(503), Fail(500)),
    "a stream that breaks": lambda: (Reply(text=WORDS), StreamFault("disconnect", after_chunks=4)),
    "a stream that ends early": lambda: (Reply(text=WORDS), StreamFault("truncate", after_chunks=4)),
    "garbage in a stream": lambda: (Reply(text=WORDS), StreamFault("malformed", after_chunks=4)),
    "a stalled stream": lambda: (Reply(text=WORDS), StreamFault("stall", after_chunks=4, stall_seconds=30)),
    "a broken tool call": lambda: (
        Reply(tool_calls=(ToolCall("search", {"query": "x"}),)),
        StreamFault("disconnect", after_chunks=0),
    ),
    "a refused request": lambda: (Fail(400),),
}


@pytest.mark.parametrize("provider", [*DIALECTS, "any-llm"])
@pytest.mark.parametrize("fault", FAULTS)
def test_the_strict_verdict_is_clean(llmock: LLMockServer, provider: str, fault: str) -> None:
    """A whole run on a failing provider: each attempt is a step, and llmock finds nothing to say of it."""
    model = via_any_llm(llmock) if provider == "any-llm" else model_at(llmock, provider)
    if fault == "a stalled stream":
        if provider == "any-llm":
            pytest.skip("the library's own clock is a minute; a policy's idle limit ends a stall before")
        model._timeout = 0.5
    result, requests = run_through(llmock, model, f"Write of {fault} at {provider}", *FAULTS[fault]())
    assert result.status == ("failed" if fault == "a refused request" else "done"), result.error
    assert result.usage.steps == requests
    verdict = judge(llmock.state.journal.records(wait=2.0))
    assert verdict.faults >= 1
    verdict.assert_ok(strict=True)


def test_a_library_behind_any_llm_makes_one_attempt(llmock: LLMockServer) -> None:
    """Its retries are off, its errors are ours, its usage is counted, and the key stays out of sight."""
    llmock.state.scenarios.add(Fail(429, retry_after=3, message=f"slow down, {KEY}"))
    model = via_any_llm(llmock)
    with pytest.raises(ModelError) as caught:
        ask(model)
    assert (caught.value.kind, caught.value.status, caught.value.retry_after) == ("throttled", 429, 3)
    assert KEY not in str(caught.value) + repr(vars(model))
    assert len(llmock.state.journal.records(wait=2.0)) == 1
    llmock.state.scenarios.add(Reply(tool_calls=(ToolCall("search", {"query": "gzip"}),)))
    reply = ask(model, ModelRequest(HELLO.messages, (SEARCH,)))
    assert [(call.name, json.loads(call.arguments)) for call in reply.tool_requests] == [("search", {"query": "gzip"})]
    assert reply.usage is not None
    assert reply.usage.input_tokens > 0 < reply.usage.output_tokens
