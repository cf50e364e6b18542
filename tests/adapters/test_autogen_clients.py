"""Clients that are made anew, of a user's own class, and around others: each one's requests are its own."""

import gc
import json

import httpx
from autogen_agentchat.agents import BaseChatAgent
from autogen_agentchat.base import Response
from autogen_agentchat.messages import TextMessage
from autogen_core.models import UserMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient

from crew_guard.adapters import autogen
from tests.adapters.guarding import Guard, policy


class Asking(BaseChatAgent):
    """An agent whose turn is a function."""

    produced_message_types = (TextMessage,)

    def __init__(self, ask):
        super().__init__("asker", "asks")
        self.ask = ask

    async def on_messages(self, messages, cancellation_token):
        return Response(chat_message=TextMessage(content=str(await self.ask()), source=self.name))

    async def on_reset(self, cancellation_token):
        pass


QUESTION = [UserMessage(content="hi", source="user")]


def answered(asked):
    """A transport that notes which model is asked by which key."""

    def answer(request):
        body = json.loads(request.content)
        asked.append((body["model"], request.headers["authorization"]))
        choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
        head = {"id": "r1", "object": "chat.completion", "created": 1, "model": body["model"]}
        return httpx.Response(200, json={**head, "choices": [choice], "usage": usage})

    return httpx.MockTransport(answer)


def test_clients_that_are_made_anew_send_their_own_requests():
    """The address of one that is gone may be another's: neither its key nor its model is."""
    asked, wanted = [], [(f"gpt-4.1{'-mini' * (i % 2)}", f"Bearer tenant{i}") for i in range(60)]
    http = httpx.AsyncClient(transport=answered(asked))

    async def create(model, key):
        client = OpenAIChatCompletionClient(model=model, api_key=key.split()[1], http_client=http)
        await client.create(QUESTION)

    async def ask():
        for model, key in wanted:
            await create(model, key)

    result = Guard(autogen, Asking(ask), policy(max_steps=99)).run()
    assert (result.status, asked) == ("done", wanted)


class Passing(OpenAIChatCompletionClient):
    """Does as its base class does."""

    async def create(self, *given, **options):
        return await super().create(*given, **options)


def test_a_run_leaves_no_class_behind():
    """Also where a client's own code asks its base class."""
    client = Passing(model="gpt-4.1", api_key="none", http_client=httpx.AsyncClient(transport=answered([])))

    async def ask():
        await client.create(QUESTION)

    def classes():
        gc.collect()
        return sum(issubclass(one, Passing) for one in gc.get_objects() if isinstance(one, type))

    guard = Guard(autogen, Asking(ask), policy())
    assert guard.run().usage.steps == 1
    before = classes()
    assert [guard.run().usage.steps for _ in range(3)] == [1, 1, 1]
    assert classes() == before
