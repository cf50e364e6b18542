"""Where things are: policies and roles by name, the data directory, the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["policy", "role"]

ORG_VARIABLE = "CREW_GUARD_ORG_POLICY"
SUFFIXES = (".yaml", ".yml")
_FOLDERS: dict[Kind, str] = {"policy": "policies", "role": "roles"}
_SECRET_ENDINGS = ("_KEY", "_TOKEN", "_SECRET", "_PASSWORD")
_SHORTEST_SECRET = 8


def data_dir() -> Path:
    """Where journals are kept: CREW_GUARD_HOME, else .crew_guard in the working directory. It may not exist yet."""
    home = os.environ.get("CREW_GUARD_HOME")
    return as_path(home) if home else Path(".crew_guard")


def environment() -> Mapping[str, str]:
    """The environment's variables as they are now, read-only."""
    return MappingProxyType(dict(os.environ))


def secrets() -> tuple[str, ...]:
    """Values that must never be written down: of variables named like keys, at least 8 characters long.

    The longest comes first, so that a value which holds another one is replaced as a whole.
    """
    found = {
        value
        for name, value in os.environ.items()
        if name.upper().endswith(_SECRET_ENDINGS) and len(value) >= _SHORTEST_SECRET
    }
    return tuple(sorted(found, key=lambda value: (-len(value), value)))


def org_ref() -> str | None:
    """The policy that holds for every run here, whatever it names: CREW_GUARD_ORG_POLICY; None where it isn't set."""
    return os.environ.get(ORG_VARIABLE)


def shipped_dir(kind: Kind) -> Path:
    """The folder that came with the package; in a checkout it stands beside it."""
    package = Path(__file__).parent.parent
    shipped = package / "shipped" / _FOLDERS[kind]
    if not shipped.is_dir() and (package.parent / "pyproject.toml").is_file():
        return package.parent / _FOLDERS[kind]
    return shipped


def search_dirs(kind: Kind) -> tuple[Path, ...]:
    """Where a name is looked for, in this order."""
    return Path(_FOLDERS[kind]), shipped_dir(kind)


def is_path(ref: str) -> bool:
    """Whether a reference is a file's path rather than a name."""
    return "/" in ref or os.sep in ref or ref.lower().endswith(SUFFIXES)


def as_path(ref: str) -> Path:
    """The path, its ~ replaced where there is such a home."""
    try:
        return Path(ref).expanduser()
    except RuntimeError:
        return Path(ref)


def named_files(kind: Kind) -> dict[str, Path]:
    """Every policy or role that has a name here; the working directory's come before the shipped ones."""
    found: dict[str, Path] = {}
    for folder in search_dirs(kind):
        try:
            files = sorted(folder.iterdir())
        except OSError:
            continue
        for file in files:
            if file.suffix.lower() in SUFFIXES and file.is_file():
                found.setdefault(file.stem, file)
    return found
