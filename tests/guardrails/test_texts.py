"""Length, topics, structure and citations."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crew_guard.core.content import CitationsRule, LengthRule, PersonalRule, SchemaRule, TopicsRule
from crew_guard.errors import ConfigError
from crew_guard.guardrails import structure
from crew_guard.guardrails.citations import CitationsGuardrail
from crew_guard.guardrails.personal import PersonalGuardrail
from crew_guard.guardrails.structure import SchemaGuardrail
from crew_guard.guardrails.texts import LengthGuardrail, TopicsGuardrail
from crew_guard.models.counting import counter_for_encoding
from tests.guardrails.looking import look

COUNT = counter_for_encoding("o200k_base")


@settings(deadline=None)
@given(st.text(max_size=300), st.integers(1, 60), st.integers(1, 40))
def test_a_cut_text_is_within_its_length(text, chars, tokens):
    """In characters and in tokens; a text that is short enough is left alone."""
    guardrail = LengthGuardrail(LengthRule(max_chars=chars, max_tokens=tokens, action="fix"), COUNT)
    check = look(guardrail, text)
    made = check.value if check.outcome == "fix" else text
    assert len(made) <= chars
    assert COUNT(made) <= tokens
    assert (check.outcome == "pass") == (len(text) <= chars and COUNT(text) <= tokens)


def test_a_length_says_what_it_is_and_what_is_allowed():
    """Too short can't be fixed."""
    assert "it has 5 characters, 3 are allowed" in look(LengthGuardrail(LengthRule(max_chars=3), COUNT), "hello").reason
    check = look(LengthGuardrail(LengthRule(min_chars=9, action="fix"), COUNT), "  hi  ")
    assert (check.outcome, check.reason) == ("reject", "it has 2 characters, at least 9 are needed")


def test_a_topic_is_named_by_its_pattern():
    """What matched isn't quoted; a fix takes it out, in any case of letters, below any key."""
    check = look(TopicsGuardrail(TopicsRule(forbid=(r"project\s+falcon",))), {"a": ["On PROJECT  Falcon"]})
    assert check.outcome == "reject"
    assert "Falcon" not in check.reason
    fixing = TopicsGuardrail(TopicsRule(forbid=(r"project\s+falcon", "secret"), action="fix"))
    assert look(fixing, "Secret Project Falcon is on").value == "[removed] [removed] is on"


def test_a_pattern_that_takes_for_ever_is_given_up():
    """It raises, which is a rejection, and doesn't hold the process."""
    with pytest.raises(TimeoutError):
        look(TopicsGuardrail(TopicsRule(forbid=("(?:.*?,){14}P",))), ",".join("1" * 60))


SCHEMA = {"type": "object", "required": ["title"], "properties": {"title": {"type": "string"}, "n": {"minimum": 1}}}


def test_a_schemas_faults_are_named_by_their_place():
    """JSON in a fence is JSON; what is none is said to be none."""
    guardrail = SchemaGuardrail(SchemaRule(follows=SCHEMA))
    assert look(guardrail, '```json\n{"title": "x"}\n```').outcome == "pass"
    assert look(guardrail, {"title": "x", "n": 0}).reason == "n: 0 is less than the minimum of 1"
    assert look(guardrail, "{}").reason == "it: 'title' is a required property"
    assert "it is no JSON" in look(guardrail, "a brief").reason


def test_a_schema_that_is_none_is_told_before_the_run():
    """By its key."""
    with pytest.raises(ConfigError, match=r"json_schema.follows.type: 'objekt'"):
        SchemaGuardrail(SchemaRule(follows={"type": "objekt"}))


