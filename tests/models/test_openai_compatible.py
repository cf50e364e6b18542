"""The client for chat-completions servers, against real servers on loopback."""

import asyncio
import gc
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from llmock.testing import LLMockServer

from crew_guard.core.messages import Message, ModelReply, ModelRequest, ToolRequest, ToolSpec
from crew_guard.core.usage import FREE, Usage
from crew_guard.errors import ConfigError, ModelError
from crew_guard.models.openai_compatible import OpenAICompatibleModel
from crew_guard.ports import Model
from tests.models.loopback import DONE, STREAM, event, http, loopback, text_event, whole

KEY = "sk-very-secret-0123456789"
SEARCH = ToolSpec(
    "search", "Find passages.", {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
)
HELLO = ModelRequest((Message("system", "Be brief."), Message("user", "Hello")))


@pytest.fixture(scope="module")
def llmock_server() -> Iterator[LLMockServer]:
    with LLMockServer() as server:
        yield server


@pytest.fixture
def llmock_url(llmock_server: LLMockServer) -> Iterator[str]:
    llmock_server.state.scenarios.clear()
    yield llmock_server.base_url("openai")
    llmock_server.state.scenarios.clear()


def model_at(url: str, **options: Any) -> OpenAICompatibleModel:
    options.setdefault("api_key", KEY)
    return OpenAICompatibleModel("openai:gpt-4.1-mini", "gpt-4.1-mini", url, rates=FREE, **options)


async def ask(model: OpenAICompatibleModel, request: ModelRequest = HELLO, max_tokens: int = 64) -> ModelReply:
    pieces: list[str] = []
    reply = await model.complete(request, max_tokens, pieces.append)
    assert "".join(pieces) == reply.text
    return reply


def reply_of(*answers: Any, request: ModelRequest = HELLO, **options: Any) -> ModelReply:
    async def main() -> ModelReply:
        async with loopback(*answers) as server:
            model = model_at(server.url, **options)
            try:
                return await ask(model, request)
            finally:
                await model.aclose()

    return asyncio.run(main())


def failure_of(*answers: Any, **options: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        reply_of(*answers, **options)
    assert KEY not in str(caught.value)
    assert KEY not in repr(caught.value)
    return caught.value


def test_it_is_a_model() -> None:
    """It fits the port, and shows neither its key nor more than its name."""
    model = model_at("http://127.0.0.1:1/v1")
    assert isinstance(model, Model)
    assert KEY not in repr(model)
    assert KEY not in repr(vars(model))


def test_a_real_server_streams_text_and_usage(llmock_server: LLMockServer, llmock_url: str) -> None:
    """Text in pieces, the provider's usage, its finish and its model."""
    from llmock.scenarios import Reply

    llmock_server.state.scenarios.add(Reply(text="Hello there, how are you?"))
    pieces: list[str] = []
    reply = asyncio.run(model_at(llmock_url).complete(HELLO, 64, pieces.append))
    assert reply.text == "Hello there, how are you?" == "".join(pieces)
    assert len([piece for piece in pieces if piece]) > 1
    assert reply.usage is not None
    assert reply.usage.input_tokens > 0 < reply.usage.output_tokens
    assert reply.finish == "stop"
    assert reply.model == "gpt-4.1-mini"


def test_a_real_server_calls_a_tool(llmock_server: LLMockServer, llmock_url: str) -> None:
    """Streamed fragments of arguments become one tool request."""
    from llmock.scenarios import Reply, ToolCall

    llmock_server.state.scenarios.add(Reply(tool_calls=(ToolCall("search", {"query": "gzip " * 20}),)))
    reply = asyncio.run(ask(model_at(llmock_url), ModelRequest(HELLO.messages, (SEARCH,))))
    assert [(call.name, json.loads(call.arguments)) for call in reply.tool_requests] == [
        ("search", {"query": "gzip " * 20})
    ]
    assert reply.tool_requests[0].id
    assert reply.finish == "tool_calls"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "rejected"), (404, "rejected"), (429, "throttled"), (500, "unavailable"), (503, "unavailable")],
)
def test_a_real_server_fails(llmock_server: LLMockServer, llmock_url: str, status: int, kind: str) -> None:
    """Each status has its kind, and one request is one attempt."""
    from llmock.scenarios import Fail

    before = len(llmock_server.state.journal.records(wait=2.0))
    llmock_server.state.scenarios.add(Fail(status, retry_after=7 if status == 429 else None))
    with pytest.raises(ModelError) as caught:
        asyncio.run(ask(model_at(llmock_url)))
    assert (caught.value.kind, caught.value.status) == (kind, status)
    assert status != 429 or caught.value.retry_after == 7
    assert len(llmock_server.state.journal.records(wait=2.0)) == before + 1


