"""What Anthropic and Gemini are sent, and what they send that llmock does not play."""

import asyncio
import json
from typing import Any

import pytest

from crew_guard.core.messages import Message, ModelReply, ModelRequest, ToolRequest, ToolSpec
from crew_guard.core.usage import FREE, Parts, Usage
from crew_guard.errors import ModelError
from crew_guard.models.registry import model_for
from tests.models.loopback import STREAM, event, http, loopback

KEY = "sk-very-secret-0123456789"
SEARCH = ToolSpec("search", "Find passages.", {"type": "object", "properties": {"query": {"type": "string"}}})
SCHEMA = {"type": "object", "properties": {"lines": {"type": "integer", "minimum": 1, "description": "How many"}}}
OPEN = {"type": "object", "additionalProperties": True}
TALK = (
    Message("system", "Be brief."),
    Message("system", "Be kind."),
    Message("user", "lone \ud800 日本"),
    Message("assistant", "", (ToolRequest("c:1", "search", '{"query": "x"}'), ToolRequest("c2", "search", "{broken"))),
    Message("tool", "found", (), "c:1"),
    Message("tool", "nothing", (), "c2"),
    Message("system", "The budget is nearly used."),
)


def talk(name: str, request: ModelRequest, *answers: Any) -> tuple[ModelReply, dict[str, Any], dict[str, str]]:
    async def main() -> tuple[ModelReply, dict[str, Any], dict[str, str]]:
        async with loopback(*answers) as server:
            model: Any = model_for(name, base_url=server.url, api_key=KEY, rates=FREE)
            try:
                reply = await model.complete(request, 33, lambda _: None)
            finally:
                await model.aclose()
            return reply, server.bodies[0], {key.lower(): value for key, value in server.headers[0].items()}

    return asyncio.run(main())


def claude(*more: dict[str, Any], **usage: Any) -> bytes:
    start = {"type": "message", "model": "claude", "usage": {"input_tokens": 9, "output_tokens": 1, **usage}}
    return STREAM + event(type="message_start", message=start) + b"".join(event(**one) for one in more)


def stop(reason: str, output: int = 5) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": output}}


def said(text: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}


def test_what_anthropic_is_sent() -> None:
    """Leading system messages apart, results together behind their calls, later system messages as the user's."""
    done = claude(said("ok"), stop("end_turn"), {"type": "message_stop"})
    _, body, headers = talk("anthropic:claude", ModelRequest(TALK, (SEARCH,), SCHEMA), done)
    assert headers["x-api-key"] == KEY
    assert headers["anthropic-version"]
    assert "authorization" not in headers
    assert (body["model"], body["max_tokens"], body["stream"]) == ("claude", 33, True)
    assert body["system"] == "Be brief.\n\nBe kind."
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][1]["content"] == [
        {"type": "tool_use", "id": "c_1", "name": "search", "input": {"query": "x"}},
        {"type": "tool_use", "id": "c2", "name": "search", "input": {}},
    ]
    assert body["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "c_1", "content": "found"},
        {"type": "tool_result", "tool_use_id": "c2", "content": "nothing"},
        {"type": "text", "text": "The budget is nearly used."},
    ]
    assert body["tools"] == [{"name": "search", "description": "Find passages.", "input_schema": SEARCH.parameters}]
    schema = body["output_config"]["format"]["schema"]
    assert schema["properties"]["lines"] == {"type": "integer", "description": "How many (minimum 1)"}
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("name", ["anthropic:claude", "deepseek:deepseek-chat"])
def test_a_schema_that_a_server_cannot_take_is_told_in_words(name: str) -> None:
    """In the system prompt, beside nothing that the server would refuse."""
    done = claude(said("{}"), stop("end_turn"))
    if name.startswith("deepseek"):
        done = STREAM + event(choices=[{"delta": {"content": "{}"}, "finish_reason": "stop"}])
    _, body, _ = talk(name, ModelRequest(TALK[:3], (), OPEN), done)
    assert "JSON Schema" in str(body.get("system") or body["messages"][0]["content"])
    assert "output_config" not in body
    assert body.get("response_format") in (None, {"type": "json_object"})


