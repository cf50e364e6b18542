"""A CrewAI flow whose methods build what they need, and the one line that bounds all of it.

Runs offline: the model is a class of our own. It stands in a closure, where nothing but the flow's
own code can see it, and a crew made inside of a method asks it again and again.
"""

import json
import os
from types import SimpleNamespace
from typing import Any

os.environ["CREWAI_DISABLE_TELEMETRY"] = "true"
os.environ["CREWAI_DISABLE_TRACKING"] = "true"

from crewai import Agent, BaseLLM, Crew, Task
from crewai.flow.flow import Flow, listen, start
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
            return "gzip"
        request = {"name": "search", "arguments": json.dumps({"query": f"gzip, part {len(SEARCHES) + 1}"})}
        return [SimpleNamespace(id=f"call_{len(SEARCHES)}", type="function", function=SimpleNamespace(**request))]

    def supports_function_calling(self) -> bool:
        """With native tool calls."""
        return True

    def get_input_tokens_count(self, messages: Any, *_: Any) -> int:
        """What CrewAI asks before each call, to keep within the model's window."""
        return len(str(messages)) // 4


def flow_as_you_write_it() -> Flow:
    """Nothing of crew_guard in here."""
    model = InsatiableModel(model="insatiable", provider="custom")

    class Research(Flow):
        @start()
        def choose(self) -> Any:
            return model.call("Choose a topic.")

        @listen(choose)
        def look(self, topic: str) -> str:
            seeker = Agent(role="Seeker", goal="Know it all", backstory="You look up.", llm=model, tools=[search])
            task = Task(description=f"What is {topic}?", expected_output="everything", agent=seeker)
            return str(Crew(agents=[seeker], tasks=[task]).kickoff())

    return Research()


def main() -> None:
    """The same flow twice: on its own, then bounded."""
    flow_as_you_write_it().kickoff()
    print(f"on its own: {len(SEARCHES)} searches")

    SEARCHES.clear()
    guarded = guard(flow_as_you_write_it(), policy=Policy(limits=Limits(max_steps=6, max_tool_calls=4)))
    result = guarded.run()
    print(f"guarded:    {len(SEARCHES)} searches, {result.usage.steps} model calls")
    for name, usage in result.agents.items():
        print(f"  {name}: {usage.steps} model calls, {usage.tool_calls} tool calls")
    print(f"it ended because of {result.stopped}")


if __name__ == "__main__":
    main()
