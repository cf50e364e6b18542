"""Personal data that has a form: what looks like it is checked, by its sum or its numbering plan."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from crew_guard.core.content import PASSED, Check, PersonalKind, PersonalRule, fixed, rejected
from crew_guard.errors import ConfigError
from crew_guard.guardrails.base import Shipped, needed, several
from crew_guard.ports import Content

_Span = tuple[int, int]

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])(?!:[\w~/])")
_CARDS = re.compile(r"(?<![\w.])\d+(?:[ -]\d+)*(?!\.\d)(?!\w)")
"""Groups of digits in a row: one card, several, or something else."""
_GROUPED = frozenset({(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (4, 4, 4, 1)})
"""How the digits of a card are grouped; beside other numbers only these, or no groups at all, are taken for one."""
_BRANDS = (
    ("4", (13, 16, 19)), ("51 52 53 54 55", (16,)), ("34 37", (15,)), ("6011 64 65", (16, 19)),
    ("35", (16,)), ("30 36 38", (14,)), (" ".join(map(str, range(222, 272))), (16,)), ("62", (16, 17, 18, 19)),
)  # fmt: skip
_CARD_DIGITS = range(13, 20)
_MOST_GROUPS = 19
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,60}")
_LONGEST_IBAN = 34
_SSN = re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])")
_DIGITS = re.compile(r"[+(]?\d[\d ().\-/\u00a0]{5,24}\d")
_IP = re.compile(
    r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\w)|(?<![\w:.])(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4}(?![\w:])"
)
_NAMES: dict[PersonalKind, str] = {
    "email": "email address", "phone": "phone number", "card": "card number", "iban": "IBAN",
    "ssn": "social security number", "ip": "IP address",
}  # fmt: skip


class PersonalGuardrail(Shipped):
    """Looks for personal data. Its reasons name kinds and counts, never a value."""

    name = "personal_data"

    def __init__(self, rule: PersonalRule) -> None:
        self._rule = rule
        self._finders: dict[PersonalKind, Callable[[str], Iterator[_Span]]] = {"email": _emails, "ip": _ips}
        if {"card", "iban", "ssn"} & set(rule.kinds):
            self._finders |= _numbers()
        if "phone" in rule.kinds:
            library = needed("phonenumbers", "finding phone numbers")
            for region in rule.regions:
                if region not in library.SUPPORTED_REGIONS:
                    raise ConfigError(
                        f"personal_data.regions: no phone numbers are known of {region}; "
                        "expected a country by the two capitals of ISO 3166, such as US, GB or DE"
                    )
            self._finders["phone"] = _phones(library, rule.regions)

    def check(self, content: Content) -> Check:
        """A fix puts the kind in brackets, [email], in each place."""
        found = Counter[PersonalKind](kind for _, _, kind in self._found(content.readable))
        if not found:
            return PASSED
        counts = ", ".join(
            several(number, _NAMES[kind]).replace("addresss", "addresses") for kind, number in found.items()
        )
        reason = f"it holds personal data ({counts}); leave it out"
        return (
            fixed(self._without(content.text), reason, self._without)
            if self._rule.action == "fix"
            else rejected(reason)
        )

    def _found(self, text: str) -> list[tuple[int, int, PersonalKind]]:
        """(start, end, kind) in order, none inside of another: the kind that stands first in the rule wins."""
        taken: list[tuple[int, int, PersonalKind]] = []
        for kind in self._rule.kinds:
            for start, end in self._finders[kind](text):
                if all(end <= other[0] or start >= other[1] for other in taken):
                    taken.append((start, end, kind))
        return sorted(taken)

    def _without(self, text: str) -> str:
        for start, end, kind in reversed(self._found(text)):
            text = f"{text[:start]}[{kind}]{text[end:]}"
        return text


def _emails(text: str) -> Iterator[_Span]:
    return (match.span() for match in _EMAIL.finditer(text))


def _ips(text: str) -> Iterator[_Span]:
    for match in _IP.finditer(text):
        try:
            address = ipaddress.ip_address(match[0])
        except ValueError:
            continue
        if address.is_global:
            yield match.span()


def _numbers() -> dict[PersonalKind, Callable[[str], Iterator[_Span]]]:
    iban = needed("stdnum.iban", "finding IBANs")
    luhn = needed("stdnum.luhn", "finding card numbers")
    ssn = needed("stdnum.us.ssn", "finding social security numbers")

    def cards(text: str) -> Iterator[_Span]:
        for run in _CARDS.finditer(text):
            groups = [match.span() for match in re.finditer(r"\d+", run[0])]
            at = 0
            while at < len(groups):
                ends = range(min(len(groups), at + _MOST_GROUPS), at, -1)
                end = next((end for end in ends if _is_card(run[0], groups, at, end, luhn.is_valid)), None)
                if end is not None:
                    yield run.start() + groups[at][0], run.start() + groups[end - 1][1]
                at = at + 1 if end is None else end

    def ibans(text: str) -> Iterator[_Span]:
        match = _IBAN.search(text)
        while match:
            after = match.start() + 1
            # The words after it look like more of it: the longest beginning whose sum is right is taken.
            for end in range(match.end(), match.start() + 14, -1):
                part = text[match.start() : end]
                whole = end == len(text) or not (text[end].isalnum() and text[end].isascii())
                if whole and part[-1].isalnum() and len(part) <= _LONGEST_IBAN * 2 and iban.is_valid(part):
                    yield match.start(), end
                    after = end
                    break
            match = _IBAN.search(text, after)

    def ssns(text: str) -> Iterator[_Span]:
        return (match.span() for match in _SSN.finditer(text) if ssn.is_valid(match[0]))

    return {"card": cards, "iban": ibans, "ssn": ssns}


def _is_card(text: str, groups: list[_Span], at: int, end: int, sums: Callable[[str], bool]) -> bool:
    lengths = tuple(group[1] - group[0] for group in groups[at:end])
    alone = at == 0 and end == len(groups)
    if sum(lengths) not in _CARD_DIGITS or not (alone or len(lengths) == 1 or lengths in _GROUPED):
        return False
    digits = "".join(text[start:stop] for start, stop in groups[at:end])
    return _of_a_brand(digits) and sums(digits)


def _of_a_brand(digits: str) -> bool:
    return any(len(digits) in lengths and digits.startswith(tuple(starts.split())) for starts, lengths in _BRANDS)


def _phones(phonenumbers: Any, regions: tuple[str, ...]) -> Callable[[str], Iterator[_Span]]:
    def find(text: str) -> Iterator[_Span]:
        seen: set[_Span] = set()
        for match in _DIGITS.finditer(text):
            # The library reads 20,000 characters in a quarter of a second: it is shown what may be a number only.
            if not regions and "+" not in match[0]:
                continue
            start = max(0, match.start() - 12)
            window = text[start : match.end() + 12]
            for region in regions or (None,):
                for found in phonenumbers.PhoneNumberMatcher(window, region):
                    seen.add((start + found.start, start + found.end))
        yield from sorted(seen)

    return find
