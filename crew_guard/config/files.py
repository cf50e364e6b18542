"""Files by path or by name, and what they describe; every error names file, line and key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from crew_guard.config.document import MAX_BYTES, Document, Problem, Tree, UnreadableError, parse
from crew_guard.config.places import SUFFIXES, Kind, as_path, is_path, named_files, search_dirs
from crew_guard.config.schema import build
from crew_guard.core.roles import Role
from crew_guard.errors import ConfigError

MAX_INPUT_BYTES = 8 * 1024 * 1024


def load_role(ref: str | Path) -> Role:
    """The role in a file, our own or one of crewAI's agents.yaml.

    Args:
        ref: a path (it holds a separator or ends in .yaml), or the name of a file in ./roles or
            among those that came with the package; agents.yaml:KEY names one of several agents
    Raises:
        ConfigError: there is none, or it is wrong: one line for each thing that is
    """
    from crew_guard.config.crewai_files import role_of  # it reads by this module

    one_of = _ONE_OF.fullmatch(str(ref))
    file = locate("role", one_of[1] if one_of else ref)
    document = read_document(file, "a role")
    if one_of or _is_crewai(document.tree):
        return role_of(file, document, one_of[2] if one_of else None)
    role = build(document, Role, {})
    if role is None:
        raise as_error(problems_of(file, document))
    return role


_ONE_OF = re.compile(r"(.+\.ya?ml):([^:/\\]+)", re.IGNORECASE)


def _is_crewai(tree: Tree | None) -> bool:
    if not isinstance(tree, dict) or "name" in tree:
        return False
    sections = [part for part in tree.values() if isinstance(part, dict)]
    return "role" in tree or any("role" in part or "backstory" in part for part in sections)


def read_input(file: str | Path) -> str:
    """The text of a file that a user gives as a run's input, 8 MB at most.

    Raises:
        ConfigError: it can't be read, is no text or is too large
    """
    return _read(as_path(str(file)), "a text", MAX_INPUT_BYTES)


def locate(kind: Kind, ref: str | Path) -> Path:
    """The file that a path or a name stands for.

    Raises:
        ConfigError: there is no file of this name
    """
    name = str(ref)
    if is_path(name):
        return as_path(name)
    named = named_files(kind)
    if name in named:
        return named[name]
    close = get_close_matches(name, named, 1)
    near = f" Did you mean {close[0]}?" if close else ""
    if is_file(as_path(name)):
        near = f" There is a file {name} here: give its path, ./{name}."
    elif beside := next((name + suffix for suffix in SUFFIXES if is_file(as_path(name + suffix))), None):
        near = f" There is a file {beside} here: give its path, {beside}."
    known = ", ".join(sorted(named)) or "none"
    looked = " and ".join(str(folder) for folder in search_dirs(kind))
    raise ConfigError(f"there is no {kind} named {name!r}.{near} There are: {known}. Looked in {looked}")


def is_file(path: Path) -> bool:
    """Whether it is one; a name that no file system takes is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def read_document(file: Path, what: str) -> Document:
    """The tree of a YAML file.

    Args:
        file: its path
        what: what it should hold, for errors: a policy
    Raises:
        ConfigError: it can't be read, is empty or no YAML
    """
    text = _read(file, what)
    try:
        document = parse(text)
    except UnreadableError as error:
        raise ConfigError(str(error), file=file, line=error.line) from None
    if document.tree is None:
        raise ConfigError(f"is empty; expected {what}", file=file)
    return document


def problems_of(file: Path, document: Document) -> list[ConfigError]:
    """What is wrong with a document, in the order of its lines."""
    ordered = sorted(document.problems, key=lambda problem: problem.line)
    found: list[ConfigError] = []
    for one in ordered:
        found.append(ConfigError(one.message, file=file, line=one.line, key=_dotted(one)))
        found[-1].value = document.shown(one.key)
    return found


def as_error(problems: Sequence[ConfigError]) -> ConfigError:
    """One error that says all of these, the first one's place in front."""
    first, *others = problems
    if not others:
        return first
    message = "\n".join([first.message, *(str(other) for other in others)])
    error = ConfigError(message, file=first.file, line=first.line, key=first.key)
    error.problems = tuple(problems)
    return error


def _read(file: Path, what: str, most: int = MAX_BYTES) -> str:
    try:
        if file.is_dir():
            raise ConfigError(f"is a directory; expected {what} file", file=file)
        with file.open("rb") as stream:
            content = stream.read(most + 1)
    except FileNotFoundError:
        raise ConfigError(f"there is no such file; expected {what}", file=file) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"can't be read: {getattr(error, 'strerror', None) or error}", file=file) from None
    if len(content) > most:
        raise ConfigError(f"is larger than {most // 1024:,} KiB; expected {what} below that", file=file)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError("is not UTF-8 text; save it as UTF-8", file=file, line=line) from None


def _dotted(problem: Problem) -> str | None:
    return ".".join(str(part) for part in problem.key) or None
