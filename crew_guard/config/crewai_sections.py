"""A file of named sections as crewAI writes them, read with the line of every key."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from crew_guard.config.crewai_keys import OF_AGENTS, OF_TASKS
from crew_guard.config.document import Document, Scalar, Tree
from crew_guard.config.files import as_error, problems_of, read_document
from crew_guard.core.roles import Verifier
from crew_guard.core.tools import Tool
from crew_guard.errors import ConfigError

_ODD_VARIABLE = re.compile(r"(?<!\{)\{([A-Za-z_]\w*-[\w-]*)\}(?!\})")
_FALSE = ("false", "no", "off")


@dataclass(frozen=True, slots=True)
class Named:
    """What the files only name, and what of them may be left out."""

    tools: Mapping[str, Tool] = field(default_factory=dict[str, Tool])
    outputs: Mapping[str, type[BaseModel]] = field(default_factory=dict[str, type[BaseModel]])
    verifiers: Mapping[str, Verifier] = field(default_factory=dict[str, Verifier])
    models: Mapping[str, str] = field(default_factory=dict[str, str])
    ignored: frozenset[str] = frozenset()
    """Keys, or section.key."""

    def ignores(self, section: str, key: str) -> bool:
        """Whether a key may be left out though it can't be held."""
        return key in self.ignored or f"{section}.{key}" in self.ignored


class Sections:
    """A file of named sections, the problems found in it, and what is to be told of it."""

    def __init__(
        self, file: Path, kind: Literal["agents", "tasks"], named: Named, document: Document | None = None
    ) -> None:
        self.file = file.expanduser()
        self.named = named
        self.document = document or read_document(self.file, f"crewAI's {kind}")
        self._told: list[str] = []
        tree = self.document.tree
        if not isinstance(tree, dict):
            raise ConfigError(f"expected {kind} by name, each with keys of its own", file=self.file, line=1)
        self._tree = tree
        self._keys = OF_AGENTS if kind == "agents" else OF_TASKS
        for name, section in tree.items():
            if not isinstance(section, dict):
                self.problem((name,), f"expected keys such as {' and '.join(self._keys.done[:2])}")
                continue
            for key, value in section.items():
                self._sort(name, key, value)

    @property
    def names(self) -> list[str]:
        """Of the sections, in order."""
        return list(self._tree)

    def has(self, name: str, key: str) -> bool:
        """Whether a section says something of a key: neither nothing nor false."""
        return _says(self._section(name).get(key))

    def text(self, name: str, key: str, *, needed: bool = False) -> str:
        """A key's text, folded lines and all; empty where there is none."""
        value = self._section(name).get(key)
        if isinstance(value, Scalar) and value.kind != "null":
            text = value.text.strip()
            if odd := _ODD_VARIABLE.search(text):
                self.problem((name, key), f"has the placeholder {odd[0]}; inputs' names hold letters, digits and _")
            if text or not needed:
                return text
        if _says(value) and not isinstance(value, Scalar):
            self.problem((name, key), "expected text")
        elif needed:
            self.problem((name, key) if key in self._section(name) else (name,), f"{key} is missing; expected text")
        return ""

    def texts(self, name: str, key: str) -> list[str] | None:
        """A key's list of names; None where there is none."""
        value = self._section(name).get(key)
        if value is None or (isinstance(value, Scalar) and value.kind == "null"):
            return None
        found = [one.text for one in value if isinstance(one, Scalar)] if isinstance(value, list) else []
        if not isinstance(value, list) or len(found) < len(value):
            self.problem((name, key), "expected a list of names such as [a, b]")
        return found

    def problem(self, key: tuple[str | int, ...], message: str) -> None:
        """Note what is wrong."""
        self.document.problem(key, message)

    def tell(self, name: str, key: str, message: str) -> None:
        """Note what is not done, for a warning."""
        line = self.document.line((name, key))
        self._told.append(f"{self.file}:{line}: {name}.{key}: {message}")

    def check(self) -> None:
        """Raise what is wrong, else warn of what is not done.

        Raises:
            ConfigError: one line for each thing that is wrong
        """
        if self.document.problems:
            raise as_error(problems_of(self.file, self.document))
        told, self._told = self._told, []
        for message in told:
            warnings.warn(message, UserWarning, stacklevel=4)

    def _section(self, name: str) -> Mapping[str, Tree]:
        section = self._tree.get(name)
        return section if isinstance(section, dict) else {}

    def _sort(self, name: str, key: str, value: Tree) -> None:
        known = self._keys
        if key in known.done or key in known.no_effect or (key in known.all and not _says(value)):
            return
        if self.named.ignores(name, key):
            self.tell(name, key, "left out, as was asked for")
        elif key in known.refused:
            self.problem((name, key), f"{known.refused[key]}; leave it out, or load with ignore=[{f'{name}.{key}'!r}]")
        elif key in known.told:
            self.tell(name, key, known.told[key])
        else:
            near = get_close_matches(key, known.all, 1)
            self.problem((name, key), f"unknown key{f'; did you mean {near[0]}?' if near else ''}")


def _says(value: Tree | None) -> bool:
    if isinstance(value, Scalar):
        return value.kind != "null" and not (value.kind == "bool" and value.text.lower() in _FALSE)
    return bool(value)
