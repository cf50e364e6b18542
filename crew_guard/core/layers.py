"""Layers of policy side by side: `pairs` compares them key by key, `Merger` makes one of two.

A layer says only what is written in it: a default counts where no layer says anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast, get_args

from pydantic import BaseModel

from crew_guard.core.merging import ByKey, Every, Label, Rest, Rule, Union, lists_of, needed, rule_of

Key: TypeAlias = tuple[str | int, ...]
Where: TypeAlias = Mapping[Key, str]
"""The file and line of each key, e.g. org.yaml:12; an item of a list has its place as last part."""
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Side:
    """A section of one layer, and where it stands; `value` is None where the layer hasn't got it."""

    value: BaseModel | None
    where: Where = field(default_factory=dict[Key, str])
    at: Key = ()
    stand_in: bool = False
    """Whether it only stands in for an entry that the layer doesn't name."""

    def said(self, name: str) -> Any:
        """What the layer itself says of a field; None where it says nothing."""
        value = self.value
        return getattr(value, name) if value is not None and name in value.model_fields_set else None

    def source(self, *more: str | int) -> str:
        """The file and line of a key below; empty where it comes from no file."""
        return self.where.get((*self.at, *more), "")

    def section(self, name: str) -> Side:
        """A section of it."""
        value = None if self.value is None else getattr(self.value, name)
        return Side(value, self.where, (*self.at, name), self.stand_in)

    def entry(self, name: str, key: str, otherwise: str) -> Side:
        """What it says of one key of a section by name."""
        entries: Mapping[str, Any] = {} if self.value is None else getattr(self.value, name)
        if key in entries:
            return Side(entries[key], self.where, (*self.at, name, key), self.stand_in)
        if otherwise and self.value is not None:
            return Side(getattr(self.value, otherwise), self.where, (*self.at, otherwise), stand_in=True)
        return Side(None, self.where, (*self.at, name, key), stand_in=True)


class Pair(NamedTuple):
    """What two layers say of one key."""

    key: Key
    rule: Rule
    outer: Any
    inner: Any
    outer_at: Key
    """The key it stands at in the outer layer: per_agent.max_steps, where agents.NAME isn't named there."""
    inner_said: bool
    """Whether the inner layer names the key itself."""
    usual: Any = None
    """What counts where no layer says anything."""


def pairs(kind: type[BaseModel], outer: Side, inner: Side, at: Key = ()) -> Iterator[Pair]:
    """Every key that one of two layers may say something of, in the order of the fields."""
    for name, info in kind.model_fields.items():
        rule, key = rule_of(kind, name), (*at, name)
        if rule is None:
            yield from pairs(cast(Any, info.annotation), outer.section(name), inner.section(name), key)
        elif isinstance(rule, ByKey):
            yield from _pairs_by_key(rule, info.annotation, (name, outer, inner), at)
        elif not isinstance(rule, Rest):
            mine, yours = _value(outer, name, rule), _value(inner, name, rule)
            said = not inner.stand_in and inner.said(name) is not None
            usual = None if info.is_required() else info.get_default(call_default_factory=True)
            yield Pair(key, rule, mine, yours, (*outer.at, name), said, () if isinstance(rule, Every) else usual)


def _pairs_by_key(rule: ByKey, annotation: Any, sides: tuple[str, Side, Side], at: Key) -> Iterator[Pair]:
    name, outer, inner = sides
    for key in _keys(name, outer, inner):
        one, two = outer.entry(name, key, rule.otherwise), inner.entry(name, key, rule.otherwise)
        if rule.each is None:
            yield from pairs(get_args(annotation)[1], one, two, (*at, name, key))
        else:
            yield Pair((*at, name, key), rule.each, one.value, two.value, one.at, not two.stand_in)


def _keys(name: str, *sides: Side) -> list[str]:
    found = [getattr(side.value, name) for side in sides if side.value is not None]
    return list(dict.fromkeys(key for entries in found for key in entries))


def _value(side: Side, name: str, rule: Rule) -> Any:
    if isinstance(rule, Every):
        return () if side.value is None else lists_of(side.value, name, rule)
    return side.said(name)


