"""Acting through the gate: a model call with its attempts, a tool execution with its thread."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import count
from types import CoroutineType
from typing import Any

from crew_guard.core.actions import Action, Grant, Handoff, ModelCall, Outcome, ToolCall
from crew_guard.core.content import PASSED, Check, Place
from crew_guard.core.events import AgentStep, Side
from crew_guard.core.headroom import Remaining
from crew_guard.core.messages import ModelReply, ModelRequest, opening
from crew_guard.core.plain import error_text, error_words, listed
from crew_guard.core.roles import Verdict
from crew_guard.core.tools import Tool, result_text
from crew_guard.errors import CrewGuardError, ModelError, RefusedError, RuntimeFailedError, is_fault
from crew_guard.loops import is_being_cancelled
from crew_guard.ports import CallTerms, Model, ToolResult
from crew_guard.supervisor.flowing import RunFlow, pause
from crew_guard.supervisor.gate import Gatekeeper, inside
from crew_guard.supervisor.handing import delegate
from crew_guard.threads import in_thread
from crew_guard.workflows.overdue import OverdueError, within

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_LONGEST_WISH = 120.0
"""Seconds that a provider's own wish is heeded."""
_threads = count()
"""Of all that was ever named."""


@dataclass(frozen=True, slots=True)
class RunGate:
    """The Gate of ports: one side's door, the crew's or its workflow's, to the run's gatekeeper."""

    keeper: Gatekeeper
    side: Side

    def admit(self, action: Action) -> CoroutineType[Any, Any, Grant]:
        """See Gate.admit."""
        return self.keeper.admit(action, self.side)

    def admit_blocking(self, action: Action) -> Grant:
        """See Gate.admit_blocking."""
        return self.keeper.admit_blocking(action, self.side)

    def settle(self, grant: Grant, outcome: Outcome) -> None:
        """See Gate.settle."""
        self.keeper.settle(grant, outcome)

    def progress(self, grant: Grant | None = None, text: str = "") -> None:
        """See Gate.progress."""
        self.keeper.progress(grant, text)

    def moved(self, agent: str, task: str, step: AgentStep) -> None:
        """See Gate.moved."""
        self.keeper.moved(agent, task, step)

    def flow(self, workflow: str) -> RunFlow:
        """See Gate.flow."""
        return RunFlow(self.keeper, self.side, workflow)

    def judged(self, agent: str, task: str, verdict: Verdict) -> None:
        """See Gate.judged."""
        self.keeper.judged(agent, task, verdict, self.side)

    async def check(self, place: Place, agent: str, target: str, value: Any) -> Check:
        """See Gate.check."""
        guarding = self.keeper.guarding
        return PASSED if guarding is None else await guarding.check(self, place, agent, target, value)

    def check_blocking(self, place: Place, agent: str, target: str, value: Any) -> Check:
        """See Gate.check_blocking."""
        guarding = self.keeper.guarding
        return PASSED if guarding is None else guarding.check_blocking(self, place, agent, target, value)

    def remaining(self, agent: str) -> Remaining:
        """See Gate.remaining."""
        return self.keeper.headroom.remaining(self.side, agent)

    def notices(self, agent: str) -> tuple[str, ...]:
        """See Gate.notices."""
        circles = self.keeper.circles.notices
        budget = self.keeper.headroom.notice(self.side, agent)
        if budget is None and not circles:
            return ()
        circle = circles.pop(agent, None)
        return () if circle is None and budget is None else tuple(text for text in (circle, budget) if text)

    async def delegate(self, agent: str, to: str, task: str, work: Callable[[], Awaitable[str]]) -> str:
        """See Gate.delegate."""
        return await delegate(self.keeper, self.side, Handoff(agent, to, task), work)

    async def call_model(self, agent: str, model: Model, request: ModelRequest, terms: CallTerms) -> ModelReply:
        """See Gate.call_model."""
        wanted = self._completion(model, request, terms)
        last = self.keeper.policy.attempts
        called = _registered_as(model) if self.keeper.policy.weighs_prices else ""
        for attempt in range(1, last + 1):
            grant = await self.keeper.admit(
                ModelCall(
                    agent,
                    model.name,
                    request.prompt_tokens,
                    wanted,
                    terms.min_tokens,
                    model.rates,
                    streams=model.streams,
                    attempt=attempt,
                    conversation=partial(opening, request.messages),
                    registered_as=called,
                ),
                self.side,
            )
            try:
                return await self._attempt(grant, model, request)
            except ModelError as error:
                if attempt == last or not error.retryable:
                    raise
                await self._pause(error, attempt)
        raise AssertionError("attempts is at least 1")

    def _completion(self, model: Model, request: ModelRequest, terms: CallTerms) -> int:
        wanted = terms.max_tokens or self.keeper.policy.completion_default
        if model.window is None:
            return wanted
        room = model.window - request.prompt_tokens
        if room < 1:
            raise ModelError(
                f"the prompt of up to {request.prompt_tokens:,} tokens does not fit the window of {model.name}, "
                f"{model.window:,} tokens",
                kind="rejected",
            )
        return min(wanted, room)

    async def _attempt(self, grant: Grant, model: Model, request: ModelRequest) -> ModelReply:
        try:
            reply = await model.complete(request, grant.max_tokens, self.keeper.hearer(grant))
        except ModelError as error:
            status = "failed" if error.charged else "rejected"
            text = f"{error.text}\n{error_text(error)}".strip()
            self.keeper.settle(grant, Outcome(status, text=text, fault=is_fault(error)))
            raise
        except (asyncio.CancelledError, GeneratorExit):
            self.keeper.settle(grant, Outcome("cancelled"))
            raise
        except CrewGuardError as error:
            self.keeper.settle(grant, Outcome("rejected", text=error_text(error)))
            raise
        except BaseException as error:
            # A fault of the client's own code: trying again would only pay for it again.
            words = error_words(error)
            self.keeper.settle(grant, Outcome("failed", text=words))
            raise RuntimeFailedError(f"{model.name} raised {words}") from error
        asked = tuple((request.id, request.name, request.arguments) for request in reply.tool_requests)
        self.keeper.settle(grant, Outcome("ok", reply.usage, reply.parts, reply.text, asked))
        return reply

    async def _pause(self, error: ModelError, attempt: int) -> None:
        """Wait before the next attempt: as long as the provider asked, else twice as long each time."""
        seconds = min(_FIRST_PAUSE * 2 ** (attempt - 1), _LONGEST_PAUSE)
        if error.retry_after is not None:
            seconds = min(max(0.0, error.retry_after), _LONGEST_WISH)
        await pause(self.keeper, seconds)

    async def call_tool(self, agent: str, tool: Tool, arguments: str | Mapping[str, Any]) -> ToolResult:
        """See Gate.call_tool. Arguments that don't fit are told to the agent, and start no execution."""
        text = arguments if isinstance(arguments, str) else json.dumps(dict(arguments), default=str)
        try:
            values = tool.parse(text)
        except ValueError as error:
            return ToolResult(str(error), failed=True)
        action = ToolCall(agent, tool.name, text, tool.irreversible, nano_usd=tool.nano_usd)
        grant = await self.keeper.admit(action, self.side)
        token = inside.set((self.keeper, grant.action_id))
        try:
            result = await self._execute(grant, tool, values)
        except RefusedError as error:
            self.keeper.settle(grant, Outcome("failed", text=error_text(error)))
            raise
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
                self.keeper.settle(grant, Outcome("cancelled"))
                raise
            result = ToolResult(f"{tool.name} failed: {error_words(error)}"[:2000], failed=True)
        finally:
            inside.reset(token)
        if self.keeper.guarding is not None:
            try:
                result = await self.keeper.guarding.tool_result(self, agent, tool, result)
            except asyncio.CancelledError:
                self.keeper.settle(grant, Outcome("cancelled"))
                raise
        self.keeper.settle(grant, Outcome("failed" if result.failed else "ok", text=result.text))
        return result

    async def _execute(self, grant: Grant, tool: Tool, values: dict[str, Any]) -> ToolResult:
        seconds = tool.max_seconds
        if grant.max_seconds is not None:
            seconds = grant.max_seconds if seconds is None else min(seconds, grant.max_seconds)
        call = tool.function(**values) if tool.is_async else self._threaded(grant, tool, values)
        try:
            value = await (call if seconds is None else within(seconds, call, partial(self.in_thread, grant)))
        except OverdueError:
            return ToolResult(f"{tool.name} was ended after {seconds:g} s, its max_seconds", failed=True)
        return ToolResult(result_text(value, tool.max_result_chars), value)

    async def _threaded(self, grant: Grant, tool: Tool, values: dict[str, Any]) -> Any:
        def tracked(**arguments: Any) -> Any:
            try:
                return listed(tool.function(**arguments))
            finally:
                over()

        over = self.in_thread(grant)
        return await in_thread(tracked, **values)

    def in_thread(self, work: Grant | str, *, around: bool = False) -> Callable[[], object]:
        """See Gate.in_thread."""
        threads, key = self.keeper.around if around else self.keeper.threads, f"thread {next(_threads)}"
        threads[key] = work if isinstance(work, str) else f"{work.action.agent}/{work.action.target}"
        return partial(threads.pop, key, None)


def _registered_as(model: Model) -> str:
    """What its user calls a model, where that is another name than its own."""
    name: object = getattr(model, "registered_as", "")
    return name if isinstance(name, str) else ""
