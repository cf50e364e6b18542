"""A LlamaIndex agent as it is written without crew_guard, and the one line that bounds it.

pip install 'crew-guard[llama-index]' && python examples/guard_llama_index.py
"""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, ToolCallBlock
from llama_index.core.llms.mock import MockFunctionCallingLLM

from crew_guard import Limits, Policy, guard

SEARCHES: list[str] = []
ENOUGH = 40


async def search(query: str) -> str:
    """Find passages about the query."""
    SEARCHES.append(query)
    return f"something about {query}, but there is more"


def insatiable_model() -> MockFunctionCallingLLM:
    """Stands in for OpenAI(model="gpt-4.1-mini"): again and again it wants another search."""
    numbers = itertools.count(1)

    def answer(_messages: Sequence[ChatMessage], **_: Any) -> ChatMessage:
        number = next(numbers)
        if number > ENOUGH:
            return ChatMessage("That is all.", role="assistant")
        wish = ToolCallBlock(
            tool_call_id=f"call_{number}", tool_name="search", tool_kwargs={"query": f"gzip, part {number}"}
        )
        return ChatMessage(role="assistant", blocks=[wish])

    return MockFunctionCallingLLM(response_generator=answer)


def agent_as_you_write_it() -> FunctionAgent:
    """Nothing of crew_guard in here."""
    return FunctionAgent(name="seeker", tools=[search], llm=insatiable_model())


async def on_its_own() -> None:
    await agent_as_you_write_it().run(user_msg="What is gzip?", max_iterations=50)


def main() -> None:
    """The same agent twice: on its own, then bounded."""
    asyncio.run(on_its_own())
    print(f"on its own: {len(SEARCHES)} searches")

    SEARCHES.clear()
    guarded = guard(agent_as_you_write_it(), policy=Policy(limits=Limits(max_steps=6, max_tool_calls=4)))
    result = guarded.run("What is gzip?")
    print(f"guarded:    {len(SEARCHES)} searches, {result.usage.steps} model calls")
    print(f"it ended because of {result.stopped}")


if __name__ == "__main__":
    main()
