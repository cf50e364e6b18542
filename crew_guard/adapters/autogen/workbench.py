"""A workbench whose every tool execution passes the gate.

A refusal is an error result, not an exception: AssistantAgent's tool loop waits for ever for a
workbench that raises. The agent may go on; the latch answers what it asks for next.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from autogen_core import CancellationToken
from autogen_core.tools import (
    BaseStreamTool,
    BaseTool,
    ImageResultContent,
    StaticStreamWorkbench,
    StaticWorkbench,
    TextResultContent,
    ToolResult,
    ToolSchema,
    Workbench,
)
from pydantic import ValidationError

from crew_guard.core.actions import Grant, Outcome, ToolCall
from crew_guard.core.content import withheld
from crew_guard.errors import RefusedError
from crew_guard.ports import Gate

_RESULT_CHARS = 20_000
"""What the journal keeps of a result."""
_VALIDATING: tuple[tuple[str, object], ...] = tuple(
    (run, vars(base)[run]) for base, run in ((BaseTool, "run_json"), (BaseStreamTool, "run_json_stream"))
)
"""The methods that check a tool's arguments before they run it."""


def gated_workbench(workbench: Workbench, agent: str, gate: Gate) -> Workbench:
    """The same workbench under a gate."""
    kind = _GatedStatic if isinstance(workbench, StaticStreamWorkbench) else _Gated
    return kind(workbench, agent, gate)


def is_gated(value: object) -> bool:
    """Whether an agent's attribute holds gated workbenches."""
    first = value[0] if isinstance(value, list) and value else value  # pyright: ignore[reportUnknownVariableType]
    return isinstance(first, _Gated)


class _Gated(Workbench):
    component_type = "workbench"

    def __init__(self, inner: Workbench, agent: str, gate: Gate) -> None:
        self._inner = inner
        self._agent = agent
        self._gate = gate

    async def list_tools(self) -> list[ToolSchema]:
        return await self._inner.list_tools()

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        cancellation_token: CancellationToken | None = None,
        call_id: str | None = None,
    ) -> ToolResult:
        if not _starts(self._inner, name, arguments or {}):
            return await self._inner.call_tool(name, arguments, cancellation_token, call_id)
        try:
            grant = await self._admit(name, arguments)
        except RefusedError as error:
            return _refused(name, error)
        try:
            result = await self._inner.call_tool(name, arguments, cancellation_token, call_id)
        except BaseException as error:
            self._ended(grant, error)
            raise
        result = await self._guarded(grant, name, result)
        self._settle(grant, result)
        return result

    async def _admit(self, name: str, arguments: Mapping[str, Any] | None) -> Grant:
        return await self._gate.admit(ToolCall(self._agent, name, json.dumps(dict(arguments or {}), default=str)))

    async def _guarded(self, grant: Grant, name: str, result: ToolResult) -> ToolResult:
        """What the agent may read of a result."""
        parts: list[TextResultContent | ImageResultContent] = []
        try:
            for part in result.result:
                if isinstance(part, TextResultContent):
                    check = await self._gate.check("tool_results", self._agent, name, part.content)
                    if check.outcome == "reject":
                        text = TextResultContent(content=withheld(name, check))
                        return ToolResult(name=name, result=[text], is_error=True)
                    parts.append(TextResultContent(content=check.value) if check.outcome == "fix" else part)
                else:
                    parts.append(part)
        except BaseException as error:
            self._ended(grant, error)
            raise
        return result if parts == result.result else result.model_copy(update={"result": parts})

    def _settle(self, grant: Grant, result: ToolResult) -> None:
        text = result.to_text(replace_image="[image]")[:_RESULT_CHARS]
        self._gate.settle(grant, Outcome("failed" if result.is_error else "ok", text=text))

    def _ended(self, grant: Grant, error: BaseException) -> None:
        status = "cancelled" if isinstance(error, asyncio.CancelledError | GeneratorExit) else "failed"
        self._gate.settle(grant, Outcome(status, text=f"{type(error).__name__}: {error}"))

    async def start(self) -> None:
        await self._inner.start()

    async def stop(self) -> None:
        await self._inner.stop()

    async def reset(self) -> None:
        await self._inner.reset()

    async def save_state(self) -> Mapping[str, Any]:
        return await self._inner.save_state()

    async def load_state(self, state: Mapping[str, Any]) -> None:
        await self._inner.load_state(state)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _GatedStatic(_Gated, StaticStreamWorkbench):
    """AssistantAgent streams from a StaticStreamWorkbench only, so this has to be one."""

    async def call_tool_stream(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        cancellation_token: CancellationToken | None = None,
        call_id: str | None = None,
    ) -> AsyncGenerator[Any, None]:
        inner = self._inner
        assert isinstance(inner, StaticStreamWorkbench)  # noqa: S101  gated_workbench saw to it
        events = inner.call_tool_stream(name, arguments, cancellation_token, call_id)
        if not _starts(inner, name, arguments or {}):
            async for event in events:
                yield event
            return
        try:
            grant = await self._admit(name, arguments)
        except RefusedError as error:
            yield _refused(name, error)
            return
        settled = False
        try:
            async for event in events:
                if isinstance(event, ToolResult):
                    event = await self._guarded(grant, name, event)  # noqa: PLW2901  the checked one goes on
                    self._settle(grant, event)
                    settled = True
                else:
                    self._gate.progress()
                yield event
        except BaseException as error:
            if not settled:
                self._ended(grant, error)
            raise


def _starts(workbench: Workbench, name: str, arguments: Mapping[str, Any]) -> bool:
    """Whether a call begins an execution: not if AutoGen turns its arguments down before that."""
    if not isinstance(workbench, StaticWorkbench):
        return True
    tools: list[BaseTool[Any, Any]] = workbench._tools  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    tool = next((tool for tool in tools if tool.name == name), None)
    if tool is None or any(getattr(type(tool), run, validates) is not validates for run, validates in _VALIDATING):
        return True
    try:
        tool.args_type().model_validate(arguments)
    except ValidationError:
        return False
    return True


def _refused(name: str, error: RefusedError) -> ToolResult:
    return ToolResult(name=name, result=[TextResultContent(content=str(error))], is_error=True)
