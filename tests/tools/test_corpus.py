"""Corpora: folders good and bad, the standard library, and the tools over them."""

import asyncio
import errno
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crew_guard.errors import ConfigError
from crew_guard.tools import corpus as corpora
from crew_guard.tools import stdlib
from crew_guard.tools.corpus import Corpus, UnknownPassageError, corpus_tools, load_corpus
from crew_guard.tools.folder import Bounds
from crew_guard.tools.index import Index
from crew_guard.tools.passages import Passage
from tests.supervisor.gates import gate_for
from tests.tools.library import standard_library


@pytest.fixture(scope="module")
def library() -> Corpus:
    return standard_library()


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "gzip.md").write_text("# Gzip\nGzip packs files.\n## Use\nCall `gzip_open` to read one.\n")
    (tmp_path / "web.html").write_text("<h1>Web</h1><p>Servers answer requests.</p>")
    (tmp_path / "plain.txt").write_text("\ufeffPlain text about zebras.", encoding="utf-8")
    return tmp_path


def test_a_folder_gives_passages_that_can_be_cited(notes: Path) -> None:
    """An id is the file's path and the passage's number in it."""
    corpus = load_corpus(notes)
    assert (len(corpus), corpus.files, corpus.skipped, corpus.noted) == (4, 3, (), ())
    passage = corpus.read("notes/gzip.md#2")
    assert (passage.source, passage.title, passage.text) == (
        "notes/gzip.md",
        "Gzip > Use",
        "Call `gzip_open` to read one.",
    )
    assert corpus.read("plain.txt#1").text == "Plain text about zebras."


