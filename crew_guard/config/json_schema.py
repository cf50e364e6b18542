"""The JSON Schema of policy files, for editors: each key with the sentence that stands under its field."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from itertools import pairwise
from textwrap import dedent
from typing import Any, cast, get_args

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from crew_guard.config.policies import PolicyFile


class _AsWritten(GenerateJsonSchema):
    """A file has numbers where we have decimals, and leaves out what is absent."""

    def decimal_schema(self, schema: Any) -> JsonSchemaValue:
        return self.float_schema(schema)

    def nullable_schema(self, schema: Any) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def policy_schema() -> dict[str, Any]:
    """A JSON Schema, draft 2020-12."""
    schema = PolicyFile.model_json_schema(schema_generator=_AsWritten)
    sections = {kind.__name__: kind for kind in _sections(PolicyFile)}
    for name, described in {**schema.pop("$defs"), PolicyFile.__name__: schema}.items():
        _describe(described, sections.get(name))
        if described is not schema:
            schema.setdefault("$defs", {})[name] = described
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "crew_guard policy",
        "description": "What a run may use. What is absent is not limited; 0 is a limit.",
    }
    return {**head, **{key: value for key, value in schema.items() if key not in head}}


def _describe(schema: dict[str, Any], kind: type[BaseModel] | None) -> None:
    sentences = sentences_of(kind) if kind else {}
    for name, field in schema.get("properties", {}).items():
        field.pop("title", None)
        if "$ref" in field or field.get("default") in (None, [], {}, "0", "default"):
            field.pop("default", None)
        if sentence := sentences.get(name):
            field["description"] = sentence
    schema.pop("title", None)
    if kind and kind.__doc__:
        schema["description"] = inspect.cleandoc(kind.__doc__)


def _sections(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield kind
    for info in kind.model_fields.values():
        for inner in _models_in(info.annotation):
            yield from _sections(inner)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def sentences_of(kind: type[BaseModel]) -> dict[str, str]:
    """The text under each field of a model and of those that it derives from, in one line."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if issubclass(base, BaseModel) and base.__module__.startswith("crew_guard."):
            body = cast(ast.ClassDef, ast.parse(dedent(inspect.getsource(base))).body[0]).body
            for line, below in pairwise(body):
                if isinstance(line, ast.AnnAssign) and isinstance(below, ast.Expr):
                    text = cast(ast.Constant, below.value).value
                    found[cast(ast.Name, line.target).id] = " ".join(str(text).split())
    return found
