"""The roles that ship: each loads by its name, and says what an agent needs to know."""

import pytest

from crew_guard import Agent, Crew, Supervisor, Task, load_role
from crew_guard.config import shipped_dir
from crew_guard.core.roles import fill
from crew_guard.testing import MemoryStore, ScriptedModel

NAMES = ("analyst", "coder", "critic", "planner", "researcher", "reviewer", "support", "writer")


def test_the_roles_that_ship_are_these():
    """Eight, each in a file of its own name."""
    assert sorted(file.stem for file in shipped_dir("role").glob("*.yaml")) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_role_says_when_to_stop_and_what_to_leave_alone(name):
    """It loads by its name, runs without inputs, and its instructions hold both."""
    role = load_role(name)
    assert role.name == name
    assert "Stop" in role.instructions
    assert "Do not" in role.instructions
    assert fill(role.instructions + role.goal, {}) == role.instructions + role.goal
    model = ScriptedModel(["done"])
    result = Supervisor(model=model, store=MemoryStore()).run(Crew([Agent(role)], [Task("go")]))
    assert result.done
    assert role.goal in model.calls[0].messages[0].text
    assert model.calls[0].max_tokens == role.max_tokens
