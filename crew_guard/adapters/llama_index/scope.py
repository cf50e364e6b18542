"""The guarded run that the current code is a part of, and who of it acts.

LlamaIndex hides models in closures, so what is gated is found by context: a ContextVar that the run's tasks
and threads inherit, and that nothing else has.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from crew_guard.adapters.hosted import ModelFacts, PromptCounter
from crew_guard.adapters.tally import Tally
from crew_guard.core.usage import Rates
from crew_guard.errors import ConfigError
from crew_guard.ports import Gate

Taken: TypeAlias = tuple[frozenset[str], frozenset[str]]
"""The names of the arguments that a function needs, and that it takes."""


@dataclass(slots=True)
class Known:
    """What one run knows of one model."""

    rates: Rates | None
    count: PromptCounter
    texts: dict[tuple[str, ...], int] = field(default_factory=dict[tuple[str, ...], int])
    """The bound of each message in tokens, by its texts."""
    tally: Tally | None = None
    """Of the conversations with it."""
    framing: int = 0
    """What a request without tools adds to its messages."""
    breaks_its_word: bool = False
    """It made more than it was let: from then on all that it may make is reserved."""


@dataclass(slots=True)
class HostRun:
    """One guarded run of a workflow."""

    gate: Gate
    facts: ModelFacts
    who: Callable[[], str]
    """The name of the step or agent that the current code belongs to."""
    code: tuple[object, ...] = ()
    """Functions that execute what a model wrote."""
    problem: ConfigError | None = None
    """What was met on the way that can't be gated: it was refused, and the run has failed, whatever the host says."""
    takes: dict[int, tuple[object, tuple[frozenset[str], frozenset[str]] | None]] = field(
        default_factory=dict[int, Any]
    )
    """By a tool function's id: itself, and what it takes; None where names alone don't say."""
    _known: dict[str, Known] = field(default_factory=dict[str, Known])

    def known(self, model: str) -> Known:
        """What is known of a model by its name, worked out once."""
        found = self._known.get(model)
        if found is None:
            facts = self.facts(model)
            found = self._known[model] = Known(facts.rates, PromptCounter(facts), framing=facts.bound_request((), None))
        return found

    def place(self) -> tuple[str, str | None]:
        """Who acts, and no action that it would be a part of: LlamaIndex's tools are charged by themselves."""
        return self.who(), None

    def refuse(self, problem: ConfigError) -> ConfigError:
        """Remember what can't be gated; the caller raises it."""
        self.problem = self.problem or problem
        return problem


current: ContextVar[HostRun | None] = ContextVar("crew_guard_llama_index_run", default=None)
"""None outside of guarded runs: there every patch hands through."""
acting: ContextVar[str | None] = ContextVar("crew_guard_llama_index_agent", default=None)
"""The agent whose turn it is, where a step serves several."""