@dataclass(slots=True)
class Merger:
    """Makes one layer of two, and notes where each value of it comes from."""

    where: dict[Key, str] = field(default_factory=dict[Key, str])

    def section(self, kind: type[M], outer: Side, inner: Side, at: Key = ()) -> M:
        """The section that allows what both allow."""
        values: dict[str, Any] = {}
        for name, info in kind.model_fields.items():
            rule, key = rule_of(kind, name), (*at, name)
            if rule is None:
                section = cast("type[BaseModel]", info.annotation)
                values[name] = self.section(section, outer.section(name), inner.section(name), key)
            elif isinstance(rule, ByKey):
                values[name] = self._by_key(rule, info.annotation, (name, outer, inner), key)
            elif isinstance(rule, Every):
                values |= self._every(rule, (name, outer, inner), at)
            elif not isinstance(rule, Rest):
                merged = self._leaf(rule, (name, outer, inner), key)
                if merged is not None:
                    values[name] = merged
        # What was checked in each layer is not checked again: the parts needn't fit as one file's must.
        return kind.model_construct(_fields_set=set(values), **values)

    def _leaf(self, rule: Rule, sides: tuple[str, Side, Side], key: Key) -> Any:
        name, outer, inner = sides
        mine, yours = outer.said(name), inner.said(name)
        if isinstance(rule, Union):
            if mine is None and yours is None:
                return None
            return self._items(((outer, (name,), mine or ()), (inner, (name,), yours or ())), key)
        if yours is None or (mine is not None and not isinstance(rule, Label) and rule.tightens(yours, mine)):
            return self._from(outer, (name,), mine, key)
        return self._from(inner, (name,), yours, key)

    def _from(self, side: Side, path: Key, value: Any, key: Key) -> Any:
        if value is not None and (source := side.source(*path)):
            self.where[key] = source
        return value

    def _items(self, sides: Sequence[tuple[Side, Key, Sequence[Any]]], key: Key) -> tuple[Any, ...]:
        merged: list[Any] = []
        for side, path, items in sides:
            for place, item in enumerate(items):
                if item not in merged:
                    self._from(side, (*path, place), item, (*key, len(merged)))
                    merged.append(item)
            if items:
                self.where.setdefault(key, side.source(*path))
        return tuple(merged)

    def _every(self, rule: Every, sides: tuple[str, Side, Side], at: Key) -> dict[str, Any]:
        name, outer, inner = sides
        found: list[tuple[tuple[str, ...], str]] = []
        for side in (outer, inner):
            value = side.value
            if value is None:
                continue
            if getattr(value, name) is not None:
                found.append((tuple(getattr(value, name)), side.source(name)))
            found += [(tuple(one), side.source(rule.rest, i)) for i, one in enumerate(getattr(value, rule.rest))]
        kept = [found[place] for place in needed([patterns for patterns, _ in found])]
        if not kept:
            return {}
        for place, (_, source) in enumerate(kept):
            self.where[(*at, rule.rest, place - 1) if place else (*at, name)] = source
        return {name: kept[0][0], rule.rest: tuple(patterns for patterns, _ in kept[1:])}

    def _by_key(self, rule: ByKey, annotation: Any, sides: tuple[str, Side, Side], key: Key) -> dict[str, Any]:
        name, outer, inner = sides
        merged: dict[str, Any] = {}
        for entry in _keys(name, outer, inner):
            one, two = outer.entry(name, entry, rule.otherwise), inner.entry(name, entry, rule.otherwise)
            at = (*key, entry)
            if rule.each is None:
                merged[entry] = self.section(get_args(annotation)[1], one, two, at)
            elif isinstance(rule.each, Union):
                merged[entry] = self._items(((one, (), one.value or ()), (two, (), two.value or ())), at)  # pyright: ignore[reportArgumentType]
            else:
                first = two.value is None or (one.value is not None and rule.each.tightens(two.value, one.value))
                side = one if first else two
                merged[entry] = self._from(side, (), side.value, at)
        return merged