def test_progress_is_told_file_by_file(notes: Path) -> None:
    """The last call says that all are done."""
    told: list[tuple[int, int]] = []
    load_corpus(notes, on_progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "the corpus folder is empty; expected text"),
        ({"a.png": b"\x89PNG\0\0", "b.txt": b"\0\1\2"}, "2 binary (e.g. a.png)"),
        ({"a.md": b" \n"}, "1 empty (e.g. a.md)"),
        ({"a.py": b"print()"}, "1 a .py file (e.g. a.py)"),
        ({".hidden.md": b"text"}, "the corpus folder is empty"),
    ],
)
def test_a_folder_without_text_is_a_clear_error(tmp_path: Path, files: dict[str, bytes], said: str) -> None:
    """It names the folder, what was found and what was expected."""
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_corpus(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: ")
    assert said in str(caught.value)
    assert "expected text (.txt), Markdown (.md)" in str(caught.value)


def test_a_missing_folder_and_a_file_are_clear_errors(notes: Path) -> None:
    """Each says what to name instead."""
    with pytest.raises(ConfigError, match="does not exist; expected a folder of text"):
        load_corpus(notes / "none")
    with pytest.raises(ConfigError, match="is a file; name the folder that holds it"):
        load_corpus(notes / "plain.txt")


def test_what_is_left_out_is_reported(notes: Path) -> None:
    """Binary files, links, pipes and guessed encodings: nothing disappears in silence."""
    (notes / "logo.png").write_bytes(b"\x89PNG\0")
    (notes / "old.txt").write_bytes("Stra\xdfe und M\xfche".encode("latin-1"))
    (notes / "loop").symlink_to(notes, target_is_directory=True)
    (notes / "self.md").symlink_to(notes / "self.md")
    (notes / "out.md").symlink_to("/etc/passwd")
    os.mkfifo(notes / "pipe.txt")
    corpus = load_corpus(notes)
    assert {skipped.path: skipped.reason for skipped in corpus.skipped} == {
        "logo.png": "binary",
        "loop": "a second name (a link) inside the folder",
        "self.md": "a broken link",
        "out.md": "a link that leaves the folder",
        "pipe.txt": "not a regular file",
    }
    assert [(noted.path, noted.reason) for noted in corpus.noted] == [("old.txt", "not UTF-8: read as Latin-1")]
    assert corpus.read("old.txt#1").text == "Straße und Mühe"


def test_a_huge_file_is_cut_with_a_notice(tmp_path: Path) -> None:
    """A cut in the middle of a character is not taken for another encoding."""
    (tmp_path / "big.txt").write_text("é" * 1000, encoding="utf-8")
    corpus = load_corpus(tmp_path, bounds=Bounds(file_bytes=501))
    assert corpus.noted[0].reason == "cut: 2,000 bytes, the first 501 are read"
    assert corpus.read("big.txt#1").text == "é" * 250


def test_a_folder_of_too_many_files_is_cut_with_a_notice(tmp_path: Path) -> None:
    """The files that are left out are named."""
    for number in range(4):
        (tmp_path / f"{number}.txt").write_text("text")
    corpus = load_corpus(tmp_path, bounds=Bounds(files=3))
    assert (corpus.files, [skipped.path for skipped in corpus.skipped]) == (3, ["3.txt"])


def test_a_name_that_is_not_utf8_becomes_a_printable_id(tmp_path: Path) -> None:
    """The file is read; its id can be written anywhere."""
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt"))).write_text("coffee beans")
    assert load_corpus(tmp_path).search("coffee")[0].passage.id == "caf?.txt#1"


def test_a_file_that_may_not_be_read_is_reported(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are read all the same. (The test's user may be one that no permission stops.)"""
    opened = Path.open

    def guarded(self: Path, *args: Any, **options: Any) -> Any:
        if self.name == "plain.txt":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return opened(self, *args, **options)

    monkeypatch.setattr(Path, "open", guarded)
    assert [(one.path, one.reason) for one in load_corpus(notes).skipped] == [("plain.txt", "permission denied")]


def test_search_finds_identifiers_whole_and_in_part(notes: Path) -> None:
    """gzip_open is found by its name, by its words, and in a question's phrasing."""
    corpus = load_corpus(notes)
    for query in ("gzip_open", "opening", "How do I open one, please?"):
        assert corpus.search(query)[0].passage.id == "notes/gzip.md#2"
    assert corpus.search("unicorn") == []
    assert corpus.search("how do I") == []


def test_the_standard_library_knows_its_symbols(library: Corpus) -> None:
    """Functions, methods, classes and modules are there, with signature and docstring, built-ins by their bare name."""
    assert library.read("subprocess.run").text.startswith("subprocess.run(*popenargs, input=None, capture_output=False")
    assert library.read("sorted").source == "builtins"
    assert library.read("os.path.join").text.startswith("os.path.join(")
    assert library.read("str.split").kind == "method"
    assert library.read("collections.deque").text.count("appends and pops on either end") == 1
    assert library.read("bisect.insort").symbol == "bisect.insort_right"
    assert library.find("this") is library.find("antigravity") is None


@pytest.mark.parametrize(
    ("query", "symbol"),
    [
        ("subprocess.run", "subprocess.run"),
        ("ThreadPoolExecutor", "concurrent.futures.ThreadPoolExecutor"),
        ("check_output", "subprocess.check_output"),
        ("run a subprocess with a timeout", "subprocess.run"),
        ("shell-escaped version of a string", "shlex.quote"),
        ("sum of floating point numbers", "math.fsum"),
    ],
)
def test_the_right_symbol_comes_first(library: Corpus, query: str, symbol: str) -> None:
    """By its name, by a part of it and by what it does."""
    assert library.search(query)[0].passage.symbol == symbol


def test_signatures_don_t_show_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """cgi.parse and others have os.environ as a default: a secret in there must not become a passage."""
    monkeypatch.setenv("CREW_GUARD_TEST_KEY", "sk-very-secret")
    passages = stdlib.read_stdlib()
    assert not any("sk-very-secret" in passage.text for passage in passages)
    assert max(len(passage.text.partition("\n")[0]) for passage in passages) < 1000


def test_gathering_leaves_this_process_as_it_was() -> None:
    """No module of the standard library is imported here, and nothing is printed."""
    code = (
        "import sys, pathlib, json\n"
        "from crew_guard.tools.corpus import load_corpus\n"
        "before = set(sys.modules)\n"
        "load_corpus('stdlib')\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert not {"tkinter", "turtle", "curses", "imaplib", "pdb"} & set(json.loads(done.stdout))
    assert done.stderr == ""


def test_no_interpreter_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen programs and broken interpreters: the way out is a folder."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ConfigError, match=r"/bin/false ended with code 1; name a folder of documents"):
        stdlib.read_stdlib()
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(ConfigError, match="needs a Python interpreter"):
        stdlib.read_stdlib()


@pytest.fixture
def gathered(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often the library was gathered; a small one, since the whole one takes seconds."""
    times: list[int] = []

    def read(_: Any) -> list[Passage]:
        times.append(1)
        return [Passage("subprocess.run", "subprocess", "subprocess.run", "subprocess.run()", "subprocess.run")]

    monkeypatch.setattr(corpora, "read_stdlib", read)
    return times


def test_the_index_is_kept_and_a_damaged_one_is_built_again(tmp_path: Path, gathered: list[int]) -> None:
    """The second time nothing is gathered; a file of garbage, a half one and an empty one cost time only."""
    load_corpus("stdlib", cache=tmp_path).close()
    (kept,) = tmp_path.iterdir()
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in kept.name
    whole = kept.read_bytes()
    load_corpus("stdlib", cache=tmp_path).close()
    assert len(gathered) == 1
    for broken in (b"garbage", whole[: len(whole) // 2], b""):
        kept.write_bytes(broken)
        corpus = load_corpus("stdlib", cache=tmp_path)
        assert corpus.find("subprocess.run")
        corpus.close()
    assert len(gathered) == 4
    assert list(tmp_path.iterdir()) == [kept]


def test_a_cache_that_can_t_be_written_is_done_without(tmp_path: Path, gathered: list[int]) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "file").write_text("")
    assert load_corpus("stdlib", cache=tmp_path / "file" / "cache").find("subprocess.run")
    assert len(gathered) == 1


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(st.text(max_size=80), st.lists(st.sampled_from(['"', "*", "NEAR(", "name:", "AND", "-", "^", "(", "a"])))
)
def test_no_query_is_an_error(query: str | list[str]) -> None:
    """FTS5's own syntax, quotes, surrogates, NUL: a query is only ever words."""
    SHARED.search(query if isinstance(query, str) else " ".join(query))


@pytest.mark.parametrize(
    "query", ['"', '" OR name:x', "a* NEAR/2 b", "x" * 100_000, "\0", "\ud800", "'; drop table words; --"]
)
def test_queries_that_break_engines_don_t(query: str) -> None:
    """The index is whole afterwards."""
    SHARED.search(query)
    assert SHARED.search("zebras")


def test_searches_from_many_threads_agree(library: Corpus) -> None:
    """One connection, one lock."""
    expected = [hit.passage.id for hit in library.search("copy a file")]
    start = threading.Barrier(4)

    def look(_: int) -> list[str]:
        start.wait()
        return [hit.passage.id for hit in library.search("copy a file")]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(look, range(4))) == [expected] * 4


def test_the_tools_answer_through_the_gate(library: Corpus) -> None:
    """search gives ids that read takes; an unknown id fails with those that come close."""
    search, read = corpus_tools(library)

    async def use() -> None:
        gate = gate_for()
        hits = (await gate.call_tool("ann", search, {"query": "delete a directory tree", "limit": 3})).value
        assert [sorted(hit) for hit in hits] == [["id", "snippet", "title"]] * 3
        assert "shutil.rmtree" in [hit["id"] for hit in hits]
        text = await gate.call_tool("ann", read, '{"id": "shutil.rmtree()"}')
        assert text.value["text"].startswith("shutil.rmtree(")
        failed = await gate.call_tool("ann", read, {"id": "shutil.rmtre"})
        assert failed.failed
        assert "close to it: shutil.rmtree" in failed.text

    asyncio.run(use())
    with pytest.raises(UnknownPassageError, match=r"no passage has the id 'path\.join'; close to it: os\.path\.join"):
        library.read("path.join")


SHARED = Corpus("shared", Index.build([Passage("a#1", "a", "name", "zebras AND a lion NEAR the river")]))


def test_a_latin_1_file_keeps_its_last_letter(tmp_path: Path) -> None:
    """An accent at the very end looks like half a UTF-8 character, and isn't one."""
    (tmp_path / "a.txt").write_bytes("un café".encode("latin-1"))
    corpus = load_corpus(tmp_path)
    assert corpus.read("a.txt#1").text == "un café"
    assert [note.reason for note in corpus.noted] == ["not UTF-8: read as Latin-1"]
