"""The standard library's corpus, built once for all tests of a process, and opened from its cache file."""

import tempfile
from functools import cache
from pathlib import Path

from crew_guard.tools.corpus import Corpus, load_corpus

_FOLDER = tempfile.TemporaryDirectory(prefix="crew_guard_tests_")


@cache
def standard_library() -> Corpus:
    """The corpus as a second start of a program gets it."""
    load_corpus("stdlib", cache=Path(_FOLDER.name)).close()
    return load_corpus("stdlib", cache=Path(_FOLDER.name))
