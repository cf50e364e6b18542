"""A folder of documents as passages: what can't be read is reported, never silently left out."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from crew_guard.errors import ConfigError
from crew_guard.tools.passages import (
    Passage,
    Section,
    pieces,
    split_html,
    split_markdown,
    split_rst,
    split_text,
)

Progress = Callable[[int, int], None]
"""Called with (done, total)."""

SPLITTERS: dict[str, Callable[[str], Iterator[Section]]] = {
    ".md": split_markdown,
    ".markdown": split_markdown,
    ".rst": split_rst,
    ".html": split_html,
    ".htm": split_html,
    ".xhtml": split_html,
    ".txt": split_text,
    ".text": split_text,
    "": split_text,
}
"""By suffix; a file without one is read as text."""

EXPECTED = "text (.txt), Markdown (.md), reStructuredText (.rst), HTML (.html) or PDF (.pdf)"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of a folder is read."""

    file_bytes: int = 2_000_000
    """Of each file; the rest of a longer one is left out."""
    pdf_bytes: int = 50_000_000
    """Of each PDF; a part of one can't be read, so a longer one is left out."""
    files: int = 20_000
    passages: int = 100_000


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was left out, read in part or read with a guess, and why."""

    path: str
    """Below the folder."""
    reason: str


@dataclass(slots=True)
class FolderContents:
    """What a folder held."""

    passages: list[Passage] = field(default_factory=list[Passage])
    skipped: list[Skipped] = field(default_factory=list[Skipped])
    """Left out."""
    noted: list[Skipped] = field(default_factory=list[Skipped])
    """Read, but not wholly or not surely right."""
    files: int = 0
    """That gave passages."""


def read_folder(folder: Path, on_progress: Progress | None = None, bounds: Bounds | None = None) -> FolderContents:
    """The passages of every document below a folder, hidden files and folders aside.

    Raises:
        ConfigError: the folder is missing, is none, or holds nothing that can be read
    """
    bounds = bounds or Bounds()
    try:
        if not folder.exists():
            raise ConfigError(f"the corpus folder does not exist; expected a folder of {EXPECTED}", file=folder)
        if not folder.is_dir():
            raise ConfigError("the corpus is a file; name the folder that holds it", file=folder)
        os.scandir(folder).close()
    except (OSError, ValueError) as error:
        raise ConfigError(f"the corpus folder can't be read: {_why(error)}", file=folder) from error
    contents = FolderContents()
    paths = sorted(_files(folder, contents))
    if len(paths) > bounds.files:
        contents.skipped += [
            Skipped(_printable(name), f"only {bounds.files:,} files are read") for name in paths[bounds.files :]
        ]
        paths = paths[: bounds.files]
    for done, name in enumerate(paths, 1):
        _add_file(folder, name, contents, bounds)
        if on_progress:
            on_progress(done, len(paths))
    if not contents.passages:
        raise ConfigError(_nothing(contents), file=folder)
    return contents


def _files(folder: Path, contents: FolderContents) -> Iterator[str]:
    root = os.path.realpath(folder)

    def report(error: OSError) -> None:
        contents.skipped.append(Skipped(_printable(_below(folder, str(error.filename))), _why(error)))

    for place, folders, files in os.walk(folder, onerror=report):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in [*folders, *sorted(files)]:
            path = os.path.join(place, name)  # noqa: PTH118 - os.walk gives strings, and there may be many
            if os.path.islink(path):  # noqa: PTH114 - as above
                contents.skipped.append(Skipped(_printable(_below(folder, path)), _link(path, root)))
            elif name not in folders and not name.startswith("."):
                yield _below(folder, path)


def _link(path: str, root: str) -> str:
    # Inside the folder a link is a second name; outside it could be anything on this machine.
    target = Path(os.path.realpath(path))
    if not target.is_relative_to(root):
        return "a link that leaves the folder"
    return "a second name (a link) inside the folder" if os.path.exists(path) else "a broken link"  # noqa: PTH110 - a path as text


def _add_file(folder: Path, name: str, contents: FolderContents, bounds: Bounds) -> None:
    suffix, shown = Path(name).suffix.lower(), _printable(name)
    if suffix == ".pdf":
        _add_pdf(folder / name, shown, contents, bounds)
        return
    splitter = SPLITTERS.get(suffix)
    try:
        data, size = _read(folder / name, bounds.file_bytes)
    except OSError as error:
        contents.skipped.append(Skipped(shown, _why(error)))
        return
    text, guessed = decode(data, cut=size > len(data))
    if text is None:
        contents.skipped.append(Skipped(shown, "binary"))
    elif splitter is None:
        contents.skipped.append(Skipped(shown, f"a {suffix} file: expected {EXPECTED}"))
    elif not text.strip():
        contents.skipped.append(Skipped(shown, "empty"))
    elif len(contents.passages) >= bounds.passages:
        contents.skipped.append(Skipped(shown, f"only {bounds.passages:,} passages are kept"))
    else:
        contents.passages += split_file(shown, text, splitter)
        contents.files += 1
        if guessed:
            contents.noted.append(Skipped(shown, "not UTF-8: read as Latin-1"))
        if size > len(data):
            contents.noted.append(Skipped(shown, f"cut: {size:,} bytes, the first {len(data):,} are read"))


def _add_pdf(path: Path, shown: str, contents: FolderContents, bounds: Bounds) -> None:
    from crew_guard.tools.pdf_text import UnreadablePdfError, pdf_pages

    try:
        data, size = _read(path, bounds.pdf_bytes)
        pages, missing = pdf_pages(data, size)
    except (OSError, UnreadablePdfError) as error:
        contents.skipped.append(Skipped(shown, _why(error)))
        return
    if len(contents.passages) >= bounds.passages:
        contents.skipped.append(Skipped(shown, f"only {bounds.passages:,} passages are kept"))
        return
    contents.passages += split_pages(shown, pages)
    contents.files += 1
    if missing:
        contents.noted.append(Skipped(shown, missing))


def split_pages(name: str, pages: Iterable[tuple[int, str]]) -> Iterator[Passage]:
    """A PDF's passages: NAME#p12 is page 12, or its first part; NAME#p12.2 its second."""
    for page, text in pages:
        for part, piece in enumerate(pieces(_newlines(text)), 1):
            place = f"p{page}" if part == 1 else f"p{page}.{part}"
            yield Passage(f"{name}#{place}", name, f"{name}, page {page}", piece)


