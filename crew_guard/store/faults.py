"""What SQLite's errors mean to a person: every one becomes a StoreError that names the file and the way out."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from contextlib import ExitStack, suppress
from pathlib import Path

from crew_guard.errors import StoreError

_PRIMARY = 0xFF
_WAL_LOCKS = 120
"""Where SQLite's locks begin in the -shm file; the first is the writer's."""
_ANOTHER = "choose another file with --store"
_UNWRITABLE = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
_DAMAGED = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FORMAT}

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

_TOO_MANY = (errno.EMFILE, errno.ENFILE)
_FILES = 4
"""That opening a journal takes at the most: the file, its log, its index, and one to look at them."""


def refuse_other_than_file(path: Path) -> None:
    """Refuse what SQLite would call a disk that failed; what can't be looked at is for whoever opens it to tell.

    Raises:
        StoreError: what is there, links followed, is no regular file
    """
    kind = None
    with suppress(OSError, ValueError):
        kind = _KINDS.get(stat.S_IFMT(path.stat().st_mode))
    if kind is not None:
        raise StoreError(f"{path} is {kind}, a regular file was expected: {_ANOTHER}")


def is_busy(error: BaseException) -> bool:
    """Whether another connection's lock was in the way."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_taken(error: sqlite3.IntegrityError) -> bool:
    """Whether a primary key existed already."""
    return error.sqlite_errorcode in (sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_UNIQUE)


def is_disk(error: BaseException) -> bool:
    """Whether the file or its disk failed, so that nothing at all can be written at the moment."""
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(
        error, sqlite3.IntegrityError | sqlite3.DataError | sqlite3.ProgrammingError
    )


def explain(error: Exception, path: Path, busy_seconds: float = 0) -> StoreError:
    """The StoreError for what sqlite3 or the operating system raised about this file."""
    if isinstance(error, StoreError):
        return error
    code = _code(error)
    if _for_lack_of_files(error):
        text = f"{path} can't be opened: this process has as many files open as it may ({_most_files()}); close "
        text += "supervisors that are done (`with Supervisor(...)`, or its close()), or raise the limit (ulimit -n)"
    elif is_busy(error):
        text = f"{path} is locked: {_holder(path)} has been writing to it for more than {busy_seconds:g} s; "
        text += f"end that process, or {_ANOTHER}"
    elif code in _UNWRITABLE or isinstance(error, PermissionError):
        text = f"{path} can't be written ({error}): make the file and its folder writable, or {_ANOTHER}"
    elif code == sqlite3.SQLITE_FULL:
        text = f"the disk of {path} is full: free some space, or {_ANOTHER}"
    elif code in _DAMAGED:
        text = f"{path} is damaged or not a journal of crew_guard ({error}): move it away, or {_ANOTHER}"
    elif code == sqlite3.SQLITE_IOERR or isinstance(error, OSError):
        text = f"the disk of {path} failed ({error}): look after the disk, or {_ANOTHER}"
    else:
        text = f"{path} can't be used ({type(error).__name__}: {error}): move it away, or {_ANOTHER}"
    return StoreError(text)


def out_of_files() -> bool:
    """Whether this process can't open as many files more as a store does."""
    with ExitStack() as opened:
        try:
            for _ in range(_FILES):
                opened.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            return error.errno in _TOO_MANY
    return False


def _for_lack_of_files(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in _TOO_MANY
    # SQLite doesn't say why it can't open a file.
    return _code(error) in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR) and out_of_files()


def _most_files() -> str:
    try:
        import resource
    except ImportError:
        return "it has a limit"
    return f"{resource.getrlimit(resource.RLIMIT_NOFILE)[0]:,}"


def _code(error: BaseException) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & _PRIMARY


def _holder(path: Path) -> str:
    """Who holds the write lock, as far as the kernel tells.

    Read from /proc/locks: to open the -shm file and close it again would drop this process's own locks.
    """
    try:
        inode = path.with_name(path.name + "-shm").stat().st_ino
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            _, _, _, mode, pid, device, start, end = line.split()[-8:]
            if mode == "WRITE" and device.endswith(f":{inode}") and int(start) <= _WAL_LOCKS <= int(end):
                return f"process {pid}"
    except (OSError, ValueError):
        pass
    return "another process (a crew-guard, or a database browser that has the file open)"
