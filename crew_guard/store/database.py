"""Opening the journal's file: made where there is none, migrated where it is older, refused where it is newer.

Each migration is a numbered SQL file, applied and recorded in one transaction.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, NamedTuple

from crew_guard.errors import StoreError
from crew_guard.store.faults import explain, is_busy, refuse_other_than_file

Synchronous = Literal["FULL", "NORMAL"]
Access = Literal["write", "look", "shared", "frozen"]
"""What a connection may do: write; look, where SQLite may keep its log; or look where nothing can be written, at a file
that others write, or at one that nobody does."""
RETRY_SECONDS = 0.001
"""Between two attempts at a lock. It stays short: SQLite's own pauses grow, and whoever waits longest waits on."""

_MODES: Mapping[Access, str] = {
    "write": "mode=rw",
    # mode=ro would leave its -wal and -shm behind, which only a connection that may write takes away.
    "look": "mode=rw",
    "shared": "mode=ro&readonly_shm=1",
    "frozen": "mode=ro&immutable=1",
}
_IDENTITY = 0x63726777
"""SQLite's application_id of our files: "crgw"."""


class Place(NamedTuple):
    """Where a journal is and how to reach it."""

    path: Path
    synchronous: Synchronous
    busy_seconds: float
    """How long to wait for another process's lock."""
    access: Access = "write"


class Migration(NamedTuple):
    """One step of the schema."""

    number: int
    name: str
    sql: str


@cache
def migrations() -> tuple[Migration, ...]:
    """Every migration that this crew_guard ships, in order."""
    folder = files("crew_guard.store") / "migrations"
    found = [entry for entry in folder.iterdir() if entry.name.endswith(".sql")]
    return tuple(
        Migration(int(entry.name[:4]), entry.name[:-4], entry.read_text(encoding="utf-8"))
        for entry in sorted(found, key=lambda entry: entry.name)
    )


def prepare(place: Place) -> None:
    """Make the file, with the folders above it, and bring its schema up to date.

    Raises:
        StoreError: it can't be opened, isn't ours, or is newer than this crew_guard; nothing is left behind
            where there was nothing before
    """
    path = place.path
    refuse_other_than_file(path)
    made: list[Path] = []
    try:
        made = _create(path)
        # SQLite would open it for reading only, and fail at the first event.
        if not os.access(path, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise PermissionError(errno.EACCES, "it is read-only")
        _migrate(place)
    except (sqlite3.Error, OSError, StoreError) as error:
        # Another process's lock means that it has begun to use what we made: then it stays.
        if not is_busy(error):
            _remove(made)
        raise explain(error, path, place.busy_seconds) from error


def connect(place: Place, *, patient: bool = True) -> sqlite3.Connection:
    """A connection to a file that `prepare` has seen. It never makes a file.

    Args:
        place: the file
        patient: whether SQLite itself waits for locks; else the caller tries again
    Raises:
        sqlite3.Error: it can't be opened
    """
    connection = sqlite3.connect(
        f"{place.path.absolute().as_uri()}?{_MODES[place.access]}",
        uri=True,
        timeout=place.busy_seconds,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    try:
        if place.access == "write":
            connection.execute(f"PRAGMA synchronous = {place.synchronous}")
        else:
            connection.execute("PRAGMA query_only = 1")
        if not patient:
            connection.execute("PRAGMA busy_timeout = 0")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def is_current(place: Place) -> bool:
    """Whether a file has the schema of this crew_guard; not where it is empty, or older.

    Raises:
        StoreError: it is another program's, or newer
        sqlite3.Error: it can't be opened
    """
    with closing(connect(place)) as connection:
        _refuse_foreign(connection, place.path)
        return _version(connection) == migrations()[-1].number


def _create(path: Path) -> list[Path]:
    """Make an empty file where there is none; what was made, the innermost first."""
    missing = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    made: list[Path] = []
    try:
        for folder in reversed(missing):
            with suppress(FileExistsError):
                folder.mkdir()
                made.insert(0, folder)
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644))
            made.insert(0, path)
    except OSError:
        _remove(made)
        raise
    return made


def _remove(made: list[Path]) -> None:
    for path in made:
        with suppress(OSError):
            if path.is_dir():
                path.rmdir()
                continue
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)


def _migrate(place: Place) -> None:
    connection = connect(place)
    try:
        _refuse_foreign(connection, place.path)
        _use_wal(connection, place)
        for migration in migrations():
            if migration.number > _version(connection):
                _apply(connection, migration)
    finally:
        connection.close()


def _refuse_foreign(connection: sqlite3.Connection, path: Path) -> None:
    # In one look: another process may make the journal just now.
    connection.execute("BEGIN")
    try:
        (identity,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    finally:
        connection.rollback()
    if identity != _IDENTITY and (identity or tables):
        raise StoreError(f"{path} is a database of another program: choose another file with --store")
    version, newest = _version(connection), migrations()[-1].number
    if version > newest:
        raise StoreError(
            f"{path} was written by a newer crew_guard: its schema has version {version}, this crew_guard knows "
            f"versions up to {newest}; upgrade crew_guard, or choose another file with --store"
        )


def _use_wal(connection: sqlite3.Connection, place: Place) -> None:
    # The change of mode doesn't wait for locks in every case, though the connection is told to.
    (mode,) = patiently(place.busy_seconds, lambda: connection.execute("PRAGMA journal_mode = WAL")).fetchone()
    if mode != "wal":
        raise StoreError(
            f"{place.path} can't keep a write-ahead log where it is (a network folder?): "
            "choose a file on a local disk with --store"
        )


def patiently(seconds: float, execute: Callable[[], sqlite3.Cursor]) -> sqlite3.Cursor:
    """Execute a statement, again and again for this long while another connection's lock is in the way.

    Raises:
        sqlite3.Error: another failure, or the lock is still there
    """
    deadline = 0.0
    while True:
        try:
            return execute()
        except sqlite3.OperationalError as error:
            now = time.monotonic()
            deadline = deadline or now + seconds
            if not is_busy(error) or now >= deadline:
                raise
        time.sleep(RETRY_SECONDS)


def _version(connection: sqlite3.Connection) -> int:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'migrations'").fetchone():
        return 0
    return connection.execute("SELECT coalesce(max(number), 0) FROM migrations").fetchone()[0]


def _apply(connection: sqlite3.Connection, migration: Migration) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have applied it while this one waited for the lock.
        if _version(connection) < migration.number:
            for statement in _statements(migration.sql):
                connection.execute(statement)
            connection.execute(
                "INSERT INTO migrations (number, name, applied) VALUES (?, ?, ?)",
                (migration.number, migration.name, time.time()),
            )
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise


def _statements(sql: str) -> Iterator[str]:
    statement = ""
    for line in sql.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement
