"""Tools over one folder: read, list, search, and write where that is allowed.

A path is walked one name at a time below an open folder, and no link is followed: nothing that
changes meanwhile can lead outside. Names that begin with a dot are neither shown nor touched.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from crew_guard.core.given import must_be_of, must_be_whole
from crew_guard.core.tools import Tool, tool
from crew_guard.errors import ConfigError
from crew_guard.tools.folder import decode

MAX_BYTES = 200_000
MAX_ENTRIES = 500
MAX_HITS = 50
_SEARCHED_FILES = 5_000
_SEARCHED_BYTES = 100_000_000
_LINE_CHARS = 300
_DEEPEST = 64
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
# Without O_NONBLOCK, opening a pipe that nobody writes to would never return.
_FILE = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class FileToolError(ValueError):
    """A path can't be used; the text is for the agent."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that its tools never leave."""

    root: Path
    max_bytes: int = MAX_BYTES
    """Of a file that is read at once, or written."""

    @contextmanager
    def inside(self, path: str, *, make: bool = False) -> Generator[tuple[int, str]]:
        """(the open folder that holds it, its own name); the name is "" for the root itself.

        Raises:
            FileToolError: the path leads outside, through a link or through what is no folder
        """
        names = _names(path)
        handle = os.open(self.root, _FOLDER)
        try:
            for name in names[:-1]:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(name, dir_fd=handle)
                deeper = _open(name, _FOLDER, handle, path)
                os.close(handle)
                handle = deeper
            yield handle, names[-1] if names else ""
        finally:
            os.close(handle)

    def read(self, path: str, offset: int) -> str:
        """See the tool read_file."""
        with self.inside(path) as (folder, name), _opened(name, folder, path) as file:
            size = os.fstat(file).st_size
            head = os.pread(file, 4, 0)
            data = os.pread(file, self.max_bytes, offset)
        if offset and offset >= size:
            raise FileToolError(f"{path} has {size:,} bytes: there is nothing at {offset:,}")
        end = offset + len(data)
        if end < size:
            end -= _half_a_character(data, head)
        text, guessed = decode(data[: end - offset], head)
        if text is None:
            raise FileToolError(f"{path} is binary, {size:,} bytes")
        notes = ["not UTF-8: read as Latin-1"] if guessed else []
        if end < size:
            notes.append(f"cut: {size:,} bytes in all; go on with offset={end}")
        return "\n".join([text, *(f"[{note}]" for note in notes)])

    def entries(self, path: str) -> str:
        """See the tool list_files."""
        lines: list[str] = []
        with self.inside(path) as (folder, name):
            handle = _open(name or ".", _FOLDER, folder, path)
            try:
                with os.scandir(handle) as found:
                    for entry in found:
                        if not entry.name.startswith("."):
                            lines.append(_entry(entry))
                        if len(lines) > MAX_ENTRIES * 10:
                            break
            finally:
                os.close(handle)
        lines.sort()
        more = [f"[cut: more than {MAX_ENTRIES} entries]"] if len(lines) > MAX_ENTRIES else []
        return "\n".join([*lines[:MAX_ENTRIES], *more]) or "(empty)"

    def search(self, text: str, path: str) -> str:
        """See the tool search_files."""
        if not text.strip():
            raise FileToolError("search for at least one character")
        lines: list[str] = []
        notes: list[str] = []
        wanted, left = text.casefold(), _SEARCHED_BYTES
        for number, (place, name, folder) in enumerate(self._walk(path), 1):
            if number > _SEARCHED_FILES or left <= 0:
                notes.append("cut: only a part of the files was searched")
                break
            try:
                with _opened(name, folder, place) as file:
                    data = os.pread(file, min(left, 5_000_000), 0)
            except (OSError, FileToolError):
                continue
            left -= len(data)
            lines += _matching(place, decode(data, cut=True)[0] or "", wanted)
            if len(lines) > MAX_HITS:
                notes.append(f"cut: more than {MAX_HITS} lines")
                break
        return "\n".join([*lines[:MAX_HITS], *(f"[{note}]" for note in notes)]) or "nothing found"

    def _walk(self, path: str) -> Iterator[tuple[str, str, int]]:
        """(path below the root, name, the open folder that holds it) of every file."""
        prefix = "/".join(_names(path))
        with self.inside(f"{path}/x") as (top, _):
            for place, folders, files, handle in os.fwalk(".", dir_fd=top, follow_symlinks=False):
                deep = place.count("/") >= _DEEPEST
                folders[:] = [] if deep else sorted(each for each in folders if not each.startswith("."))
                for name in sorted(files):
                    if not name.startswith("."):
                        below = "/".join(part for part in (prefix, place.removeprefix(".").strip("/"), name) if part)
                        yield below, name, handle

    def write(self, path: str, text: str, *, overwrite: bool) -> str:
        """See the tools create_file and write_file."""
        data = text.encode()
        if len(data) > self.max_bytes:
            raise FileToolError(f"{len(data):,} bytes are more than the {self.max_bytes:,} that may be written")
        with self.inside(path, make=True) as (folder, name):
            if not name:
                raise FileToolError("name a file, not the folder")
            before = _status(name, folder)
            if before is not None and not overwrite:
                raise FileToolError(f"{path} exists, and is not overwritten")
            if before is not None and not stat.S_ISREG(before.st_mode):
                raise FileToolError(f"{path} is not a plain file")
            # Beside it, then in its place: whoever reads it sees the old or the new, and what is linked is not touched.
            draft = f".{os.urandom(8).hex()}.tmp"
            mode = stat.S_IMODE(before.st_mode) if before is not None else 0o666
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode, dir_fd=folder)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                _into_place(draft, name, folder, path, overwrite=overwrite)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(draft, dir_fd=folder)
        return f"wrote {len(data):,} bytes to {path}"


