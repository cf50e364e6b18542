"""How nodes are connected: one after the other, one of several, and back, for so many rounds at the most."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

from crew_guard.core.given import must_be, must_be_function, must_be_of, must_be_one_of, several, text
from crew_guard.core.plain import shown
from crew_guard.errors import WorkflowError


class Otherwise:
    """The outcome of a branch that no other target is for."""

    def __repr__(self) -> str:
        return "otherwise"


OTHERWISE = Otherwise()
Passes: TypeAlias = Literal["output", "input"]


@dataclass(frozen=True, slots=True)
class Edge:
    """One node comes after another."""

    source: str
    target: str
    outcome: Hashable = None
    """Of a branch: where the source's outcome is this one."""
    branches: bool = False
    passes: Passes = "output"
    """What the target is given: what the source gave, or what it was given itself."""

    def __post_init__(self) -> None:
        text(self.source, "an edge's source", WorkflowError)
        text(self.target, f"the edge from {self.source!r}: target", WorkflowError)
        _check_passes(self.passes, f"the edge from {self.source!r}")


@dataclass(frozen=True, slots=True)
class Branch:
    """One of several nodes comes after another. `branch` makes one."""

    source: str
    targets: Mapping[Any, tuple[str, ...]]
    by: Callable[[Any], Any] | str | None
    passes: Passes

    @property
    def outcomes(self) -> tuple[Any, ...]:
        """All that a target is for, OTHERWISE perhaps among them."""
        return tuple(self.targets)

    def edges(self) -> list[Edge]:
        """One for each target."""
        return [
            Edge(self.source, target, outcome, branches=True, passes=self.passes)
            for outcome, targets in self.targets.items()
            for target in targets
        ]

    def outcome(self, value: Any) -> Any:
        """Which of the targets is for this value.

        Raises:
            LookupError: none is
        """
        found: Any = self.by(value) if callable(self.by) else value
        if isinstance(self.by, str):
            found = cast("Any", value[self.by] if isinstance(value, Mapping) else getattr(value, self.by))
        if isinstance(found, str) and found not in self.targets:
            found = found.strip()  # models like to end a line
        if found in self.targets:
            return found
        if OTHERWISE in self.targets:
            return OTHERWISE
        known = ", ".join(map(repr, self.targets))
        raise LookupError(f"{self.source} came out at {shown(found)}, and there is no branch for it: there are {known}")


@dataclass(frozen=True, slots=True)
class Loop:
    """A node goes back to one before it. `loop` makes one."""

    source: str
    target: str
    again: Callable[..., Any]
    rounds: int | None
    then: Literal["fail", "go_on"]
    passes: Callable[..., Any] | None


def branch(
    source: str,
    targets: Mapping[Any, str | tuple[str, ...]],
    *,
    by: Callable[[Any], Any] | str | None = None,
    otherwise: str | tuple[str, ...] | None = None,
    passes: Passes = "output",
) -> Branch:
    """After `source` comes the target for its outcome, and none of the others.

    Args:
        source: a node's name
        targets: a node's name, or several, by outcome
        by: what the outcome is: a function of what the source gave, or the name of a field of it; by default all of it
        otherwise: the target for all other outcomes
        passes: whether the target is given what the source gave, or what the source itself was given
    """
    text(source, "branch: source", WorkflowError)
    whose = f"the branch after {source!r}"
    must_be(targets, Mapping, f"{whose}: targets", "they are nodes' names by outcome", WorkflowError)
    every: dict[Any, Any] = dict(targets)
    if otherwise is not None:
        every[OTHERWISE] = otherwise
    if not every:
        raise WorkflowError(f"{whose} has no targets")
    if by is not None and not callable(by) and not isinstance(by, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise WorkflowError(f"{whose}: by= is a function or a field's name, not {shown(by)}")
    _check_passes(passes, whose)
    names = {key: _targets(target, f"{whose}: the target for {key!r}") for key, target in every.items()}
    return Branch(source, names, by, passes)


def loop(
    source: str,
    back_to: str,
    *,
    again: Callable[..., Any],
    rounds: int | None,
    then: Literal["fail", "go_on"] = "fail",
    passes: Callable[..., Any] | None = None,
) -> Loop:
    """After `source` comes `back_to` again, as long as `again` says so.

    Args:
        source: the last node of the round: only from here the loop is left
        back_to: its first node
        again: (what the source gave) or (that, context) → bool
        rounds: at the most, the first one included
        then: what happens where the last round still wants another: the workflow fails, or goes on with what there is
        passes: what `back_to` is given then, of (what the source gave) or (that, context); by default what it gave
    """
    text(source, "loop: source", WorkflowError)
    whose = f"the loop from {source!r}"
    text(back_to, f"{whose}: back_to", WorkflowError)
    must_be_function(again, f"{whose}: again", WorkflowError)
    must_be_one_of(then, ("fail", "go_on"), f"{whose}: then", WorkflowError)
    if passes is not None:
        must_be_function(passes, f"{whose}: passes", WorkflowError)
    return Loop(source, back_to, again, rounds, then, passes)


def _check_passes(passes: object, whose: str) -> None:
    must_be_one_of(passes, get_args(Passes), f"{whose}: passes", WorkflowError)


def _targets(given: object, what: str) -> tuple[str, ...]:
    must_be_of(given, str | list | tuple, what, "a node's name, or several", WorkflowError)
    return (given,) if isinstance(given, str) else several(given, str, what, "it is a node's name", WorkflowError)