@pytest.mark.parametrize(
    ("fault", "kind"), [("disconnect", "broken"), ("truncate", "broken"), ("malformed", "malformed")]
)
def test_a_real_server_breaks_its_stream(llmock_server: LLMockServer, llmock_url: str, fault: Any, kind: str) -> None:
    """Half an answer is never taken for a whole one; what had arrived is kept."""
    from llmock.scenarios import Reply, StreamFault

    llmock_server.state.scenarios.add(Reply(text="one two three four five six"), StreamFault(fault, after_chunks=3))
    with pytest.raises(ModelError) as caught:
        asyncio.run(ask(model_at(llmock_url)))
    assert caught.value.kind == kind
    assert caught.value.text
    assert "one two three four five six".startswith(caught.value.text)
    assert caught.value.charged


def test_what_is_sent() -> None:
    """The body holds messages, tools, schema, limit and the wish for usage; the key stands in one header."""

    async def main() -> tuple[dict[str, Any], dict[str, str]]:
        call = ToolRequest("c1", "search", '{"query": "gzip"}')
        request = ModelRequest(
            (
                Message("system", "Be brief."),
                Message("user", "lone \ud800 日本"),
                Message("assistant", "", (call, ToolRequest("c2", "search", "{broken"))),
                Message("tool", "found", (), "c1"),
            ),
            (SEARCH,),
            {"type": "object", "properties": {"a": {"type": "string", "default": ""}}, "title": "A"},
            "My output!",
        )
        async with loopback(STREAM + text_event("ok", "stop") + DONE) as server:
            model = model_at(server.url)
            await ask(model, request, 33)
            await model.aclose()
            return server.bodies[0], server.headers[0]

    body, headers = asyncio.run(main())
    assert headers["Authorization" if "Authorization" in headers else "authorization"] == f"Bearer {KEY}"
    assert body["model"] == "gpt-4.1-mini"
    assert body["max_tokens"] == 33
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}
    assert body["tool_choice"] == "auto"
    assert body["tools"] == [
        {
            "type": "function",
            "function": {"name": "search", "description": "Find passages.", "parameters": SEARCH.parameters},
        }
    ]
    assert body["response_format"]["json_schema"] == {
        "name": "My_output_",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"a": {"type": "string"}},
            "title": "A",
            "additionalProperties": False,
            "required": ["a"],
        },
    }
    assert body["messages"][1] == {"role": "user", "content": "lone \ud800 日本"}
    assert body["messages"][2]["content"] is None
    assert [call["function"]["arguments"] for call in body["messages"][2]["tool_calls"]] == [
        '{"query": "gzip"}',
        "{}",
    ]
    assert body["messages"][3] == {"role": "tool", "content": "found", "tool_call_id": "c1"}


def test_openai_takes_another_name_for_the_limit_of_its_reasoning_models() -> None:
    """max_completion_tokens for o-series and gpt-5 at OpenAI, max_tokens elsewhere."""
    from crew_guard.models.openai_compatible import _limit_key

    openai, other = "https://api.openai.com/v1", "http://127.0.0.1:8000/v1"
    assert [_limit_key(openai, name) for name in ("o3-mini", "gpt-5-nano", "ft:gpt-5:org")] == [
        "max_completion_tokens"
    ] * 3
    assert [_limit_key(openai, name) for name in ("gpt-4.1-mini", "gpt-4o", "omni")] == ["max_tokens"] * 3
    assert _limit_key(other, "gpt-5") == "max_tokens"


def test_a_server_that_does_not_stream_is_read_whole() -> None:
    """stream=False asks for one body; a server that ignores the wish for a stream is understood too."""
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
    for stream in (True, False):
        reply = reply_of(http("200 OK", whole("hi", usage)), stream=stream)
        assert reply.text == "hi"
        assert reply.usage == Usage(input_tokens=9, output_tokens=2, cached_tokens=4)


def test_whole_tool_calls_without_index_stay_apart() -> None:
    """Servers that send calls whole, unnumbered, with arguments as an object, are understood."""
    calls = [
        {"id": "a", "function": {"name": "search", "arguments": {"query": "x"}}},
        {"id": "b", "function": {"name": "search", "arguments": '{"query": "y"}'}},
    ]
    reply = reply_of(http("200 OK", whole(None, None, tool_calls=calls)))
    assert [(call.id, call.arguments) for call in reply.tool_requests] == [
        ("a", '{"query": "x"}'),
        ("b", '{"query": "y"}'),
    ]
    assert reply.usage is None


