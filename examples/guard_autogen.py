"""An AutoGen agent that never has enough, and the one line that bounds it.

Runs offline: the model is AutoGen's own replay client, which asks for the tool again and again.
Needs pip install 'crew-guard[autogen]' autogen-ext.
"""

import asyncio
import logging

from autogen_agentchat.agents import AssistantAgent
from autogen_core import EVENT_LOGGER_NAME, FunctionCall
from autogen_core.models import CreateResult, ModelInfo, RequestUsage
from autogen_ext.models.replay import ReplayChatCompletionClient

from crew_guard import Limits, Policy, guard

logging.getLogger(EVENT_LOGGER_NAME).setLevel(logging.ERROR)  # the replay client warns at each tool call
SEARCHES: list[str] = []


async def search(query: str) -> str:
    """Find passages about the query."""
    SEARCHES.append(query)
    return f"something about {query}, but there is more"


def insatiable_model() -> ReplayChatCompletionClient:
    """Stands in for OpenAIChatCompletionClient(model="gpt-4.1-mini")."""
    replies = [
        CreateResult(
            finish_reason="function_calls",
            content=[FunctionCall(id=f"call_{i}", name="search", arguments=f'{{"query": "gzip, part {i}"}}')],
            usage=RequestUsage(prompt_tokens=200, completion_tokens=20),
            cached=False,
        )
        for i in range(1, 41)
    ]
    info = ModelInfo(vision=False, function_calling=True, json_output=False, structured_output=False, family="unknown")
    return ReplayChatCompletionClient(replies, model_info=info)


def agent_as_you_write_it() -> AssistantAgent:
    """Nothing of crew_guard in here."""
    return AssistantAgent("seeker", insatiable_model(), tools=[search], max_tool_iterations=40)


def main() -> None:
    """The same agent twice: on its own, then bounded."""
    asyncio.run(agent_as_you_write_it().run(task="What is gzip?"))
    print(f"on its own: {len(SEARCHES)} searches")

    SEARCHES.clear()
    guarded = guard(agent_as_you_write_it(), policy=Policy(limits=Limits(max_steps=6, max_tool_calls=4)))
    result = guarded.run("What is gzip?")
    print(f"guarded:    {len(SEARCHES)} searches, {result.usage.steps} model calls")
    print(f"it ended because of {result.stopped}")


if __name__ == "__main__":
    main()
