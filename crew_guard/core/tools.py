"""A tool: a typed function, its JSON Schema compiled once, its arguments validated on each call."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, cast, get_type_hints, overload

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic_core import to_json

from crew_guard.core.given import must_be_number, must_be_whole, text
from crew_guard.core.messages import ToolSpec
from crew_guard.core.plain import error_words, shown
from crew_guard.core.usage import nano_price

MAX_RESULT_CHARS = 20_000
"""What an agent (and the journal) sees of a tool's result, unless the tool says otherwise."""


@dataclass(frozen=True, slots=True, eq=False)
class Tool:
    """A function that an agent may ask for."""

    name: str
    description: str
    function: Callable[..., Any]
    arguments: type[BaseModel]
    spec: ToolSpec
    is_async: bool
    irreversible: bool = False
    """An action that cannot be undone: a policy may ask for a person's approval first."""
    max_result_chars: int = MAX_RESULT_CHARS
    takes: tuple[str, ...] = field(default=())
    nano_usd: int = 0
    """What one execution costs, in nano-dollars, however it ends; a policy may raise it."""
    max_seconds: float | None = None
    """Wall clock of one execution; a policy may shorten it."""
    parser: Callable[[str], dict[str, Any]] | None = None
    """Reads the arguments where a schema that is not ours describes them; `arguments` is not asked then."""

    def parse(self, arguments: str) -> dict[str, Any]:
        """The arguments as Python values.

        Args:
            arguments: a JSON object, as a model wrote it
        Raises:
            ValueError: they are not JSON or don't fit the function; the text is for the model
        """
        if self.parser is not None:
            return self.parser(arguments)
        try:
            values = self.arguments.model_validate_json(arguments or "{}")
        except Exception as error:  # noqa: BLE001  a validator of a user's may raise what it likes
            raise ValueError(misfit(error, f"arguments of {self.name}")) from None
        return {name: getattr(values, name) for name in self.takes}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself, outside of any guard."""
        return self.function(*args, **kwargs)


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...
@overload
def tool(
    *,
    name: str | None = None,
    irreversible: bool = False,
    max_result_chars: int = MAX_RESULT_CHARS,
    cost: Decimal | float | str = 0,
    max_seconds: float | None = None,
) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    irreversible: bool = False,
    max_result_chars: int = MAX_RESULT_CHARS,
    cost: Decimal | float | str = 0,
    max_seconds: float | None = None,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a typed function, sync or async, a tool. Its docstring is what the model reads.

    Args:
        function: every parameter needs a type that pydantic can validate
        name: what the model calls it; the function's own name by default
        irreversible: True if its effect can't be undone
        max_result_chars: how much of its result an agent sees
        cost: US dollars that one execution costs, charged to every budget it is a part of
        max_seconds: wall clock of one execution
    Raises:
        TypeError: a parameter has no type, no docstring is there,
            or what is given is no function
        ValueError: the cost is not a number of dollars, max_seconds is not more than 0, or max_result_chars no count
    """
    price = _price(cost)
    if name is not None:
        text(name, "a tool's name")
    must_be_whole(max_result_chars, "a tool's max_result_chars", 0)
    if max_seconds is not None:
        must_be_number(max_seconds, "a tool's max_seconds", "seconds, more than 0", lambda seconds: seconds > 0)

    def build(target: Callable[..., Any]) -> Tool:
        _must_be_function(target)
        bare = _build(target, name or target.__name__)
        return replace(
            bare, irreversible=irreversible, max_result_chars=max_result_chars, nano_usd=price, max_seconds=max_seconds
        )

    return build if function is None else build(function)


def _price(usd: Decimal | float | str) -> int:
    try:
        price = nano_price(usd)
    except (ArithmeticError, ValueError):
        price = -1
    if price < 0:
        raise ValueError(f"a tool's cost is US dollars, 0 or more, e.g. cost='0.01', not {usd!r}")
    return price


def _must_be_function(target: object) -> None:
    if not callable(target) or not hasattr(target, "__name__"):
        name = target if isinstance(target, str) else "search"
        raise TypeError(f"tool takes a function, not {shown(target)}: write @tool or @tool(name={name!r}) above one")


def _build(function: Callable[..., Any], name: str) -> Tool:
    description = inspect.getdoc(function)
    if not description:
        raise TypeError(f"tool {name!r} needs a docstring: it is what the model reads")
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise TypeError(f"tool {name!r}: parameter {parameter.name!r} must be passed by name")
        if parameter.name not in hints:
            raise TypeError(f"tool {name!r}: parameter {parameter.name!r} needs a type")
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    arguments = create_model(f"{name}_arguments", __config__=ConfigDict(extra="forbid"), **fields)
    schema = arguments.model_json_schema()
    schema.pop("title", None)
    return Tool(
        name=name,
        description=description,
        function=function,
        arguments=arguments,
        spec=ToolSpec(name=name, description=description, parameters=schema),
        is_async=inspect.iscoroutinefunction(function),
        takes=tuple(fields),
    )


def result_text(value: Any, max_chars: int) -> str:
    """What an agent reads of a tool's result: text as it is, the rest as JSON, cut with a notice.

    Raises:
        ValueError: the value cannot be written as JSON
    """
    if isinstance(value, str):
        text = value
    else:
        try:
            text = to_json(value).decode()
        except ValueError as error:
            kind = type(cast(object, value)).__name__
            raise ValueError(f"returned a {kind}, which is not JSON: {error}") from None
    if len(text) <= max_chars:
        return text
    return f"{text[:max_chars]}\n[cut: {len(text):,} characters in all, {max_chars:,} shown]"


def misfit(error: Exception, what: str) -> str:
    """Why a value doesn't fit its model, in words a model or a person can act on, whatever its validators raised."""
    return explain_validation(error, what) if isinstance(error, ValidationError) else f"{what}: {error_words(error)}"


def explain_validation(error: ValidationError, what: str) -> str:
    """One line for each thing that is wrong, in words a model or a person can act on."""
    lines: list[str] = []
    for detail in error.errors(include_url=False, include_context=False):
        place = ".".join(str(part) for part in detail["loc"])
        given = "" if detail["type"] == "missing" else f" (got {json.dumps(detail['input'], default=str)[:120]})"
        lines.append(f"{what}{': ' + place if place else ''}: {detail['msg']}{given}")
    return "\n".join(lines)
