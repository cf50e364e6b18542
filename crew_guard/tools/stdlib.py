"""The standard library's docstrings and signatures as passages.

They are gathered by a second interpreter: importing some 370 modules here would leave their
threads, signal handlers, patches and memory behind, and their output on the user's terminal.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import IO, Any

from crew_guard.errors import ConfigError
from crew_guard.tools.passages import IN_ITS_MODULE, MEMBERS, Facets, Passage, first_sentence, pieces

LONGEST_SECONDS = 60.0
"""After which gathering is given up."""

MAX_MEMBERS = 40
"""How many methods and properties a class's passage names."""
DEPRECATED = 0.7
"""What a deprecated module's passages are worth."""
MEMBER_CHARS = 300
"""How much of a method's docstring its class is found by as well."""
SELDOM = 0.88
"""What a module's passages are worth that no other package imports; built-in names are always at hand."""
WIDELY = 15
"""From so many importing packages on a module's passages are worth as much as built-in names."""
UNLISTED = 0.88
"""What a symbol's passages are worth that the index of tasks leaves out."""
FEWEST_WORDS = 3
"""Of a module's line about one of its members, for it to say something."""

# The rest of the environment stays here: defaults in signatures show what is in it.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR")
_WAY_OUT = "name a folder of documents as the corpus instead"


@cache
def read_tasks() -> Mapping[str, str]:
    """What people use a symbol for, in their own words, by symbol; some are of other versions of Python."""
    lines = Path(__file__).with_name("stdlib_tasks.txt").read_text(encoding="utf-8").splitlines()
    rows = (line.partition(":") for line in lines if not line.startswith("#"))
    return {symbol: words.strip() for symbol, _, words in rows if words}


def read_stdlib(on_progress: Callable[[int, int], None] | None = None) -> list[Passage]:
    """The passages of this interpreter's standard library, in about a second.

    Raises:
        ConfigError: no second interpreter can be started, or it failed
    """
    if getattr(sys, "frozen", False) or not sys.executable:
        raise ConfigError(f"the stdlib corpus needs a Python interpreter, and this program has none; {_WAY_OUT}")
    command = [sys.executable, "-I", "-S", "-B", "-X", "utf8", str(Path(__file__).with_name("stdlib_walk.py"))]
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    with tempfile.TemporaryDirectory(prefix="crew_guard_") as folder:
        try:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and script
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env=environment,
            )
        except OSError as error:
            raise ConfigError(f"the stdlib corpus can't be made: {sys.executable}: {error}; {_WAY_OUT}") from error
        watch = threading.Timer(LONGEST_SECONDS, process.kill)
        watch.start()
        try:
            with process:
                assert process.stdout is not None  # noqa: S101 - a pipe was asked for
                found = list(_passages(_entries(process.stdout, on_progress)))
        except BaseException:
            process.kill()
            raise
        finally:
            watch.cancel()
    if process.returncode or not found:
        raise ConfigError(
            f"the stdlib corpus can't be made: {sys.executable} ended with code {process.returncode}; {_WAY_OUT}"
        )
    return found


def _entries(lines: IO[bytes], on_progress: Callable[[int, int], None] | None) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            entry: dict[str, Any] = json.loads(line)
        except ValueError:
            # Half a line is what a killed process leaves: its exit code tells.
            continue
        if "done" not in entry:
            yield entry
        elif on_progress:
            on_progress(entry["done"], entry["total"])


def _passages(entries: Iterable[dict[str, Any]]) -> Iterator[Passage]:
    """Passages of entries that come in the walk's order: a module, then what is in it."""
    entries = list(entries)
    told: dict[str, list[str]] = {}
    for entry in entries:
        if entry["kind"] in ("method", "property"):
            told.setdefault(entry["symbol"].rpartition(".")[0], []).append(entry["doc"][:MEMBER_CHARS])
    summaries: dict[str, str] = {}
    described: dict[str, str] = {}
    for entry in entries:
        symbol, module, doc = entry["symbol"], entry["module"], _clean(entry["doc"])
        if entry["kind"] == "module":
            described |= {f"{module}.{name}": words for name, words in _descriptions(doc).items()}
        summaries[symbol] = first_sentence(doc)
        owners = [symbol.rpartition(".")[0], module] if entry["kind"] in ("method", "property") else [module]
        context = " ".join(summaries.get(owner, "") for owner in owners if owner != symbol)
        members = " ".join([*entry["members"], *told.get(symbol, [])][: 2 * MAX_MEMBERS])
        yield from _of_symbol(
            entry, doc, described.get(symbol, ""), Facets(members=members, context=context, tasks=_tasks(entry))
        )


def _of_symbol(entry: dict[str, Any], doc: str, described: str, around: Facets) -> Iterator[Passage]:
    symbol = entry["symbol"]
    head = entry["signature"] or f"module {symbol}"
    members = ", ".join(entry["members"][:MAX_MEMBERS])
    extra = [f"{IN_ITS_MODULE}{described}" if described else "", f"{MEMBERS}{members}" if members else ""]
    for number, text in enumerate(pieces(doc) if doc else [""], 1):
        first = number == 1
        facets = Facets(
            summary=f"{first_sentence(text)} {described}" if first else "",
            signature=entry["signature"],
            body=text,
            members=around.members if first else "",
            context=around.context,
            tasks=around.tasks if first else "",
            likely=_likely(entry) * (1.0 if around.tasks else UNLISTED),
        )
        yield Passage(
            id=symbol if first else f"{symbol}#{number}",
            source=entry["module"],
            title=symbol,
            text="\n\n".join(part for part in [head, text, *(extra if first else [])] if part),
            symbol=symbol,
            kind=entry["kind"],
            aliases=tuple(dict.fromkeys(entry["aliases"])) if first else (),
            facets=facets,
        )


_DESCRIPTION = re.compile(
    r"([ \t]*)(?:[-*][ \t]+)?(?:class[ \t]+)?`{0,2}(?:\w+\.)?(\w+)(?:\([^()]*\))?`{0,2}"
    r"[ \t]*(?:--+>?|:|[ \t]-[ \t]|[ \t]{2,})[ \t]*(\w.*)",
)


def _descriptions(doc: str) -> dict[str, str]:
    """What a module's docstring says of its members, one a line: `deque    list-like container with …`.

    Lines that follow and are indented further go on with it.
    """
    found: dict[str, list[str]] = {}
    words: list[str] | None = None
    indent = 0
    for line in doc.splitlines():
        if start := _DESCRIPTION.fullmatch(line):
            indent, words = len(start[1]), [start[3].strip()]
            found[start[2]] = words
        elif words is not None and line.strip() and len(line) - len(line.lstrip()) > indent:
            words.append(line.strip())
        else:
            words = None
    told = {name: " ".join(lines) for name, lines in found.items()}
    return {name: text for name, text in told.items() if len(text.split()) >= FEWEST_WORDS}


def _tasks(entry: dict[str, Any]) -> str:
    listed = read_tasks()
    return " ".join(listed[name] for name in dict.fromkeys([entry["symbol"], *entry["aliases"]]) if name in listed)


def _likely(entry: dict[str, Any]) -> float:
    if entry["deprecated"]:
        return DEPRECATED
    relied_on = min(1.0, math.log2(1 + entry["importers"]) / math.log2(1 + WIDELY))
    return 1.0 if entry["module"] == "builtins" else SELDOM + (1 - SELDOM) * relied_on


def _clean(doc: str) -> str:
    return "".join(each for each in doc if each.isprintable() or each in "\n\t").strip()
