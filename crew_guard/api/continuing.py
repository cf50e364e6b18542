"""A job that several runs go on with, a graph's thread say, has one budget: what one run used, the next has less.

A run that did its job closes it: the next one on the same thread begins afresh.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeAlias, TypeVar

from crew_guard.core.limits import AgentLimits, ToolLimits
from crew_guard.core.policy import Policy
from crew_guard.core.result import Result
from crew_guard.core.usage import NOTHING, Usage
from crew_guard.errors import ConfigError

L = TypeVar("L", bound=AgentLimits)
_Executions: TypeAlias = Callable[[str], Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Spent:
    """What the runs of one job have used so far."""

    usage: Usage = NOTHING
    agents: Mapping[str, Usage] = field(default_factory=dict[str, Usage])
    tools: Mapping[str, int] = field(default_factory=dict[str, int])
    """Executions by tool."""
    seconds: float = 0.0
    """While a run was under way: what a person thinks about an interrupt isn't counted."""

    def plus(self, result: Result, tools: Mapping[str, int]) -> Spent:
        """This and one more run."""
        names = self.agents.keys() | result.agents.keys()
        agents = {name: self.agents.get(name, NOTHING) + result.agents.get(name, NOTHING) for name in names}
        executions = {name: self.tools.get(name, 0) + tools.get(name, 0) for name in self.tools.keys() | tools.keys()}
        return Spent(self.usage + result.usage, agents, executions, self.seconds + result.seconds)


def left_of(policy: Policy, spent: Spent) -> Policy:
    """The policy, every limit less by what was spent below it. max_agents stays: who took part takes part again."""
    limits = _less(policy.limits, spent.usage)
    if limits.max_seconds is not None:
        limits = limits.model_copy(update={"max_seconds": max(0.0, limits.max_seconds - spent.seconds)})
    agents = {name: policy.agents.get(name, policy.per_agent) for name in policy.agents.keys() | spent.agents.keys()}
    agents = {name: _less(own, spent.agents.get(name, NOTHING)) for name, own in agents.items()}
    tools = {name: _fewer(own, spent.tools.get(name, 0)) for name, own in policy.tools.limits.items()}
    changed: dict[str, Any] = {"limits": limits, "agents": agents}
    if tools:
        changed["tools"] = policy.tools.model_copy(update={"limits": tools})
    return policy.model_copy(update=changed).sourced(policy.sources)


def _less(limits: L, used: Usage) -> L:
    amounts: dict[str, int | Decimal] = {
        "max_steps": used.steps,
        "max_tool_calls": used.tool_calls,
        "max_tokens": used.tokens,
        "max_usd": used.usd,
    }
    given = {name: cap for name in amounts if (cap := getattr(limits, name)) is not None}
    return limits.model_copy(update={name: max(type(cap)(0), cap - amounts[name]) for name, cap in given.items()})


def _fewer(limits: ToolLimits, executions: int) -> ToolLimits:
    if limits.max_tool_calls is None:
        return limits
    return limits.model_copy(update={"max_tool_calls": max(0, limits.max_tool_calls - executions)})


class Jobs:
    """The open jobs of one guarded object. Usable from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spent: dict[str, Spent] = {}
        self._running: dict[str, str] = {}

    def begin(self, job: str, run_id: str, policy: Policy) -> Policy:
        """What is left of a policy for a job's next run.

        Raises:
            ConfigError: a run of the job is under way, so that nobody knows yet what is left
        """
        with self._lock:
            if self._running.setdefault(job, run_id) != run_id:
                raise ConfigError(f"the thread {job!r} is in a guarded run already: run them one after the other")
            spent = self._spent.get(job)
        return policy if spent is None else left_of(policy, spent)

    def end(self, job: str, run_id: str, result: Result | None, executions: _Executions) -> None:
        """Take down what a run used, once; a run that was done closes its job.

        Args:
            result: None where there is none: the run never began
            executions: of the job's latest run, by tool; see Continuing
        """
        with self._lock:
            if self._running.get(job) != run_id:
                return
            del self._running[job]
            tools = executions(job)
            if result is not None and result.done:
                self._spent.pop(job, None)
            elif result is not None:
                self._spent[job] = self._spent.get(job, Spent()).plus(result, tools)
