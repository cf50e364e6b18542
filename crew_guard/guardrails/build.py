"""From a policy's content rules, and tasks' own guardrails, to the guardrails of a run.

Whatever takes its time to load does so here, before the run begins and its clock runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crew_guard.core.content import ContentCheck, ContentRules
from crew_guard.guardrails.adapt import as_guardrail
from crew_guard.ports import Guardrail, Guards, Model


@dataclass(frozen=True, slots=True)
class _Means:
    """What some guardrails need besides their rule."""

    model_named: Callable[[str | None], Model]
    count: Callable[[str], int]


def guards_for(
    rules: ContentRules,
    tasks: Mapping[str, Sequence[Any]],
    model_named: Callable[[str | None], Model],
    count: Callable[[str], int],
) -> Guards:
    """The guardrails of a run.

    Args:
        rules: the policy's
        tasks: those of single tasks, by name: what `as_guardrail` takes
        model_named: a judge's model by its name; of None, the supervisor's
        count: tokens of a text
    Raises:
        ConfigError: a task's guardrail is none, or a rule can't be carried out
        MissingDependencyError: a guardrail needs the extra guardrails
    """
    means = _Means(model_named, count)
    return Guards(
        inputs=_made(rules.inputs, means),
        outputs=_made(rules.outputs, means),
        tool_results=_made(rules.tool_results, means),
        tasks={name: tuple(as_guardrail(one) for one in given) for name, given in tasks.items()},
        max_seconds=rules.max_seconds,
    )


def _made(checks: Sequence[ContentCheck], means: _Means) -> tuple[Guardrail, ...]:
    return tuple(_MAKERS[check.chosen[0]](check.chosen[1], means) for check in checks)


def _length(rule: Any, means: _Means) -> Guardrail:
    from crew_guard.guardrails.texts import LengthGuardrail

    return LengthGuardrail(rule, means.count)


def _topics(rule: Any, _means: _Means) -> Guardrail:
    from crew_guard.guardrails.texts import TopicsGuardrail

    return TopicsGuardrail(rule)


def _secrets(rule: Any, _means: _Means) -> Guardrail:
    from crew_guard.guardrails.secret_values import SecretsGuardrail

    return SecretsGuardrail(rule)


def _personal_data(rule: Any, _means: _Means) -> Guardrail:
    from crew_guard.guardrails.personal import PersonalGuardrail

    return PersonalGuardrail(rule)


def _instructions(rule: Any, _means: _Means) -> Guardrail:
    from crew_guard.guardrails.instructions import InstructionsGuardrail

    return InstructionsGuardrail(rule)


def _json_schema(rule: Any, _means: _Means) -> Guardrail:
    from crew_guard.guardrails.structure import SchemaGuardrail

    return SchemaGuardrail(rule)


def _citations(rule: Any, _means: _Means) -> Guardrail:
    from crew_guard.guardrails.citations import CitationsGuardrail

    return CitationsGuardrail(rule)


def _judge(rule: Any, means: _Means) -> Guardrail:
    from crew_guard.guardrails.judge import JudgeGuardrail

    return JudgeGuardrail(rule, means.model_named(rule.model))


_MAKERS: dict[str, Callable[[Any, _Means], Guardrail]] = {
    "length": _length,
    "topics": _topics,
    "secrets": _secrets,
    "personal_data": _personal_data,
    "instructions": _instructions,
    "json_schema": _json_schema,
    "citations": _citations,
    "judge": _judge,
}
