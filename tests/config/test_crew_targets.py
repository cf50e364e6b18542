"""Crews defined in Python: what is imported, and how each mistake is told."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from crew_guard.config import load_crew, load_runnable
from crew_guard.core.roles import Crew
from crew_guard.errors import ConfigError, MissingDependencyError

CODE = """\
from dataclasses import dataclass
from crew_guard.core.roles import Agent, Crew, Role, Task
import neighbour

@dataclass
class Kept:
    x: int

role = Role(name="writer", goal="write")
crew = Crew(agents=[Agent(role)], tasks=[Task("go")], name=neighbour.NAME)

def make():
    return crew

def broken():
    raise RuntimeError("no way")

def needs():
    from crew_guard.errors import MissingDependencyError
    raise MissingDependencyError("crewAI", "crewai")

number = 5
"""


@pytest.fixture(autouse=True)
def _clean_imports(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    (tmp_path / "neighbour.py").write_text("NAME = 'from-neighbour'\n")
    yield
    for name in set(sys.modules) - before:
        if name in ("neighbour", "mycrew", "nocode") or name.startswith(("crew_guard_run_", "mypackage")):
            del sys.modules[name]


@pytest.fixture
def code(tmp_path):
    file = tmp_path / "mycrew.py"
    file.write_text(CODE)
    return file


def told(target: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_crew(target)
    return caught.value


@pytest.mark.parametrize("attribute", ["crew", "make"])
def test_a_crew_comes_from_a_file_or_a_module(code, monkeypatch, attribute):
    """By path, by module name, as a value or from a function; its neighbours can be imported."""
    assert isinstance(load_crew(f"{code}:{attribute}"), Crew)
    assert load_crew(f"{code}:{attribute}").name == "from-neighbour"
    monkeypatch.chdir(code.parent)
    assert isinstance(load_crew(f"mycrew:{attribute}"), Crew)
    assert isinstance(load_crew(f"mycrew.py:{attribute}"), Crew)


def test_a_target_that_names_nothing_is_told(code, monkeypatch):
    """No colon, no file, no module, no attribute, no crew: each says what was expected."""
    monkeypatch.chdir(code.parent)
    assert "path/to/file.py:attribute" in str(told("mycrew.py"))
    assert "no such file" in str(told("nofile.py:crew"))
    assert "no module 'nomodule.sub'" in str(told("nomodule.sub:crew"))
    assert "it holds: crew" in str(told("mycrew.py:crow"))
    assert "is no crew but a int" in str(told("mycrew.py:number"))
    assert "is no crew but a type" in str(told("mycrew.py:Kept"))


@pytest.mark.parametrize("name", [".", "..", ".mycrew", "mycrew.", "my..crew"])
def test_a_name_that_no_module_has_is_told(code, monkeypatch, name):
    """What was given and what was expected; nothing of Python's own files."""
    monkeypatch.chdir(code.parent)
    error = told(f"{name}:x")
    assert str(error).startswith(f"{name!r} is no module's name: expected path/to/file.py:attribute")
    assert error.file is None


def test_pythons_own_files_are_nobodys_code(code, monkeypatch):
    """A module that Python can't even compile is named as it was given."""
    monkeypatch.chdir(code.parent)
    (code.parent / "withnul.py").write_bytes(b"x = 1\0\n")
    error = told("withnul:x")
    assert "null bytes" in str(error)
    assert Path(str(error.file)).stem == "withnul"


def test_code_that_fails_names_its_file_and_line(code, tmp_path):
    """The exception is kept as the cause; the line is that of the user's own file."""
    error = told(f"{code}:broken")
    assert isinstance(error.__cause__, RuntimeError)
    assert (error.file, error.line) == (str(code), CODE.splitlines().index('    raise RuntimeError("no way")') + 1)
    for text, line, words in (
        ("import sys\nsys.exit(3)\n", 2, "SystemExit"),
        ("x = 1\ndef f(:\n", 2, "SyntaxError"),
        ("\n\nimport nothing_of_that_name\n", 3, "ModuleNotFoundError"),
        ("import json\njson.loads('{')\n", 2, "JSONDecodeError"),
    ):
        bad = tmp_path / "nocode.py"
        bad.write_text(textwrap.dedent(text))
        error = told(f"{bad}:crew")
        assert (error.file, error.line) == (str(bad), line)
        assert words in str(error)
        assert "crew_guard_run_nocode" not in sys.modules


def test_an_error_of_ours_passes_as_it_is(code):
    """A missing extra in the user's code is told as such, not wrapped."""
    with pytest.raises(MissingDependencyError, match="crewai"):
        load_crew(f"{code}:needs")


WORKFLOWS = """\
from crew_guard import chain, node

def first(x): return x
def typed(x: int) -> int: return x
def last(x): return x

def capped():
    return chain(
        node(first),
        node(last, caps={"max_step": 1}),
    )

def twice():
    return chain(first, last, first)

takes_no_inputs: object = chain(
    typed, last)

def retried():
    from crew_guard import retry
    return retry(chain(first, last), 3)
"""


@pytest.mark.parametrize(
    ("attribute", "text", "words"),
    [
        ("capped", 'node(last, caps={"max_step": 1}),', "node 'last': caps: there is no cap 'max_step'"),
        ("twice", "return chain(first, last, first)", "two nodes are named 'first'"),
        ("takes_no_inputs", "takes_no_inputs: object = chain(", "'typed' takes int; from a run's inputs"),
        (
            "retried",
            "return retry(chain(first, last), 3)",
            "retry(…) takes one step, a function, a tool or a node, and ",
        ),
    ],
)
def test_a_workflow_that_is_wrong_names_its_file_and_line(tmp_path, attribute: str, text: str, words: str):
    """Its problems by themselves, too; as a file and as a module, and where the error comes from a neighbour."""
    file = tmp_path / "mycrew.py"
    file.write_text(WORKFLOWS)
    line = next(place for place, one in enumerate(WORKFLOWS.splitlines(), 1) if text in one)
    with pytest.raises(ConfigError) as caught:
        load_runnable(f"{file}:{attribute}")
    error = caught.value
    assert (error.file, error.line) == (str(file), line)
    assert words in str(error)
    assert len(str(error)) < 300
    assert all((one.file, one.line) == (str(file), line) for one in error.problems)
    (tmp_path / "nocode.py").write_text(f"from mycrew import {attribute}\n")
    sys.path.insert(0, str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        load_runnable(f"nocode:{attribute}")
    if attribute in ("capped", "twice"):
        assert (caught.value.file, caught.value.line) == (str(file), line)
