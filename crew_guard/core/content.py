"""What a policy says of content, and what a check of it answers: pass, fix or reject.

Places are where content crosses a line: a run's inputs, an agent's answer, a tool's result.
A layer below adds checks to those of the layers above it and never takes one away.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from crew_guard.core.merging import LEAST, UNION

Place: TypeAlias = Literal["inputs", "outputs", "tool_results"]
CheckOutcome: TypeAlias = Literal["pass", "fix", "reject"]
CheckAction: TypeAlias = Literal["fix", "reject"]
PersonalKind: TypeAlias = Literal["email", "phone", "card", "iban", "ssn", "ip"]


class Check(Struct, frozen=True):
    """What a guardrail answers."""

    outcome: CheckOutcome
    value: Any = None
    """For a fix: what takes the content's place, its text or a value of its kind."""
    reason: str = ""
    """Why, in words for the agent; it never holds what must not be seen."""
    mend: Callable[[str], str] | None = None
    """For a fix of a text: does the same to any part of it, so that a structured value keeps its shape."""
    mendable: bool = True
    """For a rejection: whether another answer may pass. False where the check itself failed."""


PASSED = Check("pass")


def fixed(value: Any, reason: str = "", mend: Callable[[str], str] | None = None) -> Check:
    """The content may go on as this."""
    return Check("fix", value, reason, mend)


def rejected(reason: str, *, mendable: bool = True) -> Check:
    """The content may not go on."""
    return Check("reject", None, reason, None, mendable)


def withheld(tool: str, check: Check) -> str:
    """What an agent reads in place of a tool's result that was rejected."""
    return f"the result of {tool} was withheld: {check.reason}"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class _Rule(_Section):
    action: CheckAction = "reject"
    """fix changes what is wrong and goes on; reject gives the reason back."""


class LengthRule(_Rule):
    """How long a text may be."""

    max_chars: int | None = Field(default=None, ge=1)
    """Characters at most; a fix cuts there."""
    min_chars: int | None = Field(default=None, ge=1)
    """Characters at least; too short a text is rejected, whatever the action."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Tokens at most, by the o200k vocabulary, or bytes where it isn't at hand."""

    @model_validator(mode="after")
    def _says_something(self) -> LengthRule:
        if self.max_chars is None and self.min_chars is None and self.max_tokens is None:
            raise PydanticCustomError("length", "expected max_chars, min_chars or max_tokens, got none of them", {})
        if self.min_chars is not None and self.max_chars is not None and self.min_chars > self.max_chars:
            words = {"least": self.min_chars, "most": self.max_chars}
            text = "min_chars is {least}, more than max_chars, {most}: no text is that long"
            raise PydanticCustomError("length", text, words)
        return self


class SecretsRule(_Rule):
    """API keys, private keys and passwords."""


class PersonalRule(_Rule):
    """Personal data that has a form which can be checked."""

    kinds: tuple[PersonalKind, ...] = Field(("email", "phone", "card", "iban", "ssn"), min_length=1)
    """Which; addresses of machines (ip) have to be named."""
    regions: tuple[str, ...] = ()
    """Countries such as US whose phone numbers are found without their +1, too."""

    @field_validator("regions")
    @classmethod
    def _two_letters(cls, regions: tuple[str, ...]) -> tuple[str, ...]:
        for region in regions:
            if not re.fullmatch(r"[A-Z]{2}", region):
                raise PydanticCustomError(
                    "region", "expected a country of two capitals such as US, got {it}", {"it": region}
                )
            if region == "UK":
                raise PydanticCustomError("region", "expected GB for the United Kingdom, got UK", {})
        return regions


