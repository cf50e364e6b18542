"""The same message again: in one conversation it is a loop, in several it is an answer."""

from __future__ import annotations

from typing import Any

import pytest

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task
from crew_guard.core.processes import Turns
from crew_guard.testing import MemoryStore, ScriptedModel

SAME = "I checked the clauses one by one, and no issues were found in this document."
RUNTIMES = ["native", "crewai", "autogen", "langgraph", "llama-index"]
REVIEWER = Agent(Role(name="reviewer", goal="review"))


def go(crew: Crew, runtime: Any) -> Any:
    model = ScriptedModel([SAME], repeat=True)
    policy = Policy.model_validate({"limits": {"max_steps": 30}})
    return Supervisor(policy, model=model, store=MemoryStore(), runtime=runtime).run(crew)


@pytest.mark.parametrize(
    ("runtime", "process"),
    # CrewAI's agents do one thing at a time.
    [(one, how) for one in RUNTIMES for how in ("sequential", "parallel") if (one, how) != ("crewai", "parallel")],
)
def test_several_tasks_may_have_the_same_answer(runtime: str, process: Any) -> None:
    """Each is a conversation of its own, though each prompt is longer than the one before."""
    tasks = [Task(f"Does document {n} comply? {'lorem ' * n}", name=f"doc{n}") for n in range(1, 11)]
    result = go(Crew([REVIEWER], tasks, process=process), runtime)
    assert (result.status, result.usage.steps) == ("done", 10)


@pytest.mark.parametrize("runtime", [one for one in RUNTIMES if one != "crewai"])
def test_the_same_message_in_one_conversation_stops_its_agent(runtime: str) -> None:
    """Each of two says it eight times."""
    crew = Crew(
        [REVIEWER, Agent(Role(name="author", goal="write"))],
        [Task("Agree", agent="reviewer")],
        process="conversation",
        turns=Turns(until="AGREED"),
    )
    result = go(crew, runtime)
    assert result.stopped is not None
    assert (result.stopped.reason, result.stopped.limit) == ("loop", "loops.same_message")
    assert result.usage.steps == 16
