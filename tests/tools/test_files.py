"""File tools stay in their folder, whatever the path, the link or the race."""

import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crew_guard.errors import ConfigError
from crew_guard.tools.files import FileToolError, file_tools

OUTSIDE = "the secret outside"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with some files, beside a secret."""
    (tmp_path / "secret.txt").write_text(OUTSIDE)
    root = tmp_path / "root"
    (root / "notes" / "deep").mkdir(parents=True)
    (root / "notes" / "plan.md").write_text("Buy tea.\nBuy MILK.\n")
    (root / "notes" / "deep" / "old.txt").write_text("buy nothing")
    (root / ".env").write_text("KEY=secret")
    (root / "out").symlink_to(tmp_path)
    (root / "alias.md").symlink_to(root / "notes" / "plan.md")
    (root / "picture.png").write_bytes(b"\x89PNG\0\0\0")
    os.mkfifo(root / "pipe")
    return root


def tools(root: Path, **options):
    return {each.name: each for each in file_tools(root, **options)}


def test_reading_listing_and_searching(root: Path) -> None:
    """Text by path, folders with sizes, lines by text; hidden names are not shown."""
    given_tools = tools(root)
    assert list(given_tools) == ["read_file", "list_files", "search_files"]
    assert given_tools["read_file"](path="./notes//plan.md") == "Buy tea.\nBuy MILK.\n"
    listed = given_tools["list_files"]().splitlines()
    assert {"notes/", "picture.png (7 bytes)", "out (a link, not followed)"} <= set(listed)
    assert ".env" not in str(listed)
    assert given_tools["list_files"](path="notes").splitlines() == ["deep/", "plan.md (19 bytes)"]
    found = given_tools["search_files"](text="buy m").splitlines()
    assert found == ["notes/plan.md:2: Buy MILK."]
    assert given_tools["search_files"](text="BUY", path="notes/deep") == "notes/deep/old.txt:1: buy nothing"
    assert given_tools["search_files"](text="secret") == "nothing found"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../secret.txt", "leads outside"),
        ("notes/../../secret.txt", "leads outside"),
        ("/etc/passwd", "relative to the folder"),
        ("a\0b", "relative to the folder"),
        ("out/secret.txt", "through a link, 'out'"),
        ("alias.md", "through a link"),
        (".env", "is hidden"),
        ("notes/.git/config", "is hidden"),
        ("pipe", "not a plain file"),
        ("notes", "not a plain file"),
        ("", "name a file"),
        ("notes/plan.md/x", "not a directory"),
        ("missing.txt", "no such file"),
        ("picture.png", "is binary, 7 bytes"),
        ("x/" * 100 + "y", "folders deep"),
        ("n" * 5_000, "too long"),
    ],
)
def test_what_may_not_be_read_says_why(root: Path, path: str, reason: str) -> None:
    """No path leads out, none hangs, each refusal is a sentence for the agent."""
    with pytest.raises(FileToolError, match=reason):
        tools(root)["read_file"](path=path)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(["..", ".", "", "out", "notes", "secret.txt", "alias.md", "deep", "~", "*"]), max_size=7)
)
def test_no_path_reaches_the_secret(root: Path, parts: list[str]) -> None:
    """Whatever it is put together from."""
    reading = tools(root)
    for name in ("read_file", "list_files"):
        try:
            text = reading[name](path="/".join(parts))
        except FileToolError:
            continue
        assert OUTSIDE not in text
        assert "secret.txt" not in text


def test_a_folder_swapped_for_a_link_leads_nowhere(root: Path, tmp_path: Path) -> None:
    """A thread swaps notes/ for a link to the outside and back, while it is read: the secret never shows."""
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "plan.md").write_text(OUTSIDE)
    reading, stop = tools(root)["read_file"], threading.Event()
    notes, aside, link = root / "notes", root / "aside", root / "link"

    def swap() -> None:
        while not stop.is_set():
            notes.rename(aside)
            link.symlink_to(tmp_path / "evil")
            link.rename(notes)
            notes.unlink()
            aside.rename(notes)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(2_000):
            try:
                assert OUTSIDE not in reading(path="notes/plan.md")
            except FileToolError:
                continue
    finally:
        stop.set()
        thread.join()


def test_a_huge_file_is_read_in_parts(root: Path) -> None:
    """Each part says where the next begins; no character is cut in two; together they are the file."""
    text = "Zoë 漢字 🧵 " * 5_000
    (root / "huge.txt").write_text(text)
    reading, offset, parts = tools(root, max_bytes=1_001)["read_file"], 0, ""
    while True:
        part, _, notice = reading(path="huge.txt", offset=offset).partition("\n[cut: ")
        parts += part
        if not notice:
            break
        offset = int(notice.rpartition("offset=")[2].rstrip("]"))
    assert parts == text
    with pytest.raises(FileToolError, match="there is nothing at"):
        reading(path="huge.txt", offset=10**9)


def test_encodings(root: Path) -> None:
    """UTF-16 by its mark, Latin-1 as a guess that is named."""
    (root / "u16.txt").write_text("naïve", encoding="utf-16")
    (root / "l1.txt").write_bytes("naïve".encode("latin-1"))
    reading = tools(root)["read_file"]
    assert reading(path="u16.txt") == "naïve"
    assert reading(path="l1.txt") == "naïve\n[not UTF-8: read as Latin-1]"


def test_writing_is_two_tools_and_only_one_overwrites(root: Path, tmp_path: Path) -> None:
    """create_file makes folders and never overwrites; write_file is irreversible; neither follows a link."""
    assert list(tools(root, write=True))[3:] == ["create_file"]
    writing = tools(root, write=True, overwrite=True, max_bytes=100)
    assert [writing[name].irreversible for name in ("create_file", "write_file")] == [False, True]
    assert writing["create_file"](path="new/a.txt", text="Zoë") == "wrote 4 bytes to new/a.txt"
    with pytest.raises(FileToolError, match="exists, and is not overwritten"):
        writing["create_file"](path="new/a.txt", text="b")
    writing["write_file"](path="new/a.txt", text="c")
    assert (root / "new" / "a.txt").read_text() == "c"
    for name in ("create_file", "write_file"):
        for path in ("out/secret.txt", "../secret.txt", ".env", "pipe", "notes", "alias.md"):
            with pytest.raises(FileToolError):
                writing[name](path=path, text="gone")
        with pytest.raises(FileToolError, match="more than the 100"):
            writing[name](path="big.txt", text="x" * 101)
    assert (tmp_path / "secret.txt").read_text() == OUTSIDE
    assert [each.name for each in (root / "new").iterdir()] == ["a.txt"]


def test_overwriting_leaves_what_is_linked_elsewhere(root: Path, tmp_path: Path) -> None:
    """A hard link to a file outside keeps the outside as it was."""
    os.link(tmp_path / "secret.txt", root / "same.txt")
    tools(root, overwrite=True)["write_file"](path="same.txt", text="changed")
    assert (tmp_path / "secret.txt").read_text() == OUTSIDE
    assert (root / "same.txt").read_text() == "changed"


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """When the tools are made, not when they are used."""
    with pytest.raises(ConfigError, match="does not exist"):
        file_tools(tmp_path / "nothing")
