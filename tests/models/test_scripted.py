"""The scripted model, which other tests rely on."""

import asyncio
import time
from typing import Any

import pytest

from crew_guard.core.messages import Message, ModelReply, ModelRequest
from crew_guard.core.usage import FREE, Rate, Rates, Usage
from crew_guard.errors import ModelError
from crew_guard.models.scripted import Reply, ScriptedModel
from crew_guard.ports import Model

ASK = ModelRequest([Message("user", "Hello")], prompt_tokens=100)


def play(model: ScriptedModel, max_tokens: int = 1_000, request: ModelRequest = ASK, heard: Any = None) -> ModelReply:
    return asyncio.run(model.complete(request, max_tokens, heard or (lambda _: None)))


def test_it_is_a_model() -> None:
    """It fits the port, under the name of its test."""
    model = ScriptedModel(["hi"], name="echo")
    assert isinstance(model, Model)
    assert (model.name, model.rates, model.window, model.streams) == ("scripted:echo", FREE, None, False)


def test_it_plays_texts_tools_and_errors_in_order() -> None:
    """And complains where it is asked once too often."""
    failure = ModelError("down", kind="unavailable")
    model = ScriptedModel(["hi", Reply(tools=(("search", '{"query": "x"}'), ("read", "{}"))), failure])
    assert play(model).text == "hi"
    reply = play(model)
    assert [(call.name, call.arguments) for call in reply.tool_requests] == [
        ("search", '{"query": "x"}'),
        ("read", "{}"),
    ]
    assert len({call.id for call in reply.tool_requests}) == 2
    assert reply.finish == "tool_calls"
    with pytest.raises(ModelError) as caught:
        play(model)
    assert caught.value is failure
    with pytest.raises(AssertionError, match="scripted:test was asked more often than its script has replies: 3"):
        play(model)


def test_a_script_may_be_a_function_or_begin_again() -> None:
    """A function sees the request; repeat plays the script in a circle."""
    model = ScriptedModel(lambda request: f"you said {request.messages[-1].text}")
    assert play(model).text == "you said Hello"
    again = ScriptedModel(["a", "b"], repeat=True)
    assert [play(again).text for _ in range(5)] == ["a", "b", "a", "b", "a"]


def test_it_bills_what_a_provider_would() -> None:
    """The request's bound and at most max_tokens; what fails half way is billed, what is refused is not."""
    model = ScriptedModel(
        [
            Reply("x", tokens=500),
            Reply("y", tokens=50, prompt_tokens=70, cached_tokens=30),
            Reply(error=ModelError("cut", kind="broken"), tokens=20),
            ModelError("no", kind="rejected"),
        ]
    )
    assert play(model, 300).usage == Usage(input_tokens=100, output_tokens=300)
    assert play(model, 300).usage == Usage(input_tokens=70, output_tokens=50, cached_tokens=30)
    for _ in range(2):
        with pytest.raises(ModelError):
            play(model, 300)
    assert model.billed == Usage(steps=4, input_tokens=270, output_tokens=370, cached_tokens=30)
    assert [call.max_tokens for call in model.calls] == [300] * 4


def test_it_can_hide_its_usage_and_ignore_its_limit() -> None:
    """Both as bad providers do; what was served is known all the same."""
    model = ScriptedModel([Reply("x", tokens=500, reported=False), Reply("x", tokens=500)], obeys_limit=False)
    assert play(model, 10).usage is None
    assert play(model, 10).usage == Usage(input_tokens=100, output_tokens=500)
    assert model.billed.output_tokens == 1_000


def test_a_text_is_as_long_as_its_bytes_and_is_cut_where_there_is_no_room() -> None:
    """Without tokens= a byte is a token; a cut text ends with length and is valid."""
    model = ScriptedModel(["häh", "häh", ""])
    assert play(model, 4).usage == Usage(input_tokens=100, output_tokens=4)
    reply = play(model, 2)
    assert (reply.text, reply.finish) == ("h", "length")
    assert play(model).usage == Usage(input_tokens=100, output_tokens=1)


def test_it_waits_where_it_is_told_to() -> None:
    """For an event or an awaitable; a cancelled wait bills nothing."""

    async def main() -> None:
        gate, waited = asyncio.Event(), []

        async def hook() -> None:
            waited.append("hook")

        model = ScriptedModel([Reply("a", wait=gate), "b", Reply("c", wait=gate)], wait=hook)
        first = asyncio.create_task(model.complete(ASK, 9, print))
        await asyncio.sleep(0)
        assert not first.done()
        gate.set()
        assert (await first).text == "a"
        assert (await model.complete(ASK, 9, print)).text == "b"
        assert waited == ["hook"]
        gate.clear()
        third = asyncio.create_task(model.complete(ASK, 9, print))
        await asyncio.sleep(0)
        third.cancel()
        with pytest.raises(asyncio.CancelledError):
            await third
        assert model.billed.output_tokens == 2
        assert len(model.calls) == 3

    asyncio.run(main())


def test_a_recorded_call_keeps_its_messages_though_the_conversation_grows() -> None:
    """A transcript is appended to in place: a call shows what it held then."""
    model, messages = ScriptedModel(["a", "b"]), [Message("user", "one")]
    request = ModelRequest(messages)
    play(model, request=request)
    messages.append(Message("assistant", "a"))
    play(model, request=request)
    assert [len(call.messages) for call in model.calls] == [1, 2]


def test_it_streams_where_it_says_so() -> None:
    """on_text hears the text, or nothing."""
    heard: list[str] = []
    play(ScriptedModel(["hello"], streams=True), heard=heard.append)
    play(ScriptedModel(["silent"]), heard=heard.append)
    assert heard == ["hello"]


def test_rates_are_its_own() -> None:
    """A price, or none known."""
    rates = Rates(Rate(1), Rate(2))
    assert ScriptedModel([], rates=rates).rates is rates
    assert ScriptedModel([], rates=None).rates is None


def test_its_bounds_are_never_zero() -> None:
    """An empty message still has its frame."""
    model = ScriptedModel([])
    assert model.bound(Message("user", "")) > 0
    assert model.bound(Message("user", "日本")) > model.bound(Message("user", "jp"))
    assert model.bound_request((), None) > 0


def test_it_costs_next_to_nothing() -> None:
    """Under 20 µs of CPU a call, at the thousandth as at the first."""
    model = ScriptedModel(lambda _: _REPLY)
    request = ModelRequest([Message("user", "x")] * 2_000, prompt_tokens=5)

    async def many() -> float:
        start = time.thread_time()
        for _ in range(2_000):
            await model.complete(request, 100, _ignore)
        return (time.thread_time() - start) / 2_000

    assert min(asyncio.run(many()) for _ in range(3)) < 20e-6


_REPLY = Reply(tools=(("search", "{}"),), tokens=10)


def _ignore(_: str) -> None: ...
