"""A node: one step of a workflow, and all that is declared about it.

A node is a function, sync or async, or a Tool. A function that acts takes a NodeContext as its second parameter, and
calls tools and models through that. With model= the function only writes the prompt.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, TypeAlias, TypeVar, cast, get_type_hints

from pydantic import BaseModel

from crew_guard.core.given import must_be_function, must_be_number, must_be_whole, texts
from crew_guard.core.limits import UNCAPPED, AgentLimits, Caps
from crew_guard.core.plain import shown
from crew_guard.core.tools import Tool
from crew_guard.core.verdicts import Judge
from crew_guard.errors import WorkflowError
from crew_guard.ports import Model
from crew_guard.workflows.capping import caps_of
from crew_guard.workflows.context import NodeContext

UNKNOWN = Any
"""The type of what nobody has annotated."""
_CONTEXT_NAMES = ("context", "ctx")
_KINDS = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
Step: TypeAlias = "Node | Callable[..., Any] | Tool"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a node that failed is tried again, and how long after."""

    times: int = 2
    """Attempts after the first."""
    first: float = 0.5
    """Seconds before the second attempt."""
    factor: float = 2.0
    """How much longer each further pause is."""
    longest: float = 30.0
    """Seconds that a pause lasts at the most."""

    def __post_init__(self) -> None:
        must_be_whole(self.times, "retry: times", 0, WorkflowError)
        for name in ("first", "longest"):
            must_be_number(
                getattr(self, name), f"retry: {name}", "seconds, 0 or more", lambda each: each >= 0, WorkflowError
            )
        must_be_number(self.factor, "retry: factor", "a number of at least 1", lambda each: each >= 1, WorkflowError)

    def pause(self, attempt: int) -> float:
        """Seconds to wait after this attempt, the first of which is 1."""
        return min(self.first * self.factor ** (attempt - 1), self.longest)


@dataclass(frozen=True, slots=True)
class Signature:
    """What a node's function takes and gives, as far as it is annotated."""

    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Types by name, of those that take values; UNKNOWN where there is none."""
    context: str = ""
    """The parameter that takes the NodeContext, where it is known by its type or its name."""
    returns: Any = UNKNOWN
    order: tuple[str, ...] = ()
    """All parameters, the context's included, as the function takes them."""
    optional: frozenset[str] = frozenset()
    """Those with a default of their own, which only a source of their name gives another value."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Node:
    """One step of a workflow. `node` makes one."""

    name: str
    function: Any
    """A function, a Tool, or what delegates to a crew."""
    signature: Signature = Signature()
    model: Model | str | None = None
    system: str = ""
    output: type[BaseModel] | None = None
    max_tokens: int | None = None
    verify: Callable[..., Any] | Judge | None = None
    pass_mark: float = 0.5
    irreversible: bool = False
    approve: Callable[..., Any] | None = None
    retry: Retry | None = None
    timeout: float | None = None
    """Seconds of one attempt."""
    max_seconds: float | None = None
    """Of all attempts and the pauses between them."""
    caps: Caps = UNCAPPED
    compensate: Callable[..., Any] | None = None
    done_by: str = ""
    each: int = 0
    """At most so many items of the list that it is given are worked on, each by itself; 0 takes the value whole."""
    copies: int = 1
    """How often it is run on the same value at once; what all of them gave is a list."""
    ahead_by: int = 0
    """Of a node that is asked again until one answer is ahead by so many votes."""
    internal: bool = False
    """Added by a pattern: it does nothing that could go wrong by itself."""
    hands_on: str = ""
    """Of such a node: whose output it gives, where that is not the one before it."""

    @property
    def returns(self) -> Any:
        """The type of its output; UNKNOWN where it isn't annotated."""
        one = self.output or (str if self.model is not None else self.signature.returns)
        return list[one] if self.several else one

    @property
    def several(self) -> bool:
        """Whether it works on items, or in copies, each by itself: all of `node` but its caps is each one's."""
        return self.each > 0 or self.copies > 1

    def binding(self, sources: tuple[str, ...]) -> Literal["whole", "by_name"] | None:
        """How its function takes what these nodes give it; None where it can't.

        by_name: a parameter for each of them; whole: one value, of several nodes a dict by name.
        """
        names, optional = tuple(self.signature.parameters), self.signature.optional
        if len(sources) > 1 and set(names) - optional <= set(sources) <= set(names):
            return "by_name"
        if len(names) > 1 and set(names) & set(sources):
            return None  # a context of the name of a source is a mistake
        # A second one that has to be given is the context, whatever it is called.
        more = set(names[1:]) - optional
        return "whole" if not more or (len(more) == 1 and not self.signature.context) else None

    @property
    def takes(self) -> Any:
        """The type of its value where it takes one value; UNKNOWN where it isn't annotated."""
        return next(iter(self.signature.parameters.values()), UNKNOWN)

    def __repr__(self) -> str:
        return f"<node {self.name!r}>"

    @property
    def asks(self) -> str:
        """What the node's record calls it, in short."""
        return f"{self.name} ({self.model})" if isinstance(self.model, str) else self.name