class TopicsRule(_Rule):
    """What must not come up."""

    forbid: tuple[str, ...] = Field(min_length=1)
    """Regular expressions, case ignored; a fix takes out what matches."""

    @field_validator("forbid")
    @classmethod
    def _compiles(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                empty = re.compile(pattern).search("") is not None
            except (re.error, OverflowError, RecursionError) as error:
                words = {"it": pattern, "why": str(error)}
                raise PydanticCustomError("pattern", "{it} is no regular expression: {why}", words) from None
            if empty:
                raise PydanticCustomError("pattern", "{it} matches any text, the empty one too", {"it": pattern})
        return patterns


class InstructionsRule(_Rule):
    """Text that reads as instructions to a model, and text that people can't see."""


class SchemaRule(_Section):
    """What a JSON answer must look like."""

    follows: dict[str, Any]
    """A JSON Schema."""


class CitationsRule(_Section):
    """Quotes must stand in what the run has read: its inputs, tool results and earlier answers."""

    fields: tuple[str, ...] = Field(("quote",), min_length=1)
    """The keys of a structured answer that hold quotes; in a plain text what stands in quotation marks."""
    min_chars: int = Field(default=20, ge=1)
    """Shorter quotes in a plain text are not looked at."""
    min_quotes: int = Field(default=0, ge=0)
    """How many there must be."""


class JudgeRule(_Section):
    """A model that says yes or no. Its call is a step like any other."""

    rule: str = Field(min_length=1)
    """What must hold for the content, in words."""
    model: str | None = Field(default=None, min_length=1)
    """E.g. openai:gpt-4.1-mini; absent takes the supervisor's."""
    name: str = Field(default="judge", min_length=1, pattern=r"^[A-Za-z][\w -]*$")
    """The agent that its calls are counted under."""
    max_tokens: int = Field(default=256, ge=16)
    """Longest verdict."""


class ContentCheck(_Section):
    """One guardrail: exactly one of these keys."""

    length: LengthRule | None = None
    """How long it may be."""
    secrets: SecretsRule | None = None
    """Keys and passwords."""
    personal_data: PersonalRule | None = None
    """Personal data."""
    topics: TopicsRule | None = None
    """What must not come up."""
    instructions: InstructionsRule | None = None
    """Text that reads as instructions to a model."""
    json_schema: SchemaRule | None = None
    """What a JSON answer must look like."""
    citations: CitationsRule | None = None
    """Quotes must stand in what was read; of outputs only."""
    judge: JudgeRule | None = None
    """A model that says yes or no."""

    @property
    def chosen(self) -> tuple[str, Any]:
        """The guardrail's name and its rule."""
        return next((name, rule) for name in _CHECKS if (rule := getattr(self, name)) is not None)

    @model_validator(mode="after")
    def _one(self) -> ContentCheck:
        given = [name for name in _CHECKS if getattr(self, name) is not None]
        if len(given) != 1:
            words = {"known": ", ".join(_CHECKS), "given": ", ".join(given) or "none"}
            raise PydanticCustomError("one_check", "expected exactly one of {known}, got {given}", words)
        return self


_CHECKS = tuple(ContentCheck.model_fields)


class ContentRules(_Section):
    """Guardrails on what goes into a run, comes out of its agents, and out of its tools; in order."""

    inputs: Annotated[tuple[ContentCheck, ...], UNION] = ()
    """Of the run's inputs, before any agent sees them."""
    outputs: Annotated[tuple[ContentCheck, ...], UNION] = ()
    """Of each agent's answer to its task, and of what a run hands back."""
    tool_results: Annotated[tuple[ContentCheck, ...], UNION] = ()
    """Of what tools give, before an agent reads it."""
    max_seconds: Annotated[float, LEAST] = Field(default=10.0, gt=0, le=600, allow_inf_nan=False)
    """Wall clock of one check; one that isn't done by then rejects. A judge's call is bounded by the run's limits."""

    @field_validator("inputs", "tool_results")
    @classmethod
    def _citations_are_of_answers(cls, checks: tuple[ContentCheck, ...]) -> tuple[ContentCheck, ...]:
        if any(check.citations for check in checks):
            raise PydanticCustomError("citations", "citations can be checked in outputs only")
        return checks

    def __bool__(self) -> bool:
        return bool(self.inputs or self.outputs or self.tool_results)
