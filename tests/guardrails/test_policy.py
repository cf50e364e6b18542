"""The content section of a policy: read strictly, merged by adding."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from crew_guard import Policy, load_policy
from crew_guard.cli.app import app
from crew_guard.core.content import ContentRules
from crew_guard.core.tightening import tightened
from crew_guard.errors import ConfigError, MissingDependencyError
from crew_guard.guardrails import base


def load(tmp_path, text: str) -> Any:
    file = tmp_path / "p.yaml"
    file.write_text(textwrap.dedent(text))
    return load_policy(file).content


def test_a_file_names_guardrails_by_place(tmp_path):
    """In order, each with its own settings."""
    rules = load(
        tmp_path,
        """\
        content:
          inputs:
            - secrets: {}
          outputs:
            - length: {max_chars: 4000, action: fix}
            - json_schema:
                follows: {type: object, required: [title], properties: {title: {type: string}}}
            - judge: {rule: It must be polite, model: "openai:gpt-4.1-mini"}
          tool_results:
            - instructions: {action: fix}
            - personal_data: {kinds: [email, card], regions: [US], action: fix}
          max_seconds: 5
        """,
    )
    assert [check.chosen[0] for check in rules.outputs] == ["length", "json_schema", "judge"]
    assert rules.inputs[0].secrets.action == "reject"
    assert rules.tool_results[1].personal_data.kinds == ("email", "card")
    assert rules.max_seconds == 5


@pytest.mark.parametrize(
    ("entry", "line", "words"),
    [
        ("- secret: {}", 3, "unknown key; did you mean secrets?"),
        ("- secrets: {}\n      length: {max_chars: 3}", 3, "expected exactly one of"),
        ("- length: {max_chars: 0}", 3, "of at least 1, got 0"),
        ("- length: {max_chars: 3, action: drop}", 3, "expected fix or reject"),
        ("- topics: {forbid: ['(']}", 3, "( is no regular expression"),
        ("- topics: {forbid: ['a*']}", 3, "matches any text"),
        ("- topics: {forbid: []}", 3, "expected"),
        ("- personal_data: {kinds: [name]}", 3, "expected email or phone"),
        ("- personal_data: {regions: [usa]}", 3, "a country of two capitals such as US, got usa"),
        ("- personal_data: {regions: [UK]}", 3, "expected GB for the United Kingdom, got UK"),
        ("- personal_data: {kinds: []}", 3, "expected at least 1"),
        ("- length: {max_chars: 3, min_chars: 9}", 3, "min_chars is 9, more than max_chars, 3"),
        ("- judge: {}", 3, "is missing"),
        ("- citations: {}", 2, "citations can be checked in outputs only"),
        ("- citations:", 3, "is empty"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_line(tmp_path, entry, line, words):
    """And says what was expected."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"content:\n  inputs:\n    {entry}\n")
    assert words in str(caught.value)
    assert caught.value.line == line


CHECKS = st.sampled_from(
    [{"secrets": {}}, {"instructions": {"action": "fix"}}, {"length": {"max_chars": 9}}, {"personal_data": {}}]
)
RULES = st.fixed_dictionaries(
    {place: st.lists(CHECKS, max_size=3) for place in ("inputs", "outputs", "tool_results")}
    | {"max_seconds": st.floats(0.1, 600)}
).map(ContentRules.model_validate)


@given(RULES, RULES)
def test_a_layer_below_adds_and_never_takes_away(above, below):
    """Every check of both is there, those above first; the time is the shorter."""
    both = tightened(Policy(content=above), Policy(content=below)).content
    for place in ("inputs", "outputs", "tool_results"):
        checks = getattr(both, place)
        wanted = []
        for check in (*getattr(above, place), *getattr(below, place)):
            wanted += [] if check in wanted else [check]
        assert checks == tuple(wanted)
    assert both.max_seconds == min(above.max_seconds, below.max_seconds)


def test_a_library_that_is_not_there_is_named_with_its_extra():
    """Before the run begins, not in the middle of it."""
    with pytest.raises(MissingDependencyError, match=r"crew-guard\[guardrails\]"):
        base.needed("no_such_module_of_ours", "finding secrets")


def test_a_check_of_a_policy_says_what_no_run_could_carry_out(tmp_path):
    """By file and line, also where the rule comes from the layer above; what may be meant is a warning."""
    (tmp_path / "org.yaml").write_text(
        textwrap.dedent(
            """\
            content:
              outputs:
                - secrets: {}
                - json_schema: {follows: {type: foo}}
            """
        )
    )
    below = tmp_path / "own.yaml"
    below.write_text(
        textwrap.dedent(
            """\
            extends: org.yaml
            content:
              inputs:
                - personal_data: {regions: [XX]}
              outputs:
                - judge: {rule: It is polite, model: nope}
                - judge: {rule: It is polite, model: "openai:gpt-4.1-mini"}
            """
        )
    )
    ended = CliRunner().invoke(app, ["policy", "check", str(below), "--json"])
    (told,) = json.loads(ended.stdout)["files"]
    assert ended.exit_code == 2
    assert [(Path(one["file"]).name, one["line"], one["key"]) for one in told["problems"]] == [
        ("own.yaml", 4, "content.inputs.0"),
        ("org.yaml", 4, "content.outputs.1"),
    ]
    (warning,) = told["warnings"]
    assert (warning["line"], warning["key"]) == (6, "content.outputs.2")
    assert "there is no model 'nope'" in warning["message"]