def node(
    function: Callable[..., Any] | Tool,
    *,
    name: str | None = None,
    model: Model | str | None = None,
    system: str = "",
    output: type[BaseModel] | None = None,
    max_tokens: int | None = None,
    verify: Callable[..., Any] | Judge | None = None,
    pass_mark: float = 0.5,
    irreversible: bool = False,
    approve: Callable[..., Any] | None = None,
    retry: Retry | int | None = None,
    timeout: float | None = None,
    caps: AgentLimits | Mapping[str, Any] | None = None,
    compensate: Callable[..., Any] | None = None,
    done_by: str = "",
) -> Node:
    """Make a function or a tool a step of a workflow.

    Args:
        function: takes the value of the step before (the first one the run's inputs) and, where it has a second
            parameter without a default, or one that is called context, a NodeContext; with model= it returns the
            prompt, a text or messages
        name: unique in its workflow; the function's own name by default
        model: a model's name, or a Model: one call through the gate answers the prompt
        system: what the model is told it is
        output: a pydantic model that the answer, or the function's value, must follow
        max_tokens: the longest completion
        verify: whether the output is right: (output) or (output, context) → bool, grade in [0, 1] or Verdict; or a
            Judge, whose calls are the node's
        pass_mark: the least grade that passes
        irreversible: its effect can't be undone: it is asked for approval first
        approve: (Approval) → bool or Verdict; by default a person at the terminal is asked
        retry: how often it is tried again where it fails, or a Retry
        timeout: seconds of one attempt
        caps: its own max_steps, max_tool_calls, max_tokens, max_usd, max_agents, taken from the run's; max_seconds
            is for all attempts
        compensate: undoes it where a later node fails: (output) or (output, context). A worker's, or a voter's, is
            called once for each of its outputs, also where another one of them failed
        done_by: the crew's task that does the same: where that is done and verified, its output is taken
    Raises:
        TypeError: the function takes no value
        WorkflowError: an argument is wrong
    """
    made = replace(
        _bare(function, name),
        model=model,
        system=system,
        output=output,
        max_tokens=max_tokens,
        verify=verify,
        pass_mark=pass_mark,
        irreversible=irreversible or (isinstance(function, Tool) and function.irreversible),
        approve=approve,
        compensate=compensate,
        done_by=done_by,
    )
    return checked(bounded(made, retry=retry, timeout=timeout, caps=caps))


def bounded(
    bare: Node,
    *,
    retry: Retry | int | None,
    timeout: float | None,
    caps: AgentLimits | Mapping[str, Any] | None,
) -> Node:
    """The same node with what bounds it. See `node`."""
    given = retry
    if isinstance(retry, int):
        given = retry_of(bare, retry)
    limits, seconds = caps_of(caps, bare.name)
    return replace(bare, retry=given, timeout=timeout, max_seconds=seconds, caps=limits)


def retry_of(bare: Node, *numbers: Any) -> Retry:
    """How often a node is tried again; see Retry.

    Raises:
        WorkflowError: a number is wrong
    """
    try:
        return Retry(*numbers)
    except WorkflowError as error:
        raise _wrong(bare, str(error)) from None


