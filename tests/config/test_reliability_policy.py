"""The section `reliability:` of policy files: every mistake with its file, line, key, value and what was expected."""

import pytest

from crew_guard import Agent, Crew, Role, Supervisor, Task
from crew_guard.config import load_policy
from crew_guard.errors import ConfigError
from crew_guard.testing import MemoryStore, ScriptedModel


def written(tmp_path, *lines, name="team.yaml"):
    file = tmp_path / name
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("lines", "line", "key", "told"),
    [
        (["  threshold: 1.7"], 2, "threshold", "expected a number of at most 1, got 1.7"),
        (["  confidence: 0.9", "  threshold: 0.99999"], 3, "threshold", "230,258 straight passes"),
        (["  tier: production", "  threshold: 0.9"], 3, "threshold", "expected at least 0.95"),
        (["  tier: gold"], 2, "tier", "expected production or internal or pilot, got the text"),
        (["  unknown: maybe"], 2, "unknown", "expected crew or shadow or workflow"),
        (["  fallback: sometimes"], 2, "fallback", "expected never or on_failure or on_reliability"),
        (["  treshold: 0.9"], 2, "treshold", "did you mean threshold?"),
        (["  probes: 0.0001"], 2, "probes", "at least 0.001, got 0.0001"),
        (["  targets: {usd: 0}"], 2, "targets.usd", "more than 0"),
        (["  alarm_after: 3"], 2, "alarm_after", "at least 100, got 3"),
        (["  threshold:"], 2, "threshold", "is empty"),
    ],
)
def test_a_mistake_names_file_line_key_and_what_was_expected(tmp_path, lines, line, key, told):
    """Before anything runs."""
    file = written(tmp_path, "reliability:", *lines)
    with pytest.raises(ConfigError) as caught:
        load_policy(file)
    assert str(caught.value).startswith(f"{file}:{line}: reliability.{key}: ")
    assert told in str(caught.value)


def test_every_key_can_be_written(tmp_path):
    """As the docs have it."""
    file = written(
        tmp_path,
        "reliability:",
        "  threshold: 0.85",
        "  tier: internal",
        "  confidence: 0.95",
        "  unknown: shadow",
        "  fallback: on_reliability",
        "  require_fallback: true",
        "  agent_target: 0.97",
        "  targets: {usd: 0.5, seconds: 20}",
        "  alarm_after: 5000",
        "  probes: 0.25",
    )
    rules = load_policy(file).reliability
    assert (rules.least, rules.tier, rules.targets.seconds, rules.require_fallback) == (0.85, "internal", 20, True)


def test_a_looser_layer_is_told_with_both_places(tmp_path):
    """The file below may only tighten."""
    above = written(tmp_path, "reliability: {threshold: 0.9}", name="org.yaml")
    below = written(tmp_path, "extends: org.yaml", "reliability:", "  threshold: 0.8")
    with pytest.raises(ConfigError) as caught:
        load_policy(tmp_path / "team.yaml")
    assert str(caught.value) == (
        f"{below}:3: reliability.threshold: 0.8 is looser than 0.9 of {above}:1; expected at least 0.9"
    )


def test_a_crew_without_the_fallback_that_its_policy_demands_runs_not_at_all(tmp_path):
    """The error names the line that demands it; no model was asked and no run began."""
    file = written(tmp_path, "reliability:", "  require_fallback: true")
    store, model = MemoryStore(), ScriptedModel(["never said"])
    crew = Crew([Agent(Role(name="ann", goal="answer"))], [Task("Say.")])
    with pytest.raises(ConfigError, match="demands a fallback") as caught:
        Supervisor(file, model=model, store=store).run(crew)
    error = caught.value
    assert (error.file, error.line, error.key, error.value) == (str(file), 2, "reliability.require_fallback", "true")
    assert not model.calls
    assert not store.runs()
