"""What a conversation becomes that outgrows its model's window."""

from __future__ import annotations

from typing import Any

import pytest

from crew_guard import Agent, Crew, Policy, Result, Role, Supervisor, Task, tool
from crew_guard.core.events import AgentMoved
from crew_guard.core.messages import Message, ModelRequest
from crew_guard.errors import ModelError
from crew_guard.testing import MemoryStore, Reply, ScriptedModel

WINDOW = 2_000
ROLE = Role(name="reader", goal="Read", max_tokens=200, completion_min=50)


@tool
def read(page: int) -> str:
    """Read a page."""
    return f"page {page} says " + "x" * 300


@tool
def dump() -> str:
    """Far too much."""
    return "begin " + "y" * 9_000 + " end"


def is_summary(request: ModelRequest) -> bool:
    return "record of an agent's work short" in request.messages[0].text


class Reader:
    """Reads page after page and then answers; sums up where it is asked to."""

    def __init__(self, pages: int, summary: Any = "pages were read: all say x", first: Reply | None = None) -> None:
        self.pages, self.page, self.summary = pages, 0, summary
        self.prompts: list[tuple[Message, ...]] = []
        self.summed: list[tuple[Message, ...]] = []

    def __call__(self, request: ModelRequest) -> Any:
        if is_summary(request):
            self.summed.append(tuple(request.messages))
            return self.summary
        self.prompts.append(tuple(request.messages))
        self.page += 1
        if self.page > self.pages:
            return "all read"
        return Reply(tools=(("read", f'{{"page": {self.page}}}'),))


def go(script: Any, *, tools: Any = (read,), task: str = "Read all", **policy: Any) -> tuple[Result, MemoryStore, Any]:
    store = MemoryStore()
    model = ScriptedModel(script, window=WINDOW)
    crew = Crew([Agent(ROLE, tools)], [Task(task)])
    policy = {"warn_at": 1, **policy}
    return Supervisor(Policy.model_validate(policy), model=model, store=store).run(crew, run_id="run"), store, model


def whole(messages: tuple[Message, ...]) -> bool:
    """Whether each request stands before its result, and each result behind its request."""
    asked: set[str] = set()
    for message in messages:
        if message.tool_request_id is not None and message.tool_request_id not in asked:
            return False
        asked |= {request.id for request in message.tool_requests}
    return asked == {message.tool_request_id for message in messages if message.tool_request_id}


def test_a_long_conversation_goes_on_with_a_summary_of_what_is_old() -> None:
    """Twenty pages through a window that holds four: brief and latest stay whole, every prompt fits."""
    reader = Reader(20)
    result, store, model = go(reader)
    assert (result.status, result.output) == ("done", "all read")
    assert len(reader.summed) > 1
    assert result.usage.steps == 21 + len(reader.summed)
    assert result.usage.tokens == model.billed.tokens
    assert all(call.request.prompt_tokens + call.max_tokens <= WINDOW for call in model.calls)
    for messages in reader.prompts:
        assert [message.text for message in messages[:2]] == ["You are reader. Read", "Read all"]
        assert whole(messages)
    assert "What they say, in short:]\npages were read: all say x" in reader.prompts[-1][2].text
    assert "page 20 says" in reader.prompts[-1][-1].text
    # An earlier summary is part of what the next one sums up.
    assert "pages were read: all say x" in reader.summed[1][1].text
    steps = [event.step for event in store.read("run") if isinstance(event, AgentMoved)]
    assert steps.count("compact") == len(reader.summed)


def test_without_a_window_nothing_is_left_out() -> None:
    """Unknown means that nobody can say what fits."""
    reader = Reader(20)
    crew = Crew([Agent(ROLE, (read,))], [Task("Read all")])
    result = Supervisor(Policy(warn_at=1), model=ScriptedModel(reader), store=MemoryStore()).run(crew)
    assert (result.output, reader.summed) == ("all read", [])
    assert len(reader.prompts[-1]) == 42


@pytest.mark.parametrize(
    "summary",
    [ModelError("no", kind="rejected", status=400), Reply("")],
    ids=["the provider fails", "the summary is empty"],
)
def test_without_a_summary_the_oldest_are_dropped_with_a_notice(summary: Any) -> None:
    """The agent goes on, and knows that something is missing."""
    reader = Reader(20, summary)
    result, *_ = go(reader)
    assert result.output == "all read"
    assert "earlier messages were left out here: they do not fit.]" in reader.prompts[-1][2].text


@pytest.mark.parametrize("cap", [6, 7, 8, 9])
def test_a_summary_never_takes_the_last_step(cap: int) -> None:
    """Where one step is left it goes to the agent, which is given a shorter conversation all the same."""
    reader = Reader(cap - 1 if cap < 7 else cap - 2)
    result, *_ = go(reader, limits={"max_steps": cap})
    assert result.output == "all read"
    assert result.usage.steps == len(reader.prompts) + len(reader.summed) <= cap


def test_a_summary_never_takes_the_last_tokens() -> None:
    """Whatever the cap: what is asked last is never a summary, for nothing would come of it."""
    spared = 0
    for cap in range(3_000, 20_000, 450):
        reader = Reader(20)
        result, _, model = go(reader, limits={"max_tokens": cap})
        assert result.usage.tokens <= cap
        assert not is_summary(model.calls[-1].request)
        dropped = "they do not fit.]" in "".join(message.text for message in reader.prompts[-1])
        spared += dropped and result.status == "stopped"
    assert spared


def test_a_message_too_long_for_the_window_is_cut_with_a_notice() -> None:
    """Its beginning and its end are kept; the prompt fits."""
    model_says = iter([Reply(tools=(("dump", "{}"),)), "answer"])
    result, _, model = go(lambda _: next(model_says), tools=(dump,))
    assert result.output == "answer"
    text = model.calls[1].messages[-1].text
    assert text.startswith("begin yyy")
    assert text.endswith("yyy end")
    assert "characters were left out here: they do not fit" in text
    assert model.calls[1].request.prompt_tokens + 200 <= WINDOW


def test_a_task_too_long_for_the_window_is_cut_too() -> None:
    """A document among the inputs, say: there is nothing to sum up."""
    result, _, model = go(["answer"], task="Read: " + "z" * 5_000 + " What is the last word?")
    assert (result.output, result.usage.steps) == ("answer", 1)
    assert model.calls[0].messages[1].text.endswith("What is the last word?")


def test_the_record_of_a_summary_fits_the_window_itself() -> None:
    """One result larger than the window becomes old: it is summed up from its cut form."""
    replies = iter([Reply(tools=(("dump", "{}"),)), *[Reply(tools=(("read", f'{{"page": {n}}}'),)) for n in range(9)]])

    def play(request: ModelRequest) -> Any:
        return "short" if is_summary(request) else next(replies, "answer")

    result, _, model = go(play, tools=(dump, read))
    assert result.output == "answer"
    assert all(call.request.prompt_tokens + call.max_tokens <= WINDOW for call in model.calls)
