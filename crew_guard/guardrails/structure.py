"""A JSON answer follows a schema."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, cast

from crew_guard.core.content import PASSED, Check, SchemaRule, rejected
from crew_guard.errors import ConfigError
from crew_guard.guardrails.base import Shipped, needed
from crew_guard.guardrails.expressions import SECONDS, expression, finds
from crew_guard.ports import Content

_MOST_FAULTS = 5
_WHAT = "a JSON Schema"
_KEY = "json_schema.follows"
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_VALUES = ("const", "enum", "default", "examples")
"""Keywords below which stand values, not schemas."""
_until: ContextVar[float] = ContextVar("crew_guard_schema_until")
"""When the expressions of the check under way must be done."""


class SchemaGuardrail(Shipped):
    """A text must be JSON that follows the schema, a structured value must follow it."""

    name = "json_schema"

    def __init__(self, rule: SchemaRule) -> None:
        self._validator = _validator(json.loads(json.dumps(rule.follows)))  # tuples, as files are read, become lists

    def check(self, content: Content) -> Check:
        """Names the first faults, one a line, by their place."""
        try:
            value = json.loads(_unfenced(content.text))
        except (ValueError, RecursionError) as error:
            return rejected(f"it is no JSON: {error}")
        token = _until.set(time.monotonic() + SECONDS)
        try:
            faults = sorted(self._validator.iter_errors(value), key=lambda fault: list(map(str, fault.absolute_path)))
        except TimeoutError:
            return rejected(f"the schema's patterns took more than {SECONDS:g} s on it", mendable=False)
        finally:
            _until.reset(token)
        if not faults:
            return PASSED
        lines = [f"{'.'.join(map(str, fault.absolute_path)) or 'it'}: {fault.message[:200]}" for fault in faults]
        return rejected("\n".join(lines[:_MOST_FAULTS]))


def _unfenced(text: str) -> str:
    """The JSON in an answer: models like to fence it."""
    text = text.strip()
    if text.startswith("```") and text.endswith("```"):
        return text.removesuffix("```").split("\n", 1)[-1]
    return text


def _validator(schema: dict[str, Any]) -> Any:
    """What checks by a schema, in bounded time as far as its expressions go, and fetches nothing.

    Raises:
        ConfigError: nothing can be checked by it
        MissingDependencyError
    """
    jsonschema = needed("jsonschema", _WHAT)
    kind: Any = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema, format_checker=_expressions_only(jsonschema))
    except jsonschema.SchemaError as error:
        where = ".".join(map(str, error.absolute_path))
        raise ConfigError(f"{_KEY}{'.' + where if where else ''}: {error.message}") from None
    schema = _of_one_kind(schema)
    _check_references(schema, kind.META_SCHEMA["$schema"])
    if _asks_for_the_rest(schema):
        _check_names(schema)
    words = {"pattern": _pattern, "patternProperties": _pattern_properties}
    own: Any = jsonschema.validators.extend(kind, {**words, "additionalProperties": _additional_properties})
    validator: Any = own(schema, registry=needed("referencing", _WHAT).Registry())
    token = _until.set(time.monotonic() + SECONDS)
    try:
        next(validator.iter_errors(None), None)
    except RecursionError:
        raise ConfigError(f"{_KEY}: it refers to itself without an end") from None
    finally:
        _until.reset(token)
    return validator


def _expressions_only(jsonschema: Any) -> Any:
    regex = needed("regex", _WHAT)
    checker = jsonschema.FormatChecker(())

    def is_expression(value: object) -> bool:
        return not isinstance(value, str) or expression(value, _WHAT) is not None

    checker.checks("regex", raises=(regex.error, OverflowError, RecursionError))(is_expression)
    return checker


def _of_one_kind(part: Any) -> Any:
    """The schema without `$schema`: whatever is referred to and has one would be checked by another validator."""
    if isinstance(part, dict):
        entries = cast("dict[str, Any]", part).items()
        kept = ((key, value) for key, value in entries if key != "$schema" or not isinstance(value, str))
        return {key: value if key in _VALUES else _of_one_kind(value) for key, value in kept}
    return list(map(_of_one_kind, cast("list[Any]", part))) if isinstance(part, list) else part


def _check_references(schema: Any, dialect: str) -> None:
    referencing, known = needed("referencing.jsonschema", _WHAT), needed("jsonschema_specifications", _WHAT).REGISTRY
    unresolvable = needed("referencing.exceptions", _WHAT).Unresolvable
    root = referencing.specification_with(dialect).create_resource(schema)
    left = [(root, known.resolver_with_root(root))]
    while left:
        one, resolver = left.pop()
        for reference in _references(one.contents):
            try:
                resolver.lookup(reference)
            except unresolvable:
                text = f"the reference {reference!r} leads nowhere: nothing is fetched; put what it means under $defs"
                raise ConfigError(f"{_KEY}: {text}") from None
        left += [(below, resolver.in_subresource(below)) for below in one.subresources()]


def _references(contents: Any) -> list[str]:
    found = cast("dict[str, Any]", contents) if isinstance(contents, dict) else {}
    return [value for key in _REFERENCES if isinstance(value := found.get(key), str)]


# `unevaluatedProperties` looks for names with Python's own engine, and can't be told another


def _asks_for_the_rest(part: Any) -> bool:
    if isinstance(part, dict):
        found = cast("dict[str, Any]", part)
        return "unevaluatedProperties" in found or any(map(_asks_for_the_rest, found.values()))
    return isinstance(part, list) and any(map(_asks_for_the_rest, cast("list[Any]", part)))


def _check_names(part: Any) -> None:
    if isinstance(part, dict):
        patterns = cast("dict[str, Any]", part).get("patternProperties")
        for pattern in cast("dict[str, Any]", patterns) if isinstance(patterns, dict) else ():
            if _repeats(pattern):
                text = f"beside unevaluatedProperties the name {pattern!r} may have no repetition, group or choice"
                raise ConfigError(f"{_KEY}: {text}: write additionalProperties, or a plainer pattern")
        part = list(cast("dict[str, Any]", part).values())
    for below in cast("list[Any]", part) if isinstance(part, list) else ():
        _check_names(below)


def _repeats(pattern: str) -> bool:
    escaped = False
    for char in pattern:
        if not escaped and char in "*+?{|(":
            return True
        escaped = char == "\\" and not escaped
    return False


# Keywords that have expressions


def _finds(pattern: str, text: str) -> bool:
    # Zero would mean that there is no limit.
    return finds(expression(pattern, _WHAT), text, max(0.001, _until.get() - time.monotonic()))


def _fault(message: str) -> Any:
    return needed("jsonschema", _WHAT).ValidationError(message)


def _pattern(validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[Any]:
    if validator.is_type(instance, "string") and not _finds(pattern, instance):
        yield _fault(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: dict[str, Any], instance: Any, _schema: Any) -> Iterator[Any]:
    if validator.is_type(instance, "object"):
        for pattern, below in patterns.items():
            for name in instance:
                if _finds(pattern, name):
                    yield from validator.descend(instance[name], below, path=name, schema_path=pattern)


def _additional_properties(validator: Any, below: Any, instance: Any, schema: dict[str, Any]) -> Iterator[Any]:
    if not validator.is_type(instance, "object"):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name in instance:
        if name in known or any(_finds(pattern, name) for pattern in patterns):
            continue
        if below is False:
            yield _fault(f"{name!r} is not allowed: the schema names no such property")
        else:
            yield from validator.descend(instance[name], below, path=name)
