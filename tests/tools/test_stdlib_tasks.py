"""The index of tasks: what programmers call what the standard library's docstrings call otherwise."""

import sys
from pathlib import Path

import pytest

from crew_guard.crews.brief import Brief, Finding, check_brief
from crew_guard.tools import stdlib
from crew_guard.tools.corpus import Corpus, load_corpus
from crew_guard.tools.query import stems
from tests.tools.library import cache_folder, standard_library

NEWER = {"copy.replace", "itertools.batched", "pathlib.Path.walk"}
"""Of Python 3.12 and later."""


@pytest.fixture(scope="module")
def library() -> Corpus:
    return standard_library()


@pytest.mark.skipif(sys.version_info[:2] != (3, 11) or sys.platform != "linux", reason="the lists differ by version")
def test_every_symbol_of_the_index_is_in_the_library(library: Corpus) -> None:
    """Those of later versions are passed over; so are modules that this Python was built without (tkinter)."""
    absent = {symbol for symbol in stdlib.read_tasks() if library.find(symbol) is None}
    modules = {symbol.partition(".")[0] for symbol in absent - NEWER}
    unbuilt = {module for module in modules & sys.stdlib_module_names if library.find(module) is None}
    assert {symbol for symbol in absent if symbol.partition(".")[0] not in unbuilt} == NEWER


def test_every_line_of_the_index_is_a_symbol_and_a_few_words() -> None:
    """Three to fourteen lowercase words, and no symbol twice."""
    text = Path(stdlib.__file__).with_name("stdlib_tasks.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(lines) == len(stdlib.read_tasks()) > 350
    for symbol, words in stdlib.read_tasks().items():
        assert all(part.isidentifier() for part in symbol.split("."))
        assert words == words.lower()
        assert 3 <= len(words.split()) <= 14, symbol


@pytest.mark.parametrize(
    ("query", "symbol"),
    [
        ("remember the results of repeated calls", "functools.lru_cache"),
        ("flatten nested lists", "itertools.chain.from_iterable"),
        ("fuzzy matching of misspelt words", "difflib.get_close_matches"),
        ("run code when the program exits", "atexit.register"),
    ],
)
def test_a_task_is_found_by_words_its_docstring_lacks(library: Corpus, query: str, symbol: str) -> None:
    """Each query holds a word that does not stand in the passage."""
    passage = library.search(query)[0].passage
    assert passage.symbol == symbol
    assert stems(query) & stems(stdlib.read_tasks()[symbol]) - stems(passage.text)


def test_the_index_is_never_shown_or_quoted(library: Corpus) -> None:
    """A brief that quotes it does not stand up."""
    words = stdlib.read_tasks()["functools.lru_cache"]
    found = library.search(words, 1)[0].passage
    assert found.symbol == "functools.lru_cache"
    assert words not in found.text
    assert "memoize" not in found.text
    quoted = Finding(claim="It remembers", quote=words, source=found.id)
    verdict = check_brief(Brief(question="?", answer="functools.lru_cache", findings=[quoted]), library)
    assert not verdict.passed


def test_the_index_is_read_only_when_the_corpus_is_built(library: Corpus) -> None:
    """A corpus that is opened from its cache file has no need of it."""
    assert library.find("sorted")
    stdlib.read_tasks.cache_clear()
    load_corpus("stdlib", cache=cache_folder()).close()
    assert stdlib.read_tasks.cache_info().currsize == 0


def test_what_a_class_only_holds_stays_at_home(library: Corpus) -> None:
    """logging.Formatter.converter is time.localtime; open is a built-in name, io.open another of it."""
    assert library.read("time.localtime").symbol == "time.localtime"
    assert library.find("logging.Formatter.converter") is None
    assert library.read("io.open").source == "builtins"


def test_a_turn_of_phrase_is_read_as_what_it_says(library: Corpus) -> None:
    """`at the same time` asks for no time."""
    assert library.search("limit how many coroutines run at the same time")[0].passage.symbol == "asyncio.Semaphore"
