"""What a question asks for: its words without the phrasing, each with what else it may be called."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from crew_guard.tools.words import identifier_parts, synonyms

MAX_QUERY_CHARS = 2000
MAX_TERMS = 24

_STOPWORDS = """
a about after all also am among an and any anyone anything are as at be been being best between both but by can cannot
certain could did do does doing done easiest easily either else etc ever every everything for from get gets getting
give given gives had has have having here how i if in into is it its itself just know let lets like make makes me might
must my myself need needs nice no not of off on onto or other our out over own particular please possible properly
python same shall she should show simple simplest so some somebody someone something stdlib such tell than that the
their them then there these they thing things this those through to too two under up upon us use used using very via
want wants was way ways we were what when where whether which while who whole whose why will with within without would
you your
""".strip()
STOPWORDS = frozenset(_STOPWORDS.split())

_PHRASES = {"at the same time": "concurrently", "e-mail": "email"}
"""Turns of phrase whose words mislead, and what they say."""

_WORD = re.compile(r"[^\W_]+(?:[._]+[^\W_]+)*")


@dataclass(frozen=True, slots=True)
class Term:
    """One word of a query, or one identifier."""

    word: str
    variants: tuple[tuple[str, float], ...]
    """(what to look for, its weight in (0, 1]), the word itself first."""


def terms(query: str) -> list[Term]:
    """The words to look for, phrasing left out unless there is nothing else.

    Args:
        query: anything a user may type
    """
    words = _WORD.findall(_plain(query[:MAX_QUERY_CHARS]))
    compounds: dict[str, list[str]] = {}
    for first, second in pairwise(words):
        # What is two words in a question is often one in a name: time out, file name, sub process.
        for word in (first, second):
            compounds.setdefault(word, []).append(f"{first}{second}".lower())
    telling = [word for word in words if word.lower() not in STOPWORDS] or words
    return [_term(word, compounds.get(word, [])) for word in list(dict.fromkeys(telling))[:MAX_TERMS]]


def _plain(query: str) -> str:
    for phrase, meant in _PHRASES.items():
        query = re.sub(rf"\b{phrase}", meant, query, flags=re.IGNORECASE)
    return query


def _term(word: str, compounds: list[str]) -> Term:
    lower = word.lower()
    variants = {lower: 1.0} | {compound: 0.8 for compound in compounds if "." not in compound}
    for other in [other for compound in compounds for other in synonyms(compound)]:
        variants.setdefault(other, 0.6)
    for part in parts if len(parts := identifier_parts(word)) > 1 else ():
        if part not in STOPWORDS:
            variants.setdefault(part, 0.4)
    for other in synonyms(lower):
        variants.setdefault(other, 0.85)
    return Term(lower, tuple(variants.items()))


_SUFFIX = re.compile(r"(?:ational|ation|ings?|ers?|ions?|ies|ied|ed|es|e|s|y)$")


def stem(word: str) -> str:
    """A rough stem: enough to see that `parses` and `parsing` are one word."""
    lower = word.lower()
    cut = _SUFFIX.sub("", lower)
    cut = cut if len(cut) > 2 else lower  # noqa: PLR2004 - shorter stems mean nothing
    return cut[:-1] if len(cut) > 3 and cut[-1] == cut[-2] and cut[-1] not in "ls" else cut  # noqa: PLR2004 - as above


def stems(text: str) -> set[str]:
    """The stems of all words of a text, identifiers taken apart as well."""
    return {stem(part) for word in _WORD.findall(text) for part in [*re.split(r"[._]+", word), *identifier_parts(word)]}
