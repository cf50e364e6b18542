"""What a run has been told by those it may trust: its user, and the tools whose results count.

A fold like the rest of a run's state. Texts are kept as they come and read into atoms when somebody
asks: an atom is what stands between white space, without the punctuation around it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple, TypeAlias, cast

Origin: TypeAlias = Literal["user", "trusted"]

_OPENERS = "\"'`([{<«“‘„*"  # noqa: RUF001  the quotes that people write
_CLOSERS = "\"'`)]}>»”’*,.;:!?…"  # noqa: RUF001  see above
_POSSESSIVE = ("'s", "’s")  # noqa: RUF001  see above
_MOST_TRIMMED = 4
_SHORTEST_PART = 6
"""Characters from which a piece of an argument that comes back in a result is an echo, not chance."""
_EMAIL = re.compile(r"[A-Za-z0-9_.+-]+@[A-Za-z0-9.-]+")
_NUMBER = re.compile(r"[+-]?[$€£¥₹]?((?:[1-9]\d{0,2}(?:,\d{3})+|0|[1-9]\d{0,30})(?:\.\d{1,30})?)[$€£¥₹]?", re.ASCII)
_LONGEST_NUMBER = 80
_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_GONE = "\0"
"""Stands in a text where an echo was: no value holds it and is seen."""


class Known:
    """The values that a run's user gave and that trusted results showed."""

    def __init__(self, trusted: Sequence[Sequence[str]]) -> None:
        """Know nothing yet.

        Args:
            trusted: lists of names or patterns of tools; a trusted one matches a pattern of each, and of none none
        """
        self._trusted = trusted
        self._counts: dict[str, bool] = {}
        self._pending: list[tuple[str, str]] = []
        self._user = _Texts()
        self._results = _Texts()

    def give(self, values: Iterable[Any]) -> None:
        """The user gave these: JSON values, or texts."""
        for value in values:
            for leaf in _leaves(value):
                self._user.add(leaf, _NO_ECHO)

    def learn(self, tool: str, arguments: str, text: str) -> None:
        """A tool's execution went well, and gave this text. It is read when somebody asks.

        Args:
            arguments: what it was called with, a JSON object: what a result merely repeats of it is not learnt
        """
        counts = self._counts.get(tool)
        if counts is None:
            counts = self._counts[tool] = self._trusts(tool)
        if counts:
            self._pending.append((arguments, text))

    def _trusts(self, tool: str) -> bool:
        lists = self._trusted
        return bool(lists) and all(any(fnmatchcase(tool, pattern) for pattern in patterns) for patterns in lists)

    def holds(self, value: Any, origins: tuple[Origin, ...]) -> bool:
        """Whether the value, a text or a number, came from one of these origins as a whole."""
        if "user" in origins and self._user.hold(value):
            return True
        if "trusted" not in origins:
            return False
        pending, self._pending = self._pending, []
        for arguments, text in pending:
            self._read(arguments, text)
        return self._results.hold(value)

    def _read(self, arguments: str, text: str) -> None:
        try:
            echo = _Echo(json.loads(arguments or "{}"))
        except (ValueError, RecursionError):
            return  # what it was asked is unknown, and so is what it only repeats
        for leaf in _leaves(_parsed(text)):
            self._results.add(leaf, echo)


def _parsed(text: str) -> Any:
    if text.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            pass
    return text


def _leaves(value: Any) -> Iterator[str | int | float | Decimal]:
    """Every text and number in a JSON value, in its order; keys are not values."""
    left = [value]
    while left:
        part = left.pop()
        if isinstance(part, Mapping):
            left += reversed(list(cast("Mapping[str, Any]", part).values()))
        elif isinstance(part, list | tuple):
            left += reversed(cast("list[Any]", part))
        elif isinstance(part, str | int | float | Decimal) and not isinstance(part, bool):
            yield part


class _Chunk(NamedTuple):
    """What stands between white space, read: with and without the punctuation around it."""

    forms: tuple[str, ...]
    folded: tuple[str, ...]
    numbers: tuple[Decimal, ...]


