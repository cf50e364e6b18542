"""A crew before it runs: its parts, how they make up the whole, its version, and what its policy asks of it.

A part is one task and whoever answers for it. Its record is kept by role, model and kind of task, so that all crews
share it; what defines the behaviour goes into the version, and a new one begins a record of its own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import replace
from pydantic import BaseModel

from crew_guard.core.policy import Policy
from crew_guard.core.reliability.judging import Judge as JudgeRecord
from crew_guard.core.reliability.records import Settings
from crew_guard.core.reliability.structure import AllOf, Chain, Leaf, Structure
from crew_guard.core.reliability.trials import END_TO_END, Subject, is_alone
from crew_guard.core.reliability_rules import FallbackMode, Unknown
from crew_guard.core.roles import Agent, Crew, Task
from crew_guard.core.verdicts import Judge, Verify

_DIGITS = 12


class Part(Struct, frozen=True):
    """One task of a crew, as its record knows it."""

    key: str
    """The leaf of the crew's structure, named like the stream of its record: agent/kind."""
    agent: str
    """Who answers for it, also where another gave the answer in its place."""
    task: str
    subject: Subject
    judged: bool
    """Whether something gives a verdict on it."""
    judge: JudgeRecord | None = None
    """How often the judge of it is right, where that was measured."""
    needs: tuple[str, ...] = ()
    """The tasks whose outputs it is given."""
    voted: bool = False
    """Whether its grade is the mean of several that voted, which says how sure their answer was, not how good."""


class Reckoned(NamedTuple):
    """A workflow that runs by itself, as far as its nodes say it."""

    version: str
    """See alone_version."""
    parts: tuple[Part, ...] = ()
    """Its nodes, or the tasks inside of one: key and task are what the streams of its record are called."""
    structure: Structure | None = None
    results: tuple[str, ...] = ()
    """The parts whose verdicts are the whole's."""
    judge: JudgeRecord | None = None
    """How often the judge of the whole is right, where that was measured."""


@dataclass(frozen=True, slots=True)
class Reliance:
    """A crew as its reliability is reckoned, and what its policy asks of it."""

    crew: str
    version: str = ""
    """A digest of what defines its behaviour."""
    parts: tuple[Part, ...] = ()
    structure: Structure | None = None
    """None for a host's own crew, whose parts nobody knows."""
    results: tuple[str, ...] = ()
    """The tasks whose outputs are the crew's."""
    verified: bool = False
    """Whether the crew's output is verified as a whole."""
    judge: JudgeRecord | None = None
    """How often the judge of the whole is right, where that was measured."""
    least: float | None = None
    """The threshold; None where nothing is decided by reliability."""
    unknown: Unknown = "crew"
    mode: FallbackMode = "on_reliability"
    settings: Settings = field(default_factory=Settings)
    target_usd: float | None = None
    target_seconds: float | None = None
    held_back: bool = True
    """Whether its irreversible tools are known, so that it can work in a shadow."""
    _by_task: dict[str, Part] = field(init=False, default_factory=dict[str, Part], compare=False)

    def __post_init__(self) -> None:
        self._by_task.update({part.task: part for part in self.parts})

    @property
    def alone(self) -> bool:
        """Whether it is a workflow that runs by itself: it has nowhere to go to."""
        return is_alone(self.version)

    @property
    def judged(self) -> bool:
        """Whether something gives a verdict on the whole: else what ends well would never count, and only failures."""
        parts = [self._by_task[task] for task in self.results]
        return self.verified or (bool(parts) and all(part.judged for part in parts))

    def part(self, task: str) -> Part | None:
        """The part of this task."""
        return self._by_task.get(task)

    def before(self, tasks: Iterable[str]) -> frozenset[str]:
        """The tasks that these are built on, directly or not."""
        found: set[str] = set()
        todo = list(tasks)
        while todo:
            part = self._by_task.get(todo.pop())
            new = set(part.needs) - found if part else set[str]()
            found |= new
            todo += new
        return frozenset(found)

    def blamed(self, name: str) -> tuple[Part, ...]:
        """The parts that a verdict blames: a task by its name, else an agent's, the last first."""
        if part := self._by_task.get(name):
            return (part,)
        return tuple(part for part in reversed(self.parts) if part.agent == name)


def declares_verdicts(crew: Crew) -> bool:
    """Whether anything of the crew's is judged."""
    return crew.verify is not None or any(task.verify is not None or task.output is not None for task in crew.tasks)


def reliance_of(crew: Crew, models: Mapping[str, str], policy: Policy) -> Reliance:
    """A crew of ours.

    Args:
        models: by agent, the name of its model
    """
    parts = parts_of(crew, models)
    whole = whole_of(crew, [part.key for part in parts])
    return _under(
        policy,
        crew=crew.name,
        version=behaviour_of(crew, models),
        parts=parts,
        structure=whole,
        results=tuple(task.name for task in crew.results()),
        verified=crew.verify is not None,
        judge=_judge_of_the_whole(crew),
    )


def reliance_of_workflow(name: str, found: Reckoned, policy: Policy) -> Reliance:
    """A workflow that runs by itself."""
    return _under(policy, crew=name, **found._asdict())


