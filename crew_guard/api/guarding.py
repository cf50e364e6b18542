"""guard(): another framework's agent, crew, graph or workflow under a policy, as it is."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crew_guard.api.supervising import Supervisor
from crew_guard.core.policy import Policy
from crew_guard.core.result import Result
from crew_guard.errors import ConfigError
from crew_guard.ports import Observer, Runtime, Store, Workflow
from crew_guard.supervisor.running import Running
from crew_guard.supervisor.streaming import RunStream

_HOSTS = ("crewai", "autogen")
"""Adapters whose runtime_for() makes a Runtime of a host's own object that they accept."""


@dataclass(slots=True)
class Guarded:
    """A host's agent or crew under a supervisor."""

    runtime: Runtime
    supervisor: Supervisor
    name: str
    fallback: Workflow | None = None

    def run(self, inputs: Mapping[str, Any] | str | None = None, *, run_id: str | None = None) -> Result:
        """Run it to its end; a string is the task of a single agent. See Supervisor.run."""
        return self._start(inputs, run_id).wait()

    async def arun(self, inputs: Mapping[str, Any] | str | None = None, *, run_id: str | None = None) -> Result:
        """The same from async code."""
        return await self._start(inputs, run_id).result()

    def stream(self, inputs: Mapping[str, Any] | str | None = None, *, run_id: str | None = None) -> RunStream:
        """Run it and tell what happens while it does. See Supervisor.stream."""
        given = _as_inputs(inputs)
        return self.supervisor.stream_runtime(
            self.runtime, given, name=self.name, fallback=self.fallback, run_id=run_id
        )

    def _start(self, inputs: Mapping[str, Any] | str | None, run_id: str | None) -> Running:
        given = _as_inputs(inputs)
        return self.supervisor.run_runtime(self.runtime, given, name=self.name, fallback=self.fallback, run_id=run_id)


def _as_inputs(inputs: Mapping[str, Any] | str | None) -> dict[str, Any]:
    if not isinstance(inputs, str | Mapping | None):  # pyright: ignore[reportUnnecessaryIsInstance]  users' code
        raise ConfigError(f"inputs must be a task's text or a mapping of names to values, not {inputs!r}")
    return {"task": inputs} if isinstance(inputs, str) else dict(inputs or {})


def guard(
    host: Any,
    policy: Policy | str | Path | None = None,
    *,
    fallback: Workflow | None = None,
    store: Store | str | Path | None = None,
    observers: Sequence[Observer] = (),
) -> Guarded:
    """Put an agent or a crew of another framework under a policy, as it is.

    Args:
        host: a crewai.Agent, Crew or Flow, an autogen_agentchat agent
        policy: a policy, its file or its name; by default 5 agents, 25 steps, $5 and 10 minutes
        fallback: the workflow to run where it doesn't do its job
    Raises:
        ConfigError: crew_guard has no adapter for it
    """
    supervisor = Supervisor(policy, store=store, observers=observers)
    for name in _HOSTS:
        adapter = importlib.import_module(f"crew_guard.adapters.{name}")
        if adapter.accepts(host):
            runtime = adapter.runtime_for(host, _facts(supervisor))
            return Guarded(runtime, supervisor, type(host).__name__, fallback)
    kind = f"{type(host).__module__}.{type(host).__name__}"
    raise ConfigError(f"guard() has no adapter for {kind}; it takes objects of {', '.join(_HOSTS)}")


def _facts(supervisor: Supervisor) -> Any:
    """What an adapter needs to know of a model by name: its rates, and bounds of its tokens."""
    from crew_guard.models.facts import ModelFacts

    priced = {name: supervisor.price_of(name) for name in supervisor.effective_policy.prices}
    return ModelFacts({name: rates for name, rates in priced.items() if rates is not None})
