"""Rules on the arguments of tools: each names an argument and one condition, and all of a tool's must hold.

What can't be evaluated is refused: an argument that is absent, of another kind, or written twice.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Annotated, Any, TypeAlias, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError, SchemaError, SchemaValidator, core_schema

from crew_guard.core.addresses import directory_problem, host_problem, is_inside, leads_to
from crew_guard.core.decisions import ALLOWED, Decision
from crew_guard.core.known import Known, Origin

_CONDITIONS = ("equals", "prefix", "pattern", "one_of", "least", "most", "within", "host_in", "seen_in")
_ORIGINS: dict[Origin, str] = {"user": "the user gave", "trusted": "a trusted tool's result showed"}
_MOST_NAMED = 20
_NUMERAL = re.compile(r"-?[0-9]{1,30}(?:\.[0-9]{1,30})?")
_NOT_REPEATED = re.compile(r"rate.?limit|timed?.?out|\b[45][0-9]{2}\b|overloaded|try again", re.IGNORECASE)
"""What hosts retry on when they read it in an error."""


def _wrong(text: str) -> PydanticCustomError:
    return PydanticCustomError("argument_rule", "{text}", {"text": text})


def _plain(value: Any) -> Any:
    if not isinstance(value, str | bool | int | float):
        raise _wrong("expected a text, a number, true or false")
    return value


Plain: TypeAlias = Annotated[Any, AfterValidator(_plain), WithJsonSchema({"type": ["string", "number", "boolean"]})]
"""A value without parts: a union would name its members in an error's place, where no key is."""


