"""How a crew goes about its tasks: the words for it, and the checks that need no agent. Pure."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Literal, TypeAlias, get_args

from crew_guard.core.given import must_be_whole, texts

Process: TypeAlias = Literal["sequential", "parallel", "hierarchical", "handoff", "conversation"]
PROCESSES: tuple[str, ...] = get_args(Process)
BUILT_IN = {"hierarchical": "delegate", "handoff": "handoff"}
"""What a process lets agents ask for besides their tools; no tool of theirs may have its name."""


@dataclass(frozen=True, slots=True)
class Said:
    """One turn of a conversation."""

    agent: str
    text: str


Until: TypeAlias = Callable[[Sequence[Said]], bool | Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Turns:
    """When a conversation ends. The gate bounds it besides, whatever stands here."""

    until: Until | str | None = None
    """A phrase that someone says, or a function, async or not, of all that was said so far."""
    max_turns: int | None = None
    """Turns of agents at the most; with `until`, a conversation that gets there first is unfinished."""
    ended_by: str = ""
    """The only agent whose phrase ends it; anyone's by default."""

    def __post_init__(self) -> None:
        if self.until is None and self.max_turns is None:
            raise ValueError("a conversation needs until= (a phrase or a function) or max_turns=, or it has no end")
        if not (self.until is None or callable(self.until) or (isinstance(self.until, str) and self.until.strip())):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"until must be a phrase or a function of what was said, not {self.until!r}")
        if self.max_turns is not None:
            must_be_whole(self.max_turns, "max_turns")
        texts(self, "a conversation's", "ended_by")

    def over(self, said: Sequence[Said]) -> bool | Awaitable[bool]:
        """Whether what was said last ends the conversation; to be awaited where `until` is async."""
        if not said or self.until is None:
            return False
        if callable(self.until):
            found = self.until(said)
            return found if inspect.isawaitable(found) else bool(found)
        return self.until in said[-1].text and self.ended_by in ("", said[-1].agent)


def check_order(process: str, needs: Mapping[str, Sequence[str] | None]) -> None:
    """Whether each task can have what it needs.

    Args:
        process: one of PROCESSES
        needs: by task, in order, the tasks whose outputs it needs; None where it doesn't say
    Raises:
        ValueError: names the tasks that are wrong
    """
    before: list[str] = []
    for name, wanted in needs.items():
        for other in wanted or ():
            if other not in needs:
                raise ValueError(f"task {name!r} needs the output of {other!r}; the tasks are {', '.join(needs)}")
            if other == name:
                raise ValueError(f"task {name!r} needs its own output")
            if process != "parallel" and other not in before:
                raise ValueError(f"task {name!r} needs the output of {other!r}, which comes after it")
        before.append(name)
    try:
        TopologicalSorter({name: wanted or () for name, wanted in needs.items()}).prepare()
    except CycleError as error:
        circle = " → ".join(reversed(error.args[1]))
        raise ValueError(f"the tasks need each other in a circle: {circle}") from None


def ends(needs: Mapping[str, Sequence[str] | None]) -> list[str]:
    """The tasks whose output no other task takes up."""
    taken = {other for wanted in needs.values() for other in wanted or ()}
    return [name for name in needs if name not in taken]
