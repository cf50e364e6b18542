"""The example that the README shows runs as it stands."""

from pathlib import Path

from crew_guard import Policy, Supervisor
from crew_guard.config import load_crew
from crew_guard.testing import MemoryStore, Reply, ScriptedModel

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "brief.py"


def test_the_example_crew_does_its_job() -> None:
    """It searches Python's documentation, and writes a brief about the topic."""
    model = ScriptedModel(
        [
            Reply(tools=(("search", '{"query": "gzip"}'),)),
            "gzip compresses",
            '{"title": "gzip", "body": "gzip compresses files"}',
        ]
    )
    crew = load_crew(f"{EXAMPLE}:crew")
    result = Supervisor(Policy(), model=model, store=MemoryStore()).run(crew, {"topic": "gzip"})
    assert result.via == "crew"
    assert result.output.title == "gzip"
    assert "gzip" in model.calls[1].messages[-1].text


def test_the_example_falls_back_to_what_it_found() -> None:
    """A brief that never names its topic is not handed over."""
    model = ScriptedModel(["notes", '{"title": "x", "body": "something else"}'])
    crew = load_crew(f"{EXAMPLE}:crew")
    result = Supervisor(Policy(), model=model, store=MemoryStore()).run(crew, {"topic": "gzip"})
    assert result.via == "workflow"
    assert "never says 'gzip'" in result.fell_back
    assert "gzip" in result.output.body
