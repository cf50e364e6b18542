"""CrewAI agents that would rather not be bounded."""

import json
import os
import threading
import time

os.environ["CREWAI_DISABLE_TELEMETRY"] = "true"
os.environ["OTEL_SDK_DISABLED"] = "true"
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

from crewai import Agent, Crew, Task
from crewai.llms.base_llm import BaseLLM
from crewai.tools import BaseTool
from openai.types.chat import ChatCompletionMessageFunctionToolCall as ToolRequest
from pydantic import PrivateAttr

from tests.adapters.loopback import Served

BACKSTORY = "You look things up until you know everything there is to know. " * 18
"""Longer in tokens than the 1,000 that the doubles bill for a prompt, counted in bytes."""


class HungryLLM(BaseLLM):
    """Always wants another tool, and bills what its max_tokens lets it."""

    native: bool = True
    answer_after: int | None = None
    reports: bool = True
    parallel: int = 1
    tool: str = "look"
    _served: Served = PrivateAttr(default_factory=Served)

    def __init__(self, **options):
        super().__init__(**{"model": "hungry", "provider": "custom", **options})

    @property
    def served(self):
        return self._served

    def longest(self):
        return self.max_tokens

    def call(
        self,
        messages,
        tools=None,
        callbacks=None,
        available_functions=None,
        from_task=None,
        from_agent=None,
        response_model=None,
    ):
        number, completion = self._served.bill(self.longest())
        if self.reports:
            self._track_token_usage_internal(
                {
                    "prompt_tokens": self._served.prompt,
                    "completion_tokens": completion,
                    "total_tokens": self._served.prompt + completion,
                }
            )
        if self.answer_after is not None and number > self.answer_after:
            return "done" if self.native else "Thought: I know.\nFinal Answer: done"
        if not self.native:
            return f'Thought: I must look.\nAction: look\nAction Input: {{"query": "q{number}"}}'
        return [
            ToolRequest.model_validate(
                {
                    "id": f"c{number}.{i}",
                    "type": "function",
                    "function": {"name": self.tool, "arguments": self._arguments(f"q{number}.{i}")},
                }
            )
            for i in range(self.parallel)
        ]

    def _arguments(self, query):
        delegates = {"task": query, "context": "none", "coworker": "Worker"}
        return json.dumps({"query": query} if self.tool == "look" else delegates)

    def supports_function_calling(self):
        return self.native

    def supports_stop_words(self):
        return False

    def get_context_window_size(self):
        return 1_000_000


class HeedlessLLM(HungryLLM):
    """Has no notion of a length."""

    def longest(self):
        return None


class ActingLLM(HungryLLM):
    """Does what its script says: `does` is called with the number of the call and the prompt, and gives the reply."""

    _does: object = PrivateAttr(default=None)

    def __init__(self, does, **options):
        super().__init__(**options)
        self._does = does

    def call(self, messages, tools=None, callbacks=None, *args, from_agent=None, **kwargs):
        with self._served.lock:
            self._served.calls += 1
            number, completion = self._served.calls, min(10, self.longest() or 10)
            self._served.tokens += self._served.prompt + completion
        usage = {"prompt_tokens": self._served.prompt, "completion_tokens": completion}
        self._track_token_usage_internal({**usage, "total_tokens": sum(usage.values())})
        return self._does(number, messages)

    async def acall(self, *args, **kwargs):
        return self.call(*args, **kwargs)


def request(name, number=1, **arguments):
    """A native tool call."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    return ToolRequest.model_validate({"id": f"t{number}", "type": "function", "function": function})


def answering(text="done"):
    """A model that answers at once."""
    return ActingLLM(lambda number, messages: text)


class Look(BaseTool):
    """A tool that counts its executions."""

    name: str = "look"
    description: str = "Look something up."
    fails: bool = False
    _executions: list = PrivateAttr(default_factory=list)

    @property
    def executions(self):
        return self._executions

    def _run(self, query: str) -> str:
        self._executions.append(query)
        if self.fails:
            raise RuntimeError("the index is gone")
        return f"found {query}"


def hungry_agent(llm, tools=None, **options):
    """An agent with one tool."""
    tools = [Look()] if tools is None else tools
    options = {"role": "Seeker ", "goal": "know", "backstory": BACKSTORY, "max_iter": 40, **options}
    return Agent(llm=llm, tools=tools, **options)


def hungry_crew(agent, **options):
    """A crew of one agent and one task."""
    task = Task(description="Find everything about {topic}.", expected_output="everything", agent=agent, name="find")
    return Crew(agents=[agent], tasks=[task], **options)


def eventually(condition):
    """A thread that was left behind says when it is through: this waits for it."""
    end = time.monotonic() + 30
    while not condition() and time.monotonic() < end:
        threading.Event().wait(0.005)
    assert condition()
