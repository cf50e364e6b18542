"""An Agent, a Crew or a Flow as a Runtime: kicked off in the scope of a guarded run.

On a thread of its own, because CrewAI blocks; but a Flow, which is async by itself, on the loop of who awaits it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from anyio import CapacityLimiter, to_thread
from crewai import Agent, Crew
from crewai.flow.async_feedback.types import HumanFeedbackPending, PendingFeedbackContext
from crewai.flow.flow import Flow

from crew_guard.adapters.crewai.checks import agents_of, called, check_agent, check_crew, manager_of, name_of
from crew_guard.adapters.crewai.defining import definition_of, name_of_host
from crew_guard.adapters.crewai.done import Done, by_task, of_each
from crew_guard.adapters.crewai.inputs import FOR_EACH, check_inputs, inputs_of, task_of
from crew_guard.adapters.crewai.leftovers import forget_earlier_runs
from crew_guard.adapters.crewai.patches import install
from crew_guard.adapters.crewai.scope import RunScope, scope_of_run, who_embeds
from crew_guard.adapters.embedding import Embeds, embedding_by
from crew_guard.adapters.hosted import ModelFacts
from crew_guard.adapters.run_tasks import contained, noting, with_its_tasks
from crew_guard.core.decisions import Stop
from crew_guard.errors import ConfigError, LimitExceededError, RefusedError
from crew_guard.loops import is_ours
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

    def called(self) -> str:
        """See Described; an agent goes by its role."""
        return name_of_host(self.host)

    def definition(self) -> Any:
        """See Described."""
        return definition_of(self.host)

    def inputs_of(self, text: str) -> Mapping[str, Any]:
        """See Spoken."""
        return inputs_of(self.host, text)

    def task_texts(self, inputs: Mapping[str, Any]) -> Sequence[str]:  # noqa: ARG002  CrewAI fills them in itself
        """The tasks' descriptions as they were declared; see Tasked. An agent's task is among the inputs."""
        if not isinstance(self.host, Crew):
            return []
        # An earlier run filled in its own inputs: those were given to that run.
        return [task._original_description or task.description for task in self.host.tasks]  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    async def run(self, inputs: Mapping[str, Any], gate: Gate) -> RuntimeResult:
        """Kick off; the answer, as a pydantic object where it is one, is the output.

        A thread can't be ended. Where this is cancelled it waits for the thread, whose every further call
        the gate refuses; cancelled again, it leaves the thread behind.

        Args:
            inputs: for an agent its task, under "task" or "input"; for a crew its inputs, or under
                "for_each" a list of several, one after the other; for a flow what its state takes
            gate: every model call and tool execution goes through it
        Raises:
            ConfigError: the inputs are none for this host, or it is in another guarded run
            RefusedError: the guard refused an action and CrewAI let that through
        """
        check_inputs(self.host, inputs)
        self._check()
        is_flow = isinstance(self.host, Flow)
        done = Done(self.host if is_flow else None, several=FOR_EACH in inputs)
        scope, loop, time_is_up = RunScope(gate, self.facts, done), asyncio.get_running_loop(), asyncio.Event()
        scope.when_time_is_up = partial(loop.call_soon_threadsafe, time_is_up.set)
        here = is_flow and not is_ours(loop)
        work = asyncio.ensure_future(self._here(inputs, scope) if here else self._on_a_thread(inputs, scope))
        try:
            return await _until_over(work, scope, time_is_up, None if here else self.host)
        except ConfigError:
            raise
        except asyncio.CancelledError:
            if here:
                work.cancel()
            else:
                _name_left(work, scope, self.host)
            await asyncio.wait({work})  # so that whoever cancelled sees that the work goes on
            _ = work.cancelled() or work.exception()
            if not (outputs := scope.done.outputs):
                raise
            return RuntimeResult(None, outputs, partial=True, reason="it was ended")
        except Exception as error:
            if not (outputs := scope.done.outputs):
                raise
            stop = error.stop if isinstance(error, RefusedError) else None
            return RuntimeResult(
                None, outputs, partial=True, reason=str(stop or error), stop=stop, error=None if stop else error
            )

    async def _on_a_thread(self, inputs: Mapping[str, Any], scope: RunScope) -> RuntimeResult:
        def kicked_off() -> RuntimeResult:
            with contained(), self._in_scope(scope):
                try:
                    found = _kicked_off(self.host, inputs)
                finally:
                    scope.threads.ended_blocking()
            return self._result(scope, *found)

        # A limiter of its own: threads that were left behind must not use up those of others.
        return await to_thread.run_sync(kicked_off, abandon_on_cancel=True, limiter=CapacityLimiter(1))

    async def _here(self, inputs: Mapping[str, Any], scope: RunScope) -> RuntimeResult:
        with self._in_scope(scope), noting(asyncio.get_running_loop()):
            try:
                found = await with_its_tasks(partial(_flowed_here, self.host, inputs), at_home=True)
            finally:
                await scope.threads.ended()
        return self._result(scope, *found)

    @contextmanager
    def _in_scope(self, scope: RunScope) -> Generator[None]:
        with _alone_with(_parts(self.host), scope), embedding_by(Embeds(scope.gate, self.facts, who_embeds)):
            token = scope_of_run.set(scope)
            forget_earlier_runs(self.host)
            try:
                yield
            except TimeoutError as error:
                if scope.time_up is None:
                    raise
                raise LimitExceededError(scope.time_up.stop) from error
            finally:
                scope_of_run.reset(token)

    def _result(self, scope: RunScope, output: Any, outputs: dict[str, Any]) -> RuntimeResult:
        if scope.problem is not None:
            raise scope.problem
        if isinstance(output, HumanFeedbackPending):
            return _waiting(output.context, outputs)
        if scope.notes.unanswered and not isinstance(self.host, Flow):  # a flow may carry requests out by itself
            reason = "CrewAI gave up at max_iter with the model's request for a tool as the answer"
            return RuntimeResult(output, outputs, partial=True, reason=reason)
        return RuntimeResult(output, outputs)

    def _check(self) -> None:
        if isinstance(self.host, Crew):
            check_crew(self.host)
        elif isinstance(self.host, Agent):
            check_agent(self.host)


def _waiting(pending: PendingFeedbackContext, outputs: Mapping[str, Any]) -> RuntimeResult:
    """What there is of a flow that waits for a person, with what that one is to look at."""
    at = str(pending.method_name)
    goes_on = f"go on with from_pending({pending.flow_id!r}) of its class, and resume('…')"
    stop = Stop("cancelled", "crew", detail=f"the flow waits for a person at {at}: {pending.message}; {goes_on}")
    return RuntimeResult(None, {**outputs, at: pending.method_output}, partial=True, reason=str(stop), stop=stop)


async def _until_over(
    work: asyncio.Future[RuntimeResult], scope: RunScope, time_is_up: asyncio.Event, threaded: Any
) -> RuntimeResult:
    """Until the work is done, or is to be left behind: a flow's own loop waits for its threads before it ends.

    Args:
        threaded: the host, where it works in a thread; None where it is on this loop, and can be ended
    """
    up = asyncio.ensure_future(time_is_up.wait())
    try:
        await asyncio.wait({work, up}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            await asyncio.wait({work}, timeout=_GRACE)
    finally:
        up.cancel()
    if work.done() or scope.time_up is None:
        return await asyncio.shield(work)
    if threaded is None:
        work.cancel()
    else:
        _name_left(work, scope, threaded)
    work.add_done_callback(lambda left: left.cancelled() or left.exception())
    raise LimitExceededError(scope.time_up.stop)


def _name_left(work: asyncio.Future[RuntimeResult], scope: RunScope, host: Any) -> None:
    """Have the run's result name a thread that is left behind, by its tasks, where nothing that is in flight tells."""
    for name in scope.done.under_way or (f"{called(host)}/kickoff",):
        over = scope.gate.in_thread(name, around=True)
        work.add_done_callback(lambda _, over=over: over())


