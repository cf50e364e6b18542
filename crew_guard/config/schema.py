"""From a tree with lines to a pydantic model, or to every problem of the file at once.

Types are strict: "5" is no number and yes is no 1. What is empty is refused, because an empty
`allow:` could mean everything or nothing.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from typing import Any, TypeVar, Union, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core.core_schema import ErrorType

from crew_guard.config.document import Document, Key, Scalar, Tree

LARGEST = 10**15
"""The largest number of a file; dollars end at a billion, so that nano-dollars stay far from a machine word's end."""
LARGEST_USD = 10**9
_LONGEST_NUMBER = 40
_NO_LIMIT = ": leave the key out where there is no limit"
_TRUE, _FALSE = frozenset({"true", "yes", "on", "y"}), frozenset({"false", "no", "off", "n"})

_TYPES: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    Decimal: "a number",
    str: "text",
}

M = TypeVar("M", bound=BaseModel)
_PYDANTICS_OWN = frozenset(get_args(ErrorType))
"""Kinds of problems that are put into words here; a validator of ours brings its own words."""


def build(document: Document, model: type[M], defaults: Mapping[str, Tree]) -> M | None:
    """The model that a document describes; None, with the document's problems noted, where it doesn't.

    Args:
        document: with a tree
        model: what it should be
        defaults: for keys at its top that are absent
    """
    tree = document.tree
    if not isinstance(tree, dict):
        document.problem((), f"expected lines of `key: value`, got {_shown(cast(Tree, tree))}")
        return None
    values = _shape(document, {**defaults, **tree}, model, ())
    known = {problem.key for problem in document.problems}
    try:
        built = model.model_validate(values, strict=True)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            key = detail["loc"]
            if not key and detail["type"] in tree:
                # What only shows in several keys together is told of the one that its type names.
                document.problem((detail["type"],), detail["msg"])
            elif key not in known and not _counts_only_the_right(tree, key, cast(Mapping[str, Any], detail)):
                document.problem(key, _words(model, tree, key, cast(Mapping[str, Any], detail)))
        return None
    return None if document.problems else built


def _counts_only_the_right(tree: Tree, key: Key, detail: Mapping[str, Any]) -> bool:
    """Whether a list is called too short because entries of it are wrong, which are told by themselves."""
    return detail["type"] == "too_short" and len(cast(list[Tree], _tree_at(tree, key))) >= detail["ctx"]["min_length"]


def _shape(document: Document, tree: Tree, annotation: Any, key: Key) -> Any:
    annotation = _bare(annotation)
    if isinstance(tree, Scalar):
        return _scalar(document, tree, annotation, key)
    if isinstance(tree, list):
        item = (get_args(annotation) or (Any,))[0]
        return tuple(_shape(document, part, item, (*key, place)) for place, part in enumerate(tree))
    shaped: dict[str, Any] = {}
    for name, part in tree.items():
        if isinstance(part, Scalar) and part.kind == "null":
            if not any(problem.key == (*key, name) for problem in document.problems):
                document.problem((*key, name), f"is empty; {_way_out(annotation, name)}")
            continue
        shaped[name] = _shape(document, part, _inside(annotation, name), (*key, name))
    return shaped


def _way_out(annotation: Any, name: str) -> str:
    wanted = _bare(_inside(annotation, name))
    if get_origin(wanted) is tuple:
        return "leave the key out to restrict nothing, or write [] for none"
    return f"expected {_expected(wanted)}, or leave the key out"


def _scalar(document: Document, scalar: Scalar, annotation: Any, key: Key) -> Any:
    if scalar.kind in ("text", "null"):
        return scalar.text if scalar.kind == "text" else None
    try:
        return _truth(scalar) if scalar.kind == "bool" else _number(scalar, annotation)
    except ValueError as error:
        document.problem(key, f"expected {_expected(annotation)}, got {scalar.text[:_LONGEST_NUMBER]}{error}")
        return None


def _truth(scalar: Scalar) -> bool:
    word = scalar.text.lower()
    if word not in _TRUE | _FALSE:
        raise ValueError(", which its tag makes no truth value: leave the tag out")
    return word in _TRUE


def _number(scalar: Scalar, annotation: Any) -> int | float | Decimal:
    text = scalar.text.replace("_", "")
    if text.lower().lstrip("+-") in (".inf", ".nan"):
        raise ValueError(_NO_LIMIT)
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(", which has too many digits")
    try:
        exact = Decimal(text)
    except InvalidOperation:
        raise ValueError(": write it as a plain decimal number") from None
    if not exact.is_finite():
        raise ValueError(_NO_LIMIT)
    largest = LARGEST_USD if annotation is Decimal else LARGEST
    # Not abs(), which would round it, and fail beyond what decimal reckons with.
    if exact.copy_abs() > largest:
        raise ValueError(f", which is more than {largest:,}")
    if scalar.kind == "int" and exact != int(exact):
        raise ValueError(", which its tag makes no whole number: leave the tag out")
    if annotation is Decimal:
        return exact
    return int(exact) if scalar.kind == "int" else float(text)


