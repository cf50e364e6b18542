"""The crews of the example run as they stand, each in its own shape."""

from pathlib import Path
from typing import Any

import pytest

from crew_guard import Policy, Supervisor
from crew_guard.config import load_crew
from crew_guard.core.messages import ModelRequest
from crew_guard.testing import MemoryStore, Reply, ScriptedModel

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "processes.py"


def ask(name: str, arguments: str) -> Reply:
    return Reply(tools=((name, arguments),))


def by_task(request: ModelRequest) -> Any:
    wish = request.messages[1].text
    if "Write a brief" in wish:
        return "the brief: " + " and ".join(part for part in ("good", "bad") if part in wish)
    return "good" if "good for" in wish else "bad"


SCRIPTS: dict[str, Any] = {
    "parallel": by_task,
    "hierarchical": [
        ask("delegate", '{"agent": "researcher", "task": "find"}'),
        ask("search", '{"query": "gzip"}'),
        "notes",
        ask("delegate", '{"agent": "writer", "task": "write"}'),
        "text",
        "the brief",
    ],
    "handoff": [
        ask("handoff", '{"agent": "researcher", "reason": "facts"}'),
        ask("search", '{"query": "gzip"}'),
        "gzip",
    ],
    "conversation": ["draft", "too long", "shorter", "APPROVED"],
    "chaired": ["one", "critic", "two", "DONE"],
}
MADE = {
    "parallel": "the brief: good and bad",
    "hierarchical": "the brief",
    "handoff": "gzip",
    "conversation": "shorter",
    "chaired": "two",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_crew_of_the_example_does_its_job(name: str) -> None:
    """The output is what its process makes of what its agents say."""
    model = ScriptedModel(SCRIPTS[name])
    result = Supervisor(Policy(), model=model, store=MemoryStore()).run(
        load_crew(f"{EXAMPLE}:{name}"), {"topic": "gzip"}
    )
    assert (result.status, result.output) == ("done", MADE[name])
