"""A JSON answer follows a schema."""

from __future__ import annotations

import json
from typing import Any

from crew_guard.core.content import PASSED, Check, SchemaRule, rejected
from crew_guard.errors import ConfigError
from crew_guard.guardrails.base import Shipped, needed
from crew_guard.ports import Content

_MOST_FAULTS = 5


class SchemaGuardrail(Shipped):
    """A text must be JSON that follows the schema, a structured value must follow it."""

    name = "json_schema"

    def __init__(self, rule: SchemaRule) -> None:
        jsonschema = needed("jsonschema", "a JSON Schema")
        schema = json.loads(json.dumps(rule.follows))  # tuples, as files are read, become lists
        kind: Any = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
        try:
            kind.check_schema(schema)
        except jsonschema.SchemaError as error:
            where = ".".join(str(part) for part in error.absolute_path)
            raise ConfigError(f"json_schema.follows{'.' + where if where else ''}: {error.message}") from None
        self._validator: Any = kind(schema)

    def check(self, content: Content) -> Check:
        """Names the first faults, one a line, by their place."""
        try:
            value = json.loads(_unfenced(content.text))
        except ValueError as error:
            return rejected(f"it is no JSON: {error}")
        faults = sorted(self._validator.iter_errors(value), key=lambda fault: list(map(str, fault.absolute_path)))
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