def _bare(annotation: Any) -> Any:
    """The annotation without its `| None`."""
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        return parts[0] if len(parts) == 1 else Any
    return annotation


def _inside(annotation: Any, name: str) -> Any:
    """The annotation of a key within a section."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(name)
        return field.annotation if field else Any
    return get_args(annotation)[1] if get_origin(annotation) is dict else Any


def _annotation_at(model: Any, key: Key) -> Any:
    for part in key:
        model = _bare(model)
        model = (get_args(model) or (Any,))[0] if isinstance(part, int) else _inside(model, part)
    return _bare(model)


def _tree_at(tree: Tree, key: Key) -> Tree:
    found: Any = tree
    for part in key:
        found = found[part]
    return found


def _words(model: type[BaseModel], tree: Tree, key: Key, detail: Mapping[str, Any]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    annotation = _annotation_at(model, key)
    if kind == "extra_forbidden":
        return _unknown(_annotation_at(model, key[:-1]), str(key[-1]))
    if kind == "missing":
        return f"is missing; expected {_expected(annotation)}"
    given = _tree_at(tree, key)
    if kind not in _PYDANTICS_OWN:
        return detail["msg"]
    if words := _bound_words(kind, context, annotation, given):
        return words
    if kind == "literal_error":
        choices = [str(choice) for choice in get_args(annotation)]
        near = _near(given.text, choices) if isinstance(given, Scalar) else ""
        return f"expected {' or '.join(choices)}, got {_shown(given)}{near}"
    if kind == "string_too_short":
        return "expected some text, got none"
    if kind == "string_pattern_mismatch":
        return f"expected text that matches {context['pattern']}, got {_shown(given)}"
    hint = ""
    if isinstance(given, Scalar) and given.kind == "text" and given.quoted and _is_number(given.text, annotation):
        hint = ": take the quotes away"
    elif isinstance(given, Scalar) and given.kind != "text" and annotation is str:
        hint = ": put it in quotes"
    return f"expected {_expected(annotation)}, got {_shown(given)}{hint}"


def _is_number(text: str, annotation: Any) -> bool:
    """Whether a text would do as the number that is expected, were it not in quotes."""
    if annotation not in (int, float, Decimal):
        return False
    try:
        (int if annotation is int else Decimal)(text)
    except (ValueError, InvalidOperation):
        return False
    return True


_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}


def _bound_words(kind: str, context: Mapping[str, Any], annotation: Any, given: Tree) -> str:
    """What is wrong with a number's size or a list's length; empty where it is something else."""
    if kind in _BOUNDS:
        words, limit = _BOUNDS[kind]
        return f"expected {_expected(annotation)} of {words} {context[limit]:g}, got {_shown(given)}"
    if kind in ("too_short", "too_long"):
        least, most, entries = context.get("min_length"), context.get("max_length"), len(cast(list[Tree], given))
        return f"expected at {f'least {least}' if least else f'most {most}'} entries, got {entries or 'none'}"
    return ""


def _unknown(section: Any, name: str) -> str:
    known = list(section.model_fields) if isinstance(section, type) and issubclass(section, BaseModel) else []
    return f"unknown key{_near(name, known) or '; known here: ' + ', '.join(known)}"


def _near(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, 1)
    return f"; did you mean {close[0]}?" if close else ""


def _expected(annotation: Any) -> str:
    if get_origin(annotation) is tuple:
        item = _bare((get_args(annotation) or (Any,))[0])
        if isinstance(item, type) and issubclass(item, BaseModel):
            first = next((name for name, field in item.model_fields.items() if field.is_required()), "key")
            return f"a list of sections, each beginning with `- {first}: …`"
        return "a list such as [a, b]"
    if get_origin(annotation) is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return "a section of `key: value` lines"
    if choices := get_args(annotation):
        return " or ".join(str(choice) for choice in choices)
    return _TYPES.get(annotation, "a value")


def _shown(tree: Tree) -> str:
    if isinstance(tree, dict):
        return "a section"
    if isinstance(tree, list):
        return "a list"
    if tree.kind == "null":
        return "nothing"
    text = tree.text if len(tree.text) <= _LONGEST_NUMBER else f"{tree.text[:_LONGEST_NUMBER]}…"
    return f'the text "{text}"' if tree.kind == "text" else text
