"""A Workflow as a Runtime: run as it is, with everything that its steps call gated by context."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from pydantic import ValidationError
from workflows import Workflow
from workflows.errors import WorkflowRuntimeError
from workflows.plugins.basic import BasicRuntime
from workflows.runtime.verbose import VerboseDecorator  # pyright: ignore[reportMissingTypeStubs]

from crew_guard.adapters.connections import quiet_client
from crew_guard.adapters.defining import tried
from crew_guard.adapters.embedding import Embeds, embedding_by
from crew_guard.adapters.hosted import ModelFacts, come_from
from crew_guard.adapters.llama_index.defining import definition_of, name_of_host, parts_of
from crew_guard.adapters.llama_index.handlers import finished
from crew_guard.adapters.llama_index.host_loop import carried
from crew_guard.adapters.llama_index.installed import CORE
from crew_guard.adapters.llama_index.kinds import check_llm
from crew_guard.adapters.llama_index.scope import HostRun, current
from crew_guard.adapters.llama_index.threads import name_steps
from crew_guard.adapters.llama_index.whose import actor, is_agent, is_team, name_of
from crew_guard.errors import ConfigError
from crew_guard.ports import Gate, RuntimeResult

_MESSAGE = frozenset({"ChatMessage"})
_lock = threading.Lock()
_limited: dict[int, tuple[asyncio.AbstractEventLoop, int]] = {}
"""By the id of a workflow with num_concurrent_runs: the loop that its semaphore belongs to, and guarded runs there."""


@dataclass(frozen=True, slots=True)
class LlamaIndexRuntime:
    """Runs one workflow. A Runtime of ports."""

    workflow: Workflow
    facts: ModelFacts
    _parts: list[str] = field(default_factory=list[str], init=False, repr=False)

    def __post_init__(self) -> None:
        _check_runtime(self.workflow)
        self._parts.extend(tried(parts_of, self.workflow) or ())
        name_steps()
        if CORE.is_installed():
            from crew_guard.adapters.llama_index.patches import install

            install()
            for agent in _agents(self.workflow):
                check_llm(agent.llm, f"the model of agent {agent.name!r}")
            for whose, llm in _held(self.workflow):
                check_llm(llm, whose)

    @property
    def name(self) -> str:
        return "llama-index"

    def members(self) -> Sequence[str]:
        """The agents of LlamaIndex; the steps of other workflows are known when they ask a model."""
        return [agent.name for agent in _agents(self.workflow)]

    def called(self) -> str:
        """See Described."""
        return name_of_host(self.workflow)

    def definition(self) -> Any:
        """See Described; of a workflow of one's own also what it had for agents and LLMs when it was guarded."""
        return tried(definition_of, self.workflow, _agents(self.workflow), self._parts)

    async def run(self, inputs: Mapping[str, Any], gate: Gate) -> RuntimeResult:
        """Run the workflow; what its StopEvent carries is the output, of an agent the text of its answer.

        Args:
            inputs: fields of the StartEvent; for agents the task, under "task" or "input"
            gate: every model call and tool execution goes through it
        Raises:
            ConfigError: the inputs don't fit, or a step used something that can't be gated
            RefusedError: the guard refused an action and the workflow let that through
        """
        given = _start_of(self.workflow, inputs)
        code = tuple(fn for agent in _agents(self.workflow) if (fn := getattr(agent, "code_execute_fn", None)))
        run = HostRun(gate, self.facts, partial(actor, self.workflow), code)
        token = current.set(run)
        try:
            with embedding_by(Embeds(gate, self.facts, run.place, quiet=quiet_client)):
                result = await carried(partial(_finished, self.workflow, given))
        except Exception:
            if run.problem is not None:
                raise run.problem from None
            raise
        finally:
            current.reset(token)
        if run.problem is not None:
            raise run.problem
        return RuntimeResult(_output(result))


async def _finished(workflow: Workflow, given: Mapping[str, Any]) -> Any:
    with _on_one_loop(workflow):
        try:
            handler = cast(Any, workflow).run(**given)
        except (WorkflowRuntimeError, ValidationError) as error:
            raise ConfigError(_unfit(workflow, given, error)) from None
        return await finished(handler)


