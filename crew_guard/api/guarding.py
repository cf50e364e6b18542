"""guard(): another framework's agent, crew, graph or workflow under a policy, as it is."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from crew_guard.api.checking import said
from crew_guard.api.continuing import Jobs
from crew_guard.api.ids import run_id_of
from crew_guard.api.supervising import Supervisor
from crew_guard.core.policy import Policy
from crew_guard.core.result import Result
from crew_guard.core.roles import Crew
from crew_guard.core.verdicts import Verify, check_verify
from crew_guard.errors import ConfigError
from crew_guard.ports import Continuing, Observer, Runtime, Spoken, Store, Workflow
from crew_guard.promises import Promise
from crew_guard.supervisor.running import Running
from crew_guard.supervisor.streaming import RunStream, this_loop

_HOSTS = ("crewai", "autogen", "langgraph", "llama_index")
"""Adapters whose runtime_for() makes a Runtime of a host's own object that they accept."""


@dataclass(slots=True)
class Guarded:
    """A host's agent or crew under a supervisor."""

    runtime: Runtime
    supervisor: Supervisor
    name: str
    fallback: Workflow | None = None
    verify: Verify | None = None
    """Whether its output, or its workflow's, is right: a function (output, context) or a Judge."""
    version: str | None = None
    """What its user says of what can't be read of it. See guard."""
    _jobs: Jobs = field(default_factory=Jobs, init=False, repr=False)

    def run(self, inputs: Mapping[str, Any] | str | None = None, *, run_id: str | None = None) -> Result:
        """Run it to its end; a string is the task of a single agent. See Supervisor.run."""
        asked = self._asked(inputs, run_id)
        self._jobs.let_end(asked.job)
        running, ended = self._start(asked)
        return ended(running.wait())

    async def arun(self, inputs: Mapping[str, Any] | str | None = None, *, run_id: str | None = None) -> Result:
        """The same from async code: the host works on the caller's loop, where its connections and sessions belong."""
        asked = self._asked(inputs, run_id)
        await self._jobs.ended(asked.job)
        running, ended = self._start(asked, this_loop())
        return ended(await running.result())

    def stream(self, inputs: Mapping[str, Any] | str | None = None, *, run_id: str | None = None) -> RunStream:
        """Run it and tell what happens while it does. See Supervisor.stream."""
        asked = self._asked(inputs, run_id)
        self._jobs.let_end(asked.job)
        return self._stream(asked, None)

    def astream(self, inputs: Mapping[str, Any] | str | None = None, *, run_id: str | None = None) -> RunStream:
        """The same for `async for` on the caller's loop, where the host works: see arun."""
        return self._stream(self._asked(inputs, run_id), this_loop())

    def begin_afresh(self, thread: str) -> None:
        """Give the next run on a thread its whole budget, where earlier ones were stopped or wait on an interrupt.

        Args:
            thread: a graph's thread_id; one that no run was on changes nothing
        """
        self._jobs.forget(str(thread))

    def close(self) -> None:
        """Let go of the journal's file, once no run and nobody else needs it. See Supervisor.close."""
        self.supervisor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _asked(self, inputs: Mapping[str, Any] | str | None, run_id: str | None) -> _Asked:
        given = _as_inputs(inputs, self.runtime)
        job = self.runtime.job_of(given) if isinstance(self.runtime, Continuing) else None
        return _Asked(given, run_id_of(run_id), job)

    def _stream(self, asked: _Asked, home: asyncio.AbstractEventLoop | None) -> RunStream:
        policy = self._left(asked)
        try:
            stream = self.supervisor.stream_runtime(
                self.runtime,
                asked.inputs,
                name=self.name,
                fallback=self.fallback,
                run_id=asked.run_id,
                policy=policy,
                verify=self.verify,
                version=self.version,
                home=home,
            )
        except BaseException:
            self._ended(asked, None)
            raise
        if asked.job is not None:
            self._jobs.begun(asked.job, asked.run_id, stream.is_ending)
        stream.when_over(lambda future: self._ended(asked, _result_of(future)))
        return stream

    def _start(
        self, asked: _Asked, home: asyncio.AbstractEventLoop | None = None
    ) -> tuple[Running, Callable[[Result], Result]]:
        policy = self._left(asked)
        try:
            running = self.supervisor.run_runtime(
                self.runtime,
                asked.inputs,
                name=self.name,
                fallback=self.fallback,
                run_id=asked.run_id,
                policy=policy,
                verify=self.verify,
                version=self.version,
                home=home,
            )
        except BaseException:
            self._ended(asked, None)
            raise
        if asked.job is not None:
            self._jobs.begun(asked.job, asked.run_id, lambda: running.is_ending)
        # Where nobody waits for it, too.
        running.future.add_done_callback(lambda future: self._ended(asked, _result_of(future)))

        def ended(result: Result) -> Result:
            self._ended(asked, result)
            return result

        return running, ended

    def _left(self, asked: _Asked) -> Policy | None:
        """What is left for a run of a job; None where it stands alone."""
        if asked.job is None:
            return None
        return self._jobs.begin(asked.job, asked.run_id, self.supervisor.effective_policy)

    def _ended(self, asked: _Asked, result: Result | None) -> None:
        if asked.job is not None and isinstance(self.runtime, Continuing):
            self._jobs.end(asked.job, asked.run_id, result, self.runtime.executions)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a run is asked to do."""

    inputs: dict[str, Any]
    run_id: str
    job: str | None
    """That it goes on with, where the host's runs go on with one another."""


