"""A YAML file as a tree that still knows its lines.

`parse` reads the nodes, not the values: each scalar stays as it was written, so that the schema
decides what it is, an error can quote it, and money never passes through a binary float.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

MAX_BYTES = 256 * 1024
"""A larger file is no policy; parsing it would take seconds."""
MAX_NODES = 20_000
"""Values after aliases are expanded: a few lines of aliases can stand for billions."""

Key: TypeAlias = tuple[str | int, ...]
ScalarKind: TypeAlias = Literal["text", "int", "float", "bool", "null"]

_TAG = "tag:yaml.org,2002:"
_KINDS: dict[str, ScalarKind] = {
    f"{_TAG}str": "text",
    f"{_TAG}int": "int",
    f"{_TAG}float": "float",
    f"{_TAG}bool": "bool",
    f"{_TAG}null": "null",
    # A date is no type of ours: it is the text that it looks like.
    f"{_TAG}timestamp": "text",
}


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value as it stands in the file."""

    text: str
    kind: ScalarKind
    quoted: bool = False


Tree: TypeAlias = "dict[str, Tree] | list[Tree] | Scalar"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a file."""

    line: int
    key: Key
    message: str


class _Mark(Protocol):
    line: int


class _Node(Protocol):
    """What is used of the YAML library's nodes, which have no types."""

    id: Literal["scalar", "sequence", "mapping"]
    tag: str
    value: Any
    start_mark: _Mark
    style: str | None


class UnreadableError(Exception):
    """The text is not YAML, or not within bounds."""

    def __init__(self, message: str, line: int | None = None) -> None:
        self.line = line
        super().__init__(message)


@dataclass(slots=True)
class Document:
    """A file's tree, the line of every key in it, and what is wrong so far."""

    tree: Tree | None = None
    lines: dict[Key, int] = field(default_factory=dict[Key, int])
    problems: list[Problem] = field(default_factory=list[Problem])
    nodes: int = 0

    def line(self, key: Key) -> int:
        """The line of a key, or of the nearest section around it that is there."""
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key, 1)

    def shown(self, key: Key) -> str | None:
        """The text of the value at a key; None where there is none, or a section or a list."""
        found: Any = self.tree
        for part in key:
            try:
                found = found[part]
            except (KeyError, IndexError, TypeError):
                return None
        return found.text if isinstance(found, Scalar) and found.kind != "null" else None

    def problem(self, key: Key, message: str, line: int | None = None) -> None:
        """Note what is wrong with a key."""
        self.problems.append(Problem(line or self.line(key), key, message))


def parse(text: str) -> Document:
    """The tree of one YAML document; `tree` is None where there is nothing in it.

    Raises:
        UnreadableError: it is not YAML, nests too deeply or expands to too much
    """
    document = Document()
    try:
        node = _compose(text)
        if node is not None:
            document.lines[()] = node.start_mark.line + 1
            document.tree = _tree(document, node, (), ())
    except RecursionError:
        raise UnreadableError("is nested too deeply") from None
    return document


def _compose(text: str) -> _Node | None:
    # The library has no types, and importing it takes as long as the rest of this room.
    yaml: Any = importlib.import_module("ruamel.yaml")
    try:
        return yaml.YAML(typ="safe", pure=True).compose(text)
    except RecursionError:
        raise
    except Exception as error:  # noqa: BLE001 - the parser leaks ValueError, IndexError and more on odd input
        raise _unreadable(error, text) from None


def _unreadable(error: Any, text: str) -> UnreadableError:
    if hasattr(error, "problem_mark"):
        mark: _Mark | None = error.problem_mark or error.context_mark
        words = ", ".join(part for part in (error.context, error.problem) if part)
        return UnreadableError(f"is not YAML: {words}", mark.line + 1 if mark else None)
    if hasattr(error, "position"):
        return UnreadableError("is not YAML: it holds a control character", text.count("\n", 0, error.position) + 1)
    return UnreadableError(f"is not YAML: {error}")


def _tree(document: Document, node: _Node, key: Key, above: tuple[int, ...]) -> Tree:
    document.nodes += 1
    if document.nodes > MAX_NODES:
        raise UnreadableError(f"holds more than {MAX_NODES:,} values once its aliases are expanded", document.line(key))
    if id(node) in above:
        raise UnreadableError("holds an alias of a section that it stands in", document.line(key))
    above = (*above, id(node))
    if node.id == "mapping" and node.tag == f"{_TAG}map":
        return _mapping(document, node, key, above)
    if node.id == "sequence" and node.tag == f"{_TAG}seq":
        items: list[Tree] = []
        for place, item in enumerate(node.value):
            document.lines[*key, place] = item.start_mark.line + 1
            items.append(_tree(document, item, (*key, place), above))
        return items
    kind = _KINDS.get(node.tag)
    if kind is None or node.id != "scalar":
        document.problem(key, f"has the tag {node.tag}; tags are not read, write the value without one")
        return Scalar("", "null")
    return Scalar(node.value, kind, quoted=node.style is not None)


def _mapping(document: Document, node: _Node, key: Key, above: tuple[int, ...]) -> dict[str, Tree]:
    found: dict[str, Tree] = {}
    for name_node, value_node in node.value:
        line: int = name_node.start_mark.line + 1
        name: Any = name_node.value
        if name_node.tag != f"{_TAG}str" or not isinstance(name, str) or not name:
            shown = name if isinstance(name, str) and name else "this key"
            message = "merge keys are not read, write the values out" if shown == "<<" else "keys must be text"
            document.problem((*key, shown), message, line)
        elif name in found:
            first = document.lines[*key, name]
            document.problem((*key, name), f"is given twice, first in line {first}; keep one of them", line)
        else:
            document.lines[*key, name] = line
            found[name] = _tree(document, value_node, (*key, name), above)
    return found