SLOW = "(?:.*?,){14}P"
SLOW_TEXT = ",".join("1" * 60)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"items": {"pattern": SLOW}}, [SLOW_TEXT]),
        ({"patternProperties": {SLOW: {}}}, {SLOW_TEXT: 1}),
        ({"additionalProperties": False, "patternProperties": {SLOW: {}}}, {SLOW_TEXT: 1}),
        ({"propertyNames": {"pattern": SLOW}}, {SLOW_TEXT: 1}),
        (
            {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "properties": {"below": {"$ref": "#"}, "a": {"pattern": SLOW}},
            },
            {"below": {"a": SLOW_TEXT}},
        ),
    ],
    ids=["pattern", "patternProperties", "additionalProperties", "propertyNames", "below a reference to the whole"],
)
def test_a_schemas_pattern_that_takes_for_ever_rejects(schema, value, monkeypatch):
    """After its time, while other threads run on; Python's own engine would hold the process."""
    monkeypatch.setattr(structure, "SECONDS", 0.05)
    check = look(SchemaGuardrail(SchemaRule(follows=schema)), value)
    assert (check.outcome, check.mendable) == ("reject", False)
    assert check.reason == "the schema's patterns took more than 0.05 s on it"


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"pattern": "b+"}, ["abba", "b", 5], ["aaa"]),
        ({"pattern": "^Dear {e},$"}, ["Dear {e},"], ["Dear x,", "Dear "]),
        ({"pattern": r"^a{2}\\{e}$"}, ["aa\\{e}"], ["aa\\"]),
        ({"pattern": r"^\p{Lu}$"}, ["Ä"], ["ä"]),
        ({"patternProperties": {"^n_": {"type": "number"}}}, [{"n_a": 1, "a": "x"}], [{"n_a": "x"}]),
        (
            {"properties": {"a": {}}, "patternProperties": {"^x-": {}}, "additionalProperties": {"type": "null"}},
            [{"a": 1, "x-b": 1, "c": None}],
            [{"c": 1}],
        ),
        ({"patternProperties": {"^x-": {}}, "unevaluatedProperties": False}, [{"x-a": 1}], [{"a": 1}]),
    ],
    ids=["anywhere", "braces", "a backslash", "classes", "names", "other names", "the rest"],
)
def test_patterns_of_a_schema_mean_what_they_mean(schema, good, bad):
    """They match anywhere in a text; a brace that begins no repetition is one."""
    guardrail = SchemaGuardrail(SchemaRule(follows=schema))
    assert [look(guardrail, json.dumps(value)).outcome for value in good] == ["pass"] * len(good)
    assert [look(guardrail, json.dumps(value)).outcome for value in bad] == ["reject"] * len(bad)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"$ref": "http://127.0.0.1:9/x"}, r"the reference 'http://127.0.0.1:9/x' leads nowhere: nothing is fetched"),
        ({"properties": {"a": {"$ref": "#/$defs/a"}}}, r"the reference '#/\$defs/a' leads nowhere"),
        ({"$ref": "#"}, "it refers to itself without an end"),
        ({"properties": {"a": {"pattern": "("}}}, r"json_schema.follows.properties.a.pattern: '\('"),
        (
            {"unevaluatedProperties": False, "patternProperties": {"(a+)+": {}}},
            "may have no repetition, group or choice",
        ),
    ],
)
def test_a_schema_that_nothing_can_be_checked_by_is_told_before_the_run(schema, words):
    """Each answer would be turned down, or could hold the process."""
    with pytest.raises(ConfigError, match=words):
        SchemaGuardrail(SchemaRule(follows=schema))


def test_a_brace_of_a_topic_stands_for_itself():
    """A pattern {e} is no leave to differ by a letter."""
    guardrail = TopicsGuardrail(TopicsRule(forbid=("falcon{e}",)))
    assert look(guardrail, "a falcon").outcome == "pass"
    assert look(guardrail, "a Falcon{e}").outcome == "reject"


def test_phone_numbers_are_looked_for_in_countries_that_there_are():
    """Of no other is any number known, and nothing would ever be found."""
    PersonalGuardrail(PersonalRule(kinds=("phone",), regions=("GB", "US")))
    with pytest.raises(ConfigError, match=r"no phone numbers are known of XX; expected a country"):
        PersonalGuardrail(PersonalRule(kinds=("phone",), regions=("XX",)))


SOURCE = "gzip.open opens a gzip-compressed file in\nbinary or text mode, returning a file object."


def test_a_quote_must_stand_in_a_source():
    """Spaces and the look of quotation marks don't matter; a word that was changed does."""
    guardrail = CitationsGuardrail(CitationsRule())
    right = 'It says "opens a gzip-compressed  file in binary or text mode".'
    assert look(guardrail, right, SOURCE).outcome == "pass"
    assert look(guardrail, f"[{right}]".replace('"', "”").replace("says ”", "says “"), SOURCE).outcome == "pass"
    wrong = look(guardrail, right.replace("binary", "any"), SOURCE)
    assert wrong.outcome == "reject"
    assert "in any or text mode" in wrong.reason
    assert look(guardrail, 'He said "hello".', SOURCE).outcome == "pass"


def test_quotes_of_a_structured_answer_stand_below_their_key():
    """However deep; other fields are claims. Sources may be JSON."""
    guardrail = CitationsGuardrail(CitationsRule(min_quotes=1))
    answer = {"claim": "it opens files", "findings": [{"quote": "returning a file object", "claim": "so"}]}
    assert look(guardrail, answer, SOURCE).outcome == "pass"
    assert look(guardrail, answer, '{"text": "mode,\\nreturning a file object"}').outcome == "pass"
    assert look(guardrail, answer).outcome == "reject"
    assert look(guardrail, {"claim": "x"}, SOURCE).reason == "it has 0 quotes, at least 1 are needed"