class _Texts:
    """Texts of one origin, as atoms."""

    def __init__(self) -> None:
        self._wholes: set[str] = set()
        self._chunks: dict[str, _Chunk] = {}
        """What was read once: texts repeat themselves."""
        self._atoms: set[str] = set()
        self._folded: set[str] = set()
        self._numbers: set[Decimal] = set()
        self._texts: dict[str, str] = {}
        """Each with a single space between its atoms, and the same folded."""

    def add(self, leaf: str | float | Decimal, echo: _Echo) -> None:
        if not isinstance(leaf, str):
            number = _decimal(leaf)
            if number not in echo.numbers:
                self._numbers.add(number)
            return
        kept = [chunk if self._add_chunk(chunk, echo) else _GONE for chunk in leaf.split()]
        if _GONE not in kept:
            self._wholes.add(leaf)
        text = f" {' '.join(kept)} "
        self._texts[text] = _fold(text)

    def _add_chunk(self, chunk: str, echo: _Echo) -> bool:
        known = self._chunks.get(chunk)
        read = known or _read_chunk(chunk)
        if echo.repeats(read):
            return False
        if known is None:
            self._chunks[chunk] = read
            self._atoms.update(read.forms)
            self._folded.update(read.folded)
            self._numbers.update(read.numbers)
        return True

    def hold(self, value: Any) -> bool:
        if not isinstance(value, str):
            is_number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
            return is_number and _decimal(value) in self._numbers
        if _GONE in value:
            return False
        if value and value in self._wholes:
            return True
        chunks = value.split()
        if not chunks or " ".join(chunks) != value:
            return False
        if len(chunks) == 1:
            return self._has(value) or _number(value) in self._numbers
        return all(map(self._has, chunks)) and self._has_phrase(value, all(map(_folds, chunks)))

    def _has(self, atom: str) -> bool:
        return atom in self._atoms or (_folds(atom) and _fold(atom) in self._folded)

    def _has_phrase(self, phrase: str, folds: bool) -> bool:
        wanted = _fold(phrase) if folds else phrase
        return any(_stands_in(folded if folds else text, wanted) for text, folded in self._texts.items())


class _Echo:
    """What a call's own arguments say, so that a result that repeats it proves nothing."""

    def __init__(self, arguments: Any) -> None:
        self._atoms: set[str] = set()
        self.numbers: set[Decimal] = set()
        parts: list[str] = []
        for leaf in _leaves(arguments):
            if isinstance(leaf, str):
                parts.append(_fold("".join(leaf.split())))
                for chunk in map(_read_chunk, leaf.split()):
                    self._atoms.update(chunk.folded)
                    self.numbers.update(chunk.numbers)
            else:
                self.numbers.add(_decimal(leaf))
        self._squeezed = "\n".join(parts) + "\n" + "".join(parts)

    def repeats(self, chunk: _Chunk) -> bool:
        if not (self._atoms.isdisjoint(chunk.folded) and self.numbers.isdisjoint(chunk.numbers)):
            return True
        return any(len(form) >= _SHORTEST_PART and form in self._squeezed for form in chunk.folded)


_NO_ECHO = _Echo({})


def _read_chunk(chunk: str) -> _Chunk:
    forms = _forms(chunk)
    numbers = tuple(number for form in forms if (number := _number(form)) is not None)
    return _Chunk(forms, tuple(map(_fold, forms)), numbers)


def _forms(chunk: str) -> tuple[str, ...]:
    """A chunk with and without the punctuation around it."""
    if chunk[0] not in _OPENERS and chunk[-1] not in _CLOSERS and not chunk.endswith(_POSSESSIVE):
        return (chunk,)
    lefts, rights = [chunk], list[str]()
    while len(lefts) <= _MOST_TRIMMED and lefts[-1][:1] in _OPENERS and len(lefts[-1]) > 1:
        lefts.append(lefts[-1][1:])
    for left in lefts:
        rights.append(left)
        for _ in range(_MOST_TRIMMED):
            if len(rights[-1]) < 2 or rights[-1][-1] not in _CLOSERS:  # noqa: PLR2004  an atom keeps a character
                break
            rights.append(rights[-1][:-1])
    rights += [form[:-2] for form in rights if form.endswith(_POSSESSIVE) and len(form) > 2]  # noqa: PLR2004  see above
    return tuple(dict.fromkeys(rights))


def _stands_in(text: str, phrase: str) -> bool:
    """Whether the phrase stands in the text between white space and punctuation, not inside of an atom."""
    start = text.find(phrase)
    while start >= 0:
        before, after = start, start + len(phrase)
        while text[before - 1] in _OPENERS:
            before -= 1
        if text.startswith(_POSSESSIVE, after):
            after += 2
        while text[after] in _CLOSERS:
            after += 1
        if text[before - 1] == " " and text[after] == " ":
            return True
        start = text.find(phrase, start + 1)
    return False


def _decimal(number: float | Decimal) -> Decimal:
    # An int goes in as it is: very long ones have no text.
    return Decimal(str(number)) if isinstance(number, float) else Decimal(number)


def _number(atom: str) -> Decimal | None:
    found = _NUMBER.fullmatch(atom) if len(atom) <= _LONGEST_NUMBER else None
    if found is None:
        return None
    size = Decimal(found[1].replace(",", ""))
    return -size if atom.startswith("-") else size


def _folds(atom: str) -> bool:
    """Names, hosts and e-mail addresses are the same in capitals; paths, codes and addresses of pages are not."""
    return all(char.isalpha() or char in "'’-.&" for char in atom) or _EMAIL.fullmatch(atom) is not None  # noqa: RUF001  see above


def _fold(text: str) -> str:
    """Small letters, of ASCII only: beyond it two letters that look alike need not be the same."""
    return text.lower() if text.isascii() else text.translate(_LOWER)
