"""The public Supervisor: it wires defaults, and holds no logic of its own."""

from __future__ import annotations

import asyncio
import importlib
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeAlias

from pydantic import BaseModel

from crew_guard import config
from crew_guard.adapters.compiling import Models
from crew_guard.api.checking import (
    check_mapping,
    check_models,
    check_observers,
    check_policy,
    check_runtime,
    check_store,
)
from crew_guard.api.ids import run_id_of
from crew_guard.api.modelling import DEFAULT_MODEL, FoundModels, Known, price_of
from crew_guard.api.relying import no_fallback, relied_on, relied_on_host, relied_on_workflow
from crew_guard.api.stores import Holder
from crew_guard.api.warning import warnings_of_crew, warnings_of_host, warnings_of_workflow
from crew_guard.core.decisions import Stop
from crew_guard.core.events import Side
from crew_guard.core.given import must_be_of
from crew_guard.core.limits import Limits, Reserve
from crew_guard.core.plain import all_listed
from crew_guard.core.policy import Policy
from crew_guard.core.result import Result
from crew_guard.core.roles import Agent, Crew
from crew_guard.core.usage import Rates
from crew_guard.core.verdicts import Verify
from crew_guard.errors import ConfigError, JournalConflictError
from crew_guard.ports import (
    Delegating,
    Equippable,
    Guards,
    Means,
    Model,
    Observer,
    Runtime,
    Store,
    Workflow,
)
from crew_guard.supervisor.estimating import Estimator
from crew_guard.supervisor.life import Job, Life
from crew_guard.supervisor.running import Forgets, Running, start
from crew_guard.supervisor.streaming import RunStream, open_stream, this_loop

Compile: TypeAlias = Callable[[Crew, Callable[[Agent], Model]], Runtime]
"""Makes a Runtime of a crew; the second argument gives an agent's model."""

DEFAULT_POLICY = Policy(
    name="default",
    limits=Limits.model_validate({"max_agents": 5, "max_steps": 25, "max_usd": "5", "max_seconds": 600}),
    reserve=Reserve.model_validate({"steps": 5, "usd": "0.5", "seconds": 60}),
)
"""What applies where no policy is named: 5 agents, 25 steps, $5, 10 minutes; where the crew has a fallback,
5 steps, $0.50 and a minute of it are kept back."""