def _unfit(workflow: Workflow, given: Mapping[str, Any], error: Exception) -> str:
    """Why a run could not begin; values stay out of it, they may be secrets."""
    kind: Any = cast(Any, workflow)._start_event_class  # noqa: SLF001  it has no other name
    fields = {name: value for name, value in given.items() if name != "ctx"}
    problem = error if isinstance(error, ValidationError) else None
    if problem is None and "start_event" not in given:
        try:
            kind(**fields)
        except ValidationError as found:
            problem = found
    if problem is None:
        return f"workflow {name_of(workflow)}: {error}"
    wrong = [
        f"{'.'.join(map(str, each['loc']))}: {each['msg']}"
        for each in problem.errors(include_url=False, include_context=False, include_input=False)
    ]
    names = ", ".join(fields) or "nothing"
    return (
        f"workflow {name_of(workflow)}: the inputs don't make its {kind.__name__}: {'; '.join(wrong)}. "
        f"It was given {names}; give run() its fields by name"
    )


def _start_of(workflow: Workflow, inputs: Mapping[str, Any]) -> dict[str, Any]:
    if not (is_agent(workflow) or is_team(workflow)):
        return dict(inputs)
    given = dict(inputs)
    task = given.pop("task", given.pop("input", None))
    if task is not None:
        given.setdefault("user_msg", task)
    said = given.get("user_msg")
    if said is not None and not (isinstance(said, str) or come_from(said, "llama_index", _MESSAGE)):
        raise ConfigError(
            f"agent {name_of(workflow)!r} takes its task as a text or a ChatMessage, and was given "
            f"{type(said).__name__}: run('…') or run({{'task': '…'}})"
        )
    if not (said or given.get("chat_history")):
        raise ConfigError(f"agent {name_of(workflow)!r} needs a task: run('…') or run({{'task': '…'}})")
    return given


def _output(result: Any) -> Any:
    response = getattr(result, "response", None)
    content: Any = getattr(response, "content", None)
    if content is None:
        return result
    structured = getattr(result, "structured_response", None)
    return content if structured is None else structured


def _check_runtime(workflow: Workflow) -> None:
    runtime: Any = workflow.runtime
    while isinstance(runtime, VerboseDecorator):
        runtime = cast(Any, runtime)._decorated  # noqa: SLF001  it only prints
    if not isinstance(runtime, BasicRuntime):
        raise ConfigError(
            f"workflow {type(workflow).__name__} runs on a {type(runtime).__name__}, which may run steps elsewhere; "
            "the guard needs the runtime that workflows have by default"
        )


def _agents(workflow: Workflow) -> list[Any]:
    if is_team(workflow):
        return list(cast("dict[str, Any]", cast(Any, workflow).agents).values())
    alone: list[Any] = [workflow]
    return alone if is_agent(workflow) else []


def _held(workflow: Workflow) -> Iterator[tuple[str, Any]]:
    """LLMs among a workflow's own attributes."""
    from llama_index.core.base.llms.base import BaseLLM

    for name, value in vars(workflow).items():
        if isinstance(value, BaseLLM):
            yield f"{type(workflow).__name__}.{name}", value


@contextmanager
def _on_one_loop(workflow: Workflow) -> Generator[None]:
    """A workflow with num_concurrent_runs runs on one loop at a time: its semaphore doesn't reach across loops."""
    limit: int | None = cast(Any, workflow)._num_concurrent_runs  # noqa: SLF001  it has no other name
    if limit is None:
        yield
        return
    here, key = asyncio.get_running_loop(), id(workflow)
    with _lock:
        home, runs = _limited.get(key, (here, 0))
        if home is not here:
            raise ConfigError(
                f"workflow {name_of(workflow)} has num_concurrent_runs and is in a guarded run on another event loop: "
                "run them in turn, or await them all on one loop"
            )
        _limited[key] = home, runs + 1
    try:
        yield
    finally:
        with _lock:
            _, runs = _limited.pop(key)
            if runs > 1:
                _limited[key] = here, runs - 1
