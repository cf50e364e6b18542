"""A job that several runs go on with, a graph's thread say, has one budget: what one run used, the next has less.

A run that did its job closes it, and so does one that failed where none before it was stopped: the next one on the
same thread begins afresh.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeAlias, TypeVar

from crew_guard.core.decisions import amount
from crew_guard.core.limits import AgentLimits, ToolLimits
from crew_guard.core.policy import Policy
from crew_guard.core.result import Result
from crew_guard.core.usage import NOTHING, Usage
from crew_guard.errors import ConfigError
from crew_guard.promises import Promise
from crew_guard.supervisor.wakeups import done

L = TypeVar("L", bound=AgentLimits)
_Executions: TypeAlias = Callable[[str], Mapping[str, int]]
_MOMENT = 3.0
"""Seconds that a run is waited for that is being ended."""
_ENDING = "that is being ended: leave a stream by `with stream:` or `async with stream:`, which wait for that"


@dataclass(frozen=True, slots=True)
class Spent:
    """What the runs of one job have used so far."""

    usage: Usage = NOTHING
    scopes: Mapping[str, Usage] = field(default_factory=dict[str, Usage])
    """By scope, e.g. agent:NAME. See Result."""
    tools: Mapping[str, int] = field(default_factory=dict[str, int])
    """Executions by tool."""
    seconds: float = 0.0
    """While a run was under way: what a person thinks about an interrupt isn't counted."""

    def plus(self, result: Result, tools: Mapping[str, int]) -> Spent:
        """This and one more run."""
        every = self.scopes.keys() | result.scopes.keys()
        scopes = {scope: self.scopes.get(scope, NOTHING) + result.scopes.get(scope, NOTHING) for scope in every}
        executions = {name: self.tools.get(name, 0) + tools.get(name, 0) for name in self.tools.keys() | tools.keys()}
        return Spent(self.usage + result.usage, scopes, executions, self.seconds + result.seconds)


def left_of(policy: Policy, spent: Spent, job: str) -> Policy:
    """The policy, every limit less by what was spent below it. max_agents stays: who took part takes part again.

    Args:
        job: what refusals call it
    """
    limits = _less(policy.limits, spent.usage)
    if limits.max_seconds is not None:
        limits = limits.model_copy(update={"max_seconds": max(0.0, limits.max_seconds - spent.seconds)})
    scoped = {scope: _less(policy.limits_in(scope), used) for scope, used in spent.scopes.items()}
    tools = {name: _fewer(own, spent.tools.get(name, 0)) for name, own in policy.tools.limits.items()}
    changed: dict[str, Any] = {"limits": limits}
    if tools:
        changed["tools"] = policy.tools.model_copy(update={"limits": tools})
    left = policy.model_copy(update=changed).sourced(policy.sources)
    return left.limiting(scoped).after(_earlier(policy, spent, job))


def _amounts(used: Usage) -> dict[str, int | Decimal]:
    """By the policy's names."""
    return {
        "max_steps": used.steps,
        "max_tool_calls": used.tool_calls,
        "max_tokens": used.tokens,
        "max_usd": used.usd,
    }


def _less(limits: L, used: Usage) -> L:
    amounts = _amounts(used)
    given = {name: cap for name in amounts if (cap := getattr(limits, name)) is not None}
    return limits.model_copy(update={name: max(type(cap)(0), cap - amounts[name]) for name, cap in given.items()})


def _earlier(policy: Policy, spent: Spent, job: str) -> dict[tuple[str, str], str]:
    """What was spent of each limit, in words, by scope and by the policy's name of the limit."""
    run = _amounts(spent.usage) | {"max_seconds": round(spent.seconds, 3)}
    scopes: list[tuple[str, AgentLimits | ToolLimits, Mapping[str, int | float | Decimal]]]
    scopes = [(scope, policy.limits, run) for scope in ("run", "crew")]
    scopes += [(scope, policy.limits_in(scope), _amounts(used)) for scope, used in spent.scopes.items()]
    for name, limits in policy.tools.limits.items():
        scopes.append((f"tool:{name}", limits, {"max_tool_calls": spent.tools.get(name, 0)}))
    return {
        (scope, limit): _EARLIER.format(amount(limit, cap), amount(limit, used), job)
        for scope, limits, amounts in scopes
        for limit, used in amounts.items()
        if used and (cap := getattr(limits, limit)) is not None
    }


_EARLIER = "Of {0}, {1} were used by earlier runs on the thread {2!r}; begin_afresh({2!r}) gives it all of it again"


def _fewer(limits: ToolLimits, executions: int) -> ToolLimits:
    if limits.max_tool_calls is None:
        return limits
    return limits.model_copy(update={"max_tool_calls": max(0, limits.max_tool_calls - executions)})


@dataclass(slots=True)
class _Run:
    """A job's run under way."""

    run_id: str
    is_ending: Callable[[], bool] = lambda: False
    over: Promise[None] = field(default_factory=Promise[None])
    """Kept when the next one may begin."""


class Jobs:
    """The open jobs of one guarded object. Usable from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spent: dict[str, Spent] = {}
        self._running: dict[str, _Run] = {}

    def let_end(self, job: str | None) -> None:
        """Wait a moment for a run of the job that is being ended, where that holds up no event loop."""
        ending = self._ending(job)
        if ending is not None and not _in_a_loop():
            with suppress(TimeoutError):
                ending.result(_MOMENT)

    async def ended(self, job: str | None) -> None:
        """The same from async code."""
        ending = self._ending(job)
        if ending is not None:
            await done(ending, _MOMENT)

    def _ending(self, job: str | None) -> Promise[None] | None:
        run = None if job is None else self._running.get(job)
        return run.over if run is not None and run.is_ending() else None

    def begin(self, job: str, run_id: str, policy: Policy) -> Policy:
        """What is left of a policy for a job's next run.

        Raises:
            ConfigError: a run of the job is under way, so that nobody knows yet what is left
        """
        with self._lock:
            run = self._running.setdefault(job, _Run(run_id))
            spent = self._spent.get(job)
        if run.run_id != run_id:
            told = _ENDING if run.is_ending() else "already: run them one after the other"
            raise ConfigError(f"the thread {job!r} is in a guarded run {told}")
        return policy if spent is None else left_of(policy, spent, job)

    def begun(self, job: str, run_id: str, is_ending: Callable[[], bool]) -> None:
        """Take down how to ask whether a run of the job is being ended, now that it is under way."""
        with self._lock:
            run = self._running.get(job)
            if run is not None and run.run_id == run_id:
                run.is_ending = is_ending

    def forget(self, job: str) -> None:
        """Let a job's next run begin afresh, whatever was used."""
        with self._lock:
            self._spent.pop(job, None)

    def end(self, job: str, run_id: str, result: Result | None, executions: _Executions) -> None:
        """Take down what a run used, once, or close its job.

        A failure closes no job that was stopped before: nobody gets a budget refilled by failing.

        Args:
            result: None where there is none: the run never began
            executions: of the job's latest run, by tool; see Continuing
        """
        with self._lock:
            run = self._running.get(job)
            if run is None or run.run_id != run_id:
                return
            del self._running[job]
            tools = executions(job)
            if result is not None:
                self._take_down(job, result, tools)
        run.over.set_result(None)

    def _take_down(self, job: str, result: Result, tools: Mapping[str, int]) -> None:
        if result.done or (result.status == "failed" and job not in self._spent):
            self._spent.pop(job, None)
        else:
            self._spent[job] = self._spent.get(job, Spent()).plus(result, tools)


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
