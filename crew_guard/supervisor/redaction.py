"""Secrets never reach the journal: known values, and what looks like a key, are replaced."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from msgspec.structs import replace

from crew_guard.core.decisions import Stop

LOOKS_LIKE_A_KEY = re.compile(
    r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}|\bgh[pousr]_[A-Za-z0-9]{30,}|\bAKIA[0-9A-Z]{16}\b"
    r"|\bxox[abpr]-[A-Za-z0-9-]{10,}|\bAIza[0-9A-Za-z_-]{35}"
    r"|-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?P<body>[\s\S]*?)(?:(?P<end>-----END)|\Z)"
)
_SHORTEST_KEY = 15
"""Characters of the shortest text that the pattern fits: a Slack token's."""
_BEGINS_LIKE_A_KEY = re.compile(
    r"(?:\b(?:sk|pk|rk)-[A-Za-z0-9_-]{4,}|\bgh[pousr]_[A-Za-z0-9]{4,}|\bAKIA[0-9A-Z]{4,}"
    r"|\bxox[abpr]-[A-Za-z0-9-]{4,}|\bAIza[0-9A-Za-z_-]{4,}|-----BEGIN [A-Z ]{0,40}-{0,4})\Z"
)
_CUT = re.compile(r"(?:\n|… )\[cut: [^\[\]\n]{1,80}\]\Z")
"""What stands behind a text that was cut, where the one who cut it says so."""
_LEAST_CUT = 400
"""Characters of the shortest text that somebody may have cut before it came here."""
_LEAST_HALF = 6
"""Characters of a secret that tell nothing of the rest."""
_TAIL = 256
SHOWN = "[redacted]"
MAX_TEXT = 200_000
"""Characters of one text that the journal keeps."""
_LONGEST_REASON = 600
"""Characters of a denial's reason, which may end in an argument of any length."""


def _hints_at_a_key(text: str) -> bool:
    """A quick look that spares most texts the pattern."""
    return "k-" in text or "gh" in text or "AKIA" in text or "xox" in text or "AIza" in text or "-----BEGIN" in text


def _forms(secret: str) -> set[str]:
    """A secret as it is, quoted, and quoted once more: of plain characters these are all one."""
    once = {secret, *_quoted(secret)}
    return once.union(*map(_quoted, once))


def _quoted(text: str) -> set[str]:
    """A text as it stands inside JSON, with and without Unicode, and inside a repr of it, or of its bytes.

    In a repr the text around it decides on the quotes, and thereby whether its own are escaped.
    """
    data = text.encode(errors="surrogatepass")
    in_json = json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]
    return {*in_json, repr(text)[1:-1], repr(f'"{text}')[2:-1], repr(data)[2:-1], repr(b'"' + data)[3:-1]}


class Redactor:
    """Replaces secrets in texts, and in the texts of JSON values."""

    def __init__(self, secrets: Sequence[str]) -> None:
        # The longest first: one secret may hold another.
        forms = {form for secret in secrets if secret for form in _forms(secret)}
        self.secrets = tuple(sorted(forms, key=len, reverse=True))
        self._bare = tuple(form for form in self.secrets if "\\" not in form)
        self.shortest = min([_SHORTEST_KEY, *map(len, forms)])
        """Characters; a shorter text holds no secret."""

    def __call__(self, text: str) -> str:
        if len(text) < self.shortest:
            return text
        if len(text) <= MAX_TEXT:
            clean = self._replaced(text)
            return clean if len(text) < _LEAST_CUT else self._without_half(clean)
        # A secret across the cut is replaced before it is cut in two.
        return f"{self._replaced(text[: 2 * MAX_TEXT])[:MAX_TEXT]}\n[cut: {len(text):,} characters in all]"

    def _in_question(self, text: str) -> tuple[str, ...]:
        """The secrets that may be in a text: what is quoted has a backslash, and most texts have none."""
        return self.secrets if "\\" in text else self._bare

    def _replaced(self, text: str) -> str:
        for secret in self._in_question(text):
            if secret in text:
                text = text.replace(secret, SHOWN)
        return LOOKS_LIKE_A_KEY.sub(SHOWN, text) if _hints_at_a_key(text) else text

    def _without_half(self, text: str) -> str:
        """The text without the first half of a secret at its end: tools and hosts cut what they give."""
        notice = _CUT.search(text, max(0, len(text) - _TAIL))
        end = notice.start() if notice else len(text)
        begins = _BEGINS_LIKE_A_KEY.search(text, max(0, end - _TAIL), end)
        cuts = [begins.start()] if begins else []
        for secret in self._in_question(text):
            at = text.find(secret[:_LEAST_HALF], max(0, end - len(secret)), end)
            while at >= 0 and not secret.startswith(text[at:end]):
                at = text.find(secret[:_LEAST_HALF], at + 1, end)
            if at >= 0:
                cuts.append(at)
        return f"{text[: min(cuts)]}{SHOWN}{text[end:]}" if cuts else text

    def short(self, text: str) -> str:
        """A text redacted, then cut to a length for a person: cut first, half of a secret would be left."""
        text = self(text)
        return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}… ({len(text):,} characters in all)"

    def stop(self, stop: Stop) -> Stop:
        """A stop with its words redacted."""
        detail = self(stop.detail)
        return stop if detail == stop.detail else replace(stop, detail=detail)

    def value(self, value: Any) -> Any:
        """A JSON value with every text in it, keys included, redacted."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, dict):
            return {self(str(key)): self.value(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
        return value


@lru_cache(maxsize=8)
def redactor(secrets: tuple[str, ...]) -> Redactor:
    """The redactor of these secrets, made once."""
    return Redactor(secrets)
