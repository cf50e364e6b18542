"""The examples of guarding a host run as they stand."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("name", "alone"),
    [
        ("guard_autogen", 40),
        ("guard_autogen_team", 40),
        ("guard_crewai", 25),
        ("guard_crewai_flow", 25),
        ("guard_langgraph", 40),
        ("guard_llama_index", 40),
    ],
)
def test_an_example_shows_what_one_line_changes(name, alone, capsys, monkeypatch):
    """On its own the agent searches until its host gives up; guarded exactly max_tool_calls times."""
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    shown = capsys.readouterr().out
    assert f"on its own: {alone} searches" in shown
    assert "guarded:    4 searches" in shown
    assert "it ended because of max_tool_calls of run: the cap is 4" in shown