def file_tools(
    root: str | Path, *, write: bool = False, overwrite: bool = False, max_bytes: int = MAX_BYTES
) -> tuple[Tool, ...]:
    """The tools read_file, list_files and search_files over a folder.

    Args:
        root: the folder; what it is a link to is looked up once, now
        write: adds create_file, which never overwrites
        overwrite: adds write_file, which does, and is irreversible
        max_bytes: of a file that is read at once, or written
    Raises:
        ConfigError: there is no such folder, or this system can't walk it safely
    """
    if os.open not in os.supports_dir_fd or not hasattr(os, "O_NOFOLLOW"):
        raise ConfigError("file tools need a system that opens files below an open folder, which this one doesn't")
    must_be_of(root, str | Path, "file_tools: root", "the path of a folder", ConfigError)
    must_be_whole(max_bytes, "file_tools: max_bytes", error=ConfigError)
    place = Path(root).expanduser().resolve()
    if not place.is_dir():
        raise ConfigError("the folder of file tools does not exist", file=place)
    tools = _reading(Folder(place, max_bytes))
    writing = _writing(Folder(place, max_bytes))
    return (*tools, *writing[: 1 if write else 0], *writing[1 : 2 if overwrite else 1])


def _reading(folder: Folder) -> tuple[Tool, ...]:
    # What is read at once must reach the agent whole: its own bound is the folder's.
    @tool(max_result_chars=folder.max_bytes + 1_000)
    def read_file(path: str, offset: int = 0) -> str:
        """Read a text file, from this byte on. Paths are relative to the folder, as list_files gives them."""
        return folder.read(path, max(0, offset))

    @tool(max_result_chars=folder.max_bytes)
    def list_files(path: str = ".") -> str:
        """List a folder: names with sizes in bytes, folders with a slash at the end."""
        return folder.entries(path)

    @tool(max_result_chars=folder.max_bytes)
    def search_files(text: str, path: str = ".") -> str:
        """Find lines that hold a text, upper or lower case, in every file below a folder: path:line: text."""
        return folder.search(text, path)

    return read_file, list_files, search_files


def _writing(folder: Folder) -> tuple[Tool, ...]:
    @tool
    def create_file(path: str, text: str) -> str:
        """Write a new file, with the folders it needs. A file that exists is not overwritten."""
        return folder.write(path, text, overwrite=False)

    @tool(irreversible=True)
    def write_file(path: str, text: str) -> str:
        """Write a file, in place of what it held before."""
        return folder.write(path, text, overwrite=True)

    return create_file, write_file


def _names(path: str) -> list[str]:
    if "\0" in path or path.startswith("/"):
        raise FileToolError(f"{path[:200]!r}: paths are relative to the folder, e.g. notes/plan.md")
    names = [name for name in path.split("/") if name not in ("", ".")]
    if any(name == ".." for name in names):
        raise FileToolError(f"{path[:200]!r} leads outside of the folder")
    if hidden := next((name for name in names if name.startswith(".")), None):
        raise FileToolError(f"{hidden[:100]!r} is hidden: names that begin with a dot are not touched")
    if len(names) > _DEEPEST:
        raise FileToolError(f"the path is more than {_DEEPEST} folders deep")
    return names


def _open(name: str, flags: int, folder: int, path: str) -> int:
    try:
        return os.open(name, flags | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        status = _status(name, folder)
        if status is not None and stat.S_ISLNK(status.st_mode):
            raise FileToolError(f"{path} goes through a link, {name!r}: links are not followed") from None
        raise FileToolError(f"{path}: {(error.strerror or str(error)).lower()}") from None


@contextmanager
def _opened(name: str, folder: int, path: str) -> Generator[int]:
    if not name:
        raise FileToolError("name a file, not the folder")
    file = _open(name, _FILE, folder, path)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise FileToolError(f"{path} is not a plain file")
        yield file
    finally:
        os.close(file)


def _status(name: str, folder: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None


def _into_place(draft: str, name: str, folder: int, path: str, *, overwrite: bool) -> None:
    if overwrite:
        os.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
        return
    try:
        # A link fails where the name is taken, even a moment ago; a rename would not.
        os.link(draft, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        raise FileToolError(f"{path} exists, and is not overwritten") from None


def _entry(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return f"{entry.name} (a link, not followed)"
    if entry.is_dir(follow_symlinks=False):
        return f"{entry.name}/"
    return f"{entry.name} ({entry.stat(follow_symlinks=False).st_size:,} bytes)"


def _matching(place: str, text: str, wanted: str) -> list[str]:
    lines = enumerate(text.splitlines(), 1)
    found = [f"{place}:{number}: {line.strip()[:_LINE_CHARS]}" for number, line in lines if wanted in line.casefold()]
    return found[: MAX_HITS + 1]


def _half_a_character(data: bytes, head: bytes) -> int:
    """How many bytes at the end are the beginning of a character that was cut in two."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return len(data) % 2
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return len(data) - error.start if error.reason == "unexpected end of data" else 0
    return 0