def test_mistral_is_not_asked_for_usage_and_its_usage_is_read() -> None:
    """It refuses the wish, and sends it all the same."""
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
    done = STREAM + event(choices=[{"delta": {"content": "ok"}, "finish_reason": "stop"}], usage=usage)
    reply, body, _ = talk("mistral:m", ModelRequest(TALK[:3]), done)
    assert "stream_options" not in body
    assert reply.usage == Usage(input_tokens=9, output_tokens=2)


def test_anthropics_usage_grows_through_the_stream() -> None:
    """The first event's input and cache, the last one's output; null takes nothing back."""
    last = stop("max_tokens", 7)
    last["usage"]["cache_read_input_tokens"] = None
    reply, _, _ = talk(
        "anthropic:claude",
        ModelRequest(TALK[:3]),
        claude(said("ok"), last, cache_read_input_tokens=20, cache_creation_input_tokens=4),
    )
    assert reply.usage == Usage(input_tokens=33, output_tokens=7, cached_tokens=20)
    assert reply.parts == Parts(cache_written=4)
    assert reply.finish == "length"


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        pytest.param(claude(said("ha")), "broken", "ha", id="half a stream"),
        pytest.param(claude(said("ha"), {"type": "message_stop"}), "broken", "ha", id="an end without a reason"),
        pytest.param(
            claude(said("ha"), {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}),
            "broken", "ha", id="an error in a stream"),
        pytest.param(claude(said("ha")) + b"data: {half", "malformed", "ha", id="half an event"),
        pytest.param(STREAM, "malformed", "", id="nothing"),
        pytest.param(http("200 OK", b'{"ok": true}'), "malformed", "", id="another schema"),
    ],
)  # fmt: skip
def test_half_an_answer_of_anthropic_is_none(answer: bytes, kind: str, text: str) -> None:
    """Only a stop_reason makes it whole."""
    with pytest.raises(ModelError) as caught:
        talk("anthropic:claude", ModelRequest(TALK[:3]), answer)
    assert (caught.value.kind, caught.value.text) == (kind, text)


def test_a_whole_body_of_anthropic_is_read() -> None:
    """A server that ignores the wish for a stream is understood."""
    body = {
        "type": "message", "model": "claude", "stop_reason": "tool_use",
        "usage": {"input_tokens": 3, "output_tokens": 2},
        "content": [
            {"type": "text", "text": "so"}, {"type": "tool_use", "id": "a", "name": "search", "input": {"q": 1}}],
    }  # fmt: skip
    reply, _, _ = talk("anthropic:claude", ModelRequest(TALK[:3]), http("200 OK", json.dumps(body).encode()))
    assert (reply.text, reply.finish) == ("so", "tool_calls")
    assert reply.tool_requests == (ToolRequest("a", "search", '{"q": 1}'),)


def gemini(*chunks: dict[str, Any]) -> bytes:
    return STREAM + b"".join(event(**chunk) for chunk in chunks)


def candidate(*parts: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}}
    return {"candidates": [{**found, "finishReason": finish} if finish else found], "modelVersion": "g"}


DONE = gemini(candidate({"text": "ok"}, finish="STOP"))


def test_what_gemini_is_sent() -> None:
    """Results by the name of their tool, the limit, the system instruction; the key in its own header."""
    request = ModelRequest(TALK, (SEARCH,))
    _, body, headers = talk("gemini:gemini-2.5-flash", request, DONE)
    assert headers["x-goog-api-key"] == KEY
    assert body["generationConfig"] == {"maxOutputTokens": 33}
    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}, {"text": "Be kind."}]}
    assert [turn["role"] for turn in body["contents"]] == ["user", "model", "user"]
    assert body["contents"][1]["parts"][0] == {"functionCall": {"name": "search", "args": {"query": "x"}}}
    assert body["contents"][2]["parts"][0] == {"functionResponse": {"name": "search", "response": {"result": "found"}}}
    assert body["contents"][2]["parts"][2] == {"text": "The budget is nearly used."}
    assert body["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"] == SEARCH.parameters


