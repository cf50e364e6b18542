"""guard() on what it can't take: the words say what to do."""

import pytest
from loguru import logger

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task, guard
from crew_guard.api import Guarded
from crew_guard.errors import ConfigError
from crew_guard.ports import RuntimeResult
from crew_guard.store.memory import MemoryStore


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


@pytest.mark.parametrize("streamed", [False, True])
def test_a_policy_that_means_nobody_here_is_told(streamed: bool) -> None:
    """Once, whether the run is read as a stream or not."""
    policy = Policy.model_validate({"agents": {"anne": {"max_steps": 3}}})
    guarded = Guarded(Nothing(), Supervisor(policy, store=MemoryStore()), "Team")
    warned: list[str] = []
    sink = logger.add(warned.append, level="WARNING", format="{message}")
    logger.enable("crew_guard.api")
    try:
        for _ in range(2):
            if streamed:
                stream = guarded.stream({})
                assert list(stream)
                assert stream.result.done
            else:
                assert guarded.run({}).done
    finally:
        logger.disable("crew_guard.api")
        logger.remove(sink)
    assert warned == ["policy: agents.anne: the crew has no agent of this name; did you mean ann?\n"]
