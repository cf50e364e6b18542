"""A crew that is defined in Python, from `path/to/file.py:attribute` or `package.module:attribute`."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
import traceback
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from crew_guard.core.plain import error_words
from crew_guard.core.roles import Crew
from crew_guard.errors import ConfigError, CrewGuardError
from crew_guard.ports import Equippable, Workflow

_MACHINERY = ("<", str(Path(__file__).parents[1]), str(Path(importlib.__file__).parent))
"""How the names of files begin that are between us and the user's code: an error in that code isn't theirs."""


def load_crew(target: str) -> Crew:
    """Import a file or module, as `python` would, and take a crew from it. See `load_runnable`."""
    value = load_runnable(target)
    if isinstance(value, Crew):
        return value
    source, _, attribute = target.rpartition(":")
    raise ConfigError(f"{attribute} is no crew but a {type(value).__name__}; expected a Crew", file=source)


def load_runnable(target: str) -> Crew | Workflow:
    """Import a file or module, as `python` would, and take a crew or a workflow from it.

    Args:
        target: what to import, a colon, and the name of a Crew or a Workflow, or of a function without
            arguments that returns one
    Raises:
        ConfigError: no such file or attribute, no crew, or the code failed (its exception is the cause)
    """
    source, colon, attribute = target.rpartition(":")
    if not colon or not source or not attribute:
        raise ConfigError(f"expected path/to/file.py:attribute or package.module:attribute, got {target!r}")
    module = _import_file(Path(source)) if _is_file(source) else _import_module(source)
    if not hasattr(module, attribute):
        raise ConfigError(f"there is no {attribute!r} in it{_candidates(module, attribute)}", file=source)
    found = _runnable(getattr(module, attribute), source, attribute)
    _check(found, source, attribute, module)
    return found


def _is_file(source: str) -> bool:
    return source.endswith(".py") or "/" in source or "\\" in source


def _import_file(path: Path) -> ModuleType:
    path = path.expanduser()
    try:
        if not path.is_file():
            raise ConfigError("there is no such file; expected Python code that defines a crew", file=path)
        with path.open("rb"):
            pass
    except OSError as error:
        raise ConfigError(f"can't be read: {error.strerror}", file=path) from None
    name = f"crew_guard_run_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise ConfigError("is not a Python file: its name must end in .py", file=path)
    module = importlib.util.module_from_spec(spec)
    # Pickling and dataclasses look a class's module up by name, and its neighbours are imported as by `python file.py`.
    sys.modules[name] = module
    _search(str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except ConfigError as error:
        raise _placed(error, str(path), path.resolve()) from error
    except CrewGuardError:
        raise
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _failed(error, str(path), path.resolve()) from error
    return module


def _import_module(name: str) -> ModuleType:
    if not all(name.split(".")):
        raise ConfigError(
            f"{name!r} is no module's name: expected path/to/file.py:attribute or package.module:attribute, "
            "without a dot at its start or end"
        )
    _search(str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(f"{missing}."):
            raise ConfigError(f"there is no module {name!r}; for a file give its path, ending in .py") from None
        raise _failed(error, name, None) from error
    except ConfigError as error:
        raise _placed(error, name, None) from error
    except CrewGuardError:
        raise
    except (Exception, SystemExit) as error:
        raise _failed(error, name, None) from error


def _search(folder: str) -> None:
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _failed(error: BaseException, source: str, path: Path | None) -> ConfigError:
    file, line = source, None
    if isinstance(error, SyntaxError) and error.filename:
        file, line = (source if _same(error.filename, path) else error.filename), error.lineno
    else:
        for frame in traceback.extract_tb(error.__traceback__):
            if _same(frame.filename, path) or (path is None and not frame.filename.startswith(_MACHINERY)):
                file, line = (source if path else frame.filename), frame.lineno
    return ConfigError(f"the code failed with {error_words(error)}", file=file, line=line)


def _placed(error: ConfigError, source: str, path: Path | None) -> ConfigError:
    """The same error with the file and the line of the user's code that it comes from."""
    if error.file is not None:
        return error
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if not one.filename.startswith(_MACHINERY)]
    file, line = source, None
    if own:
        file, line = source if _same(own[-1].filename, path) else own[-1].filename, own[-1].lineno
    return _at(error, file, line)


def _at(error: ConfigError, file: str, line: int | None) -> ConfigError:
    found = type(error)(error.message, file=file, line=line, key=error.key)
    found.value = error.value
    found.problems = tuple(_at(one, file, line) for one in error.problems)
    return found


def _same(filename: str, path: Path | None) -> bool:
    return path is not None and Path(filename) == path


def _runnable(value: Any, source: str, attribute: str) -> Crew | Workflow:
    if callable(value) and not isinstance(value, type):
        path = Path(source).resolve() if _is_file(source) else None
        try:
            value = value()
        except ConfigError as error:
            raise _placed(error, source, path) from error
        except CrewGuardError:
            raise
        except (Exception, SystemExit) as error:
            raise _failed(error, source, path) from error
    if isinstance(value, Crew | Equippable):
        return value
    raise ConfigError(
        f"{attribute} is no crew but a {type(value).__name__}; expected a Crew or a Workflow, "
        "or a function without arguments that returns one",
        file=source,
    )


def _check(found: Crew | Workflow, source: str, attribute: str, module: ModuleType) -> None:
    """Whether a workflow of ours, or a crew's, can take a run's inputs: here its place is still known."""
    from crew_guard.workflows.graph import Workflow as Graph

    graph = found.fallback if isinstance(found, Crew) else found
    if not isinstance(graph, Graph):
        return
    try:
        graph.check(terminal=True)
    except ConfigError as error:
        file = source if _is_file(source) else str(module.__file__)
        raise _at(error, file, _line_of(attribute, module)) from error


def _line_of(attribute: str, module: ModuleType) -> int | None:
    """Where a module gives a value this name; None where that can't be seen."""
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    for statement in tree.body:
        named = [
            name.id for name in ast.walk(statement) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
        ]
        if getattr(statement, "name", None) == attribute or attribute in named:
            return statement.lineno
    return None


def _candidates(module: ModuleType, attribute: str) -> str:
    crews = [name for name, value in vars(module).items() if isinstance(value, Crew | Equippable)]
    if crews:
        return f"; it holds: {', '.join(crews)}"
    close = get_close_matches(attribute, [name for name in vars(module) if not name.startswith("_")], 1)
    return f"; it holds no Crew, did you mean {close[0]}?" if close else "; it holds no Crew"
