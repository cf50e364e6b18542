"""`policy`: whether files are right, what they come to together, and how two of them differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import typer
from rich.table import Table
from rich.text import Text

from crew_guard.cli.ends import DONE, USAGE, command
from crew_guard.cli.streams import Stdout
from crew_guard.cli.summary import write
from crew_guard.config import load_policy, org_policy, under_org
from crew_guard.core.layers import Key
from crew_guard.core.policy import Policy
from crew_guard.core.tightening import Difference, Value, differences, used_up, values_of, words
from crew_guard.errors import ConfigError
from crew_guard.observers.words import count, escaped

DIFFERS = 1
_STYLES = {"tighter": "green", "looser": "red", "changed": "yellow"}


def check(refs: Sequence[str], *, as_json: bool, debug: bool) -> None:
    """Say what is wrong with each file, and exit with 2 where something is."""
    with command(as_json=as_json, debug=debug) as stdout:
        above = org_policy()
        found = [_checked(ref) for ref in refs]
        wrong = [problem for one in found for problem in one.problems]
        if as_json:
            stdout.json({"ok": not wrong, "files": [one.as_dict() for one in found]})
        else:
            for one in found:
                for told in (*one.problems, *one.warnings):
                    stdout.text(f"{escaped(str(told))}\n")
                if one.policy is not None:
                    stdout.text(f"{escaped(one.ref)}: right{_beyond_org(above, one.policy)}\n")
            warnings = sum(len(one.warnings) for one in found)
            if wrong or warnings:
                sums = [count(len(wrong), "problem") if wrong else "", count(warnings, "warning") if warnings else ""]
                stdout.text(f"{', '.join(filter(None, sums))}\n")
        raise typer.Exit(USAGE if wrong else DONE)


@dataclass(frozen=True, slots=True)
class _Checked:
    """What was found in one file."""

    ref: str
    policy: Policy | None
    """None where it is wrong."""
    problems: tuple[ConfigError, ...] = ()
    warnings: tuple[ConfigError, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        told = {"problems": _told(self.problems), "warnings": _told(self.warnings)}
        return {"file": self.ref, "ok": not self.problems, **told}


def _checked(ref: str) -> _Checked:
    try:
        policy = load_policy(ref)
    except ConfigError as error:
        return _Checked(ref, None, error.problems or (error,))
    problems, warnings = _of_content(policy) if policy.checks_content else ((), ())
    try:
        warnings = (*warnings, *_warnings(under_org(policy)))
    except ConfigError as error:
        problems = (*problems, *(error.problems or (error,)))
    return _Checked(ref, None if problems else policy, problems, warnings)


def _of_content(policy: Policy) -> tuple[tuple[ConfigError, ...], tuple[ConfigError, ...]]:
    """What is wrong with guardrails, and what can't be told, as far as it shows without a run."""
    from crew_guard.guardrails.build import wrong
    from crew_guard.models.registry import is_known

    def placed(place: str, number: int, text: str) -> ConfigError:
        file, _, line = policy.sources.get(("content", place, number), "").rpartition(":")
        return ConfigError(text, file=file or None, line=int(line) if file else None, key=f"content.{place}.{number}")

    problems: list[ConfigError] = []
    warnings: list[ConfigError] = []
    for place, number, error in wrong(policy.content):
        if isinstance(error, ConfigError):
            problems.append(placed(place, number, str(error)))
        else:
            warnings.append(placed(place, number, f"warning: not looked at, because {error}"))
    for place in ("inputs", "outputs", "tool_results"):
        for number, check in enumerate(getattr(policy.content, place)):
            if check.judge is not None and check.judge.model and not is_known(check.judge.model):
                text = f"warning: there is no model {check.judge.model!r}, unless Supervisor(models=...) brings it"
                warnings.append(placed(place, number, text))
    return tuple(problems), tuple(warnings)


def _warnings(policy: Policy) -> Iterator[ConfigError]:
    """What is allowed to stand there, and does not do what it looks like: of the policy that would apply."""
    written = {str(key[1]) for key in policy.sources if key[:1] == ("reliability",) and len(key) > 1}
    for one in policy.reliability.idle(written):
        yield _warning(policy, ("reliability", one.key), one.value, one.why, ("reliability", one.meets))
    for key, limit in used_up(policy):
        value = words(getattr(policy.reserve, str(key[1])))
        why = f"{value} is all of {_dotted(limit)}, so that nothing of it is left to a crew that has a fallback"
        yield _warning(policy, key, value, why, limit)


