"""An agent or a team of AutoGen as a Runtime: run as it is, with every seam of its classes under the gate."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from autogen_agentchat.base import ChatAgent, TaskResult, Team
from autogen_agentchat.messages import BaseChatMessage
from autogen_core import CancellationToken

from crew_guard.adapters.autogen.acts import GuardedRun
from crew_guard.adapters.autogen.cast import Cast, cast_of
from crew_guard.adapters.autogen.defining import definition_of, name_of_host
from crew_guard.adapters.autogen.ending import end, on_this_loop
from crew_guard.adapters.autogen.logs import tell_no_stops
from crew_guard.adapters.autogen.seams import Here, acting, here, install
from crew_guard.adapters.autogen.tasks import task_of
from crew_guard.adapters.embedding import Embeds, embedding_by
from crew_guard.adapters.hosted import ModelFacts
from crew_guard.core.plain import error_text, error_words
from crew_guard.errors import ConfigError, RefusedError, RuntimeFailedError
from crew_guard.ports import Gate, RuntimeResult

_busy: set[int] = set()
_busy_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class AutoGenRuntime:
    """Runs one agent or team, and all that it is made of. A Runtime of ports."""

    host: ChatAgent | Team
    facts: ModelFacts
    _cast: Cast = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_cast", cast_of(self.host))

    @property
    def name(self) -> str:
        return "autogen"

    def members(self) -> Sequence[str]:
        """The agents that may ask a model, and what leads its teams by asking one."""
        return self._cast.names

    def called(self) -> str:
        """See Described."""
        return name_of_host(self.host)

    def definition(self) -> Any:
        """See Described."""
        return definition_of(self._cast)

    def attendants(self) -> Sequence[str]:
        """People, and who only executes code; see Attended."""
        return self._cast.attendants

    async def run(self, inputs: Mapping[str, Any], gate: Gate) -> RuntimeResult:
        """Run it on its task; the content of what it said last is the output.

        Args:
            inputs: the task as AutoGen takes it, under "task" or "input"; none where it goes on with what it heard
            gate: every model call and tool call goes through it
        Raises:
            ConfigError: it can't be run on this, or a part of it is in another guarded run
            RefusedError: the guard refused a model call and the agent let that through
        """
        task = await task_of(self.host, inputs)
        cast = cast_of(self.host)  # again: it may have changed since
        install()
        tell_no_stops()
        with _alone(cast):
            return await _Play(self.host, cast, GuardedRun(gate, self.facts, cast.leaders)).until_over(task)


@dataclass(slots=True)
class _Play:
    """One run of one host object, and its end."""

    host: ChatAgent | Team
    cast: Cast
    run: GuardedRun
    token: CancellationToken = field(default_factory=CancellationToken)
    said: list[Any] = field(default_factory=list[Any])
    """What its agents said, as far as it got."""

    async def until_over(self, task: Any) -> RuntimeResult:
        embeds = Embeds(self.run.gate, self.run.facts, self._place)
        with on_this_loop(self.cast.teams), acting(Here(self.run, self.host.name)), embedding_by(embeds):
            work = asyncio.ensure_future(self._work(task))
            try:
                # Not awaited itself: a team that is cancelled waits for its own runtime, which has to be ended first.
                await asyncio.wait({work})
                return await work
            except RefusedError:
                raise
            except asyncio.CancelledError:
                if not self.said:
                    raise
                return self._so_far("it was ended")
            except Exception as raised:  # noqa: BLE001  raised again, or told in the result
                error = _without_traceback(raised)
                if not self.said:
                    raise error from raised.__cause__ if error is raised else raised
                return self._so_far(error_words(error), error)
            finally:
                await end(work, self.token, self.cast.teams, self.run.tasks)

    def _place(self) -> tuple[str, str | None]:
        now = here.get()
        return (self.host.name if now is None else now.agent), None

    async def _work(self, task: Any) -> RuntimeResult:
        if isinstance(self.host, ChatAgent):
            result = await self.host.run(task=task, cancellation_token=self.token)
            return RuntimeResult(_content(result.messages[-1]))
        why = ""
        # Without the task's messages, which are no answer: a team may end before anybody speaks.
        async for item in self.host.run_stream(task=task, cancellation_token=self.token, output_task_messages=False):
            if isinstance(item, TaskResult):
                why = item.stop_reason or ""
            elif isinstance(item, BaseChatMessage):
                self.said.append(item)
        if not self.said:
            reason = f"{self.host.name} ended before anybody spoke{': ' if why else ''}{why}"
            return RuntimeResult(None, partial=True, reason=reason)
        return RuntimeResult(_content(self.said[-1]))

    def _so_far(self, reason: str, error: Exception | None = None) -> RuntimeResult:
        return RuntimeResult(_content(self.said[-1]), partial=True, reason=reason, error=error)


@contextmanager
def _alone(cast: Cast) -> Generator[None]:
    """Have each agent and team in one guarded run at a time: what it remembers would be another run's."""
    parts = {id(part): part.name for part in (*cast.agents, *cast.teams)}
    with _busy_lock:
        if taken := next((name for part, name in parts.items() if part in _busy), None):
            raise ConfigError(f"{taken!r} is in a guarded run already: run them one after the other")
        _busy.update(parts)
    try:
        yield
    finally:
        with _busy_lock:
            _busy.difference_update(parts)


def _without_traceback(error: Exception) -> Exception:
    """A team's error as it was raised in an agent: AutoGen adds the traceback, with the paths of this machine."""
    said, _, traceback = error_text(error).partition("\nTraceback:\n")
    return RuntimeFailedError(said) if traceback else error


def _content(message: Any) -> Any:
    return getattr(message, "content", message.to_text())
