"""How two layers become one that allows no more than either: each field of a policy names its rule.

    max_steps: Annotated[int | None, LEAST] = None

A section (a field whose type is a model) needs none: its own fields have them. Every rule makes of
two values one that is no looser than either, whichever of them is the outer one's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, ClassVar, cast

from pydantic import BaseModel

from crew_guard.core.patterns import implies


class Rule:
    """What becomes of one field's values in two layers. The values are those that a layer says, else None."""

    absent: ClassVar[str] = "no limit"
    """What it means that no layer says anything."""
    ordered: ClassVar[bool] = False
    """Whether of any two values one is the tighter, so that the other can be called looser."""

    def tightens(self, outer: Any, inner: Any) -> bool:
        """Whether `inner` allows no more than `outer` does."""
        raise NotImplementedError

    def expected(self, outer: Any) -> str:
        """Of an ordered rule, in words: what a layer below this value may say."""
        raise NotImplementedError

    def canonical(self, value: Any) -> Any:
        """The value as JSON knows it, the same however it was written."""
        return plain(value)


@dataclass(frozen=True, slots=True)
class Least(Rule):
    """The least number counts."""

    ordered: ClassVar[bool] = True

    def tightens(self, outer: Any, inner: Any) -> bool:
        return outer is None or (inner is not None and inner <= outer)

    def expected(self, outer: Any) -> str:
        return f"at most {plain(outer)}"


@dataclass(frozen=True, slots=True)
class Greatest(Rule):
    """The greatest number counts: of what is kept back, what a thing costs, what is asked at the least."""

    absent: ClassVar[str] = "none"
    ordered: ClassVar[bool] = True

    def tightens(self, outer: Any, inner: Any) -> bool:
        return outer is None or (inner is not None and inner >= outer)

    def expected(self, outer: Any) -> str:
        return f"at least {plain(outer)}"


@dataclass(frozen=True, slots=True)
class Strictest(Rule):
    """The value that stands first in `order` counts."""

    order: tuple[Any, ...]
    absent: ClassVar[str] = "none"
    ordered: ClassVar[bool] = True

    def tightens(self, outer: Any, inner: Any) -> bool:
        return outer is None or (inner is not None and self.order.index(inner) <= self.order.index(outer))

    def expected(self, outer: Any) -> str:
        return " or ".join(word(value) for value in self.order[: self.order.index(outer) + 1])


@dataclass(frozen=True, slots=True)
class Union(Rule):
    """What any layer lists counts: denials, checks that must pass."""

    absent: ClassVar[str] = "none"

    def tightens(self, outer: Any, inner: Any) -> bool:
        return all(item in (inner or ()) for item in outer or ())

    def canonical(self, value: Any) -> Any:
        items = {_text(item): item for item in map(plain, value)}
        return [items[text] for text in sorted(items)]


@dataclass(frozen=True, slots=True)
class Every(Rule):
    """An allow-list: a name must match one pattern of every layer's list.

    Patterns can't be intersected as sets, so the lists are kept: the first in the field itself, the
    others in the field named by `rest`. A value is the tuple of all lists; an empty one restricts nothing.
    """

    rest: str
    absent: ClassVar[str] = "any"

    def tightens(self, outer: Any, inner: Any) -> bool:
        return all(any(implies(own, wide) for own in inner or ()) for wide in outer or ())

    def canonical(self, value: Any) -> Any:
        lists = [sorted(set(patterns)) for patterns in value]
        return sorted(lists[place] for place in needed(lists))


@dataclass(frozen=True, slots=True)
class Both(Every):
    """A list of what is trusted, merged as an allow-list is; but where there is none, nothing is trusted."""

    absent: ClassVar[str] = "none"

    def tightens(self, outer: Any, inner: Any) -> bool:
        return not inner or (bool(outer) and Every.tightens(self, outer, inner))


class Rest(Rule):
    """The further lists of an allow-list: the rule of its first one speaks for them."""


def _itself(key: str) -> tuple[str, ...]:
    return (key,)


@dataclass(frozen=True, slots=True)
class ByKey(Rule):
    """A section by name: what both layers name is merged by `each`, or field by field where that is a section."""

    each: Rule | None = None
    otherwise: str = ""
    """The section beside it that holds for whatever a layer doesn't name; else nothing does."""
    names: Callable[[str], tuple[str, ...]] = _itself
    """Every key that holds for what one key names: one that says what it would say anyway may hold for another."""
    absent: ClassVar[str] = "none"


