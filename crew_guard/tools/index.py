"""The index of a corpus: SQLite FTS5. BM25 finds the candidates, where the words stand ranks them.

A word in a passage's own name says more than one in its first sentence, and that more than one
further below. How much of the question a passage covers counts most.
"""

from __future__ import annotations

import math
import sqlite3
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from crew_guard.tools.passages import Facets, Passage, first_sentence
from crew_guard.tools.query import Term, stem, terms
from crew_guard.tools.words import identifier_parts, squashed_parts, vocabulary

SCHEMA_VERSION = 2
"""Part of a cache file's key: another layout is another file."""

CANDIDATES = 300
WEIGHTS = dict(name=2.4, place=1.4, summary=2.3, signature=1.2, body=1.0, members=0.6, context=0.6, tasks=2.0)  # noqa: C408 - one line
"""What a word's best column is worth; a further one is worth a part of that."""
BM25_WEIGHTS = (6.0, 2.0, 3.0, 1.5, 1.0, 0.5, 0.5, 2.5)
"""The same to BM25, in the columns' order."""
FURTHER = 0.25
ANCHORED = 1.2
"""A question that names the module asks for what is in it."""
BARE = 0.9
"""A symbol without a docstring leaves nothing to quote."""
CONTINUED = 0.9
"""A later part of a long docstring."""
COVER, PRECISE, BM25 = 0.9, 0.3, 1.4
DEEPER = 0.94
"""What each level of modules that the question doesn't name costs."""

KIND_PRIORS = {"class": 0.95, "method": 0.9, "module": 0.85, "property": 0.75, "exception": 0.65}

_SCHEMA = """
create table passages(id text unique, source text, title text, text text, symbol text, kind text, aliases text,
                      parts integer, depth integer, prior real);
create virtual table words using fts5(name, place, summary, signature, body, members, context, tasks, content='',
                                      tokenize='porter unicode61 remove_diacritics 2');
"""
_COLUMNS = "id, source, title, text, symbol, kind, aliases"


@dataclass(frozen=True, slots=True)
class Ranked:
    """A passage that was found."""

    passage: Passage
    score: float
    coverage: float
    """The share of the query that it holds, rarer words counting more, in [0, 1]."""


@dataclass(slots=True)
class _Tally:
    """What is known of one candidate."""

    bm25: float
    score: float = 0.0
    covered: float = 0.0
    named: int = 0
    """How many words of the query its name holds."""
    placed: int = 0
    """How many its module, class or file's name holds."""


