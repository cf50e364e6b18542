"""AutoGen agents who research side by side and never have enough, and the one line that bounds them all together.

Runs offline: the models are AutoGen's own replay clients, which ask for the tool again and again.
Needs pip install 'crew-guard[autogen]' autogen-ext.
"""

import asyncio
import logging

from autogen_agentchat import EVENT_LOGGER_NAME as AGENT_EVENTS
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import TokenUsageTermination
from autogen_agentchat.teams import DiGraphBuilder, GraphFlow
from autogen_core import EVENT_LOGGER_NAME, FunctionCall
from autogen_core.models import CreateResult, ModelInfo, RequestUsage
from autogen_ext.models.replay import ReplayChatCompletionClient

from crew_guard import Limits, Policy, guard

for name in (EVENT_LOGGER_NAME, AGENT_EVENTS, "autogen_core"):
    logging.getLogger(name).setLevel(logging.CRITICAL)  # AutoGen logs each refusal, and the replay client each call
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
        for i in range(1, 11)
    ]
    info = ModelInfo(vision=False, function_calling=True, json_output=False, structured_output=False, family="unknown")
    return ReplayChatCompletionClient(replies, model_info=info)


def team_as_you_write_it() -> GraphFlow:
    """Nothing of crew_guard in here: four agents at once, and AutoGen's own condition on their tokens."""
    graph = DiGraphBuilder()
    for i in range(4):
        graph.add_node(AssistantAgent(f"seeker_{i}", insatiable_model(), tools=[search], max_tool_iterations=10))
    limit = TokenUsageTermination(max_total_token=1_000)
    return GraphFlow(graph.get_participants(), graph.build(), termination_condition=limit)


def main() -> None:
    """The same team twice: on its own, then bounded."""
    asyncio.run(team_as_you_write_it().run(task="What is gzip?"))
    print(f"on its own: {len(SEARCHES)} searches")

    SEARCHES.clear()
    guarded = guard(team_as_you_write_it(), policy=Policy(limits=Limits(max_steps=12, max_tool_calls=4)))
    result = guarded.run("What is gzip?")
    print(f"guarded:    {len(SEARCHES)} searches, {result.usage.steps} model calls")
    print(f"it ended because of {result.stopped}")


if __name__ == "__main__":
    main()