def reliance_of_host(name: str, version: str, policy: Policy, *, verified: bool) -> Reliance:
    """A host's own crew: known from outside only.

    Args:
        version: see version_of_host
    """
    return _under(policy, crew=name, version=version, verified=verified, held_back=False)


def version_of_host(runtime: str, members: Sequence[str], definition: Any, own: str | None) -> str:
    """A digest of what is known of a host's own crew.

    Args:
        definition: what its adapter reads of it, as a JSON value
        own: what its user says of what can't be read
    """
    return digest([runtime, sorted(members), definition, own])


def _under(policy: Policy, **known: Any) -> Reliance:
    rules, limits = policy.reliability, policy.limits
    parts: tuple[Part, ...] = known.get("parts", ())
    usd = limits.max_usd if rules.targets.usd is None else rules.targets.usd
    found = Reliance(
        **known,
        least=rules.least,
        unknown=rules.unknown,
        mode=rules.fallback,
        settings=Settings(
            rules.least,
            rules.confidence,
            rules.alarm_after,
            rules.agent_target,
            max(1, len(parts)),
            rules.probes,
        ),
        target_usd=None if usd is None else float(usd),
        target_seconds=limits.max_seconds if rules.targets.seconds is None else rules.targets.seconds,
    )
    judged = tuple(part.key for part in parts if part.judged)
    judges = {part.key: part.judge for part in parts if part.judge} | ({END_TO_END: found.judge} if found.judge else {})
    settings = replace(found.settings, judged=(*judged, END_TO_END) if found.judged else judged, judged_by=judges)
    return dataclasses.replace(found, settings=settings)


def whole_of(crew: Crew, keys: Sequence[str]) -> Structure:
    """How a crew's success follows from that of its tasks.

    Args:
        keys: the leaf of each task, in their order
    """
    leaves = tuple(map(Leaf, keys))
    # A parallel crew has no output without any of its tasks: each is needed by a result, or is one.
    return leaves[0] if len(leaves) == 1 else AllOf(leaves) if crew.process == "parallel" else Chain(leaves)


def parts_of(crew: Crew, models: Mapping[str, str]) -> tuple[Part, ...]:
    """The tasks of a crew as its record knows them.

    Args:
        models: by agent, the name of its model
    """
    owners = [_owner(crew, task) for task in crew.tasks]
    kinds = kinds_of(crew)
    found: list[Part] = []
    earlier: list[str] = []
    for task, owner in zip(crew.tasks, owners, strict=True):
        version = digest([_of_agent(owner), _of_task(task)])
        kind = kinds[task.name]
        subject = Subject(owner.role.name, models.get(owner.name, ""), kind, version)
        judged = task.verify is not None or task.output is not None
        before = () if crew.process == "parallel" else tuple(earlier)
        needs = before if task.context is None else tuple(task.context)
        record = record_of(task.verify)
        found.append(Part(f"{owner.name}/{kind}", owner.name, task.name, subject, judged, record, needs))
        earlier.append(task.name)
    return tuple(found)


def kinds_of(crew: Crew) -> dict[str, str]:
    """By task, the kind of work that its record is kept by.

    A stream is of one version at a time: of an agent's tasks of one kind the first has it, and one that reads otherwise
    has its name added.
    """
    taken: dict[tuple[str, str], Any] = {}
    found: dict[str, str] = {}
    for task in crew.tasks:
        owner, kind, text = _owner(crew, task).name, task.kind, _of_task(task)
        while taken.setdefault((owner, kind), text) != text:
            kind = f"{kind}/{task.name}"
        found[task.name] = kind
    return found


def _judge_of_the_whole(crew: Crew) -> JudgeRecord | None:
    """What is known of the errors in its outcomes: those of its verifier's, else of its only result's."""
    results = crew.results()
    return record_of(results[0].verify if crew.verify is None and len(results) == 1 else crew.verify)


def record_of(verify: Verify | None) -> JudgeRecord | None:
    """What is known of a judge's errors, where it was tried on good and on bad cases."""
    if not isinstance(verify, Judge) or verify.sensitivity is None or verify.specificity is None:
        return None
    return verify.record


def _owner(crew: Crew, task: Task) -> Agent:
    return crew.manager if isinstance(crew.manager, Agent) else crew.agent(task.agent)


def behaviour_of(crew: Crew, models: Mapping[str, str]) -> str:
    """A digest of what defines a crew's behaviour.

    Args:
        models: by agent, the name of its model
    """
    agents = [[agent.name, models.get(agent.name, ""), _of_agent(agent)] for agent in crew.everyone()]
    tasks = [[task.name, task.agent, task.context, _of_task(task)] for task in crew.tasks]
    return digest([crew.process, agents, tasks])


def _of_agent(agent: Agent) -> Any:
    return [agent.role.model_dump(mode="json", exclude={"model"}), sorted(tool.name for tool in agent.tools)]


def _of_task(task: Task) -> Any:
    return [task.description, None if task.output is None else _schema(task.output)]


@lru_cache(maxsize=256)
def _schema(output: type[BaseModel]) -> str:
    return digest(output.model_json_schema())


def digest(value: Any) -> str:
    """A short digest of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:_DIGITS]