class Index:
    """Passages that can be searched. Usable from any thread."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._size = int(database.execute("select count(*) from passages").fetchone()[0])

    @classmethod
    def build(cls, passages: Iterable[Passage], path: Path | None = None) -> Index:
        """Index passages; of two with the same id the first stays.

        Args:
            path: a file to keep the index in, which must not exist; in memory by default
        Raises:
            sqlite3.Error, OSError: the file can't be written
        """
        database = _connect(str(path) if path else ":memory:")
        with database:
            database.executescript(_SCHEMA)
            unique = {passage.id: passage for passage in reversed(list(passages))}
            usual = vocabulary(passage.text for passage in unique.values())

            @cache
            def apart(name: str) -> list[str]:
                return squashed_parts(name, usual)

            for row, passage in enumerate(reversed(unique.values()), 1):
                _insert(database, row, passage, apart)
        return cls(database)

    @classmethod
    def open(cls, path: Path) -> Index:
        """Read an index that was built into a file.

        Raises:
            sqlite3.Error: it is no such file, or damaged
        """
        database = _connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            if database.execute("pragma quick_check").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("damaged")
            index = cls(database)
            if not index:
                raise sqlite3.DatabaseError("empty")
            index.search("read a file", 1)
        except sqlite3.Error:
            database.close()
            raise
        return index

    def __len__(self) -> int:
        return self._size

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._database.close()

    def get(self, passage_id: str) -> Passage | None:
        """The passage of this id, or of a symbol's other name."""
        with self._lock:
            row = self._database.execute(f"select {_COLUMNS} from passages where id = ?", (passage_id,)).fetchone()  # noqa: S608 - constants
            if row is None:
                query = f"select {_COLUMNS} from passages where instr(aliases, ?) order by rowid limit 1"  # noqa: S608 - constants
                row = self._database.execute(query, (f" {passage_id} ",)).fetchone() if passage_id.strip() else None
        return _passage(row) if row else None

    def ids(self) -> list[str]:
        """The id of every passage."""
        with self._lock:
            return [row[0] for row in self._database.execute("select id from passages order by rowid")]

    def search(self, query: str, limit: int = 5) -> list[Ranked]:
        """The passages that answer a question best, the best first; none where no word of it occurs.

        Args:
            query: anything a user may type
        """
        wanted = terms(query)
        if not wanted or limit < 1:
            return []
        with self._lock:
            tallies = self._candidates(wanted)
            total = self._weigh(wanted, tallies)
            return self._ranked(wanted, tallies, total, limit)

    def _candidates(self, wanted: list[Term]) -> dict[int, _Tally]:
        match = " OR ".join(_quoted(variant) for term in wanted for variant, _ in term.variants)
        rows = self._database.execute(
            "select rowid, bm25(words, ?, ?, ?, ?, ?, ?, ?, ?) as rank from words where words match ?"
            " order by rank limit ?",
            (*BM25_WEIGHTS, match, CANDIDATES),
        )
        return {row: _Tally(-rank) for row, rank in rows}

    def _weigh(self, wanted: list[Term], tallies: dict[int, _Tally]) -> float:
        """Add up where each term stands; returns what a passage with every term would cover."""
        total = 0.0
        for term in wanted:
            worth: dict[int, dict[str, float]] = {}
            shares: dict[int, float] = {}
            named: set[int] = set()
            holders: set[int] = set()
            for variant, share in term.variants:
                for column, weight in WEIGHTS.items():
                    found = self._holding(variant, column)
                    if share == 1.0:
                        holders |= found
                    for row in found & tallies.keys():
                        columns = worth.setdefault(row, {})
                        columns[column] = max(columns.get(column, 0.0), weight * share)
                        if share == 1.0 and column == "name":
                            named.add(row)
                        shares[row] = max(shares.get(row, 0.0), share * min(1.0, weight))
            rarity = math.log(1 + self._size / (1 + len(holders)))
            total += rarity
            for row, columns in worth.items():
                best = max(columns.values())
                tally = tallies[row]
                tally.score += rarity * (best + FURTHER * (sum(columns.values()) - best))
                tally.covered += rarity * shares[row]
                tally.named += row in named
                tally.placed += "place" in columns
        return total

    def _holding(self, word: str, column: str) -> set[int]:
        match = f"{column} : {_quoted(word)}"
        return {row[0] for row in self._database.execute("select rowid from words where words match ?", (match,))}

    def _ranked(self, wanted: list[Term], tallies: dict[int, _Tally], total: float, limit: int) -> list[Ranked]:
        if not tallies or not total:
            return []
        top = max(tally.bm25 for tally in tallies.values()) or 1.0
        scored: list[tuple[float, int]] = []
        facts = self._facts(tallies)
        said = {stem(term.word) for term in wanted}
        for row, tally in tallies.items():
            parts, depth, prior, source = facts[row]
            covered = tally.covered / total
            precision = tally.named / parts if parts else 0.0
            score = (
                (tally.score / total) * (1 - COVER + COVER * covered)
                + PRECISE * precision * covered
                + BM25 * tally.bm25 / top
            )
            if stem(source.rpartition(".")[2]) in said:
                score *= ANCHORED
            scored.append((score * prior * DEEPER ** max(0, depth - tally.placed), row))
        scored.sort(key=lambda item: (-item[0], item[1]))
        found: dict[str, Ranked] = {}
        for score, row in scored:
            values = self._database.execute(f"select {_COLUMNS} from passages where rowid = ?", (row,)).fetchone()  # noqa: S608 - constants
            passage = _passage(values)
            # One symbol, one place in the list: its further parts can be read by id.
            found.setdefault(
                passage.symbol or passage.id, Ranked(passage, score, min(1.0, tallies[row].covered / total))
            )
            if len(found) == limit:
                break
        return list(found.values())

    def _facts(self, tallies: dict[int, _Tally]) -> dict[int, tuple[int, int, float, str]]:
        marks = ",".join("?" * len(tallies))
        query = f"select rowid, parts, depth, prior, source from passages where rowid in ({marks})"  # noqa: S608 - only marks
        return {
            row: (parts, depth, prior, source)
            for row, parts, depth, prior, source in self._database.execute(query, [*tallies])
        }


def _connect(target: str, *, uri: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(target, uri=uri, check_same_thread=False)


def _quoted(word: str) -> str:
    return '"' + word.replace('"', '""') + '"'


def _insert(database: sqlite3.Connection, row: int, passage: Passage, apart: Callable[[str], list[str]]) -> None:
    place, _, name = passage.symbol.rpartition(".") if passage.symbol else (passage.source, "", passage.title)
    parts = identifier_parts(name)
    squashed = apart(name) if passage.symbol else []
    if passage.symbol:
        place = " ".join([place, *(part for each in place.split(".") for part in apart(each))])
    facets = passage.facets or Facets(summary=first_sentence(passage.text), body=passage.text)
    prior = KIND_PRIORS.get(passage.kind, 1.0) * facets.likely
    if passage.symbol:
        prior *= (1.0 if facets.body else BARE) * (CONTINUED if "#" in passage.id else 1.0)
    aliases = " ".join(["", *passage.aliases, ""]) if passage.aliases else ""
    database.execute(
        "insert into passages(rowid, id, source, title, text, symbol, kind, aliases, parts, depth, prior)"
        " values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(row, passage.id, passage.source, passage.title, passage.text, passage.symbol, passage.kind, aliases),
            *(max(1, len(squashed or parts)), passage.symbol.count("."), prior),
        ),
    )
    words = (
        f"{name} {' '.join(squashed)} {aliases}",
        place,
        facets.summary,
        facets.signature,
        facets.body,
        facets.members,
        facets.context,
        facets.tasks,
    )
    database.execute(
        "insert into words(rowid, name, place, summary, signature, body, members, context, tasks)"
        " values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (row, *map(_searchable, words)),
    )


def _searchable(text: str) -> str:
    """The text, with the parts of every camelCase identifier in it after it."""
    extra = [
        part
        for word in text.split()
        if word != word.lower() and not word.istitle()
        for part in identifier_parts(word)
        if part != word.lower()
    ]
    return f"{text} {' '.join(extra)}" if extra else text


def _passage(row: tuple[str, str, str, str, str, str, str]) -> Passage:
    return Passage(*row[:6], tuple(row[6].split()))
