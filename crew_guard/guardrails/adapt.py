"""Guardrails of users' own, and of CrewAI and Guardrails AI, as they are.

Neither library is imported: what they take and give is known by its shape.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

from crew_guard.core.content import PASSED, Check, fixed, rejected
from crew_guard.core.roles import Verdict
from crew_guard.errors import ConfigError
from crew_guard.ports import Content, Guardrail

_PAIR = 2


@dataclass(frozen=True, slots=True)
class Adapted:
    """A function as a Guardrail. What it gives that can't be read as an answer rejects."""

    name: str
    function: Callable[[Content], Any]
    runs: Literal["here", "thread", "gate"] = "thread"
    reads: bool = False

    def check(self, content: Content) -> Check | Awaitable[Check]:
        """Call it; a coroutine function's answer is awaited."""
        answer = self.function(content)
        return self._later(answer) if inspect.isawaitable(answer) else _as_check(answer, content)

    async def _later(self, answer: Awaitable[Any]) -> Check:
        return _as_check(await answer, None)


def as_guardrail(given: Any) -> Guardrail:
    """What a task's guardrails may be, as a Guardrail.

    Args:
        given: a Guardrail; a function of the answer, or of the answer and its Content, that returns a bool, a
            (bool, value or reason), a Verdict or a Check; a function of CrewAI's TaskOutput; a validator or a
            Guard of Guardrails AI
    Raises:
        ConfigError: it is none of these
    """
    if isinstance(given, type):
        raise ConfigError(f"the guardrail {given.__name__} is a class: give an instance of it")
    if callable(getattr(given, "check", None)) and isinstance(getattr(given, "name", None), str):
        return _whole(given)
    if callable(getattr(given, "validate", None)):
        return validator(given)
    if _of_crewai(given, "LLMGuardrail") or isinstance(given, str):
        raise ConfigError("a guardrail in words needs a model that the guard can count: put a judge into the policy")
    if not callable(given):
        raise ConfigError(f"{given!r} is no guardrail: it is neither a function nor has it check or validate")
    return crewai_guardrail(given) if _takes_task_output(given) else _plain(given)


def crewai_guardrail(function: Callable[[Any], Any]) -> Guardrail:
    """A guardrail of CrewAI: a function of its TaskOutput that returns (True, value) or (False, what is wrong).

    As a task's guardrail it is known by its annotation; one without has to be wrapped by this.

    Raises:
        ConfigError: CrewAI is not installed
    """
    try:
        from crewai.tasks.task_output import TaskOutput
    except ImportError:
        raise ConfigError("a guardrail of CrewAI needs CrewAI: pip install 'crew-guard[crewai]'") from None

    def call(content: Content) -> Any:
        model = content.value if hasattr(content.value, "model_dump") else None
        output = TaskOutput(
            description=content.target, name=content.target, raw=content.text, pydantic=model, agent=content.agent
        )
        answer = function(output)
        if not isinstance(answer, tuple) or len(cast("tuple[Any, ...]", answer)) != _PAIR:
            return rejected("the guardrail gave no (bool, value)", mendable=False)
        passed, value = cast("tuple[Any, Any]", answer)
        if isinstance(value, TaskOutput):
            value = value.pydantic if value.pydantic is not None else value.raw
        return passed, value

    return Adapted(_name(function), call)


def validator(given: Any, metadata: dict[str, Any] | None = None) -> Guardrail:
    """A validator or a Guard of Guardrails AI, or whatever has their validate.

    Args:
        given: has validate(value, metadata) → PassResult | FailResult, as validators, or validate(value) →
            ValidationOutcome, as Guards. A FailResult's fix_value is used unless its on_fail says otherwise
        metadata: handed to a validator
    """
    takes = _positional(given.validate)
    action = getattr(getattr(given, "on_fail_descriptor", "fix"), "value", getattr(given, "on_fail_descriptor", "fix"))

    def call(content: Content) -> Check:
        result = given.validate(content.text, metadata or {}) if takes > 1 else given.validate(content.text)
        if hasattr(result, "validation_passed"):  # a Guard's outcome
            if result.validation_passed is not True:
                return rejected(str(getattr(result, "error", None) or "not valid"))
            made = getattr(result, "validated_output", None)
            return PASSED if made is None or made == content.text else fixed(made, "changed by the guard")
        outcome = getattr(result, "outcome", None)
        if outcome == "pass":
            made = getattr(result, "value_override", None)
            changed = isinstance(made, str | dict | list) and made != content.text
            return fixed(made, "changed by the validator") if changed else PASSED
        if outcome != "fail":
            return rejected("the validator gave neither pass nor fail", mendable=False)
        reason, made = str(getattr(result, "error_message", None) or "not valid"), getattr(result, "fix_value", None)
        return fixed(made, reason) if made is not None and action in ("fix", "fix_reask") else rejected(reason)

    return Adapted(_name(given), call)


def _plain(function: Callable[..., Any]) -> Guardrail:
    takes_content = _positional(function) > 1

    def call(content: Content) -> Any:
        return function(content.value, content) if takes_content else function(content.value)

    if inspect.iscoroutinefunction(function):
        return Adapted(_name(function), call, "here")
    return Adapted(_name(function), call)


def _whole(given: Any) -> Guardrail:
    """A guardrail with what it leaves out."""
    if hasattr(given, "runs") and hasattr(given, "reads"):
        return given
    runs: Any = getattr(given, "runs", "here" if inspect.iscoroutinefunction(given.check) else "thread")
    return Adapted(given.name, given.check, runs, bool(getattr(given, "reads", False)))


def _as_check(answer: Any, content: Content | None) -> Check:
    if isinstance(answer, Check):
        return answer
    if isinstance(answer, Verdict):
        return PASSED if answer.passed else rejected(answer.reason or "no reason given")
    if isinstance(answer, bool):
        return PASSED if answer else rejected("no reason given")
    if isinstance(answer, tuple) and len(cast("tuple[Any, ...]", answer)) == _PAIR:
        passed, value = cast("tuple[Any, Any]", answer)
        if passed is True:
            same = value is None or (content is not None and (value is content.value or value == content.text))
            return PASSED if same else fixed(value, "changed by the guardrail")
        if passed is False:
            return rejected(str(value) if value is not None else "no reason given")
    return rejected("the guardrail gave no answer that can be read", mendable=False)


def _positional(function: Callable[..., Any]) -> int:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in kinds for one in parameters)


def _takes_task_output(function: Callable[..., Any]) -> bool:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return False
    return bool(parameters) and "TaskOutput" in str(parameters[0].annotation)


def _of_crewai(given: object, name: str) -> bool:
    return any(base.__name__ == name and base.__module__.startswith("crewai") for base in type(given).__mro__)


def _name(given: Any) -> str:
    return str(getattr(given, "__name__", None) or getattr(given, "rail_alias", None) or type(given).__name__)
