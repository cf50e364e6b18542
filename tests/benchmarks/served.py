"""A provider that counts what it serves, and always wants another tool call: a new one, or it would go in circles."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from crew_guard.core.messages import JsonObject, Message, ModelReply, ModelRequest, ToolRequest, ToolSpec
from crew_guard.core.tools import tool
from crew_guard.core.usage import FREE, Rates, Usage


class Provider:
    """Bills its prompts exactly and up to `talks` completion tokens a call; its own meter is the truth."""

    name = "scripted:provider"
    window = None
    streams = False

    def __init__(
        self,
        *,
        talks: int = 1_000,
        latency: float = 0.0,
        tools_a_turn: int = 1,
        turns: int = 1 << 60,
        reports: bool = True,
        rates: Rates = FREE,
    ) -> None:
        self.rates = rates
        self.calls = 0
        self.tokens = 0
        self.nano_usd = 0
        self._talks = talks
        self._latency = latency
        self._tools = tools_a_turn
        self._turns = turns
        self._reports = reports

    def bound(self, message: Message) -> int:
        return 20 + len(message.text) // 4

    def bound_request(self, tools: Sequence[ToolSpec], output_schema: JsonObject | None) -> int:
        return 900

    async def complete(self, request: ModelRequest, max_tokens: int, on_text: Callable[[str], None]) -> ModelReply:
        self.calls += 1
        usage = Usage(input_tokens=request.prompt_tokens, output_tokens=min(max_tokens, self._talks))
        # Billed as soon as it begins: a provider doesn't take back what it made.
        self.tokens += usage.tokens
        self.nano_usd += self.rates.price(usage)
        if self._latency:
            await asyncio.sleep(self._latency)
        reported = usage if self._reports else None
        if self.calls > self._turns:
            return ModelReply("done", (), reported)
        wanted = tuple(
            ToolRequest(f"t{self.calls}_{i}", "look", f'{{"query": "x{self.calls}_{i}"}}') for i in range(self._tools)
        )
        return ModelReply("", wanted, reported)


EXECUTED: list[Any] = []


@tool
async def look(query: str) -> str:
    """Look it up."""
    EXECUTED.append(query)
    return "found"