def _kicked_off(host: Any, inputs: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The output, and the outputs by task or method."""
    if isinstance(host, Agent):
        answer = cast(Any, host).kickoff(task_of(inputs))
        return _content(answer), {}
    if isinstance(host, Flow):
        return _flowed(host, inputs)
    crew: Any = host
    if FOR_EACH in inputs:
        several = [_drained(one) for one in crew.kickoff_for_each(inputs=inputs[FOR_EACH])]
        return [_content(one) for one in several], of_each(by_task(one.tasks_output) for one in several)
    answer = _drained(crew.kickoff(inputs=dict(inputs)))
    return _content(answer), by_task(answer.tasks_output)


def _flowed(flow: Any, inputs: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    return _of_flow(flow, _drained(flow.kickoff(inputs=dict(inputs) or None)))


async def _flowed_here(flow: Any, inputs: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    answer = await flow.kickoff_async(inputs=dict(inputs) or None)
    if _streams(answer):
        async for _ in cast(AsyncIterable[Any], answer):
            pass
        answer = answer.result
    return _of_flow(flow, answer)


def _of_flow(flow: Any, answer: Any) -> tuple[Any, dict[str, Any]]:
    return _content(answer), {one["method"]: one["output"] for one in flow._method_outputs}  # noqa: SLF001


def _drained(answer: Any) -> Any:
    """What a kickoff gives in the end, where the host streams."""
    if not _streams(answer):
        return answer
    for _ in cast(Iterable[Any], answer):
        pass
    return answer.result


def _streams(answer: Any) -> bool:
    return hasattr(answer, "is_completed")


def _content(answer: Any) -> Any:
    for part in ("pydantic", "json_dict", "raw"):
        if getattr(answer, part, None) is not None:
            return getattr(answer, part)
    return answer


def _parts(host: Any) -> list[object]:
    return [host] if isinstance(host, Flow) else [host, *agents_of(host)]


@contextmanager
def _alone_with(parts: Sequence[object], scope: RunScope) -> Generator[None]:
    """Keep others off: an agent's executor, and a flow's state, can serve one run at a time.

    Args:
        scope: of the run; as long as a thread works for it, others are kept off
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

    def release() -> None:
        with _lock:
            for part in parts:
                _busy.pop(id(part), None)

    try:
        yield
    finally:
        scope.when_free(release)
