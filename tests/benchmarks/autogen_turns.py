"""AutoGen's AssistantAgent on a model of zero latency: the peer of the overhead table."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_core import FunctionCall
from autogen_core.models import (
    ChatCompletionClient,
    CreateResult,
    ModelFamily,
    ModelInfo,
    RequestUsage,
)


class ZeroLatency(ChatCompletionClient):
    """Always wants another tool call, until it has been asked often enough."""

    def __init__(self, turns: int, latency: float = 0.0) -> None:
        self.turns, self.latency = turns, latency
        self.calls = 0

    async def create(self, messages: Sequence[Any], **options: Any) -> CreateResult:
        if self.latency:
            await asyncio.sleep(self.latency)
        self.calls += 1
        usage = RequestUsage(prompt_tokens=100, completion_tokens=20)
        if self.calls > self.turns:
            return CreateResult(finish_reason="stop", content="done", usage=usage, cached=False)
        call = FunctionCall(id=f"c{self.calls}", name="look", arguments='{"query": "x"}')
        return CreateResult(finish_reason="function_calls", content=[call], usage=usage, cached=False)

    def create_stream(self, messages: Sequence[Any], **options: Any) -> AsyncGenerator[str | CreateResult, None]:
        raise NotImplementedError

    async def close(self) -> None: ...

    def actual_usage(self) -> RequestUsage:
        return RequestUsage(0, 0)

    def total_usage(self) -> RequestUsage:
        return RequestUsage(0, 0)

    def count_tokens(self, messages: Sequence[Any], **options: Any) -> int:
        return 0

    def remaining_tokens(self, messages: Sequence[Any], **options: Any) -> int:
        return 100_000

    @property
    def capabilities(self) -> Any:
        return self.model_info

    @property
    def model_info(self) -> ModelInfo:
        return ModelInfo(
            vision=False, function_calling=True, json_output=True, family=ModelFamily.UNKNOWN, structured_output=True
        )


async def look(query: str) -> str:
    """Look it up."""
    return "found"


def autogen_turn_seconds(turns: int) -> float:
    """CPU seconds that one turn (a model call and a tool call) takes."""
    client = ZeroLatency(turns)
    agent = AssistantAgent("agent", client, tools=[look], max_tool_iterations=turns + 1)

    async def run() -> float:
        began = time.process_time()
        await agent.run(task="go")
        return time.process_time() - began

    spent = asyncio.run(run())
    if client.calls < turns:
        raise RuntimeError(f"AutoGen made {client.calls} of {turns} turns")
    return spent / turns


__all__: Mapping[str, Any] | list[str] = ["autogen_turn_seconds"]