@dataclass(slots=True)
class Supervisor:
    """Runs crews inside their limits, and falls back to their workflow where they fail.

    Safe to share between threads; one Supervisor may run many crews at once.
    """

    policy: Policy | str | Path | None = None
    """A policy, its file or its name; by default 5 agents, 25 steps, $5 and 10 minutes.

    The organisation's policy, where CREW_GUARD_ORG_POLICY names one, tightens it.
    """
    model: Model | str | None = None
    """For agents and roles that name none, e.g. embedded:smollm2 (the default) or openai:gpt-4.1-mini."""
    models: Mapping[str, Model] = field(default_factory=dict[str, Model])
    """Models of your own, by the name that roles and agents give."""
    store: Store | str | Path | None = None
    """Where journals are kept: a store, or the path of a SQLite file; by default in .crew_guard/."""
    observers: Sequence[Observer] = ()
    """Told of every event, in order."""
    base_url: str | None = None
    """Of an OpenAI-compatible server, for models named openai-compatible:NAME."""
    runtime: str | Compile = "native"
    """What runs crews: native, or a host whose own objects they become: crewai, autogen, langgraph, llama-index, or a
    function that makes a Runtime of a crew and of what gives each agent its model."""
    _live: dict[str, Life] = field(default_factory=dict[str, Life], init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _secrets: tuple[str, ...] = field(default=(), init=False, repr=False)
    _warned: set[str] = field(default_factory=set[str], init=False, repr=False)
    _found: FoundModels = field(default_factory=FoundModels, init=False, repr=False)
    _stores: Holder = field(default_factory=Holder, init=False, repr=False)
    _estimator: Estimator = field(default_factory=Estimator, init=False, repr=False)

    def __post_init__(self) -> None:
        check_runtime(self.runtime, _RUNTIMES)
        check_store(self.store)
        check_observers(self.observers)
        check_models(self.model, self.models)
        if self.base_url is not None:
            must_be_of(self.base_url, str, "base_url", "a URL such as http://127.0.0.1:8000/v1", ConfigError)
        self._secrets = config.secrets()
        check_policy(self.policy)
        if not isinstance(self.policy, Policy):
            self.policy = DEFAULT_POLICY if self.policy is None else config.load_policy(self.policy)
        self.policy = config.under_org(self.policy)

    def run(
        self, crew: Crew | Workflow, inputs: Mapping[str, Any] | None = None, *, run_id: str | None = None
    ) -> Result:
        """Run a crew, or a workflow, to its end. A run that was stopped is a Result too, without an output.

        Works where an event loop is running already, as in a notebook: the run has its own.

        Args:
            crew: who does what; or a workflow, which does it by itself
            inputs: values of the {variables} in its tasks and roles
            run_id: a name of your own, not used before; by default one is made
        Raises:
            ConfigError: the crew, an input or a model's name is wrong
            StoreError: the journal can't be written
            MissingDependencyError: a model needs an extra
        """
        return self._start(self._job(crew, inputs, run_id)).wait()

    async def arun(
        self, crew: Crew | Workflow, inputs: Mapping[str, Any] | None = None, *, run_id: str | None = None
    ) -> Result:
        """The same from async code. Tools, verifiers, nodes, guardrails on what they make: on the caller's loop."""
        return await self._start(replace(self._job(crew, inputs, run_id), home=this_loop())).result()

    def stream(
        self, crew: Crew | Workflow, inputs: Mapping[str, Any] | None = None, *, run_id: str | None = None
    ) -> RunStream:
        """Run a crew and tell what happens while it does: `for item in …`, `async for item in …`, then `.result`.

        Items are the journal's events, a TextDelta as text is written, and a Budget after each action. A reader who
        is slow holds nothing up; one who leaves ends the run. See `run` for the arguments and errors.
        """
        return open_stream(self._job(crew, inputs, run_id), self._start)

    def astream(
        self, crew: Crew | Workflow, inputs: Mapping[str, Any] | None = None, *, run_id: str | None = None
    ) -> RunStream:
        """The same for `async for`, with its tools, verifiers, nodes and guardrails on the caller's loop as in arun."""
        return open_stream(replace(self._job(crew, inputs, run_id), home=this_loop()), self._start)

    def kill(self, run_id: str, reason: str = "") -> bool:
        """End a run of this supervisor now, its fallback included. False if it isn't running."""
        life = self._live.get(run_id)
        if life is None:
            return False
        life.gate.stop("run", Stop("killed", "run", detail=f"killed{': ' + reason if reason else ''}"))
        return True

    def run_runtime(
        self,
        runtime: Runtime,
        inputs: Mapping[str, Any],
        *,
        name: str,
        fallback: Workflow | None = None,
        run_id: str | None = None,
        policy: Policy | None = None,
        verify: Verify | None = None,
        version: str | None = None,
        home: asyncio.AbstractEventLoop | None = None,
    ) -> Running:
        """Start any runtime under this supervisor's policy, or what is left of it.

        Args:
            name, version: see guard(); a runtime that is no Described has no other version
            home: the loop that it works on, where somebody awaits it; by default the supervisor's
        """
        self._warn(name, lambda: warnings_of_host(self.effective_policy, runtime, fallback))
        job = replace(self._wire(runtime, inputs, name, fallback, run_id, policy=policy), home=home)
        return self._start(relied_on_host(job, verify, version, self.model_named))

    def stream_runtime(
        self,
        runtime: Runtime,
        inputs: Mapping[str, Any],
        *,
        name: str,
        fallback: Workflow | None = None,
        run_id: str | None = None,
        policy: Policy | None = None,
        verify: Verify | None = None,
        version: str | None = None,
        home: asyncio.AbstractEventLoop | None = None,
    ) -> RunStream:
        """The same as a stream."""
        self._warn(name, lambda: warnings_of_host(self.effective_policy, runtime, fallback))
        job = replace(self._wire(runtime, inputs, name, fallback, run_id, policy=policy), home=home)
        return open_stream(relied_on_host(job, verify, version, self.model_named), self._start)

    def model_named(self, name: Model | str | None) -> Model:
        """The model of this name, or this one, at what the policy says that it costs: the same one each time.

        Raises:
            ConfigError, MissingDependencyError
        """
        known = Known(self.models, self.effective_policy, self.base_url)
        wanted = self.model if name is None else name
        return self._found.find(DEFAULT_MODEL if wanted is None else wanted, known)

    def price_of(self, name: str) -> Rates | None:
        """What the policy says that a model costs; None where it says nothing."""
        return price_of(self.effective_policy, name)

    def close(self) -> None:
        """Let go of the journals' files that it opened itself, once no run and nobody else needs them.

        Runs under way go on, and a later one opens its file again.
        """
        self._stores.give_back(wait=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def effective_policy(self) -> Policy:
        """The policy that applies."""
        assert isinstance(self.policy, Policy)  # noqa: S101  __post_init__ made it one
        return self.policy

    def _job(self, crew: Crew | Workflow, given: Mapping[str, Any] | None, run_id: str | None) -> Job:
        from crew_guard.adapters.native.runtime import check_inputs

        inputs: Mapping[str, Any] = {} if given is None else given
        if not isinstance(crew, Crew):
            if isinstance(crew, Equippable):
                return self._alone(crew, inputs, run_id)
            what = type(crew).__name__
            raise ConfigError(f"run() takes a Crew, or a Workflow as of chain(step), no {what}; guard() takes a host's")
        check_mapping(inputs)
        inputs = {**crew.defaults, **inputs}
        check_inputs(crew, inputs)
        everyone, chosen = crew.everyone(), self._models_of(crew)
        own = {task.name: task.guardrails for task in crew.tasks if task.guardrails}
        runtime = _compiled(self.runtime, crew, chosen)
        self._warn(crew.name, lambda: warnings_of_crew(self.effective_policy, crew, list(chosen)))
        steps = {agent.name: cap for agent in everyone if (cap := agent.role.max_steps) is not None}
        ends = crew.results()
        expects = ends[0].output if len(ends) == 1 else None
        job = self._wire(runtime, inputs, crew.name, crew.fallback, run_id, tasks=own, steps=steps, expects=expects)
        return relied_on(job, crew, chosen)

    def _alone(self, workflow: Workflow, inputs: Mapping[str, Any], run_id: str | None) -> Job:
        from crew_guard.workflows.alone import Alone

        check_mapping(inputs)
        self._warn(workflow.name, lambda: warnings_of_workflow(self.effective_policy, workflow))
        worker = self._equipped(workflow)
        job = self._wire(Alone(worker), inputs, workflow.name, None, run_id, side="fallback")
        return relied_on_workflow(job, worker)

    def _equipped(self, workflow: Workflow) -> Workflow:
        """The workflow with the models and crews that its nodes name."""
        means = Means(self.model_named, self._runtime_of)
        return workflow.equipped(means) if isinstance(workflow, Equippable) else workflow

    def _runtime_of(self, crew: Crew) -> Runtime:
        """What runs a crew inside of a workflow's node: our own runtime."""
        return _compiled("native", crew, self._models_of(crew))

    def _models_of(self, crew: Crew) -> Models:
        chosen = Models()
        for agent in crew.everyone():
            chosen[agent.name] = self.model_named(agent.model or agent.role.model)
        for judge in crew.judges():
            chosen[judge.name] = self.model_named(judge.model)
        return chosen

    def _warn(self, name: str, found: Callable[[], Collection[str]]) -> None:
        """Log, once a crew, what is likely to be a mistake in the policy."""
        if name not in self._warned:
            self._warned.add(name)
            for told in found():
                from loguru import logger

                logger.warning("policy: {}", told)

    def _wire(
        self,
        runtime: Runtime,
        inputs: Mapping[str, Any],
        name: str,
        fallback: Workflow | None,
        run_id: str | None,
        *,
        tasks: Mapping[str, Sequence[Any]] | None = None,
        steps: Mapping[str, int] | None = None,
        expects: type[BaseModel] | None = None,
        policy: Policy | None = None,
        side: Side = "crew",
    ) -> Job:
        if fallback is not None and not callable(getattr(fallback, "run", None)):
            raise ConfigError(
                f"the fallback of {name!r} must be a workflow, such as chain(...) makes, not {fallback!r}"
            )
        rules = (policy or self.effective_policy).reliability
        if rules.require_fallback and fallback is None and side == "crew":
            raise no_fallback(self.effective_policy, name)
        return Job(
            run_id=run_id_of(run_id),
            crew=name,
            policy=(policy or self.effective_policy).with_steps(steps or {}),
            runtime=runtime,
            inputs=all_listed(inputs),
            fallback=None if fallback is None or rules.fallback == "never" else self._equipped(fallback),
            store=self._store(),
            observers=tuple(self.observers),
            secrets=self._secrets,
            estimator=self._estimator,
            expects=expects,
            guards=self._guards({**(tasks or {}), **_inside(runtime if side == "fallback" else fallback)}),
            side=side,
        )

    def _guards(self, tasks: Mapping[str, Sequence[Any]]) -> Guards | None:
        if not self.effective_policy.checks_content and not tasks:
            return None
        rules = self.effective_policy.content
        from crew_guard.guardrails.build import guards_for
        from crew_guard.models.counting import counter_for_encoding

        return guards_for(rules, tasks, self.model_named, counter_for_encoding("o200k_base"))

    def _store(self) -> Store:
        if self.store is None:
            return self._stores.store((config.data_dir() / "crew_guard.db").absolute())
        return self._stores.store(Path(self.store).absolute()) if isinstance(self.store, str | Path) else self.store

    def _start(self, job: Job) -> Running:
        share = self._stores.share(job.store)
        running = start(job, self._register)
        running.future.add_done_callback(Forgets(self._live, job.run_id))
        if share is not None:
            running.future.add_done_callback(lambda _: share.give_back())
        return running

    def _register(self, life: Life) -> None:
        with self._lock:
            if life.job.run_id in self._live:
                raise JournalConflictError(f"the run {life.job.run_id!r} is under way: choose another id")
            self._live[life.job.run_id] = life


def _inside(worker: Any) -> dict[str, Sequence[Any]]:
    """The guardrails of tasks inside of a workflow's nodes, as NODE/TASK."""
    if worker is None:
        return {}
    crews: Mapping[str, Crew] = worker.crews() if isinstance(worker, Delegating) else {}
    tasks = [(f"{node}/{task.name}", task.guardrails) for node, crew in crews.items() for task in crew.tasks]
    return {name: guardrails for name, guardrails in tasks if guardrails}


_RUNTIMES = {
    "native": "native",
    "crewai": "crewai",
    "autogen": "autogen",
    "langgraph": "langgraph",
    "llama-index": "llama_index",
}
"""By a runtime's name: its adapter below crew_guard.adapters, whose compiled() makes a Runtime of a crew."""


def _compiled(runtime: str | Compile, crew: Crew, model_of: Callable[[Agent], Model]) -> Runtime:
    """The runtime of this name for a crew of ours."""
    if not isinstance(runtime, str):
        return runtime(crew, model_of)
    return _adapter(_RUNTIMES[runtime]).compiled(crew, model_of)


@cache
def _adapter(package: str) -> Any:
    return importlib.import_module(f"crew_guard.adapters.{package}")
