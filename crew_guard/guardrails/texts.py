"""Length, and topics by pattern."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from crew_guard.core.content import PASSED, Check, LengthRule, TopicsRule, fixed, rejected
from crew_guard.errors import ConfigError
from crew_guard.guardrails.base import Shipped, needed
from crew_guard.guardrails.expressions import SECONDS, expression, finds
from crew_guard.ports import Content

_CUT = " […]"
_OUT = "[removed]"


class LengthGuardrail(Shipped):
    """How long a text may be; counts of a structured value are of its JSON."""

    name = "length"

    def __init__(self, rule: LengthRule, count: Callable[[str], int]) -> None:
        self._rule = rule
        self._count = count
        if rule.max_tokens is not None:
            count("")  # it loads its vocabulary at the first count

    def check(self, content: Content) -> Check:
        """Too short is rejected; too long is cut, or rejected."""
        rule, text = self._rule, content.text
        if rule.min_chars is not None and len(text.strip()) < rule.min_chars:
            return rejected(f"it has {len(text.strip()):,} characters, at least {rule.min_chars:,} are needed")
        reasons: list[str] = []
        if rule.max_chars is not None and len(text) > rule.max_chars:
            reasons.append(f"it has {len(text):,} characters, {rule.max_chars:,} are allowed")
        if rule.max_tokens is not None and (tokens := self._count(text)) > rule.max_tokens:
            reasons.append(f"it has {tokens:,} tokens, {rule.max_tokens:,} are allowed")
        if not reasons:
            return PASSED
        reason = " and ".join(reasons)
        return fixed(self._cut(text), reason) if rule.action == "fix" else rejected(reason)

    def _cut(self, text: str) -> str:
        """The longest beginning that fits, with a sign that it is one where there is room for it."""
        low, high = 0, len(text) if self._rule.max_chars is None else min(len(text), self._rule.max_chars)
        sign = _CUT if self._fits(_CUT) else ""
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._fits(text[:middle] + sign) else (low, middle - 1)
        return text[:low] + sign

    def _fits(self, text: str) -> bool:
        rule = self._rule
        if rule.max_chars is not None and len(text) > rule.max_chars:
            return False
        return rule.max_tokens is None or self._count(text) <= rule.max_tokens


class TopicsGuardrail(Shipped):
    """What must not come up. A pattern that takes too long on a text rejects it."""

    name = "topics"

    def __init__(self, rule: TopicsRule) -> None:
        regex = needed("regex", "forbidden topics")
        self._rule = rule
        try:
            self._patterns: list[tuple[str, Any]] = [
                (pattern, expression(pattern, "forbidden topics", "IGNORECASE")) for pattern in rule.forbid
            ]
        except regex.error as error:
            raise ConfigError(f"topics: {error.pattern!r} is no regular expression: {error}") from None

    def check(self, content: Content) -> Check:
        """Names the patterns that match, never what they matched."""
        found = [pattern for pattern, compiled in self._patterns if finds(compiled, content.readable)]
        if not found:
            return PASSED
        reason = (
            f"it touches on what must not come up: {', '.join(json.dumps(one, ensure_ascii=False) for one in found)}"
        )
        return (
            fixed(self._without(content.text), reason, self._without)
            if self._rule.action == "fix"
            else rejected(reason)
        )

    def _without(self, text: str) -> str:
        for _, compiled in self._patterns:
            text = compiled.sub(_OUT, text, timeout=SECONDS, concurrent=True)
        return text
