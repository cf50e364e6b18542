"""The standard library's corpus, built once for all tests of a process, and opened from its cache file."""

import tempfile
from functools import cache
from pathlib import Path

from crew_guard.tools.corpus import Corpus, load_corpus

_FOLDER = tempfile.TemporaryDirectory(prefix="crew_guard_tests_")


def cache_folder() -> Path:
    """Where its cache file is."""
    return Path(_FOLDER.name)


@cache
def standard_library() -> Corpus:
    """The corpus as a second start of a program gets it."""
    load_corpus("stdlib", cache=cache_folder()).close()
    return load_corpus("stdlib", cache=cache_folder())