class Label(Rule):
    """A name for people: the innermost layer's, and no part of what a policy allows."""

    absent: ClassVar[str] = "none"

    def tightens(self, outer: Any, inner: Any) -> bool:
        return outer == inner


LEAST, GREATEST, UNION, REST, BY_KEY, LABEL = Least(), Greatest(), Union(), Rest(), ByKey(), Label()


@lru_cache(maxsize=512)
def rule_of(kind: type[BaseModel], name: str) -> Rule | None:
    """The rule of a field; None for a section.

    Raises:
        TypeError: the field names no rule
    """
    info = kind.model_fields[name]
    rule = next((one for one in info.metadata if isinstance(one, Rule)), None)
    if rule is None and not is_section(info.annotation):
        raise TypeError(f"{kind.__name__}.{name} says no rule of core/merging.py: Annotated[…, LEAST], for instance")
    return rule


def is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def plain(value: Any) -> Any:
    """A value as JSON knows it, the same however it was written: 0.50 is 0.5, 300.0 is 300."""
    if isinstance(value, BaseModel):
        return canonical(value) if _has_rules(type(value)) else plain(value.model_dump(exclude_defaults=True))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in cast("Sequence[Any]", value)]
    if isinstance(value, Decimal | float):
        exact = Decimal(str(value))
        return int(exact) if exact == exact.to_integral_value() else str(exact.normalize())
    return value


def word(value: Any) -> str:
    """A single value as a file has it: true, where Python has True."""
    return str(plain(value)).lower() if isinstance(value, bool) else str(plain(value))


def _has_rules(kind: type[BaseModel]) -> bool:
    return any(isinstance(one, Rule) for info in kind.model_fields.values() for one in info.metadata)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def canonical(layer: BaseModel, kind: type[BaseModel] | None = None) -> dict[str, Any]:
    """What a layer allows, as JSON: the same for two that allow the same, whatever order they were made in."""
    kind = kind or type(layer)
    found: dict[str, Any] = {}
    for name, info in kind.model_fields.items():
        rule, value = rule_of(kind, name), getattr(layer, name)
        if rule is None:
            shown = canonical(value, cast(Any, info.annotation))
        elif isinstance(rule, ByKey):
            shown = _canonical_keys(layer, value, rule)
        elif isinstance(rule, Every):
            shown = rule.canonical(lists_of(layer, name, rule))
        elif isinstance(rule, Label | Rest) or value is None or (value == info.default and not info.is_required()):
            continue
        else:
            shown = rule.canonical(value)
        if shown or not isinstance(shown, dict | list):
            found[name] = shown
    return found


def _canonical_keys(layer: BaseModel, entries: Mapping[str, Any], rule: ByKey) -> dict[str, Any]:
    each = rule.each.canonical if rule.each else plain
    usual: Any = each(getattr(layer, rule.otherwise)) if rule.otherwise else {}
    shown = {name: each(entry) for name, entry in entries.items()}
    beside = {(other, name) for name in entries for other in rule.names(name) if other != name and other in entries}
    meeting = {name for pair in beside for name in pair}
    own = {name for name, entry in shown.items() if entry != usual and (rule.otherwise or entry)}
    return {name: entry for name, entry in shown.items() if name in own | meeting}


def lists_of(layer: BaseModel, name: str, rule: Every) -> tuple[tuple[str, ...], ...]:
    """Every list that an allow-list is made of; none where it restricts nothing."""
    first, rest = getattr(layer, name), getattr(layer, rule.rest)
    return tuple(rest) if first is None else (tuple(first), *rest)


def needed(lists: Sequence[Sequence[str]]) -> list[int]:
    """The places of the lists that matter, of several that must all be matched: no other one implies them."""
    places = range(len(lists))
    return [place for place in places if not any(_spares(lists, other, place) for other in places)]


def _spares(lists: Sequence[Sequence[str]], other: int, place: int) -> bool:
    """Whether the list at `other` makes the one at `place` superfluous; of two that say the same the shorter stays."""
    if other == place or not implies(lists[other], lists[place]):
        return False
    if not implies(lists[place], lists[other]):
        return True
    one, two = (sorted(set(lists[i])) for i in (other, place))
    return (len(one), one, other) < (len(two), two, place)
