"""A LangChain agent that never has enough, and the one line that bounds it.

Runs offline: the model is a few lines, and asks for the tool again and again.
Needs pip install 'crew-guard[langgraph]'.
"""

from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.errors import GraphRecursionError

from crew_guard import Limits, Policy, guard

SEARCHES: list[str] = []


@tool
def search(query: str) -> str:
    """Find passages about the query."""
    SEARCHES.append(query)
    return f"something about {query}, but there is more"


class InsatiableModel(BaseChatModel):
    """Stands in for ChatOpenAI(model="gpt-4.1-mini")."""

    @property
    def _llm_type(self) -> str:
        return "insatiable"

    def bind_tools(self, *_tools: Any, **_options: Any) -> Any:
        """It knows that there is a tool."""
        return self

    def _generate(self, messages: Any, *_: Any, **_options: Any) -> ChatResult:
        part = len(messages)
        call = {"name": "search", "args": {"query": f"gzip, part {part}"}, "id": f"call_{part}"}
        usage = {"input_tokens": 200, "output_tokens": 20, "total_tokens": 220}
        reply = AIMessage("", tool_calls=[call], usage_metadata=usage)
        return ChatResult(generations=[ChatGeneration(message=reply)])


def agent_as_you_write_it() -> Any:
    """Nothing of crew_guard in here."""
    return create_agent(InsatiableModel(), [search], name="seeker")


def main() -> None:
    """The same agent twice: on its own, with LangGraph's own limit lowered from 10,000 steps, then bounded."""
    try:
        agent_as_you_write_it().invoke({"messages": [("user", "What is gzip?")]}, {"recursion_limit": 80})
    except GraphRecursionError:
        print(f"on its own: {len(SEARCHES)} searches")

    SEARCHES.clear()
    guarded = guard(agent_as_you_write_it(), policy=Policy(limits=Limits(max_steps=6, max_tool_calls=4)))
    result = guarded.run("What is gzip?")
    print(f"guarded:    {len(SEARCHES)} searches, {result.usage.steps} model calls")
    print(f"it ended because of {result.stopped}")


if __name__ == "__main__":
    main()