def _warning(policy: Policy, key: Key, value: str, why: str, meets: Key) -> ConfigError:
    file, _, line = policy.sources.get(key, "").rpartition(":")
    other = policy.sources.get(meets, "")
    error = ConfigError(
        f"warning: {why}{f' ({other})' if other else ''}",
        file=file or None,
        line=int(line) if line.isdigit() else None,
        key=_dotted(key),
    )
    error.value = value
    return error


def _told(problems: Sequence[ConfigError]) -> list[dict[str, Any]]:
    return [{name: getattr(one, name) for name in ("file", "line", "key", "value", "message")} for one in problems]


def _beyond_org(above: Policy | None, policy: Policy) -> str:
    """What the organisation's policy would take back, for whoever wonders why less applies."""
    if above is None:
        return ""
    tighter = [one.key for one in differences(policy, under_org(policy)) if one.change == "tighter"]
    names = ", ".join(_dotted(key) for key in tighter)
    return f"; CREW_GUARD_ORG_POLICY tightens {names}" if names else ""


def explain(ref: str | None, *, as_json: bool, debug: bool) -> None:
    """Print the policy that would apply, each value with the file and line behind it."""
    with command(as_json=as_json, debug=debug) as stdout:
        from crew_guard.api import Supervisor

        policy = Supervisor(ref).effective_policy
        values = list(values_of(policy))
        if as_json:
            rows = [
                {"key": _dotted(one.key), "value": _plain(one.value), "source": one.source or None} for one in values
            ]
            stdout.json({"name": policy.name, "hash": policy.hash, "values": rows})
            return
        without = "what applies where no policy is named; " if ref is None else ""
        table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
        for name in ("Key", "Value", "From"):
            table.add_column(name, overflow="fold")
        for one in values:
            shown = Text(_shown(one), style="" if _limits(one) else "dim")
            table.add_row(Text(escaped(_dotted(one.key))), shown, Text(escaped(_origin(one)), style="dim"))
        write(stdout.stream, Text(f"{escaped(policy.name)}: {without}hash {policy.hash[:12]}\n"), table)


def _limits(value: Value) -> bool:
    return bool(value.value)


def _shown(value: Value | Difference, what: Any = None) -> str:
    what = value.value if isinstance(value, Value) else what
    if what is None or what == ():
        return value.absent
    if value.absent == "any":
        return escaped(" and ".join(words(patterns) for patterns in what))
    return escaped(words(what))


def _origin(value: Value) -> str:
    return value.source or ("built in" if _limits(value) else "")


def schema() -> None:
    """Print the JSON Schema of policy files."""
    with command(as_json=False, debug=False) as stdout:
        stdout.text(schema_text())


def schema_text() -> str:
    """The JSON Schema as a file holds it."""
    from crew_guard.config.json_schema import policy_schema

    return json.dumps(policy_schema(), indent=2, ensure_ascii=False) + "\n"


def diff(before: str, after: str, *, as_json: bool, debug: bool) -> None:
    """Print each key that two policies differ in, and exit with 1 where there is one."""
    with command(as_json=as_json, debug=debug) as stdout:
        first, second = load_policy(before), load_policy(after)
        found = differences(first, second)
        _print_diff(stdout, (before, after), found, as_json=as_json)
        raise typer.Exit(DIFFERS if found else DONE)


def _print_diff(stdout: Stdout, names: tuple[str, str], found: Sequence[Difference], *, as_json: bool) -> None:
    if as_json:
        rows = [
            {"key": _dotted(one.key), "change": one.change, "a": _plain(one.before), "b": _plain(one.after)}
            for one in found
        ]
        stdout.json({"a": names[0], "b": names[1], "same": not found, "differences": rows})
    elif not found:
        stdout.text("They allow the same.\n")
    else:
        table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
        for name in ("Key", *(escaped(name) for name in names), "B is"):
            table.add_column(name, overflow="fold")
        for one in found:
            values = (Text(_shown(one, one.before)), Text(_shown(one, one.after)))
            table.add_row(Text(escaped(_dotted(one.key))), *values, Text(one.change, style=_STYLES[one.change]))
        write(stdout.stream, table)


def _plain(value: Any) -> Any:
    from crew_guard.core.plain import plain

    return plain(value)


def _dotted(key: Sequence[str | int]) -> str:
    return ".".join(str(part) for part in key)
