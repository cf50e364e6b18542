"""One guarded run of CrewAI: what the patched framework finds in its context while the run goes on.

The scope travels in a context variable, which CrewAI copies into each thread and task that it
starts. Code that runs outside of it, a thread made by hand say, sees the framework as it always is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from crewai.llms.base_llm import BaseLLM
from crewai.tools.base_tool import BaseTool

from crew_guard.adapters.crewai.busy import Threads
from crew_guard.adapters.crewai.checks import check_agent, check_model, host_class, name_of
from crew_guard.adapters.crewai.done import Done
from crew_guard.adapters.crewai.inside import TimeUp, part_of, refuse_late_work, who
from crew_guard.adapters.crewai.litellm_bounds import goes_through_litellm
from crew_guard.adapters.crewai.model import gated_model
from crew_guard.adapters.crewai.through_litellm import model_through_litellm
from crew_guard.adapters.crewai.tools import gated_tool
from crew_guard.adapters.hosted import ModelFacts, RunNotes
from crew_guard.core.actions import Handoff, Outcome
from crew_guard.core.plain import error_text, error_words
from crew_guard.errors import ConfigError, RefusedError
from crew_guard.ports import Gate

T = TypeVar("T", bound=BaseTool)
NOBODY = "crew"
"""Who calls a model that neither an agent nor a flow's method calls: CrewAI's own housekeeping."""


@dataclass(slots=True)
class RunScope:
    """What one run has seen of the host's objects so far."""

    gate: Gate
    facts: ModelFacts
    done: Done
    notes: RunNotes = field(default_factory=RunNotes)
    problem: ConfigError | None = None
    """The first part that can't be guarded: it was not run, and the run has failed, whoever caught that."""
    time_up: TimeUp | None = None
    """The first agent whose max_execution_time was over."""
    when_time_is_up: Callable[[], object] | None = None
    """Told when that happens, from any thread."""
    threads: Threads = field(default_factory=Threads)
    """Those that whoever ends the run waits for."""
    timed: Threads = field(default_factory=Threads)
    """Those of agents with a max_execution_time: whoever waits for one gives it up when that is over."""
    _doubles: dict[tuple[int, str], tuple[object, Any]] = field(default_factory=dict[Any, Any])
    _checked: dict[int, object] = field(default_factory=dict[int, object])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def over(self, clock: TimeUp) -> None:
        """An agent's time is up, and the run ends with it."""
        self.time_up = self.time_up or clock
        if self.when_time_is_up is not None:
            with suppress(RuntimeError):  # its loop is closed: nobody waits
                self.when_time_is_up()

    def when_free(self, told: Callable[[], object]) -> None:
        """Have this called when no thread works for the run any more."""
        self.threads.when_ended(partial(self.timed.when_ended, told))

    def saving(self, save: Future[Any]) -> None:
        """A memory writes in the background: a part of the run, which waits for it."""
        self.threads.until(save, self.gate.in_thread(f"{who.get() or NOBODY}/memory"))

    def model(self, llm: BaseLLM, agent: Any) -> BaseLLM:
        """The model as the run sees it, charged to the agent that CrewAI names, else to whoever acts."""
        name = name_of(agent) or who.get() or NOBODY
        with self._lock:
            known = self._doubles.get((id(llm), name))
            if known is None:
                self._ensure(llm, lambda: check_model(llm, f"the model of {name!r}"))
                made = model_through_litellm if goes_through_litellm(host_class(llm)) else gated_model
                known = llm, made(llm, name, self.gate, self.facts, self.notes)
                self._doubles[id(llm), name] = known
        return known[1]

    def tool(self, tool: T) -> T:
        """The tool as the run sees it."""
        name = who.get() or NOBODY
        with self._lock:
            known = self._doubles.get((id(tool), name))
            if known is None:
                known = tool, gated_tool(tool, name, self.gate, self.notes)
                self._doubles[id(tool), name] = known
        return known[1]

    @contextmanager
    def acting(self, agent: Any) -> Generator[str]:
        """While an agent acts, what has no name of its own is its doing.

        Raises:
            ConfigError: a part of it would go around the guard
        """
        self._ensure(agent, lambda: check_agent(agent))
        name = name_of(agent) or NOBODY
        with as_actor(name):
            yield name

    def _ensure(self, part: object, check: Any) -> None:
        if id(part) in self._checked:
            return
        try:
            check()
        except ConfigError as error:
            self.problem = self.problem or error
            raise
        self._checked[id(part)] = part

    @contextmanager
    def handed_to(self, name: str, task: str) -> Generator[list[str]]:
        """Work that whoever acts gives to another and waits for: charged to both; the list takes the answer.

        Raises:
            RefusedError: nested too deep
        """
        boss = who.get() or NOBODY
        self.notes.unanswered = False
        grant = self.gate.admit_blocking(Handoff(boss, name, task, parent=part_of.get()))
        token = part_of.set(grant.action_id)
        answer: list[str] = []
        try:
            yield answer
        except RefusedError as error:
            self.gate.settle(grant, Outcome("failed", text=error_text(error)))
            raise
        except BaseException as error:
            self.gate.settle(grant, Outcome("cancelled", text=error_words(error)))
            raise
        finally:
            part_of.reset(token)
        self.gate.settle(grant, Outcome("ok", text="".join(answer)))


scope_of_run: ContextVar[RunScope | None] = ContextVar("crew_guard_scope", default=None)


def who_embeds() -> tuple[str, str | None]:
    """Who embeds now, and the action that it is a part of.

    Raises:
        LimitExceededError: its time is over
    """
    refuse_late_work()
    return who.get() or NOBODY, part_of.get()


@contextmanager
def as_actor(name: str) -> Generator[None]:
    """Name who acts, for this thread or task and those that it starts."""
    token = who.set(name)
    try:
        yield
    finally:
        who.reset(token)
