"""What a run gets where its reliability counts: its crew as it is reckoned, the track record, models for judges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from crew_guard.core.policy import Policy
from crew_guard.core.reliability.judging import judge_of
from crew_guard.core.reliability.trials import Subject, alone_version
from crew_guard.core.reliability_rules import ReliabilityRules
from crew_guard.core.reliance import (
    Reckoned,
    declares_verdicts,
    digest,
    reliance_of,
    reliance_of_host,
    reliance_of_workflow,
    version_of_host,
)
from crew_guard.core.roles import Agent, Crew
from crew_guard.core.verdicts import Judge, TaskContext, Verdict, Verify
from crew_guard.errors import ConfigError, RunFailedError
from crew_guard.ports import Described, Gate, Model, RuntimeResult, Store, TrackRecord, Workflow
from crew_guard.supervisor.life import Job
from crew_guard.supervisor.relying import Relied
from crew_guard.workflows.hearing import hear

if TYPE_CHECKING:
    from crew_guard.api.supervising import Supervisor


def relied_on(job: Job, crew: Crew, models: Mapping[str, Model]) -> Job:
    """The job of a crew of ours, with what its reliability is reckoned with; itself where nothing of it is judged.

    Args:
        models: by agent and by judge
    """
    if not declares_verdicts(crew) and not job.policy.asks_for_reliability:
        return job
    reliance = reliance_of(crew, {name: model.name for name, model in models.items()}, job.policy)

    def model_for(agent: Agent) -> Model:
        return models[agent.name]

    return replace(job, relied=Relied(reliance, _track_of(job.store), crew.verify, model_for))


def relied_on_host(
    job: Job, verify: Verify | None, version: str | None, model_named: Callable[[str | None], Model]
) -> Job:
    """The job of a host's own crew: it is judged as a whole, by its verifier or later by a person.

    Args:
        version: what its user says of what its runtime can't read
        model_named: gives a judge its model
    """
    if verify is None and not job.policy.asks_for_reliability:
        return job
    runtime = job.runtime
    definition = runtime.definition() if isinstance(runtime, Described) else None
    digested = version_of_host(runtime.name, runtime.members(), definition, version)
    reliance = reliance_of_host(job.crew, digested, job.policy, verified=verify is not None)
    judge = model_named(verify.model) if isinstance(verify, Judge) else None

    def model_for(agent: Agent) -> Model:
        return judge or model_named(agent.role.model)

    return replace(job, relied=Relied(reliance, _track_of(job.store), verify, model_for))


def relied_on_workflow(job: Job, workflow: Workflow) -> Job:
    """The job of a workflow that runs by itself, with what its record is kept by; itself where nothing is judged.

    Args:
        workflow: with the models that its nodes name
    """
    from crew_guard.workflows.graph import Workflow as Graph

    graph = workflow if isinstance(workflow, Graph) else None
    if not job.policy.asks_for_reliability and (graph is None or not graph.judged):
        return job
    subjects: Mapping[str, Subject] = {}
    found = Reckoned(alone_version(digest(type(workflow).__qualname__)))
    if graph is not None:
        from crew_guard.workflows.reckoning import reckoned

        subjects = graph.subjects()
        found = reckoned(graph.shape, subjects)
    reliance = reliance_of_workflow(workflow.name, found, job.policy)
    return replace(job, relied=Relied(reliance, _track_of(job.store), None, _no_judge, subjects))


def _no_judge(agent: Agent) -> Model:
    raise ConfigError(f"a workflow's judges are asked by its nodes, not as {agent.name!r}")


def calibrated(judge: Judge, supervisor: Supervisor, *, run_id: str | None = None) -> Judge:
    """The judge with its sensitivity and specificity measured on its labelled cases, in a run under the policy.

    Each case is a step; the run's journal has a verdict on each: whether the judge was right.

    Raises:
        ConfigError: it has no cases that are good, or none that are bad, or its model's name is wrong
        RunFailedError: the run was stopped before all cases were asked
    """
    if {case.good for case in judge.cases} != {True, False}:
        raise ConfigError(f"the judge {judge.name!r} needs cases that are good and cases that are bad")
    runtime = _Trying(judge, supervisor.model_named(judge.model))
    # Cases are no crew: nothing is reckoned of them, and there is nothing that they could fall back on.
    own = supervisor.effective_policy
    policy = own.model_copy(update={"reliability": ReliabilityRules()}).sourced(own.sources)
    name = f"cases of {judge.name}"
    result = supervisor.run_runtime(runtime, {}, name=name, run_id=run_id, policy=policy).wait()
    if not result.done:
        raise RunFailedError(
            f"the judge {judge.name!r} was not tried on all of its cases: {result.stopped or result.error}"
        )
    return replace(judge, record=judge_of(zip((case.good for case in judge.cases), result.output, strict=True)))


@dataclass(frozen=True, slots=True)
class _Trying:
    """A Runtime of ports that asks a judge about each of its cases."""

    judge: Judge
    model: Model
    name: str = "native"

    def members(self) -> Sequence[str]:
        return [self.judge.name]

    async def run(self, inputs: Mapping[str, Any], gate: Gate) -> RuntimeResult:
        said: list[bool] = []
        for number, case in enumerate(self.judge.cases, 1):
            seen = TaskContext(inputs, {})
            verdict = await hear(self.judge, case.output, seen, gate, lambda _: self.model, whose=self.judge.name)
            said.append(verdict.passed)
            right = verdict.passed is case.good
            gate.judged(self.judge.name, f"case {number}", Verdict(right, verdict.reason, source="judge"))
        return RuntimeResult(said)


def no_fallback(policy: Policy, crew: str) -> ConfigError:
    """The error where a policy demands a fallback and a crew has none."""
    where = policy.sources.get(("reliability", "require_fallback"), "")
    file, _, line = where.rpartition(":")
    error = ConfigError(
        f"the policy {policy.name} demands a fallback, and crew {crew!r} has none: give it one, "
        "Crew(..., fallback=chain(...)), or take the key away",
        file=file or None,
        line=int(line) if line.isdigit() else None,
        key="reliability.require_fallback",
    )
    error.value = "true"
    return error


def _track_of(store: Store) -> TrackRecord | None:
    # A store of a user's own may keep journals only.
    track: Callable[[], Any] | None = getattr(store, "track_record", None)
    return None if track is None else track()
