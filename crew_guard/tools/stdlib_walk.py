"""A script, not an import: lists what Python's standard library says of itself, as JSON lines.

It imports every public module, so it runs in an interpreter of its own (see `stdlib.py`).
Lines are {"done": n, "total": n} and an Entry each.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import pkgutil
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from types import ModuleType
from typing import Any, TextIO

# Left out: what acts when imported, test suites, applications, and second names of os.path and os.
SKIPPED = frozenset(
    {"this", "antigravity", "idlelib", "test", "turtledemo", "lib2to3", "distutils", "ensurepip", "pydoc_data", "site"}
    | {"posixpath", "ntpath", "genericpath", "nturl2path", "posix", "nt", "sre_compile", "sre_constants", "sre_parse"}
)
NO_CHILDREN = frozenset({"encodings"})
LONGEST_DEFAULT = 60
DEPRECATED: set[str] = set()
BOUND = re.compile(r"^\(\$\w+(?:, /)?(?:, )?")
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@dataclass(slots=True)
class Entry:
    """One documented thing."""

    symbol: str
    module: str
    kind: str
    """module, class, exception, function, method or property."""
    signature: str
    doc: str
    aliases: list[str] = field(default_factory=list[str])
    members: list[str] = field(default_factory=list[str])
    """A class's public methods and properties."""
    deprecated: bool = False
    """Its module says so when it is imported."""
    importers: int = 0
    """Other packages of the standard library that import its module."""


def module_names() -> list[str]:
    """Public modules by dotted name, the shallowest first."""
    names = [name for name in sys.stdlib_module_names if not name.startswith("_") and name not in SKIPPED]
    found = ["os.path", *names]
    for name in names:
        found += _children(name)
    return sorted(found, key=lambda name: (name.count("."), name != "builtins", name))


def _children(package: str) -> list[str]:
    if package in NO_CHILDREN:
        return []
    path = getattr(_imported(package), "__path__", None)
    found: list[str] = []
    for info in pkgutil.iter_modules(path, f"{package}.") if path else ():
        last = info.name.rpartition(".")[2]
        if not last.startswith("_") and last not in SKIPPED and last != "tests":
            found.append(info.name)
            found += _children(info.name) if info.ispkg else []
    return found


def _imported(name: str) -> ModuleType | None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            module = importlib.import_module(name)
        except BaseException:  # noqa: BLE001 - a module of another platform may raise anything, SystemExit too
            return None
    DEPRECATED.update(name for warning in caught if name in (text := str(warning.message)) and "deprecated" in text)
    return module


class Walker:
    """Collects entries; what a deeper module exports again becomes an alias of the first name."""

    def __init__(self) -> None:
        self.known: dict[int, Entry] = {}
        self.kept: list[Any] = []
        """Keeps objects alive, so that an id is never used twice."""

    def module(self, name: str) -> Iterator[Entry]:
        """Everything public that is at home in this module."""
        module = _imported(name)
        if module is None:
            return
        if name != "builtins":
            yield Entry(name, name, "module", "", _doc(module))
        prefix = "" if name == "builtins" else f"{name}."
        for attribute, value in self._members(module, name):
            try:
                yield from self._one(f"{prefix}{attribute}", name, value)
            except Exception:  # noqa: BLE001, S112 - one odd object costs its own entry, not the corpus
                continue

    def _members(self, module: ModuleType, name: str) -> list[tuple[str, Any]]:
        listed = getattr(module, "__all__", None)
        members: list[tuple[str, Any]] = []
        for attribute in sorted(listed if listed is not None else dir(module)):
            if attribute.startswith("_"):
                continue
            try:
                value = getattr(module, attribute)
            except Exception:  # noqa: BLE001, S112 - a lazy attribute may raise anything
                continue
            if not callable(value) or inspect.ismodule(value):
                continue
            home = getattr(value, "__module__", None) or ""
            # Of the built-in names one has another home: open, in io.
            if listed is not None or home in ("", name) or home.startswith("_") or name == "builtins":
                members.append((attribute, value))
        return sorted(
            members, key=lambda member: (inspect.isclass(member[1]), getattr(member[1], "__name__", "") != member[0])
        )

    def _one(self, symbol: str, module: str, value: Any) -> Iterator[Entry]:
        symbol = _shortest(symbol, value)
        if known := self.known.get(id(value)):
            if known.module.partition(".")[0] != module.partition(".")[0] or known.module == module:
                known.aliases.append(symbol)
            return
        is_class = inspect.isclass(value)
        if not is_class and not inspect.isroutine(value) and not _own_doc(value):
            return
        kind = "function" if not is_class else "exception" if issubclass(value, BaseException) else "class"
        doc = _class_doc(value) if is_class else _doc(value)
        entry = Entry(symbol, module, kind, *_split(symbol, _signature(symbol, value), doc))
        for known_as in (value, getattr(value, "__func__", value)):
            self.known[id(known_as)] = entry
            self.kept.append(known_as)
        yield entry
        if is_class:
            entry.members = [name for name in dir(value) if not name.startswith("_")]
            yield from self._methods(symbol, module, value)

    def _methods(self, symbol: str, module: str, owner: type) -> Iterator[Entry]:
        for name in sorted(dir(owner)):
            if name.startswith("_"):
                continue
            home = next((base for base in owner.__mro__ if name in vars(base)), None)
            if home is None or (home is not owner and not _private(home)):
                continue
            raw = vars(home)[name]
            value: Any = getattr(raw, "__func__", raw)
            if id(value) in self.known or not _own_doc(value) or _borrowed(value, owner):
                continue
            kind = "method" if callable(value) or isinstance(raw, classmethod | staticmethod) else "property"
            full = f"{symbol}.{name}"
            signature = _signature(full, value) if kind == "method" else full
            entry = Entry(full, module, kind, *_split(full, signature, _doc(value)))
            self.known[id(value)] = entry
            self.kept.append(value)
            yield entry


