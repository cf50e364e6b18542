"""What CrewAI keeps of a run in its caller's context: a guarded run adds nothing to it."""

import pytest
from crewai import RuntimeState
from crewai.events import crewai_event_bus

from crew_guard import Agent, Crew, Role, Supervisor, Task
from crew_guard.adapters import crewai as adapter
from crew_guard.store.memory import MemoryStore
from crew_guard.testing.crews import ScriptedModel
from crew_guard.testing.held import Kept
from tests.adapters.crewai_doubles import HungryLLM, hungry_agent, hungry_crew
from tests.adapters.guarding import Guard, policy


@pytest.fixture(autouse=True)
def _its_own_record():
    crewai_event_bus.reset_runtime_state()
    yield
    crewai_event_bus.reset_runtime_state()


def an_agent():
    return hungry_agent(HungryLLM(answer_after=1))


def guarded(host, **inputs):
    result = Guard(adapter, host, policy(max_steps=9)).run(**inputs)
    assert result.done, result.error
    return host


def compiled():
    crew = Crew([Agent(Role(name="ann", goal="find things out"))], [Task("Say.")])
    model = ScriptedModel(["done"])
    supervisor = Supervisor(policy(max_steps=9), runtime="crewai", model=model, store=MemoryStore())
    assert supervisor.run(crew).done
    return crew


RUNS = {
    "agent": lambda: guarded(an_agent(), task="go"),
    "crew": lambda: guarded(hungry_crew(an_agent()), topic="go"),
    "compiled": compiled,
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_an_agent_that_ran_on_its_own_before_keeps_no_guarded_run(run):
    """It leaves its record in this context, which the guarded runs are started from."""
    an_agent().kickoff("go")
    record = crewai_event_bus.runtime_state
    assert len(record.root) == 1
    kept = Kept()
    for _ in range(3):
        kept.add(run())
    assert kept.left() == []
    assert crewai_event_bus.runtime_state is record
    assert len(record.root) == 1


def test_what_a_crew_is_resumed_from_is_there_in_its_run():
    """A record that is the crew's own goes on."""
    seen = []

    class Noting(HungryLLM):
        def call(self, *arguments, **options):
            seen.append(crewai_event_bus.runtime_state)
            return super().call(*arguments, **options)

    crew = hungry_crew(hungry_agent(Noting(answer_after=1)))
    record = RuntimeState(root=[crew])
    crewai_event_bus.set_runtime_state(record)
    guarded(crew, topic="go")
    assert seen
    assert all(one is record for one in seen)
