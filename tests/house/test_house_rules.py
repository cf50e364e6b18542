"""House rules, held by tests instead of by review comments."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

import crew_guard
from crew_guard import errors
from crew_guard.core.merging import ByKey, rule_of
from crew_guard.core.policy import Policy

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "crew_guard").rglob("*.py"))
HEAVY = (
    "crewai", "autogen_agentchat", "autogen_core", "langgraph", "llama_index", "workflows", "openai",
    "httpx2", "tiktoken", "quicktok",
    "genai_prices", "xllamacpp", "sqlite3", "ruamel", "rich", "typer",
)  # fmt: skip


def test_importing_the_package_loads_nothing_heavy() -> None:
    """No host, driver, model, vocabulary or terminal library, neither for the package nor for its Supervisor."""
    code = (
        "import sys, crew_guard\nfrom crew_guard import Supervisor, Crew, Agent, Task, tool, guard\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_the_public_door_is_small_and_everything_behind_it_opens() -> None:
    """At most 40 names; each one resolves; nothing resolves that isn't named."""
    assert len(crew_guard.__all__) <= 40
    assert all(getattr(crew_guard, name) is not None for name in crew_guard.__all__)
    assert {name for names in crew_guard._HOMES.values() for name in names} == set(crew_guard.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Supervizor'"):
        _ = crew_guard.Supervizor  # type: ignore[attr-defined]


def test_modules_stay_small() -> None:
    """A module seldom passes 300 lines; none passes 400."""
    long = {str(path.relative_to(ROOT)): n for path in SOURCES if (n := path.read_text().count("\n")) > 400}
    assert not long


def test_functions_stay_small() -> None:
    """None passes 60 lines, docstring included."""
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno > 60
    ]
    assert not long


def test_the_tree_of_errors_is_drawn_whole() -> None:
    """Every exception of the module stands in its docstring, below its parent."""
    drawn = re.findall(r"([A-Z]\w+Error)", errors.__doc__ or "")
    defined = [
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.CrewGuardError)
    ]
    assert set(defined) <= set(drawn)


def test_no_refusal_says_what_a_host_retries_on() -> None:
    """No text of the gate or of a Stop holds a key word or a status code that makes a host try again."""
    words = re.compile(r"rate.?limit|time[d]?.?out|\b(429|500|502|503|529)\b|overloaded|try again", re.IGNORECASE)
    for path in (ROOT / "crew_guard/core/decisions.py", *sorted((ROOT / "crew_guard/supervisor").glob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and not _is_docstring(node, path):
                assert not words.search(node.value), f"{path.name}:{node.lineno} {node.value!r}"


def _is_docstring(node: ast.Constant, path: Path) -> bool:
    line = path.read_text().splitlines()[node.lineno - 1].lstrip()
    return line.startswith(('"""', 'r"""'))


def test_version_and_changelog_agree() -> None:
    """The package, its metadata and the newest heading of the changelog name one version."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert declared == crew_guard.__version__ == newest[1] == importlib.metadata.version("crew-guard")


def test_each_dependency_is_justified() -> None:
    """docs/dependencies.md has a line for every package that pyproject.toml names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    packages = {re.split(r"[\[<>=~! ]", one)[0] for one in named} - {"crew-guard"}
    text = (ROOT / "docs/dependencies.md").read_text()
    assert not [package for package in sorted(packages) if f"`{package}`" not in text]


def test_nothing_tracked_names_a_machine_or_a_registry() -> None:
    """No absolute path of a machine, no host of a package registry, no lock file."""
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    forbidden = re.compile(
        "|".join(("py" + "pi[.]org", "python" + "hosted", "npm" + "js", "/ro" + "ot/", "/wo" + "rk/"))
    )
    found = []
    for name in tracked:
        path = ROOT / name
        if path.exists() and forbidden.search(path.read_text(errors="ignore")):
            found.append(name)
    assert not found
    assert not [name for name in tracked if name.endswith((".lock", "package-lock.json"))]


def test_each_field_of_a_policy_says_how_its_layers_merge() -> None:
    """A rule of core/merging.py beside each field, down to the last section; without one layers can't be merged."""
    todo: list[type[BaseModel]] = [Policy]
    fields = 0
    while todo:
        kind = todo.pop()
        for name, info in kind.model_fields.items():
            fields += 1
            rule = rule_of(kind, name)  # raises where there is none
            if rule is None:
                todo.append(info.annotation)  # type: ignore[arg-type]
            elif isinstance(rule, ByKey):
                entry = get_args(info.annotation)[1]
                section = isinstance(entry, type) and issubclass(entry, BaseModel)
                assert section or rule.each, f"{kind.__name__}.{name} says no rule for its entries: ByKey(each=…)"
                todo += [entry] if section and rule.each is None else []
    assert fields > 30


def test_a_field_without_a_rule_is_told_by_its_name() -> None:
    """What the test above would say of it."""

    class Forgetful(BaseModel):
        limit: int = 0

    with pytest.raises(TypeError, match=r"Forgetful\.limit says no rule"):
        rule_of(Forgetful, "limit")


def test_tests_do_not_sleep() -> None:
    """Waiting for luck is not a test: a fake clock or an event is. A sleep of 0 only yields."""
    sleeping = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"\bsleep\((?!0\))", line) and "never" not in line
    ]
    assert not sleeping


def test_the_readmes_commands_are_the_ones_that_ci_runs() -> None:
    """The test command of the README is what .ci/run calls."""
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci/run").read_text()
    assert "bash .ci/test" in readme
    assert "bash .ci/test" in ci
