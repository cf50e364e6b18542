"""A corpus: what agents and workflows search, read and cite.

`load_corpus("stdlib")` is the standard library of the running Python; any other name is a
folder of text, Markdown, reStructuredText, HTML or PDF. `corpus_tools` gives the two tools over it.
"""

from __future__ import annotations

import difflib
import os
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

from crew_guard.core.tools import Tool, tool
from crew_guard.tools.folder import Bounds, Skipped, read_folder
from crew_guard.tools.index import SCHEMA_VERSION, Index, Ranked
from crew_guard.tools.passages import Passage, sentences
from crew_guard.tools.query import stems, terms
from crew_guard.tools.stdlib import read_stdlib

STDLIB = "stdlib"
MAX_HITS = 20
SNIPPET_CHARS = 200


class UnknownPassageError(ValueError):
    """No passage has this id; the message names those that come close."""


class Hit(TypedDict):
    """What a search shows of a passage."""

    id: str
    title: str
    snippet: str


class Text(TypedDict):
    """A passage as it is read."""

    id: str
    title: str
    text: str


class Corpus:
    """Passages with an index. Usable from any thread; made by `load_corpus`."""

    def __init__(
        self,
        name: str,
        index: Index,
        *,
        skipped: tuple[Skipped, ...] = (),
        noted: tuple[Skipped, ...] = (),
        files: int = 0,
    ) -> None:
        self.name = name
        """stdlib, or the folder."""
        self.skipped = skipped
        """Files that were left out, and why."""
        self.noted = noted
        """Files that were read only in part, or with a guessed encoding."""
        self.files = files
        """Files that gave passages; 0 for stdlib."""
        self._index = index

    def __len__(self) -> int:
        return len(self._index)

    def search(self, query: str, limit: int = 5) -> list[Ranked]:
        """The passages that answer a question best, the best first; none where no word of it occurs."""
        return self._index.search(query, min(limit, MAX_HITS))

    def find(self, passage_id: str) -> Passage | None:
        """The passage of this id; None where there is none."""
        return self._index.get(passage_id.strip().removesuffix("()"))

    def read(self, passage_id: str) -> Passage:
        """The passage of this id.

        Raises:
            UnknownPassageError: there is none
        """
        if passage := self.find(passage_id):
            return passage
        close = self._close_to(passage_id)
        hint = f"close to it: {', '.join(close)}" if close else "search gives ids"
        raise UnknownPassageError(f"no passage has the id {passage_id[:100]!r}; {hint}")

    def close(self) -> None:
        """Let go of the cache file."""
        self._index.close()

    def _close_to(self, passage_id: str) -> list[str]:
        wanted = passage_id[:200].lower()
        last = wanted.rpartition(".")[2]
        ids = self._index.ids()
        same_end = [each for each in ids if wanted and each.lower().endswith(f".{wanted}")]
        same_end += [each for each in ids if last and each.lower().rpartition(".")[2] == last]
        return list(dict.fromkeys([*same_end[:2], *difflib.get_close_matches(passage_id[:200], ids, 3, 0.7)]))[:4]


def load_corpus(
    where: str | Path,
    *,
    cache: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    bounds: Bounds | None = None,
) -> Corpus:
    """Open a corpus, building its index where there is none.

    Args:
        where: "stdlib", or a folder
        cache: a folder that keeps the index of stdlib; in memory by default. One that can't
            be written, or holds a damaged file, costs the time to build again, no more
        on_progress: called with (done, total): modules or files
        bounds: of a folder
    Raises:
        ConfigError: the folder is missing or holds nothing that can be read
    """
    if str(where) == STDLIB:
        return Corpus(STDLIB, _stdlib_index(cache, on_progress))
    contents = read_folder(Path(where).expanduser(), on_progress, bounds)
    return Corpus(
        str(where),
        Index.build(contents.passages),
        skipped=tuple(contents.skipped),
        noted=tuple(contents.noted),
        files=contents.files,
    )


def _stdlib_index(cache: Path | None, on_progress: Callable[[int, int], None] | None) -> Index:
    version = ".".join(str(part) for part in sys.version_info[:3])
    path = (
        cache / f"stdlib-{sys.implementation.name}-{version}-{sys.platform}-{SCHEMA_VERSION}.sqlite" if cache else None
    )
    if path and path.is_file():
        with suppress(sqlite3.Error):
            return Index.open(path)
    passages = read_stdlib(on_progress)
    if path:
        with suppress(sqlite3.Error, OSError):
            return _build_cache(passages, path)
    return Index.build(passages)


def _build_cache(passages: list[Passage], path: Path) -> Index:
    """Build beside, then move into place: two processes never see each other's half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=path.name, dir=path.parent)
    os.close(handle)
    draft = Path(name)
    try:
        Index.build(passages, draft).close()
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return Index.open(path)


def corpus_tools(corpus: Corpus) -> tuple[Tool, Tool]:
    """The tools `search` and `read` over a corpus."""

    @tool(max_result_chars=6_000)
    def search(query: str, limit: int = 5) -> list[Hit]:
        """Find passages about a query. Gives their ids, titles and snippets, the best first."""
        found = corpus.search(query, max(1, limit))
        return [Hit(id=hit.passage.id, title=hit.passage.title, snippet=snippet(hit.passage, query)) for hit in found]

    @tool(max_result_chars=6_000)
    def read(id: str) -> Text:  # noqa: A002 - what a model calls it
        """Read the passage with this id, as search gave it."""
        passage = corpus.read(id)
        return Text(id=passage.id, title=passage.title, text=passage.text)

    return search, read


def snippet(passage: Passage, query: str) -> str:
    """The sentence of a passage that says most about a query, at most SNIPPET_CHARS long."""
    head, _, rest = passage.text.partition("\n") if passage.symbol else ("", "", passage.text)
    text = best_sentence(rest, query) or head
    return text if len(text) <= SNIPPET_CHARS else text[: SNIPPET_CHARS - 1] + "…"


def best_sentence(text: str, query: str) -> str:
    """The sentence with the most of a query's words; the earliest of equals."""
    wanted = {word for term in terms(query) for variant, _ in term.variants for word in stems(variant)}
    return max(sentences(text), key=lambda sentence: len(wanted & stems(sentence)), default="")
