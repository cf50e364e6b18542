"""Redaction of a text that arrives in pieces: what is let out, joined, is the whole text redacted.

Two stages, each of which keeps back only what may still turn out to be a secret: first the known
values, then what looks like a key. A key of open length is shown as soon as it is one, its rest swallowed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from crew_guard.supervisor.redaction import LOOKS_LIKE_A_KEY, SHOWN, Redactor

_BEGINNING = re.compile(
    r"(?:\b(?:sk|pk|rk)-[A-Za-z0-9_-]{0,15}|\b[spr]k?|\bgh[pousr]_[A-Za-z0-9]{0,29}|\bgh?[pousr]?"
    r"|\bAKIA[0-9A-Z]{0,16}|\bA(?:K(?:I)?)?|\bxox[abpr]-[A-Za-z0-9-]{0,9}|\bx(?:o(?:x[abpr]?)?)?"
    r"|\bAIza[0-9A-Za-z_-]{0,34}|\bA(?:I(?:z)?)?"
    r"|-----BEGIN [A-Z ]{0,64}-{0,4}|-{1,5}|-----B(?:E(?:G(?:I(?:N)?)?)?)?)\Z"
)
"""The end of a text that may be the beginning of what LOOKS_LIKE_A_KEY matches."""
_END_OF_BLOCK = "-----END"
_MORE_OF = {"s": "A-Za-z0-9_-", "p": "A-Za-z0-9_-", "r": "A-Za-z0-9_-", "g": "A-Za-z0-9", "x": "A-Za-z0-9-"}
_MORE = {first: re.compile(f"[{characters}]*") for first, characters in _MORE_OF.items()}
"""What an open-ended key goes on with, by its first character."""


class PiecewiseRedactor:
    """Redacts one text, piece by piece. Its first stage keeps back less than the longest secret."""

    def __init__(self, redactor: Redactor) -> None:
        self._values = _KnownValues(redactor.secrets)
        self._keys = _KeyShapes()

    def feed(self, piece: str) -> str:
        """What may be shown now that this piece has come; often less than the piece, sometimes more."""
        return self._keys.feed(self._values.feed(piece))

    def end(self) -> str:
        """The rest, once the text is over."""
        return self._keys.feed(self._values.end(), last=True)


class _KnownValues:
    """Replaces known values, the longest first."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = secrets
        self._held = ""

    def feed(self, piece: str) -> str:
        held = self._held + piece
        cut = self._whole(held, self._undecided(held))
        self._held = held[cut:]
        return self._replaced(held[:cut])

    def end(self) -> str:
        rest, self._held = self._held, ""
        return self._replaced(rest)

    def _undecided(self, text: str) -> int:
        """Where the first secret begins that the text's end may be a part of."""
        cut = len(text)
        for secret in self._secrets:
            start = text.find(secret[0], max(0, len(text) - len(secret) + 1), cut)
            while start >= 0 and not secret.startswith(text[start:]):
                start = text.find(secret[0], start + 1, cut)
            if start >= 0:
                cut = start
        return cut

    def _whole(self, text: str, cut: int) -> int:
        """The same place, or one before it that no secret stands across."""
        moved = True
        while moved:
            moved = False
            for secret in self._secrets:
                start = text.find(secret, max(0, cut - len(secret) + 1), cut + len(secret) - 1)
                if 0 <= start < cut:
                    cut, moved = start, True
        return cut

    def _replaced(self, text: str) -> str:
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, SHOWN)
        return text


class _KeyShapes:
    """Replaces what looks like a key."""

    def __init__(self) -> None:
        self._held = ""
        self._before = ""
        """The last character that was let out or swallowed: whether a word begins depends on it."""
        self._swallowing: re.Pattern[str] | None = None
        self._in_block = False

    def feed(self, piece: str, *, last: bool = False) -> str:
        text, at = self._before + self._held + piece, len(self._before)
        shown: list[str] = []
        while at < len(text):
            at = self._swallow(text, at)
            if at == len(text) or self._in_block:
                break
            beginning = None if last else _BEGINNING.search(text, at)
            found = LOOKS_LIKE_A_KEY.search(text, at)
            if beginning and (found is None or beginning.start() <= found.start()):
                shown.append(text[at : beginning.start()])
                at = beginning.start()
                break
            if found is None:
                shown.append(text[at:])
                at = len(text)
            else:
                shown += (text[at : found.start()], SHOWN)
                at = self._after(found)
        self._before, self._held = text[at - 1 : at] if at else "", text[at:]
        return "".join(shown)

    def _after(self, found: re.Match[str]) -> int:
        """Where the text goes on after a key; one that reaches the end may go on itself."""
        if found.end() == len(found.string) and found["end"] is None:
            if found[0].startswith("-"):
                self._in_block = True
                # A terminator that is cut in two would not be seen.
                return max(found.end() - len(_END_OF_BLOCK) + 1, found.start("body"))
            self._swallowing = _MORE.get(found[0][0])
        return found.end()

    def _swallow(self, text: str, at: int) -> int:
        if self._in_block:
            end = text.find(_END_OF_BLOCK, at)
            if end < 0:
                return max(at, len(text) - len(_END_OF_BLOCK) + 1)
            self._in_block = False
            return end + len(_END_OF_BLOCK)
        if self._swallowing:
            rest = self._swallowing.match(text, at)
            at = rest.end() if rest else at
            if at < len(text):
                self._swallowing = None
        return at
