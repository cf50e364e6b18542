"""Guarded hosts as streams: their models' text arrives as it is written, with their events around it."""

import asyncio

import pytest

from crew_guard.adapters import autogen, crewai
from crew_guard.api import Guarded
from crew_guard.core.events import RunEnded, Settled
from crew_guard.core.stream import Budget, TextDelta
from crew_guard.store.memory import MemoryStore
from crew_guard.supervisor.streaming import RunStream
from tests.adapters import autogen_doubles, crewai_doubles
from tests.adapters.guarding import Guard, policy


def guarded(adapter, host):
    guard = Guard(adapter, host, policy(max_steps=5))
    assert isinstance(guard.store, MemoryStore)
    return Guarded(guard.runtime, guard.supervisor, "hosted"), guard.store


def checked(items, stream, store):
    """The deltas, once the stream was found to be its journal with something between."""
    events = [item for item in items if not isinstance(item, TextDelta | Budget)]
    assert events == list(store.read(stream.run_id))
    assert isinstance(items[-1], RunEnded)
    assert stream.result.done, stream.result
    for item in items:
        if isinstance(item, TextDelta):
            end = next(one for one in events if isinstance(one, Settled) and one.action_id == item.action_id)
            assert items.index(item) < items.index(end)
    return [item for item in items if isinstance(item, TextDelta)]


class Streaming(crewai_doubles.HungryLLM):
    """Tells each piece of its answer, and of a tool request, as CrewAI's own models do."""

    def call(self, messages, tools=None, **options):
        reply = super().call(messages, tools, **options)
        if isinstance(reply, str):
            for piece in ("do", "ne"):
                self._emit_stream_chunk_event(chunk=piece)
        else:
            self._emit_stream_chunk_event(chunk='{"query"', tool_call={"id": "c1"})
        return reply


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_an_autogen_agent_is_heard_while_it_writes(mode):
    """Its client's chunks are pieces of the calls they belong to."""
    client = autogen_doubles.HungryClient(answer_after=1)
    host, store = guarded(autogen, autogen_doubles.hungry_agent(client, model_client_stream=True))

    async def read(stream):
        return [item async for item in stream]

    stream = host.stream("Find everything.")
    assert isinstance(stream, RunStream)
    items = list(stream) if mode == "sync" else asyncio.run(read(stream))
    deltas = checked(items, stream, store)
    # The double says the same before every answer, tool requests included.
    assert [delta.text for delta in deltas] == ["loo", "king"] * client.served.calls
    assert len({delta.action_id for delta in deltas}) == client.served.calls
    assert {delta.agent for delta in deltas} == {"seeker"}


def test_an_autogen_client_that_does_not_stream_says_it_all_at_once():
    """One piece, the answer; a tool request is no text."""
    host, store = guarded(autogen, autogen_doubles.hungry_agent(autogen_doubles.HungryClient(answer_after=1)))
    stream = host.stream("Find everything.")
    assert [delta.text for delta in checked(list(stream), stream, store)] == ["done"]


@pytest.mark.parametrize(("llm", "said"), [(Streaming, ["do", "ne"]), (crewai_doubles.HungryLLM, ["done"])])
def test_a_crewai_crew_is_heard_while_it_writes(llm, said):
    """The chunks that CrewAI tells its own listeners, from its thread; pieces of tool requests are none."""
    agent = crewai_doubles.hungry_agent(llm(answer_after=1))
    host, store = guarded(crewai, crewai_doubles.hungry_crew(agent))
    stream = host.stream({"topic": "gzip"})
    deltas = checked(list(stream), stream, store)
    assert [delta.text for delta in deltas] == said
    assert {delta.agent for delta in deltas} == {"Seeker"}


def test_leaving_a_hosts_stream_ends_its_run():
    """After the block the run is over, and the host's thread with it."""
    llm = crewai_doubles.HungryLLM()
    agent = crewai_doubles.hungry_agent(llm)
    guard = Guard(crewai, crewai_doubles.hungry_crew(agent), policy(max_steps=10_000))
    with guard.supervisor.stream_runtime(guard.runtime, {"topic": "gzip"}, name="crew") as stream:
        for item in stream:
            if isinstance(item, TextDelta | Settled):
                break
    assert stream.result.stopped.reason == "cancelled"
    assert llm.served.calls < 10_000