def checked(made: Node) -> Node:
    """The node, if what is declared about it can be.

    Raises:
        WorkflowError: it can't
    """
    if not isinstance(made.name, str) or not made.name.strip() or "/" in made.name:  # pyright: ignore[reportUnnecessaryIsInstance]  see _typed
        raise WorkflowError(f"a node's name is a text and must not be blank or hold a '/', like {made.name!r}")
    _typed(made)
    if made.verify is not None and not isinstance(made.verify, Judge) and not callable(made.verify):
        raise _wrong(made, f"verify must be a function or a Judge, not {shown(made.verify)}")
    for what in ("approve", "compensate"):
        if getattr(made, what) is not None:
            must_be_function(getattr(made, what), what, partial(_wrong, made))
    if made.approve is not None and not made.irreversible:
        raise _wrong(made, "approve= is for a node that is irreversible=True")
    if made.output is not None and not (isinstance(made.output, type) and issubclass(made.output, BaseModel)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise _wrong(made, f"output must be a class of pydantic's BaseModel, not {shown(made.output)}")
    if isinstance(made.function, Tool) and made.model is not None:
        raise _wrong(made, "a tool asks no model; model= is for a function that returns the prompt")
    return made


def _typed(made: Node) -> None:
    """Numbers, texts and models, whoever doesn't run a type checker."""
    wrong, model = partial(_wrong, made), made.model
    if model is not None and not (isinstance(model, str) and model) and not hasattr(model, "bound_request"):
        raise wrong(f"model must be a model's name, such as 'openai:gpt-4.1-mini', or a Model, not {shown(model)}")
    texts(made, f"node {made.name!r}:", "system", "done_by", error=WorkflowError)
    if made.retry is not None and not isinstance(made.retry, Retry):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise wrong(f"retry is {shown(made.retry)}; expected a number of further tries, 0 or more, or a Retry")
    if made.timeout is not None:
        must_be_number(made.timeout, "timeout", "seconds, more than 0", lambda each: each > 0, wrong)
    must_be_number(made.pass_mark, "pass_mark", "a grade from 0 to 1", lambda each: 0 <= each <= 1, wrong)
    if made.max_tokens is not None:
        must_be_whole(made.max_tokens, "max_tokens", error=wrong)


def passed_on(value: Any) -> Any:
    """What a node does that only looks."""
    return value


def as_node(step: Step, where: str = "", way_out: str = "let one function do all of it") -> Node:
    """A function or a tool as a node; a node as it is.

    Args:
        where: who takes one step, and no workflow of several
        way_out: what to do with one
    Raises:
        TypeError: it is no step
    """
    if where and hasattr(step, "edges"):
        raise TypeError(f"{where} takes one step, a function, a tool or a node, and not {step!r}; {way_out}")
    return step if isinstance(step, Node) else node(step)


def _wrong(made: Node, problem: str) -> WorkflowError:
    return WorkflowError(f"node {made.name!r}: {problem}")


def _bare(function: Callable[..., Any] | Tool, name: str | None) -> Node:
    if isinstance(function, Tool):
        found = Signature({"arguments": UNKNOWN}, returns=_hints(function.function)[1])
        return Node(name or function.name, function, found)
    if not callable(function):
        raise TypeError(f"a node is a function or a Tool, not {shown(function)}")
    return Node(name or getattr(function, "__name__", "node"), function, signature_of(function))


def signature_of(function: Callable[..., Any]) -> Signature:
    """What a function takes and gives.

    Raises:
        TypeError: it takes no value
    """
    hints, returns = _hints(function)
    try:
        every = [each for each in inspect.signature(function).parameters.values() if each.kind in _KINDS]
    except ValueError:  # str, int and others that are built in don't say what they take
        return Signature(
            {"value": UNKNOWN}, returns=function if isinstance(function, type) else UNKNOWN, order=("value",)
        )
    names = [each.name for each in every]
    marked = (name for name in names if name in _CONTEXT_NAMES or hints.get(name) is NodeContext)
    context = next(marked, "") if len(names) > 1 else ""
    values = {name: hints.get(name, UNKNOWN) for name in names if name != context}
    if not values:
        named = getattr(function, "__name__", type(function).__name__)
        raise TypeError(f"node {named!r} takes no value: its first parameter is what the node before gave")
    optional = {each.name for each in every if each.default is not each.empty} - {context}
    return Signature(values, context, returns, tuple(names), frozenset(optional))


def _hints(function: Callable[..., Any]) -> tuple[dict[str, Any], Any]:
    """The types of its parameters, and of what it returns; those that can't be resolved are left out."""
    target: Any = function
    while hasattr(target, "func"):  # functools.partial
        target = target.func
    if not inspect.isroutine(target) and not isinstance(target, type):
        target = type(target).__call__
    try:
        hints = get_type_hints(target, include_extras=True)
    except Exception:  # noqa: BLE001  annotations of users, some of which name what is not there at run time
        hints = _resolvable(target)
    returns = hints.pop("return", UNKNOWN)
    return hints, type(None) if returns is None else returns


def _resolvable(target: Any) -> dict[str, Any]:
    module = sys.modules.get(getattr(target, "__module__", ""), None)
    known = {**vars(module)} if module else {}
    found: dict[str, Any] = {}
    for name, hint in cast("dict[str, Any]", getattr(target, "__annotations__", {})).items():
        alone = type("_", (), {"__annotations__": {name: hint}})
        with contextlib.suppress(Exception):
            found |= get_type_hints(alone, known, include_extras=True)
    return found