def split_file(name: str, text: str, splitter: Callable[[str], Iterator[Section]]) -> Iterator[Passage]:
    """A document's passages, numbered from 1 in its order.

    Args:
        name: its path below the folder, with forward slashes
    """
    number = 0
    for section in list(splitter(text)) or list(split_text(text)):
        for piece in pieces(section.text):
            number += 1
            yield Passage(f"{name}#{number}", name, section.title or name, piece)


def _read(path: Path, limit: int) -> tuple[bytes, int]:
    """(at most `limit` bytes, the file's size)."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError("not a regular file")
    with path.open("rb") as file:
        return file.read(limit), status.st_size


def decode(data: bytes, head: bytes = b"", *, cut: bool = False) -> tuple[str | None, bool]:
    """(the text, whether its encoding is a guess); None where the file is binary.

    Args:
        data: the file, or a part of it
        head: its first bytes, where data is a part from further on
        cut: whether its last character may be cut in two
    """
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) and not data.startswith(head[:2]):
        data = head[:2] + data
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _newlines(data.decode("utf-16", errors="replace")), False
    if b"\0" in data:
        return None, False
    try:
        return _newlines(data.decode("utf-8-sig")), False
    except UnicodeDecodeError as error:
        if cut and error.reason == "unexpected end of data":
            return _newlines(data[: error.start].decode("utf-8-sig")), False
    control = sum(byte < 32 and byte not in b"\t\n\r\f\b\x1b" for byte in data[:4096])  # noqa: PLR2004 - ASCII's controls
    return (None, False) if control > len(data[:4096]) // 50 else (_newlines(data.decode("latin-1")), True)


def _newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _below(folder: Path, path: str) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def _printable(name: str) -> str:
    """A name as an id: what is not UTF-8, or a control character, becomes a question mark."""
    return "".join(each if each.isprintable() else "?" for each in name)


def _why(error: OSError | ValueError) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[0].lower() + text[1:]


def _nothing(contents: FolderContents) -> str:
    if not contents.skipped:
        return f"the corpus folder is empty; expected {EXPECTED}"
    reasons: dict[str, list[str]] = {}
    for skipped in contents.skipped:
        reasons.setdefault(skipped.reason.split(":")[0], []).append(skipped.path)
    found = "; ".join(f"{len(paths)} {reason} (e.g. {paths[0]})" for reason, paths in reasons.items())
    return f"nothing in the corpus folder can be read: {found}; expected {EXPECTED}"