class ArgumentRule(BaseModel):
    """One condition on one argument of a tool. A list satisfies it if every element does."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, allow_inf_nan=False)

    argument: str = Field(min_length=1)
    """Its name; a dotted path leads into objects and, element by element, into lists."""
    equals: Plain | None = None
    """Exactly this text, number or truth value."""
    prefix: str | None = Field(default=None, min_length=1)
    """A text that begins with this. For paths and addresses use within and host_in."""
    pattern: str | None = None
    """A regular expression that the whole text must match; without look-around and back-references."""
    one_of: tuple[Plain, ...] | None = None
    """One of these; an empty list allows no value at all."""
    least: float | None = None
    """A number of at least this."""
    most: float | None = None
    """A number of at most this."""
    within: str | None = None
    """A path in this directory, without any `..`; links are not resolved."""
    host_in: tuple[str, ...] | None = None
    """An http address at one of these hosts: example.com is that host, *.example.com all below it."""
    seen_in: tuple[Origin, ...] | None = None
    """A value that the user gave (user) or that a result of tools.trusted showed (trusted)."""
    optional: bool = False
    """Whether the argument may be left out; one that is there must satisfy the condition all the same."""
    _place: str = PrivateAttr(default="")
    _matcher: SchemaValidator | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _one_condition(self) -> ArgumentRule:
        given = [name for name in _CONDITIONS if getattr(self, name) is not None]
        if not given or (len(given) > 1 and given != ["least", "most"]):
            names = ", ".join(_CONDITIONS)
            raise _wrong(f"expected one condition beside argument, got {' and '.join(given) or 'none'}; one of {names}")
        if not all(self.argument.split(".")):
            raise _wrong(f"expected a name or a dotted path as argument, got {self.argument!r}")
        if self.least is not None and self.most is not None and self.least > self.most:
            raise _wrong(f"least is {self.least:,.15g}, more than most, {self.most:,.15g}: no number is allowed")
        if self.within is not None and (problem := directory_problem(self.within)):
            raise _wrong(problem)
        for host in self.host_in or ():
            if problem := host_problem(host):
                raise _wrong(problem)
        if self.pattern is not None:
            self._matcher = _compiled(self.pattern)
        return self

    def placed(self, place: str) -> None:
        """Say where the rule is written, as file:line, once."""
        self._place = place

    @property
    def place(self) -> str:
        """The file and line that it stands in; empty where it was made in Python."""
        return self._place

    def allows(self, value: Any, known: Known | None) -> bool:
        """Whether one value, neither a list nor an object, satisfies the condition."""
        if self.equals is not None:
            return _same(value, self.equals)
        if self.one_of is not None:
            return any(_same(value, each) for each in self.one_of)
        if self.least is not None or self.most is not None:
            return _is_between(value, self.least, self.most)
        if self.seen_in is not None:
            return known is not None and known.holds(value, self.seen_in)
        return isinstance(value, str) and self._allows_text(value)

    def _allows_text(self, value: str) -> bool:
        if self.prefix is not None:
            return value.startswith(self.prefix)
        if self._matcher is not None:
            return self._matcher.isinstance_python(value)
        if self.within is not None:
            return is_inside(value, self.within)
        return self.host_in is not None and leads_to(value, self.host_in)

    @property
    def wants(self) -> str:
        """The condition in words that follow "must be"."""
        if self.equals is not None:
            return _shown(self.equals)
        if self.one_of is not None:
            return _several("one of {}", [_shown(each) for each in self.one_of], "left out: no value is allowed")
        if self.prefix is not None:
            return f"a text that begins with {_shown(self.prefix)}"
        if self.pattern is not None:
            return f"a text that matches {self.pattern} as a whole"
        if self.within is not None:
            return f"a path in {self.within}, without .."
        if self.host_in is not None:
            nowhere = "left out: no host is allowed"
            return _several("a plain http address at {}", list(self.host_in), nowhere)
        if self.seen_in is not None:
            origins = [_ORIGINS[origin] for origin in self.seen_in]
            return f"a value that {' or '.join(origins) or 'nobody gives'}"
        bounds = (("at least", self.least), ("at most", self.most))
        return "a number of " + " and ".join(f"{words} {bound:,.15g}" for words, bound in bounds if bound is not None)


Rules: TypeAlias = dict[str, tuple[ArgumentRule, ...]]
"""By tool name or pattern."""


def rules_of(rules: Rules, tool: str) -> tuple[tuple[str, ArgumentRule], ...]:
    """Every rule that holds for a tool, each with its name in the policy."""
    found = ((pattern, each) for pattern, each in rules.items() if fnmatchcase(tool, pattern))
    return tuple((f"tools.rules.{pattern}.{place}", rule) for pattern, each in found for place, rule in enumerate(each))


def judge_arguments(
    rules: tuple[tuple[str, ArgumentRule], ...], tool: str, arguments: str, known: Known | None
) -> Decision:
    """Whether every rule of a tool lets these arguments, a JSON object, through. The value comes last in a reason."""
    name, rule = rules[0]
    try:
        given = _object(arguments)
        for name, rule in rules:
            problem = _problem(rule, given, known)
            if problem:
                place = f" ({rule.place})" if rule.place else ""
                return Decision("deny", name, f"{tool}: by {name}{place} {problem}", rule.place)
    except (ValueError, ArithmeticError, RecursionError):
        # An agent's odd arguments are refused; an error of the policy's own would end the run.
        words = "they are no JSON object, hold a name twice, are nested too deeply or hold an impossible number"
        return Decision("deny", name, f"{tool}: its arguments can't be checked: {words}", rule.place)
    return ALLOWED


class _OddError(ValueError):
    """A path of a rule leads into something that is no object."""


def _problem(rule: ArgumentRule, given: dict[str, Any], known: Known | None) -> str:
    try:
        values = _values(given, rule.argument.split("."))
    except _OddError:
        return f"{rule.argument} must be {rule.wants}; what it was to be found in is no object"
    if not values:
        values = [None]
    for value in values:
        if value is None:
            if not rule.optional:
                return f"{rule.argument} must be {rule.wants}; it is not given"
        elif isinstance(value, dict) or not rule.allows(value, known):
            return f"{rule.argument} must be {rule.wants}; got {_shown(value)}"
    return ""


def _values(given: dict[str, Any], path: list[str]) -> list[Any]:
    """What a path leads to, lists taken apart; None for each place where there is nothing."""
    found: list[Any] = [given]
    for name in path:
        below: list[Any] = []
        for value in _apart(found):
            if value is not None and not isinstance(value, dict):
                raise _OddError
            below.append(cast("dict[str, Any]", value).get(name) if value else None)
        found = below
    return _apart(found)


def _apart(values: list[Any]) -> list[Any]:
    apart: list[Any] = []
    left = values[::-1]
    while left:
        value = left.pop()
        if isinstance(value, list):
            left += cast("list[Any]", value)[::-1]
        else:
            apart.append(value)
    return apart


def _object(arguments: str) -> dict[str, Any]:
    given = json.loads(
        arguments or "{}", object_pairs_hook=_without_twins, parse_float=Decimal, parse_constant=_no_constant
    )
    if not isinstance(given, dict):
        raise ValueError("no object")  # noqa: TRY004  its caller answers every fault of the text alike
    return cast("dict[str, Any]", given)


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name stands in it twice")
    return made


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _same(value: Any, wanted: Plain) -> bool:
    if isinstance(value, str) or isinstance(wanted, str):
        return type(value) is type(wanted) and value == wanted
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted
    return isinstance(value, int | Decimal) and value == Decimal(str(wanted))


def _is_between(value: Any, least: float | None, most: float | None) -> bool:
    if isinstance(value, str):
        # Tools take numbers written as texts, too.
        if not _NUMERAL.fullmatch(value):
            return False
        value = Decimal(value)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return False
    return (least is None or value >= Decimal(str(least))) and (most is None or value <= Decimal(str(most)))


def _compiled(pattern: str) -> SchemaValidator:
    """A matcher of whole texts, in time linear in their length whatever the pattern: Rust's regex, by pydantic."""
    try:
        for form in (pattern, rf"\A(?:{pattern})\z"):
            matcher = SchemaValidator(core_schema.str_schema(pattern=form, regex_engine="rust-regex", strict=True))
    except SchemaError as error:
        words = str(error).strip().rpartition("\n")[2].removeprefix("error: ").strip()
        raise _wrong(f"the pattern {pattern[:120]!r} can't be used: {words}") from None
    return matcher


def _several(words: str, names: list[str], none: str) -> str:
    if not names:
        return none
    more = len(names) - _MOST_NAMED
    return words.format(", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else ""))


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str) if not isinstance(value, Decimal) else str(value)
    return "a value that is not repeated here" if _NOT_REPEATED.search(text) else text
