"""What a run is given where its reliability counts: its crew as it is reckoned, the track record, its verifiers' models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from crew_guard.core.policy import Policy
from crew_guard.core.reliance import declares_verdicts, reliance_of, reliance_of_host
from crew_guard.core.roles import Agent, Crew
from crew_guard.errors import ConfigError
from crew_guard.ports import Model, Store, TrackRecord
from crew_guard.supervisor.life import Job
from crew_guard.supervisor.relying import Relied


def relied_on(job: Job, crew: Crew, models: Mapping[str, Model]) -> Job:
    """The job of a crew of ours, with what its reliability is reckoned with; itself where nothing of it is judged.

    Args:
        models: by agent and by judge
    """
    if not declares_verdicts(crew) and not job.policy.reliability.declared:
        return job
    reliance = reliance_of(crew, {name: model.name for name, model in models.items()}, job.policy)

    def model_for(agent: Agent) -> Model:
        return models[agent.name]

    return replace(job, relied=Relied(reliance, _track_of(job.store), crew.verify, model_for))


def relied_on_host(job: Job) -> Job:
    """The job of a host's own crew: it is judged as a whole, by a person, and counts where the policy asks for it."""
    if not job.policy.reliability.declared:
        return job
    reliance = reliance_of_host(job.crew, job.runtime.name, job.runtime.members(), job.policy, verified=False)
    return replace(job, relied=Relied(reliance, _track_of(job.store), None, _no_model))


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


def _no_model(agent: Agent) -> Model:
    raise ConfigError(f"nobody gives {agent.name} a model")
