"""What one node gives is what the next one gets: looking at it, asking about it and waiting change nothing."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from crew_guard import Supervisor, Workflow, chain, node, orchestrate, tool
from crew_guard.core import plain
from crew_guard.core.events import NodeFinished
from crew_guard.core.policy import Policy
from crew_guard.store.memory import MemoryStore
from crew_guard.workflows.graph import loop
from tests.workflows.going import AtGate, Ran


def generated(_: Any) -> Iterator[str]:
    yield from "abc"


async def generated_later(_: Any) -> AsyncIterator[str]:
    for each in "abc":
        await asyncio.sleep(0)
        yield each


@tool
def rows(run: str) -> Iterator[str]:
    """All rows."""
    yield from "abc"


def counted(values: Any) -> int:
    return len(list(values))


def joined(values: Any) -> str:
    return "".join(values)


GIVE = [
    node(generated, name="give"),
    node(generated_later, name="give"),
    node(lambda _: map(str, "abc"), name="give"),
    node(lambda _: iter("abc"), name="give"),
]


@pytest.mark.parametrize("give", GIVE)
def test_what_an_iterator_gives_is_handed_on_as_a_list(give: Any):
    """It is in the journal, and still there for the next node."""
    ran = Ran(chain(give, node(joined)))
    assert ran.result.output == "abc"
    assert ran.of(NodeFinished)[0].output == ["a", "b", "c"]


def test_a_tool_that_gives_an_iterator_is_handed_on_alike():
    """Its text for an agent is made of the same list."""
    ran = Ran(chain(node(lambda _: {"run": "x"}, name="which"), node(rows), node(counted)))
    assert ran.result.output == 3


def test_the_workers_of_a_plan_that_is_an_iterator_are_all_asked_about():
    """Each part is asked about once, and acted on once."""
    asked: list[str] = []
    sent: list[str] = []
    send = node(sent.append, name="send", irreversible=True, approve=lambda a: asked.append(a.value) is None)
    ran = Ran(orchestrate(node(generated, name="plan"), send, node(counted)))
    assert (ran.result.output, asked, sorted(sent)) == (3, ["a", "b", "c"], ["a", "b", "c"])


class Fresh:
    """Other items each time that it is listed."""

    def __init__(self) -> None:
        self.times = 0

    def __iter__(self) -> Iterator[str]:
        self.times += 1
        return iter([f"a{self.times}"])


def test_what_is_acted_on_is_what_was_listed_to_be_asked_about():
    """Not what a second look finds."""
    asked: list[str] = []
    sent: list[str] = []
    send = node(sent.append, name="send", irreversible=True, approve=lambda a: asked.append(a.value) is None)
    Ran(orchestrate(node(lambda _: Fresh(), name="plan"), send, node(counted)))
    assert sent == asked


def test_what_a_loop_passes_back_is_there_for_a_second_try():
    """A try that failed has not used it up."""
    seen: list[Any] = []

    def look(value: Any) -> int:
        seen.append(list(value))
        if len(seen) == 2:
            raise OSError("once")
        return len(seen)

    again = loop("look", "look", again=lambda _: len(seen) < 3, passes=lambda _: iter("abc"), rounds=3)
    at = AtGate(Workflow([node(look, retry=1)], [again]))
    at.run()
    assert seen[1:] == [["a", "b", "c"]] * 2


def test_an_iterator_that_was_done_already_is_a_list_too():
    """Where a workflow goes on from a journal: for the next node, and in the journal again."""
    at = AtGate(chain(node(generated, name="give"), node(counted)))
    assert at.run(done={"give": ["a", "b"]}).output == 2
    assert [event.output for event in at.events() if isinstance(event, NodeFinished)] == [["a", "b"], 2]


def test_an_iterator_among_a_runs_inputs_reaches_its_first_node():
    """The journal's look at it takes nothing away."""
    flow = chain(node(lambda inputs: list(inputs["rows"]), name="first"))
    result = Supervisor(Policy(), store=MemoryStore()).run(flow, {"rows": iter("abc")})
    assert result.output == ["a", "b", "c"]


def test_an_iterator_without_an_end_fails_its_node(monkeypatch: pytest.MonkeyPatch):
    """Instead of holding all memory."""
    monkeypatch.setattr(plain, "MOST_ITEMS", 10)

    def endless(_: Any) -> Iterator[bytes]:
        while True:
            yield os.urandom(1)

    ran = Ran(chain(node(endless)))
    assert "it gives more than 10 items" in ran.result.error
