"""Clients around other clients: each request is an attempt of the client that sends it, and of no other."""

import asyncio

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import UserMessage
from autogen_ext.models.cache import ChatCompletionCache

from crew_guard.adapters import autogen
from crew_guard.core.policy import Policy
from tests.adapters.autogen_doubles import SYSTEM, HungryClient
from tests.adapters.guarding import Guard, policy
from tests.adapters.loopback import HungryServer
from tests.adapters.test_autogen import openai
from tests.adapters.test_autogen_clients import Asking

QUESTION = [UserMessage(content="hi", source="user")]
each_way = pytest.mark.parametrize("stream", [False, True])


class Named(HungryClient):
    """A client of a certain model, which answers at once, or fails so many times before."""

    def __init__(self, model, failures=0):
        super().__init__(answer_after=0)
        self.model, self.failures = model, failures

    async def create(self, messages, **options):
        self.failures -= 1
        if self.failures >= 0:
            self.served.bill(None)
            raise ConnectionResetError(self.model)
        return await super().create(messages, **options)


class Around(HungryClient):
    """Passes on what it is asked."""

    model = "around"

    def __init__(self, *inner):
        super().__init__(answer_after=0)
        self.inner = inner

    async def create(self, messages, **options):
        return await self.inner[0].create(messages, **options)

    async def create_stream(self, messages, **options):
        async for item in self.inner[0].create_stream(messages, **options):
            yield item


class Retrying(Around):
    async def create(self, messages, **options):
        while True:
            try:
                return await self.inner[0].create(messages, **options)
            except ConnectionResetError:
                continue


class Falling(Around):
    async def create(self, messages, **options):
        try:
            return await self.inner[0].create(messages, **options)
        except ConnectionResetError:
            return await self.inner[1].create(messages, **options)


class Both(Around):
    async def create(self, messages, **options):
        return (await asyncio.gather(*(client.create(messages, **options) for client in self.inner)))[0]


class OwnFirst(Around):
    async def create(self, messages, **options):
        await HungryClient.create(self, messages, **options)
        return await self.inner[0].create(messages, **options)


class OwnLast(Around):
    async def create(self, messages, **options):
        await self.inner[0].create(messages, **options)
        return await HungryClient.create(self, messages, **options)


class OwnBeside(Around):
    async def create(self, messages, **options):
        own = HungryClient.create(self, messages, **options)
        return (await asyncio.gather(own, self.inner[0].create(messages, **options)))[1]


def asked(guard):
    """Each model's attempts that left, as they were settled."""
    calls = {event.action_id: event.target for event in guard.events("Admitted") if event.kind == "model_call"}
    settled = [event for event in guard.events("Settled") if event.action_id in calls and event.status != "withdrawn"]
    return sorted((calls[event.action_id].partition(":")[2], event.status) for event in settled)


def guarded(client, rules, **options):
    agent = AssistantAgent("ann", client, system_message=SYSTEM, **options)
    guard = Guard(autogen, agent, rules)
    return guard, guard.run()


@each_way
def test_a_model_that_is_denied_is_not_asked_by_another_client(stream):
    """The run's words name the one inside."""
    inner = Named("secret")
    rules = Policy.model_validate({"models": {"deny": ["custom:secret"]}})
    _, result = guarded(Around(inner), rules, model_client_stream=stream)
    assert (result.stopped.reason, inner.served.calls, result.usage.steps) == ("denied", 0, 0)
    assert "custom:secret" in str(result.stopped)


@each_way
def test_what_a_client_passes_on_is_one_step_of_the_one_inside(stream):
    """Whose tokens are charged at its price, also where there is a step left for one only."""
    inner = Named("inside")
    guard, result = guarded(Around(inner), policy(max_steps=1), model_client_stream=stream)
    assert (result.status, result.usage.steps, result.usage.tokens) == ("done", 1, inner.served.tokens)
    assert asked(guard) == [("inside", "ok")]
    assert "custom:inside" in guard.names


@each_way
def test_the_length_is_the_one_insides(stream):
    """What the client around it was clamped to is no wish for it; and a stream tells its usage."""
    with HungryServer(answer="done") as server:
        inner = openai(server, max_completion_tokens=50)
        _, result = guarded(Around(inner), policy(max_steps=1), model_client_stream=stream)
        (body,) = server.bodies
        assert (body["max_completion_tokens"], "max_tokens" in body) == (50, False)
        assert (result.output, result.usage.tokens) == ("done", server.served.tokens)


CASES = {
    "retries": (lambda: Retrying(Named("a", failures=2)), [("a", "failed"), ("a", "failed"), ("a", "ok")]),
    "falls back": (lambda: Falling(Named("a", failures=1), Named("b")), [("a", "failed"), ("b", "ok")]),
    "asks two": (lambda: Both(Named("a"), Named("b")), [("a", "ok"), ("b", "ok")]),
    "asks itself first": (lambda: OwnFirst(Named("a")), [("a", "ok"), ("around", "ok")]),
    "asks itself last": (lambda: OwnLast(Named("a")), [("a", "ok"), ("around", "ok")]),
    "asks itself beside": (lambda: OwnBeside(Named("a")), [("a", "ok"), ("around", "ok")]),
    "around another": (lambda: Around(Around(Named("a"))), [("a", "ok")]),
}


@pytest.mark.parametrize("case", CASES)
def test_each_request_is_one_step_of_its_own_client(case):
    """However many a client makes of one call."""
    make, wanted = CASES[case]
    client = make()
    guard, result = guarded(client, policy(max_steps=len(wanted)))
    assert (result.status, result.usage.steps, asked(guard)) == ("done", len(wanted), wanted)
    if "failed" not in str(wanted):
        sent = [client, *client.inner, *getattr(client.inner[0], "inner", ())]
        assert result.usage.tokens == sum(one.served.tokens for one in sent)


@pytest.mark.parametrize("cap", [1, 2])
def test_retries_of_the_one_inside_stop_at_the_cap(cap):
    """The request that has no step left doesn't leave."""
    inner = Named("a", failures=9)
    _, result = guarded(Retrying(inner), policy(max_steps=cap))
    assert (inner.served.calls, result.usage.steps, result.stopped.limit) == (cap, cap, "max_steps")


@each_way
def test_an_answer_from_a_cache_inside_is_no_step(stream):
    """Neither of the cache, nor of the client around it."""
    inner = Named("a")
    client = Around(ChatCompletionCache(inner))

    async def ask():
        for _ in range(3):
            if stream:
                _ = [item async for item in client.create_stream(QUESTION)]
            else:
                await client.create(QUESTION)

    guard = Guard(autogen, Asking(ask), policy(max_steps=2))
    result = guard.run()
    assert (result.status, result.usage.steps, inner.served.calls) == ("done", 1, 1), result
    assert asked(guard) == [("a", "ok")]
