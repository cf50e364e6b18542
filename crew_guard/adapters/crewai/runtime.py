"""An Agent, a Crew or a Flow as a Runtime: kicked off on a thread, in the scope of a guarded run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from anyio import CapacityLimiter, to_thread
from crewai import Agent, Crew
from crewai.flow.flow import Flow

from crew_guard.adapters.crewai.checks import agents_of, check_agent, check_crew, manager_of, name_of
from crew_guard.adapters.crewai.patches import install
from crew_guard.adapters.crewai.scope import RunScope, scope_of_run, who_embeds
from crew_guard.adapters.embedding import Embeds, embedding_by
from crew_guard.adapters.hosted import ModelFacts
from crew_guard.errors import ConfigError, LimitExceededError
from crew_guard.ports import Gate, RuntimeResult

_GRACE = 0.5
"""Seconds that the host has to come to its end by itself when an agent's time is up."""
_busy: dict[int, object] = {}
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class CrewAIRuntime:
    """Runs one Agent, one Crew or one Flow. A Runtime of ports."""

    host: Any
    facts: ModelFacts

    def __post_init__(self) -> None:
        if not isinstance(self.host, Agent | Crew | Flow):
            raise ConfigError(
                f"of CrewAI, crew_guard guards an Agent, a Crew or a Flow, not a {type(self.host).__name__}"
            )
        self._check()
        install()

    @property
    def name(self) -> str:
        return "crewai"

    def members(self) -> Sequence[str]:
        """The agents' roles as they were declared, the manager's too; a flow's show when they act."""
        if isinstance(self.host, Flow):
            return []
        manager = manager_of(self.host) if isinstance(self.host, Crew) else None
        names = [*map(name_of, agents_of(self.host)), *([manager] if manager else [])]
        return list(dict.fromkeys(names))

    def task_texts(self, inputs: Mapping[str, Any]) -> Sequence[str]:  # noqa: ARG002  CrewAI fills them in itself
        """The tasks' descriptions as they were declared; see Tasked. An agent's task is among the inputs."""
        if not isinstance(self.host, Crew):
            return []
        # An earlier run filled in its own inputs: those were given to that run.
        return [task._original_description or task.description for task in self.host.tasks]  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    async def run(self, inputs: Mapping[str, Any], gate: Gate) -> RuntimeResult:
        """Kick off on a thread; the answer, as a pydantic object where it is one, is the output.

        A thread can't be ended. Where this is cancelled it waits for the thread, whose every further call
        the gate refuses; cancelled again, it leaves the thread behind.

        Args:
            inputs: for an agent its task, under "task" or "input"; for a crew its inputs, or under
                "for_each" a list of several, one after the other; for a flow what its state takes
            gate: every model call and tool execution goes through it
        Raises:
            ConfigError: an agent has no task, or the host is in another guarded run
            RefusedError: the guard refused an action and CrewAI let that through
        """
        if isinstance(self.host, Agent) and not inputs.get("task", inputs.get("input")):
            raise ConfigError(f"agent {name_of(self.host)!r} needs a task: run('…') or run({{'task': '…'}})")
        self._check()
        scope, loop, time_is_up = RunScope(gate, self.facts), asyncio.get_running_loop(), asyncio.Event()
        scope.when_time_is_up = partial(loop.call_soon_threadsafe, time_is_up.set)
        # A limiter of its own: threads that were left behind must not use up those of others.
        work = to_thread.run_sync(self._run, inputs, scope, abandon_on_cancel=True, limiter=CapacityLimiter(1))
        thread = asyncio.ensure_future(work)
        try:
            return await self._until_over(thread, scope, time_is_up)
        except asyncio.CancelledError:
            await asyncio.wait({thread})  # so that whoever cancelled sees that the work goes on
            _ = thread.cancelled() or thread.exception()
            raise

    @staticmethod
    async def _until_over(thread: asyncio.Future[Any], scope: RunScope, time_is_up: asyncio.Event) -> RuntimeResult:
        """Until the thread is done, or is to be left behind: a flow's loop waits for its threads before it ends."""
        up = asyncio.ensure_future(time_is_up.wait())
        try:
            await asyncio.wait({thread, up}, return_when=asyncio.FIRST_COMPLETED)
            if not thread.done():
                await asyncio.wait({thread}, timeout=_GRACE)
        finally:
            up.cancel()
        if thread.done() or scope.time_up is None:
            return await asyncio.shield(thread)
        thread.add_done_callback(lambda left: left.cancelled() or left.exception())
        raise LimitExceededError(scope.time_up.stop)

    def _run(self, inputs: Mapping[str, Any], scope: RunScope) -> RuntimeResult:
        with _alone_with(_parts(self.host)), embedding_by(Embeds(scope.gate, self.facts, who_embeds)):
            token = scope_of_run.set(scope)
            try:
                output, outputs = _kicked_off(self.host, inputs)
            except TimeoutError as error:
                if scope.time_up is None:
                    raise
                raise LimitExceededError(scope.time_up.stop) from error
            finally:
                scope_of_run.reset(token)
        if scope.problem is not None:
            raise scope.problem
        if scope.notes.unanswered and not isinstance(self.host, Flow):  # a flow may carry requests out by itself
            reason = "CrewAI gave up at max_iter with the model's request for a tool as the answer"
            return RuntimeResult(output, outputs, partial=True, reason=reason)
        return RuntimeResult(output, outputs)

    def _check(self) -> None:
        if isinstance(self.host, Crew):
            check_crew(self.host)
        elif isinstance(self.host, Agent):
            check_agent(self.host)


