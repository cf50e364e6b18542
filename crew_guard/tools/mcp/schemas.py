"""A server's JSON Schema as a check of arguments that ends, whatever the schema says.

It comes from somebody else's program: no reference leaves the document, no regular expression of
its own is run here, and the number of checks is bounded. What is left out, the server checks itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from itertools import islice
from typing import Any, cast

from crew_guard.core.messages import JsonObject

MAX_SCHEMA_CHARS = 20_000
MAX_CHECKS = 50_000
"""Keywords looked at in one call's arguments."""
_MAX_PROBLEMS = 5
_MAX_PROBLEM_CHARS = 300
_LEFT_TO_THE_SERVER = ("pattern", "patternProperties", "format", "unevaluatedProperties", "unevaluatedItems")
_left: ContextVar[list[int]] = ContextVar("crew_guard_mcp_checks")


class _TooManyChecksError(Exception):
    pass


def argument_parser(name: str, schema: JsonObject) -> Callable[[str], dict[str, Any]]:
    """What reads and checks the arguments of one tool.

    Raises:
        ValueError: the schema can't be used; the text says why
    """
    validator = _validator(schema)

    def parse(arguments: str) -> dict[str, Any]:
        try:
            values: object = json.loads(arguments or "{}")
        except (ValueError, RecursionError) as error:
            raise ValueError(f"arguments of {name}: not JSON: {error}") from None
        problems = _problems(validator, values)
        if problems:
            raise ValueError("\n".join(f"arguments of {name}{problem}" for problem in problems))
        return cast("dict[str, Any]", values)

    return parse


def _problems(validator: Any, values: object) -> list[str]:
    token = _left.set([MAX_CHECKS])
    try:
        errors: list[Any] = list(islice(validator.iter_errors(values), _MAX_PROBLEMS))
    except _TooManyChecksError:
        return [f": its schema needs more than {MAX_CHECKS:,} checks"]
    except RecursionError:
        return [": its schema is nested without an end"]
    finally:
        _left.reset(token)
    return [_line(error) for error in errors]


def _line(error: Any) -> str:
    place = ".".join(str(part) for part in error.absolute_path)
    return f"{': ' + place if place else ''}: {str(error.message)[:_MAX_PROBLEM_CHARS]}"


def _validator(schema: JsonObject) -> Any:
    from jsonschema import validators
    from jsonschema.exceptions import SchemaError
    from referencing import Registry

    library: Any = validators
    if schema.get("type") != "object":
        raise ValueError("its schema does not describe an object")
    if len(json.dumps(schema)) > MAX_SCHEMA_CHARS:
        raise ValueError(f"its schema is longer than {MAX_SCHEMA_CHARS:,} characters")
    if away := next(_references_away(schema), None):
        raise ValueError(f"its schema refers to another document: {away[:100]!r}")
    kind: Any = library.validator_for(schema, default=library.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except (SchemaError, RecursionError) as error:
        raise ValueError(f"its schema is not valid: {str(error).splitlines()[0][:200]}") from None
    checks = {word: _counted(check) for word, check in kind.VALIDATORS.items()}
    checks |= dict.fromkeys(_LEFT_TO_THE_SERVER, _passes)
    checks["additionalProperties"] = _without_patterns(checks["additionalProperties"])
    return library.extend(kind, checks)(schema, registry=cast("Any", Registry)())


def _counted(check: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        left = _left.get()
        left[0] -= 1
        if left[0] < 0:
            raise _TooManyChecksError
        yield from check(validator, value, instance, schema) or ()

    return counted


def _passes(*_: Any) -> Iterator[Any]:
    return iter(())


def _without_patterns(check: Callable[..., Any]) -> Callable[..., Any]:
    def checked(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        # Which properties are additional would be for the patterns to say.
        return iter(()) if "patternProperties" in schema else check(validator, value, instance, schema)

    return checked


def _references_away(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for key, value in cast("dict[str, Any]", part).items():
            if key in ("$ref", "$dynamicRef", "$recursiveRef") and isinstance(value, str) and not value.startswith("#"):
                yield value
            yield from _references_away(value)
    elif isinstance(part, list):
        for value in cast("list[Any]", part):
            yield from _references_away(value)
