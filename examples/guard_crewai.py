"""A CrewAI agent that never has enough, and the one line that bounds it.

Runs offline: the model is a class of our own that asks for the tool again and again.
"""

import json
import os
from types import SimpleNamespace
from typing import Any

os.environ["CREWAI_DISABLE_TELEMETRY"] = "true"
os.environ["CREWAI_DISABLE_TRACKING"] = "true"

from crewai import Agent, BaseLLM
from crewai.tools import tool

from crew_guard import Limits, Policy, guard

SEARCHES: list[str] = []


@tool
def search(query: str) -> str:
    """Find passages about the query."""
    SEARCHES.append(query)
    return f"something about {query}, but there is more"


class InsatiableModel(BaseLLM):
    """Stands in for LLM(model="gpt-4.1-mini")."""

    def call(self, messages: Any, tools: Any = None, *_: Any, **__: Any) -> Any:
        """Ask for the tool; CrewAI reads usage from the counters that a model keeps."""
        self._track_token_usage_internal({"prompt_tokens": 200, "completion_tokens": 20, "total_tokens": 220})
        if not tools:
            return "I would have liked to look further."
        request = {"name": "search", "arguments": json.dumps({"query": f"gzip, part {len(SEARCHES) + 1}"})}
        return [SimpleNamespace(id=f"call_{len(SEARCHES)}", type="function", function=SimpleNamespace(**request))]

    def supports_function_calling(self) -> bool:
        """With native tool calls."""
        return True

    def get_input_tokens_count(self, messages: Any, *_: Any) -> int:
        """What CrewAI asks before each call, to keep within the model's window."""
        return len(str(messages)) // 4


def agent_as_you_write_it() -> Agent:
    """Nothing of crew_guard in here."""
    model = InsatiableModel(model="insatiable", provider="custom")
    return Agent(role="Seeker", goal="Know it all", backstory="You look things up.", llm=model, tools=[search])


def main() -> None:
    """The same agent twice: on its own, then bounded."""
    agent_as_you_write_it().kickoff("What is gzip?")
    print(f"on its own: {len(SEARCHES)} searches")

    SEARCHES.clear()
    guarded = guard(agent_as_you_write_it(), policy=Policy(limits=Limits(max_steps=6, max_tool_calls=4)))
    result = guarded.run("What is gzip?")
    print(f"guarded:    {len(SEARCHES)} searches, {result.usage.steps} model calls")
    print(f"it ended because of {result.stopped}")


if __name__ == "__main__":
    main()
