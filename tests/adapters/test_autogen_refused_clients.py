"""Clients of AutoGen that can't be bounded are refused, also where they are only found when they are called."""

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import UserMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient

from crew_guard.adapters import autogen
from crew_guard.errors import ConfigError
from tests.adapters.autogen_doubles import HungryClient, WrittenClient, asking, hungry_agent
from tests.adapters.guarding import Guard, policy
from tests.adapters.loopback import HungryServer


class SKChatCompletionAdapter(HungryClient):
    """In the place of AutoGen's own, whose package holds a client of Semantic Kernel's."""

    __module__ = "autogen_ext.models.semantic_kernel"


def test_semantic_kernels_clients_are_refused_by_name():
    """They retry where nothing can switch it off; the way out is named."""
    with pytest.raises(
        ConfigError, match=r"retries of SKChatCompletionAdapter's .* use AutoGen's client of that provider"
    ):
        Guard(autogen, hungry_agent(SKChatCompletionAdapter()), policy())


@pytest.mark.parametrize("within", [False, True])
def test_a_client_in_a_closure_is_refused_when_it_is_called(within):
    """By itself, or by a client around it: nothing is sent, and the run's words name it."""
    with HungryServer(answer="done") as server:
        hidden = OpenAIChatCompletionClient(
            model="gpt-4o", api_key="none", base_url=server.url, extra_body={"max_tokens": 9}
        )

        class Around(HungryClient):
            async def create(self, messages, **options):
                return await hidden.create(messages, **options)

        async def ask(query: str) -> str:
            """Ask a model."""
            client = Around() if within else hidden
            return str((await client.create([UserMessage(content=query, source="ann")])).content)

        leader = WrittenClient([asking("ask", '{"query": "q"}'), "over"])
        result = Guard(autogen, AssistantAgent("seeker", leader, tools=[ask]), policy()).run()
        assert "extra_body sets max_tokens" in str(result.output)
        assert server.requests == 0
