"""Policies and roles from YAML files, by path or by name; every error names file, line and key."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from crew_guard.config.document import MAX_BYTES, Document, Problem, Scalar, Tree, UnreadableError, parse
from crew_guard.config.places import Kind, as_path, is_path, named_files, search_dirs
from crew_guard.config.schema import build
from crew_guard.core.policy import Policy
from crew_guard.core.roles import Role
from crew_guard.errors import ConfigError

M = TypeVar("M", bound=BaseModel)
MAX_INPUT_BYTES = 8 * 1024 * 1024


def load_policy(ref: str | Path) -> Policy:
    """The policy in a file.

    Args:
        ref: a path (it holds a separator or ends in .yaml), or the name of a file in ./policies or
            among those that came with the package
    Raises:
        ConfigError: there is none, or it is wrong: one line for each thing that is
    """
    file = _locate("policy", ref)
    document = parsed(file, "a policy")
    policy = _built(file, document, Policy, name=file.stem)
    for tool, rules in policy.tools.rules.items():
        for place, rule in enumerate(rules):
            rule.placed(f"{file}:{document.line(('tools', 'rules', tool, place))}")
    return policy


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
    file = _locate("role", one_of[1] if one_of else ref)
    document = parsed(file, "a role")
    if one_of or _is_crewai(document.tree):
        return role_of(file, document, one_of[2] if one_of else None)
    return _built(file, document, Role)


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


def _locate(kind: Kind, ref: str | Path) -> Path:
    name = str(ref)
    if is_path(name):
        return as_path(name)
    named = named_files(kind)
    if name in named:
        return named[name]
    close = get_close_matches(name, named, 1)
    near = f" Did you mean {close[0]}?" if close else ""
    known = ", ".join(sorted(named)) or "none"
    looked = " and ".join(str(folder) for folder in search_dirs(kind))
    raise ConfigError(f"there is no {kind} named {name!r}.{near} There are: {known}. Looked in {looked}")


def parsed(file: Path, what: str) -> Document:
    """A file as a document that holds something.

    Raises:
        ConfigError: it can't be read, is not YAML or is empty
    """
    text = _read(file, what)
    try:
        document = parse(text)
    except UnreadableError as error:
        raise ConfigError(str(error), file=file, line=error.line) from None
    if document.tree is None:
        raise ConfigError(f"is empty; expected {what}", file=file)
    return document


def _built(file: Path, document: Document, model: type[M], **defaults: str) -> M:
    built = build(document, model, {name: Scalar(value, "text") for name, value in defaults.items()})
    if built is None:
        raise as_error(file, document)
    return built


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


def as_error(file: Path, document: Document) -> ConfigError:
    """Everything that is wrong with a file, a line each."""
    first, *others = sorted(document.problems, key=lambda problem: problem.line)
    message = "\n".join([first.message, *(str(_one(file, problem)) for problem in others)])
    return ConfigError(message, file=file, line=first.line, key=_dotted(first))


def _one(file: Path, problem: Problem) -> ConfigError:
    return ConfigError(problem.message, file=file, line=problem.line, key=_dotted(problem))


def _dotted(problem: Problem) -> str | None:
    return ".".join(str(part) for part in problem.key) or None