def _shortest(symbol: str, value: Any) -> str:
    """The name in the nearest package above that offers the same object."""
    module, _, name = symbol.rpartition(".")
    while parent := module.rpartition(".")[0]:
        if getattr(sys.modules.get(parent), name, None) is not value:
            break
        module = parent
    return f"{module}.{name}" if module else name


def _split(symbol: str, signature: str, doc: str) -> tuple[str, str]:
    """The signature and the rest of the docstring, where C code wrote the one into the other."""
    first, _, rest = doc.partition("\n")
    name = symbol.rpartition(".")[2]
    if signature == symbol and (found := re.fullmatch(rf"(?:\w+\.)*{re.escape(name)}(\(.*)", first)):
        return symbol + found[1], rest.lstrip("\n")
    return signature, doc


def _private(cls: type) -> bool:
    return cls.__name__.startswith("_") or any(part.startswith("_") for part in cls.__module__.split("."))


def _borrowed(value: Any, owner: type) -> bool:
    """Whether it is another module's and a class only holds it: logging.Formatter.converter is time.localtime."""
    home = getattr(value, "__module__", None)
    name: str = getattr(value, "__qualname__", "")
    return isinstance(home, str) and home != owner.__module__ and getattr(sys.modules.get(home), name, None) is value


def _own_doc(value: Any) -> bool:
    return isinstance(getattr(value, "__doc__", None), str) and type(value).__doc__ != value.__doc__


def _doc(value: Any) -> str:
    return (inspect.getdoc(value) or "") if _own_doc(value) else ""


def _class_doc(cls: type) -> str:
    own = inspect.cleandoc(cls.__doc__) if isinstance(cls.__doc__, str) else ""
    init = vars(cls).get("__init__")
    made = _doc(init) if inspect.isfunction(init) else ""
    return f"{own}\n\n{made}".strip() if made not in own else own


def _signature(symbol: str, value: Any) -> str:
    """`symbol(a, b=1)`; the bare symbol where Python does not know its parameters."""
    try:
        signature = inspect.signature(value)
        text = str(signature.replace(parameters=[_short(each) for each in signature.parameters.values()]))
    except Exception:  # noqa: BLE001 - it evaluates what a C module claims as its defaults
        text = getattr(value, "__text_signature__", None) or ""
    return symbol + BOUND.sub("(", ADDRESS.sub("", " ".join(text.split())))


def _short(parameter: inspect.Parameter) -> inspect.Parameter:
    """The parameter without a long default, which says what this machine holds (cgi.parse: its environment)."""
    given = parameter.default is not inspect.Parameter.empty
    return parameter.replace(default=_ELIDED) if given and len(repr(parameter.default)) > LONGEST_DEFAULT else parameter


class _Elided:
    def __repr__(self) -> str:
        return "..."


_ELIDED = _Elided()


def count_importers() -> dict[str, int]:
    """How many other packages hold a module, or something of it, by the module's name."""
    holders: dict[str, set[str]] = {}
    for holder in list(sys.modules.values()):
        package = getattr(holder, "__name__", "").partition(".")[0]
        for value in list(vars(holder).values()) if inspect.ismodule(holder) else ():
            held = value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", None)
            if isinstance(held, str) and held.partition(".")[0] != package:
                holders.setdefault(held.lstrip("_"), set()).add(package)
    return {name: len(packages) for name, packages in holders.items()}


def main(out: TextIO) -> None:
    """Write everything to a stream."""
    warnings.simplefilter("ignore")
    walker, entries = Walker(), list[Entry]()
    names = module_names()
    for done, name in enumerate(names, 1):
        before = len(entries)
        entries += walker.module(name)
        for entry in entries[before:]:
            entry.deprecated = name in DEPRECATED
        out.write(json.dumps({"done": done, "total": len(names)}) + "\n")
        out.flush()
    importers = count_importers()
    for entry in entries:
        # os.path is another name of the module that this platform uses.
        entry.importers = importers.get(sys.modules[entry.module].__name__, 0)
        out.write(json.dumps(asdict(entry)) + "\n")
    out.flush()


if __name__ == "__main__":
    # What an imported module prints must not land among our lines.
    ours = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    main(ours)
    ours.close()
    # Threads and exit hooks of imported modules have nothing left to do here.
    os._exit(0)
