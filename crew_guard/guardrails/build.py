"""From a policy's content rules, and tasks' own guardrails, to the guardrails of a run.

Whatever takes its time to load does so here, before the run begins and its clock runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from crew_guard.core.content import ContentCheck, ContentRules, Place
from crew_guard.errors import ConfigError, MissingDependencyError
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


def wrong(rules: ContentRules) -> Iterator[tuple[Place, int, ConfigError | MissingDependencyError]]:
    """Which rules can't be carried out, by place and number: what can be told without a model and much to load."""
    for place in get_args(Place):
        for number, check in enumerate(getattr(rules, place)):
            name, rule = check.chosen
            try:
                if name in _LIGHT:
                    _LIGHT[name](rule, None)
            except (ConfigError, MissingDependencyError) as error:
                yield place, number, error


def _made(checks: Sequence[ContentCheck], means: _Means) -> tuple[Guardrail, ...]:
    return tuple(_MAKERS[check.chosen[0]](check.chosen[1], means) for check in checks)


def _length(rule: Any, means: _Means) -> Guardrail:
    from crew_guard.guardrails.texts import LengthGuardrail

    return LengthGuardrail(rule, means.count)


def _topics(rule: Any, _means: _Means | None) -> Guardrail:
    from crew_guard.guardrails.texts import TopicsGuardrail

    return TopicsGuardrail(rule)


def _secrets(rule: Any, _means: _Means) -> Guardrail:
    from crew_guard.guardrails.secret_values import SecretsGuardrail

    return SecretsGuardrail(rule)


def _personal_data(rule: Any, _means: _Means | None) -> Guardrail:
    from crew_guard.guardrails.personal import PersonalGuardrail

    return PersonalGuardrail(rule)


def _instructions(rule: Any, _means: _Means) -> Guardrail:
    from crew_guard.guardrails.instructions import InstructionsGuardrail

    return InstructionsGuardrail(rule)


def _json_schema(rule: Any, _means: _Means | None) -> Guardrail:
    from crew_guard.guardrails.structure import SchemaGuardrail

    return SchemaGuardrail(rule)


def _citations(rule: Any, _means: _Means) -> Guardrail:
    from crew_guard.guardrails.citations import CitationsGuardrail

    return CitationsGuardrail(rule)


def _judge(rule: Any, means: _Means) -> Guardrail:
    from crew_guard.guardrails.judge import JudgeGuardrail

    return JudgeGuardrail(rule, means.model_named(rule.model))


_LIGHT: dict[str, Callable[[Any, _Means | None], Guardrail]] = {
    "topics": _topics,
    "personal_data": _personal_data,
    "json_schema": _json_schema,
}
"""Those that need nothing but their rule, and that a rule which looks right may be wrong for."""
_MAKERS: dict[str, Callable[[Any, _Means], Guardrail]] = {
    **_LIGHT,
    "length": _length,
    "secrets": _secrets,
    "instructions": _instructions,
    "citations": _citations,
    "judge": _judge,
}