def _kicked_off(host: Any, inputs: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The output, and the outputs by task or method."""
    if isinstance(host, Agent):
        answer = cast(Any, host).kickoff(inputs.get("task", inputs.get("input")))
        return _content(answer), {}
    if isinstance(host, Flow):
        return _flowed(host, inputs)
    crew: Any = host
    each = inputs.get("for_each")
    if isinstance(each, list) and len(inputs) == 1:
        several = [_drained(one) for one in crew.kickoff_for_each(inputs=each)]
        outputs = {f"{i}.{name}": text for i, one in enumerate(several, 1) for name, text in _by_task(one).items()}
        return [_content(one) for one in several], outputs
    answer = _drained(crew.kickoff(inputs=dict(inputs)))
    return _content(answer), _by_task(answer)


def _flowed(flow: Any, inputs: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    answer = _drained(flow.kickoff(inputs=dict(inputs) or None))
    return _content(answer), {one["method"]: one["output"] for one in flow._method_outputs}  # noqa: SLF001


def _drained(answer: Any) -> Any:
    """What a kickoff gives in the end, where the host streams."""
    if not hasattr(answer, "is_completed"):
        return answer
    for _ in cast(Iterable[Any], answer):
        pass
    return answer.result


def _content(answer: Any) -> Any:
    for part in ("pydantic", "json_dict", "raw"):
        if getattr(answer, part, None) is not None:
            return getattr(answer, part)
    return answer


def _by_task(answer: Any) -> dict[str, Any]:
    return {task.name or f"task_{i}": task.raw for i, task in enumerate(answer.tasks_output, 1)}


def _parts(host: Any) -> list[object]:
    return [host] if isinstance(host, Flow) else [host, *agents_of(host)]


@contextmanager
def _alone_with(parts: Sequence[object]) -> Generator[None]:
    """Keep others off: an agent's executor, and a flow's state, can serve one run at a time.

    Raises:
        ConfigError: one of them is in a run
    """
    with _lock:
        for part in parts:
            if id(part) in _busy:
                whose = f"agent {name_of(part)!r}" if name_of(part) else f"this {type(part).__name__}"
                raise ConfigError(
                    f"{whose} is in a guarded run already, or a thread of one that was ended still works on it"
                )
        _busy.update({id(part): part for part in parts})
    try:
        yield
    finally:
        with _lock:
            for part in parts:
                _busy.pop(id(part), None)
