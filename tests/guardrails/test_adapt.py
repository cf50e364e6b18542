"""Guardrails of CrewAI and of Guardrails AI, as they are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import pytest
from crewai.tasks.task_output import TaskOutput
from pydantic import BaseModel

from crew_guard import Task, Verdict
from crew_guard.errors import ConfigError
from crew_guard.guardrails import as_guardrail, crewai_guardrail, validator
from tests.guardrails.running import Ran


class Brief(BaseModel):
    title: str


def no_shouting(output: TaskOutput) -> tuple[bool, Any]:
    """As CrewAI's documentation writes them."""
    if output.raw.isupper():
        return False, f"{output.agent} shouts"
    return True, output.raw.strip()


def test_a_guardrail_of_crewai_is_known_by_its_annotation():
    """It gets a real TaskOutput; its error goes back, its value is the answer."""
    ran = Ran(["LOUD", "  quiet "], Task("w", name="t", guardrails=[no_shouting]))
    assert ran.result.output == "quiet"
    assert "turned down by no_shouting: researcher shouts" in ran.seen()


def test_one_without_an_annotation_is_wrapped():
    """And reads the pydantic object where there is one."""
    wrapped = crewai_guardrail(lambda output: (output.pydantic.title != "x", output))
    ran = Ran(['{"title": "x"}', '{"title": "y"}'], Task("w", output=Brief, guardrails=[wrapped]))
    assert ran.result.output == Brief(title="y")
    assert Ran(["a"], Task("w", guardrails=[crewai_guardrail(lambda _output: True)])).result.status == "failed"


def test_crewais_own_shipped_guardrail_by_model_is_refused_in_words():
    """Its model can't be counted."""
    for given in ("must be polite", 3, no_shouting.__class__):
        with pytest.raises(ConfigError):
            as_guardrail(given)


@dataclass
class PassResult:
    outcome: str = "pass"
    value_override: Any = None


@dataclass
class FailResult:
    error_message: str
    fix_value: Any = None
    outcome: str = "fail"


class OnFail(Enum):
    FIX = "fix"
    NOOP = "noop"


class TwoWords:
    """In the shape of a validator of Guardrails AI."""

    def __init__(self, on_fail: OnFail | None = None) -> None:
        if on_fail:
            self.on_fail_descriptor = on_fail

    def validate(self, value: Any, metadata: dict[str, Any]) -> Any:
        assert metadata == {}
        words = value.split()
        return PassResult() if len(words) == 2 else FailResult("must be exactly two words", " ".join(words[:2]))


@dataclass
class Outcome:
    validation_passed: bool
    validated_output: Any = None
    error: str | None = None


class WholeGuard:
    """In the shape of a Guard of Guardrails AI."""

    def validate(self, llm_output: str) -> Outcome:
        return Outcome(llm_output.islower(), llm_output.strip(), None if llm_output.islower() else "capitals")


def test_a_validator_fixes_or_rejects_as_its_on_fail_says():
    """A FailResult's fix_value is used unless on_fail is something else."""
    assert Ran(["one two three"], Task("w", guardrails=[TwoWords()])).result.output == "one two"
    assert Ran(["one two three"], Task("w", guardrails=[TwoWords(OnFail.FIX)])).result.output == "one two"
    ran = Ran(["one two three", "one two"], Task("w", guardrails=[TwoWords(OnFail.NOOP)]))
    assert ran.result.output == "one two"
    assert "turned down by TwoWords: must be exactly two words" in ran.seen()


def test_a_guard_and_a_validator_with_metadata_fit_too():
    """By what their validate takes and gives."""
    ran = Ran(["LOUD", " low "], Task("w", guardrails=[WholeGuard()]))
    assert ran.result.output == "low"

    class Odd:
        def validate(self, value: Any, metadata: dict[str, Any]) -> Any:
            return PassResult() if metadata["ok"] else None

    assert Ran(["x"], Task("w", guardrails=[validator(Odd(), {"ok": True})])).result.output == "x"
    assert Ran(["x"], Task("w", guardrails=[validator(Odd(), {"ok": False})])).result.status == "failed"


def test_a_verdict_is_an_answer():
    """Verifiers that exist can be used as they are."""
    ran = Ran(["a", "b"], Task("w", guardrails=[lambda text: Verdict(text == "b", "say b")]))
    assert ran.result.output == "b"
    assert "say b" in ran.seen()
