"""What looks at content on its way in and out of a run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from crew_guard.core.content import Check, Place
from crew_guard.ports.acting import Gate


@dataclass(frozen=True, slots=True)
class Content:
    """What a guardrail looks at."""

    place: Place
    agent: str
    """Whose it is; empty for the run's inputs."""
    target: str
    """The input's, the task's or the tool's name."""
    text: str
    """What an agent reads of it: a text as it is, the rest as JSON."""
    value: Any
    """The same as a Python value."""
    readable: str
    """A text as it is; of a structured value each text in it, as it is, on a line behind its key."""
    inputs: Mapping[str, Any]
    """The run's."""
    gate: Gate
    """For guardrails that ask a model."""
    sources: Callable[[], Iterable[str]]
    """Every text that the run has read so far, kept only where a guardrail's `reads` asks for it."""


class Guardrail(Protocol):
    """Lets content pass, fixes it or rejects it. One that raises, or takes too long, has rejected it."""

    @property
    def name(self) -> str:
        """What journals and reasons call it."""
        ...

    @property
    def runs(self) -> Literal["here", "thread", "gate"]:
        """here: in well under a millisecond; thread: blocking; gate: by asking a model, bounded by the run alone."""
        ...

    @property
    def reads(self) -> bool:
        """Whether it needs Content.sources."""
        ...

    def check(self, content: Content) -> Check | Awaitable[Check]:
        """Look at content."""
        ...


@dataclass(frozen=True, slots=True)
class Guards:
    """The guardrails of one run."""

    inputs: tuple[Guardrail, ...] = ()
    outputs: tuple[Guardrail, ...] = ()
    tool_results: tuple[Guardrail, ...] = ()
    tasks: Mapping[str, tuple[Guardrail, ...]] = field(default_factory=dict[str, "tuple[Guardrail, ...]"])
    """Of the answers to single tasks, by name."""
    max_seconds: float = 10.0
    """Of one check that doesn't ask a model."""

    def of(self, place: Place, target: str) -> tuple[Guardrail, ...]:
        """Those of a place, and those of the task, in order."""
        if place == "inputs":
            return self.inputs
        if place == "tool_results":
            return self.tool_results
        return (*self.outputs, *self.tasks.get(target, ()))

    @property
    def check_outputs(self) -> bool:
        """Whether any answer is checked."""
        return bool(self.outputs or self.tasks)

    @property
    def read_sources(self) -> bool:
        """Whether any of them needs what the run has read."""
        every = (
            *self.inputs,
            *self.outputs,
            *self.tool_results,
            *(one for some in self.tasks.values() for one in some),
        )
        return any(guardrail.reads for guardrail in every)
