"""API keys, private keys and passwords, by Kingfisher's rules and a few forms that those leave out.

What is only random, a git hash, a UUID, a checksum, is no secret: a form or a name has to say so.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

from crew_guard.core.content import PASSED, Check, SecretsRule, fixed, rejected
from crew_guard.guardrails.base import Shipped, needed
from crew_guard.ports import Content

_GONE = "[removed]"
_ENTROPY = 3.0
"""Bits a character from which an assigned value that mixes letters and digits looks made by a machine."""
_FORMS = {
    # Kingfisher wants a second part beside these, or a word around them; a key alone is one all the same.
    "aws-access-key-id": re.compile(r"\b((?:AKIA|ASIA)[A-Z2-7]{16})\b"),
    "gcp-api-key": re.compile(r"\b(AIza[\w-]{35})(?![\w-])"),
    "telegram-bot-token": re.compile(r"\b(\d{8,10}:AA[\w-]{33})(?![\w-])"),
    "password-in-url": re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@]{0,80}:([^\s/@]{3,120})@", re.IGNORECASE),
}
_ASSIGNED = re.compile(
    r"(?<![\w.-])[\w.-]{0,40}?(?:passw(?:or)?d|passwd|pwd|secret|token|api[_-]?key|access[_-]?key|credential)[\w.-]{0,20}"
    r"""["']?\s{0,3}(?::|=>?)\s{0,3}["']?([^\s"',;&]{12,200})""",
    re.IGNORECASE,
)
_STAND_IN = re.compile(
    r"^(?:[$<{%*\[]|x{3}|\.{3}|your|my[_-]|os\.|env|process\.|example|changeme|password|passwd|secret|user)",
    re.IGNORECASE,
)


class SecretsGuardrail(Shipped):
    """Looks for secrets. Its reasons name kinds, never a value."""

    name = "secrets"

    def __init__(self, rule: SecretsRule) -> None:
        self._rule = rule
        self._scan = scanner()

    def check(self, content: Content) -> Check:
        """A fix puts [removed] in each secret's place."""
        text = content.readable
        found = {secret: kind for kind, secret in self._found(text)}
        if not found:
            return PASSED
        reason = f"it holds what looks like a secret ({', '.join(sorted(set(found.values())))}); leave it out"
        # One that was decoded on the way can't be taken out of the text that it isn't in.
        if self._rule.action == "reject" or not all(secret in text for secret in found):
            return rejected(reason)
        longest_first = sorted(found, key=len, reverse=True)

        def without(part: str) -> str:
            for secret in longest_first:
                part = part.replace(secret, _GONE)
            return part

        return fixed(without(content.text), reason, without)

    def _found(self, text: str) -> Iterator[tuple[str, str]]:
        for finding in self._scan.scan(text.encode("utf-8", "replace")):
            if finding.visible:
                yield finding.rule_id.rpartition(".")[2].rpartition("/")[2], finding.secret
        for kind, form in _FORMS.items():
            for secret in form.findall(text):
                if not _STAND_IN.match(secret):
                    yield kind, secret
        for value in _ASSIGNED.findall(text):
            if not _STAND_IN.match(value) and _looks_made(value):
                yield "assigned-secret", value


@cache
def scanner() -> Any:
    """Kingfisher with all of its rules, compiled once: about a second.

    Raises:
        MissingDependencyError: it isn't installed
    """
    kingfisher = needed("kingfisher_sdk", "finding secrets")
    return kingfisher.Scanner(kingfisher.Rules(confidence="low"))


def _looks_made(value: str) -> bool:
    if "(" in value or not (any(map(str.isdigit, value)) and any(map(str.isalpha, value))):
        return False
    counts = Counter(value).values()
    return -sum(count / len(value) * math.log2(count / len(value)) for count in counts) >= _ENTROPY
