"""guard() on what it can't take: the words say what to do."""

from collections.abc import Iterator
from typing import Any

import pytest
from loguru import logger

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task, agent_node, chain, guard, node
from crew_guard.api import Guarded
from crew_guard.core.verdicts import Judge
from crew_guard.errors import ConfigError
from crew_guard.ports import RuntimeResult
from crew_guard.store.memory import MemoryStore
from crew_guard.testing import ScriptedModel


class Nothing:
    """A runtime that does nothing."""

    name = "nothing"

    def members(self):
        return ["ann"]

    async def run(self, inputs, gate):
        return RuntimeResult("done")


def test_what_is_guarded_already_is_not_guarded_twice() -> None:
    """Its usage would be charged to two policies, and neither would say so."""
    guarded = Guarded(Nothing(), Supervisor(), "Team")
    with pytest.raises(ConfigError, match="this Team is guarded already"):
        guard(guarded)


def test_a_crew_of_our_own_needs_no_guard() -> None:
    """The message names the way."""
    crew = Crew([Agent(Role(name="ann", goal="answer"))], [Task("go")])
    with pytest.raises(ConfigError, match=r"runs under Supervisor\(policy\)\.run\(crew\)"):
        guard(crew)


def test_an_object_of_no_host_is_told_by_its_type() -> None:
    """With the hosts that there are."""
    with pytest.raises(ConfigError, match=r"no adapter for builtins\.int; it takes an Agent, a Crew or a Flow"):
        guard(3)


@pytest.fixture
def warned() -> Iterator[list[str]]:
    """What is logged as a warning."""
    found: list[str] = []
    sink = logger.add(found.append, level="WARNING", format="{message}")
    logger.enable("crew_guard.api")
    yield found
    logger.disable("crew_guard.api")
    logger.remove(sink)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_policy_that_means_nobody_here_is_told(streamed: bool, warned: list[str]) -> None:
    """Once, whether the run is read as a stream or not."""
    policy = Policy.model_validate({"agents": {"anne": {"max_steps": 3}}})
    guarded = Guarded(Nothing(), Supervisor(policy, store=MemoryStore()), "Team")
    for _ in range(2):
        if streamed:
            stream = guarded.stream({})
            assert list(stream)
            assert stream.result.done
        else:
            assert guarded.run({}).done
    assert warned == ["policy: agents.anne: the crew has no agent of this name; did you mean ann?\n"]


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ({"threshold": 0.7}, True),
        ({}, False),
        ({"threshold": 0.7, "fallback": "on_failure"}, False),
        ({"threshold": 0.7, "unknown": "crew"}, False),
    ],
)
def test_a_shadow_that_a_host_can_not_work_in_is_told(rules: dict[str, Any], told: bool, warned: list[str]) -> None:
    """Its runs would go to the workflow for ever, and nothing would say why."""
    policy = Policy.model_validate({"reliability": {"unknown": "shadow", **rules}})
    flow = chain(node(lambda _: "by hand", name="fixed"))
    supervisor = Supervisor(policy, store=MemoryStore())
    assert Guarded(Nothing(), supervisor, "Team", flow).run({}).via == ("workflow" if told else "crew")
    assert Guarded(Nothing(), supervisor, "Alone").run({}).via == "crew"
    assert [line.partition(" sends every run to the workflow")[0] for line in warned] == [
        "policy: reliability.unknown: shadow"
    ] * told


@pytest.mark.parametrize("what", ["host", "crew", "workflow"])
def test_agents_inside_of_a_workflow_are_known_by_either_name(what: str, warned: list[str]) -> None:
    """So are judges there. A workflow that runs by itself is warned about, too; a node is no agent."""
    judge = Judge("Is it right?", name="jo")
    bob = Agent(Role(name="bob", goal="look"))
    flow = chain(agent_node(bob, "Look", name="read", caps={"max_steps": 2}, verify=judge), name="flow")
    names = ("bob", "read/bob", "jo", "read/jo", "read")  # the last one is a node
    policy = Policy.model_validate({"agents": {name: {"max_steps": 3} for name in names}})
    supervisor = Supervisor(policy, model=ScriptedModel(["good"], repeat=True), store=MemoryStore())
    crew = Crew([Agent(Role(name="ann", goal="answer"))], [Task("go")], fallback=flow)
    for _ in range(2):
        if what == "host":
            Guarded(Nothing(), supervisor, "Team", flow).run({})
        else:
            supervisor.run(crew if what == "crew" else flow)
    whose = "workflow" if what == "workflow" else "crew"
    assert warned == [f"policy: agents.read: the {whose} has no agent of this name; did you mean read/jo?\n"]