@pytest.mark.parametrize(
    ("name", "tools", "in_words"),
    [("gemini-2.5-flash", (SEARCH,), True), ("gemini-2.5-flash", (), False), ("gemini-3-pro", (SEARCH,), False)],
)
def test_gemini_before_3_takes_no_schema_beside_tools(
    name: str, tools: tuple[ToolSpec, ...], *, in_words: bool
) -> None:
    """There it is told in words, elsewhere it is sent."""
    _, body, _ = talk(f"gemini:{name}", ModelRequest(TALK[:3], tools, SCHEMA), DONE)
    assert ("JSON Schema" in str(body["systemInstruction"])) is in_words
    assert ("responseJsonSchema" in body["generationConfig"]) is not in_words


def test_gemini_3_gets_its_signatures_back() -> None:
    """A call carries the signature of its thought; one whose signature is gone asks not to be checked."""

    async def main() -> list[dict[str, Any]]:
        call = {"functionCall": {"name": "search", "args": {"query": "x"}}, "thoughtSignature": "c2lnbmVk"}
        thought = {"text": "hm", "thought": True}
        async with loopback(gemini(candidate(thought, call, finish="STOP")), DONE, DONE) as server:
            model: Any = model_for("gemini:gemini-3-pro", base_url=server.url, api_key=KEY, rates=FREE)
            first = await model.complete(ModelRequest(TALK[:3], (SEARCH,)), 9, lambda _: None)
            assert (first.text, first.finish) == ("", "tool_calls")
            asked = Message("assistant", "", first.tool_requests)
            answer = Message("tool", "found", (), first.tool_requests[0].id)
            await model.complete(ModelRequest((*TALK[:3], asked, answer), (SEARCH,)), 9, lambda _: None)
            await model.complete(ModelRequest(TALK, (SEARCH,)), 9, lambda _: None)
            await model.aclose()
            return [body["contents"][1]["parts"][0] for body in server.bodies[1:]]

    signed, unsigned = asyncio.run(main())
    assert signed["thoughtSignature"] == "c2lnbmVk"
    assert unsigned["thoughtSignature"] == "skip_thought_signature_validator"


@pytest.mark.parametrize(
    ("chunks", "finish"),
    [
        ([candidate({"text": "a"}, finish="MAX_TOKENS")], "length"),
        ([candidate({"text": "a"}, finish="SAFETY")], "content_filter"),
        ([{"promptFeedback": {"blockReason": "SAFETY"}}], "content_filter"),
    ],
)
def test_geminis_ends_are_told_in_our_words(chunks: list[dict[str, Any]], finish: str) -> None:
    """A prompt that is blocked has no candidate, and is an end all the same."""
    assert talk("gemini:g", ModelRequest(TALK[:3]), gemini(*chunks))[0].finish == finish


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        pytest.param(gemini(candidate({"text": "ha"})), "broken", "ha", id="half a stream"),
        pytest.param(gemini(candidate({"text": "ha"}), {"error": {"message": "x"}}), "broken", "ha", id="an error"),
        pytest.param(gemini(candidate(finish="MALFORMED_FUNCTION_CALL")), "malformed", "", id="a call that is none"),
        pytest.param(STREAM, "malformed", "", id="nothing"),
    ],
)
def test_half_an_answer_of_gemini_is_none(answer: bytes, kind: str, text: str) -> None:
    """Only a finishReason makes it whole."""
    with pytest.raises(ModelError) as caught:
        talk("gemini:g", ModelRequest(TALK[:3]), answer)
    assert (caught.value.kind, caught.value.text) == (kind, text)
