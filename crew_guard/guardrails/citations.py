"""Quotes stand in what the run has read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, cast

from crew_guard.core.content import PASSED, Check, CitationsRule, rejected
from crew_guard.guardrails.base import Shipped
from crew_guard.ports import Content

_QUOTED = re.compile(r'"([^"\n]{1,2000})"|“([^”]{1,2000})”|„([^“”]{1,2000})[“”]|«([^»]{1,2000})»')
_SAME = {
    **dict.fromkeys(map(ord, "“”„«»"), '"'),
    **dict.fromkeys((0x2018, 0x2019, 0x201A), "'"),
    **dict.fromkeys((0x2013, 0x2014), "-"),
}
"""What typesetters put in the place of quotation marks and hyphens."""
_MOST_FAULTS = 5


class CitationsGuardrail(Shipped):
    """Every quote stands, word for word but for spaces and the look of quotation marks, in a source."""

    name = "citations"
    reads = True

    def __init__(self, rule: CitationsRule) -> None:
        self._rule = rule

    def check(self, content: Content) -> Check:
        """Names the quotes that stand nowhere."""
        quotes = [quote for quote in self._quotes(content.value) if quote]
        if len(quotes) < self._rule.min_quotes:
            return rejected(f"it has {len(quotes)} quotes, at least {self._rule.min_quotes} are needed")
        sources = [_even(part) for source in content.sources() for part in _parts(source)] if quotes else []
        missing = [quote for quote in quotes if not any(_even(quote) in source for source in sources)]
        if not missing:
            return PASSED
        lines = [
            f"this quote stands in nothing that was read: {json.dumps(one[:120], ensure_ascii=False)}"
            for one in missing
        ]
        return rejected("\n".join(lines[:_MOST_FAULTS]))

    def _quotes(self, value: Any) -> list[str]:
        if isinstance(value, str):
            found = ("".join(groups).strip() for groups in _QUOTED.findall(value))
            return [quote for quote in found if len(quote) >= self._rule.min_chars]
        return list(_under(_as_json(value), self._rule.fields))


def _parts(source: str) -> list[str]:
    """A source's texts: those in it where it is JSON, as hosts hand over what their tools give."""
    if source[:1] in {"{", "["}:
        try:
            return [source, *_strings(json.loads(source))]
        except ValueError:
            pass
    return [source]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        inner = cast("dict[str, Any]", value).values() if isinstance(value, dict) else cast("list[Any]", value)
        for part in inner:
            yield from _strings(part)


def _as_json(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def _under(value: Any, fields: tuple[str, ...], named: bool = False) -> Iterator[str]:
    """The texts below keys of these names, however deep."""
    if isinstance(value, dict):
        for name, part in cast("dict[str, Any]", value).items():
            yield from _under(part, fields, named or name in fields)
    elif isinstance(value, list | tuple):
        for part in cast("list[Any]", value):
            yield from _under(part, fields, named)
    elif named and isinstance(value, str):
        yield value


def _even(text: str) -> str:
    return " ".join(text.translate(_SAME).split())