def test_reasoning_and_tool_calls_show_that_the_model_is_at_work() -> None:
    """Chunks without text still call on_text, with nothing; comments that only keep a connection open don't."""

    async def main() -> list[str]:
        thinking = event(choices=[{"delta": {"reasoning_content": "hm"}}])
        async with loopback(STREAM + b": keep-alive\n\n" + thinking + text_event("a", "stop") + DONE) as server:
            pieces: list[str] = []
            model = model_at(server.url)
            await model.complete(HELLO, 9, pieces.append)
            await model.aclose()
            return pieces

    assert asyncio.run(main()) == ["", "a"]


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
def test_a_refused_key_names_where_it_is_set(status: str) -> None:
    """The message says which variable to set, and not the key, though the server repeats it."""
    body = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}}).encode()
    error = failure_of(http(status, body), key_source="OPENAI_API_KEY")
    assert error.kind == "rejected"
    assert "OPENAI_API_KEY" in str(error)
    assert "[key]" in str(error)
    assert not error.charged
    assert not error.retryable


def test_an_unknown_model_says_what_to_check() -> None:
    """A 404 keeps the server's words and the way out."""
    error = failure_of(http("404 Not Found", b'{"error": {"message": "The model `x` does not exist"}}'))
    assert error.kind == "rejected"
    assert "does not exist. Check the model's name" in str(error)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "12"}, 12),
        ({"retry_after": "0.5"}, 0.5),
        ({"retry_after_ms": "250", "retry_after": "9"}, 0.25),
        ({"retry_after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "nan"}, None),
        ({"retry_after": "-5"}, None),
        ({}, None),
    ],
)
def test_how_long_a_throttled_call_waits(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, milliseconds or a date; what makes no sense is not there."""
    error = failure_of(http("429 Too Many Requests", b"{}", **headers))
    assert error.kind == "throttled"
    assert error.retry_after == seconds


def test_a_date_to_come_is_counted_from_now() -> None:
    """Retry-After as a date gives the seconds until then."""
    from crew_guard.models.failures import retry_after

    assert retry_after({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, now=40.0) == 60.0


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        pytest.param(http("200 OK", b""), "malformed", "", id="empty body"),
        pytest.param(STREAM, "malformed", "", id="empty stream"),
        pytest.param(STREAM + DONE, "malformed", "", id="only the end"),
        pytest.param(http("200 OK", b"<html>hi</html>"), "malformed", "", id="garbage"),
        pytest.param(http("200 OK", b"<html>hi</html>", "text/html"), "malformed", "", id="a web page"),
        pytest.param(http("200 OK", b'{"ok": true}'), "malformed", "", id="another schema"),
        pytest.param(http("200 OK", b'{"choices": [{"message": "hi"}]}'), "malformed", "", id="wrong types"),
        pytest.param(http("200 OK", b"[" * 100_000), "malformed", "", id="nested without end"),
        pytest.param(STREAM + text_event("ha") + b"data: {not json\n\n", "malformed", "ha", id="garbage in a stream"),
        pytest.param(STREAM + text_event("ha"), "broken", "ha", id="half a stream"),
        pytest.param(STREAM + text_event("ha") + b'data: {"cho', "malformed", "ha", id="half an event"),
        pytest.param(
            STREAM + text_event("ha") + event(error={"message": "boom"}), "broken", "ha", id="error in a stream"
        ),
        pytest.param(b"", "broken", "", id="nothing"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n", "broken", "", id="another protocol"),
        pytest.param(http("302 Found", b"", location="http://127.0.0.1:1/"), "rejected", "", id="a redirect"),
        pytest.param(http("500 Oops", b"\xff\xfe not text"), "unavailable", "", id="binary error"),
    ],
)
def test_what_is_no_answer_is_an_error(answer: bytes, kind: str, text: str) -> None:
    """Nothing that is not a finished completion passes for one."""
    error = failure_of(answer)
    assert (error.kind, error.text) == (kind, text)


def test_a_stream_cut_inside_its_body_is_broken() -> None:
    """A length that the server doesn't keep is a broken answer, with the text so far."""
    cut = STREAM.replace(b"connection: close", b"content-length: 5000") + text_event("half")
    error = failure_of(cut)
    assert (error.kind, error.text) == ("broken", "half")


def test_a_stream_without_its_last_mark_is_whole_once_it_is_finished() -> None:
    """finish_reason is enough, and [DONE] is not: it ends the stream, and says nothing of the answer."""
    assert reply_of(STREAM + text_event("ok", "stop")).text == "ok"
    assert failure_of(STREAM + text_event("ok") + DONE).kind == "broken"


def test_an_answer_has_a_size() -> None:
    """A server that never stops is cut off."""

    async def flood(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM)
        line = text_event("x" * 100_000)
        try:
            for _ in range(400):
                writer.write(line)
                await writer.drain()
        except ConnectionError:
            return

    error = failure_of(flood)
    assert error.kind == "malformed"
    assert "20,000,000" in str(error)


def test_a_server_that_is_not_there_is_unreachable() -> None:
    """A refused connection costs nothing and may be tried again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ModelError) as caught:
        asyncio.run(ask(model_at(f"http://user:{KEY}@127.0.0.1:{port}/v1")))
    assert caught.value.kind == "unreachable"
    assert not caught.value.charged
    assert KEY not in str(caught.value)


def test_silence_is_broken() -> None:
    """A server that takes the request and says nothing may have been at work: it is charged."""

    async def silent(reader: asyncio.StreamReader, _: Any) -> None:
        await reader.read()

    error = failure_of(silent, timeout=0.05)
    assert error.kind == "broken"
    assert error.charged


def test_cancelling_closes_the_connection() -> None:
    """A cancelled call hangs up, so that the server stops its work."""

    async def main() -> bool:
        began, hung_up = asyncio.Event(), asyncio.Event()

        async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(STREAM + text_event("one"))
            await writer.drain()
            await reader.read()
            hung_up.set()

        async with loopback(endless) as server:
            model = model_at(server.url)
            task = asyncio.create_task(model.complete(HELLO, 64, lambda _: began.set()))
            await began.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(hung_up.wait(), 5)
            await model.aclose()
            return hung_up.is_set()

    assert asyncio.run(main())


def test_an_error_of_the_listener_comes_through_and_ends_the_call() -> None:
    """What on_text raises is not swallowed."""

    def angry(_: str) -> None:
        raise ZeroDivisionError

    async def main() -> None:
        async with loopback(STREAM + text_event("one") + text_event("two", "stop")) as server:
            model = model_at(server.url)
            try:
                await model.complete(HELLO, 64, angry)
            finally:
                await model.aclose()

    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())


def test_one_model_serves_several_loops_and_threads(llmock_url: str) -> None:
    """Each loop has connections of its own, reused within it; closed loops are let go."""
    model = model_at(llmock_url)
    replies: list[str] = []

    def work() -> None:
        async def several() -> None:
            replies.extend([(await ask(model)).text for _ in range(3)])
            await model.aclose() if threading.current_thread() is threading.main_thread() else None

        asyncio.run(several())

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    work()
    assert len(replies) == 12
    assert all(replies)
    assert not model._clients
    gc.collect()


def test_connections_are_used_again(llmock_server: LLMockServer, llmock_url: str) -> None:
    """A finished stream gives its connection back: three calls, one connection."""

    async def main() -> int:
        model = model_at(llmock_url)
        for _ in range(3):
            await ask(model)
        pool = next(iter(model._clients.values()))._transport._pool
        count = len(pool.connections)
        await model.aclose()
        return count

    assert asyncio.run(main()) == 1


@pytest.mark.parametrize("key", ["two words", "new\nline", "ключ"])
def test_a_key_that_cannot_be_sent_is_refused_unseen(key: str) -> None:
    """It is refused at once, and the message doesn't hold it."""
    with pytest.raises(ConfigError) as caught:
        model_at("http://127.0.0.1:1/v1", api_key=key)
    assert key not in str(caught.value)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x/v1", "http://", ""])
def test_a_base_url_must_be_one(url: str) -> None:
    """The message shows an example."""
    with pytest.raises(ConfigError, match=re.escape("http://127.0.0.1:8000/v1")):
        model_at(url)


def test_the_client_is_cheap() -> None:
    """Writing the body of 50 messages of history takes well under the 2 ms that a call may cost."""
    from crew_guard.models.wire import RequestWriter

    writer = RequestWriter("m", "max_tokens", stream=True)
    request = ModelRequest(tuple(Message("user", "word " * 200) for _ in range(50)), (SEARCH,))
    best = min(_cpu(lambda: writer.write(request, 100)) for _ in range(20))
    assert best < 0.002


def _cpu(call: Any) -> float:
    start = time.thread_time()
    call()
    return time.thread_time() - start
