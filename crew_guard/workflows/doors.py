"""The gate as one attempt at a node sees it: shut when the attempt is given up, whatever of it goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

from crew_guard.core.actions import Action, Grant
from crew_guard.core.decisions import Stop
from crew_guard.core.events import AgentStep
from crew_guard.core.messages import ModelReply, ModelRequest
from crew_guard.core.tools import Tool
from crew_guard.core.verdicts import Verdict
from crew_guard.errors import LimitExceededError
from crew_guard.ports import CallTerms, Gate, Model, ToolResult
from crew_guard.workflows.context import NodeContext


@contextmanager
def opened(context: NodeContext, attempt: int = 1, problem: str = "") -> Generator[NodeContext]:
    """The context of one attempt. Where the attempt fails, or is cancelled, its gate is shut from then on.

    Args:
        context: of all its node's attempts
        attempt: the first one is 1
        problem: why the one before was not good enough
    """
    door = Door(context.gate, context.node)
    try:
        yield replace(context, gate=cast("Gate", door), attempt=attempt, problem=problem)
    except BaseException:
        door.shut = True
        raise


@dataclass(slots=True)
class Door:
    """A gate that can be shut: then who acts is refused, and what was judged is nobody's verdict any more."""

    gate: Gate
    node: str
    shut: bool = False

    async def admit(self, action: Action) -> Grant:
        """See Gate.admit."""
        await self._passed()
        return await self.gate.admit(action)

    def admit_blocking(self, action: Action) -> Grant:
        """See Gate.admit_blocking."""
        if self.shut:
            time.sleep(_PAUSE)
            raise self._refusal
        return self.gate.admit_blocking(action)

    async def delegate(self, agent: str, to: str, task: str, work: Callable[[], Awaitable[str]]) -> str:
        """See Gate.delegate."""
        await self._passed()
        return await self.gate.delegate(agent, to, task, work)

    async def call_model(self, agent: str, model: Model, request: ModelRequest, terms: CallTerms) -> ModelReply:
        """See Gate.call_model."""
        await self._passed()
        return await self.gate.call_model(agent, model, request, terms)

    async def call_tool(self, agent: str, tool: Tool, arguments: str | Mapping[str, Any]) -> ToolResult:
        """See Gate.call_tool."""
        await self._passed()
        return await self.gate.call_tool(agent, tool, arguments)

    def judged(self, agent: str, task: str, verdict: Verdict) -> None:
        """See Gate.judged."""
        if not self.shut:
            self.gate.judged(agent, task, verdict)

    def moved(self, agent: str, task: str, step: AgentStep) -> None:
        """See Gate.moved."""
        if not self.shut:
            self.gate.moved(agent, task, step)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.gate, name)

    async def _passed(self) -> None:
        if self.shut:
            await asyncio.sleep(_PAUSE)
            raise self._refusal

    @property
    def _refusal(self) -> LimitExceededError:
        detail = f"this attempt at {self.node} was given up"
        return LimitExceededError(Stop("cancelled", f"node:{self.node}", detail=detail))


_PAUSE = 0.0005
"""Seconds before a refusal: who asks again and again leaves the loop, or the other threads, some time."""