def _result_of(future: Promise[Result]) -> Result | None:
    return None if future.exception() else future.result()


def _as_inputs(inputs: Mapping[str, Any] | str | None, runtime: Runtime) -> dict[str, Any]:
    if not isinstance(inputs, str | Mapping | None):  # pyright: ignore[reportUnnecessaryIsInstance]  users' code
        kind = type(inputs).__name__
        raise ConfigError(
            f"inputs must be a task's text or a mapping of names to values, not {'an' if kind[0] in 'aeiou' else 'a'} "
            f"{kind}; what a host takes as its task goes by that name: run({{'task': …}})"
        )
    if not isinstance(inputs, str):
        return dict(inputs or {})
    return dict(runtime.inputs_of(inputs)) if isinstance(runtime, Spoken) else {"task": inputs}


def guard(
    host: Any,
    policy: Policy | str | Path | None = None,
    *,
    fallback: Workflow | None = None,
    verify: Verify | None = None,
    name: str | None = None,
    version: str | None = None,
    store: Store | str | Path | None = None,
    observers: Sequence[Observer] = (),
) -> Guarded:
    """Put an agent or a crew of another framework under a policy, as it is.

    Args:
        host: a crewai.Agent, Crew or Flow; an agent or a team of AutoGen; a compiled graph of LangGraph; a Workflow
            or an agent of LlamaIndex
        policy: a policy, its file or its name; by default 5 agents, 25 steps, $5 and 10 minutes
        fallback: the workflow to run where it doesn't do its job
        verify: whether its output, or its workflow's, is right: a function (output, context) or a Judge
        name: what it is called in journals, results, its track record and commands; by default by its own name, or by
            its class where it has none
        version: a text that changes whenever what can't be read of it does, such as a prompt inside of a function: its
            track record begins afresh then
    Raises:
        ConfigError: crew_guard has no adapter for it, it is guarded already, or the name or version is no text
    """
    if isinstance(host, Guarded):
        raise ConfigError(f"this {host.name} is guarded already: run it as it is, or guard the {host.name} itself anew")
    if isinstance(host, Crew):
        raise ConfigError("guard() takes a host's own crew; a crew_guard Crew runs under Supervisor(policy).run(crew)")
    check_verify(verify, "verify")
    name, version = said(name, "name"), said(version, "version")
    supervisor = Supervisor(policy, store=store, observers=observers)
    for package in _HOSTS:
        adapter = importlib.import_module(f"crew_guard.adapters.{package}")
        if adapter.accepts(host):
            runtime = adapter.runtime_for(host, _facts(supervisor))
            return Guarded(runtime, supervisor, name or runtime.called(), fallback, verify, version)
    raise ConfigError(f"guard() has no adapter for {_called(host)}; it takes {_TAKES}")


_TAKES = (
    "an Agent, a Crew or a Flow of crewai, an agent or a team of AutoGen, a compiled graph of LangGraph, a Workflow or "
    "an agent of LlamaIndex"
)


def _called(host: object) -> str:
    """What an object that is none of a host's is, in words, and what may have been meant."""
    if isinstance(host, type):
        return f"the class {host.__module__}.{host.__qualname__}, only for an object of one"
    if isinstance(host, str):
        return f"the text {host!r}: import the object that it names (crew-guard run FILE.py:NAME takes a name)"
    return f"{type(host).__module__}.{type(host).__name__}"


def _facts(supervisor: Supervisor) -> Any:
    """What an adapter needs to know of a model by name: its rates, and bounds of its tokens."""
    from crew_guard.models.facts import ModelFacts

    priced = {name: supervisor.price_of(name) for name in supervisor.effective_policy.prices}
    return ModelFacts({name: rates for name, rates in priced.items() if rates is not None})
