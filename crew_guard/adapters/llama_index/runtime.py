"""A Workflow as a Runtime: run as it is, with everything that its steps call gated by context."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from workflows import Workflow
from workflows.errors import WorkflowRuntimeError
from workflows.plugins.basic import BasicRuntime
from workflows.runtime.verbose import VerboseDecorator  # pyright: ignore[reportMissingTypeStubs]

from crew_guard.adapters.embedding import Embeds, embedding_by
from crew_guard.adapters.hosted import ModelFacts
from crew_guard.adapters.llama_index.handlers import finished
from crew_guard.adapters.llama_index.host_loop import host_loop
from crew_guard.adapters.llama_index.installed import CORE
from crew_guard.adapters.llama_index.kinds import check_llm
from crew_guard.adapters.llama_index.quiet import quiet_client
from crew_guard.adapters.llama_index.scope import HostRun, current
from crew_guard.adapters.llama_index.whose import actor, is_agent, is_team, name_of
from crew_guard.errors import ConfigError
from crew_guard.ports import Gate, RuntimeResult

_lock = threading.Lock()
_limited: set[int] = set()
"""Workflows with num_concurrent_runs that run now, by id: their semaphore belongs to one loop."""


@dataclass(frozen=True, slots=True)
class LlamaIndexRuntime:
    """Runs one workflow. A Runtime of ports."""

    workflow: Workflow
    facts: ModelFacts

    def __post_init__(self) -> None:
        _check_runtime(self.workflow)
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
            with _alone(self.workflow), embedding_by(Embeds(gate, self.facts, run.place, quiet=_quiet)):
                result = await host_loop().run(partial(_finished, self.workflow, given))
        except Exception:
            if run.problem is not None:
                raise run.problem from None
            raise
        finally:
            current.reset(token)
        if run.problem is not None:
            raise run.problem
        return RuntimeResult(_output(result))


_quiet = partial(quiet_client, kept=True)


async def _finished(workflow: Workflow, given: Mapping[str, Any]) -> Any:
    try:
        handler = cast(Any, workflow).run(**given)
    except WorkflowRuntimeError as error:
        raise ConfigError(f"workflow {type(workflow).__name__}: {error}") from error
    return await finished(handler)


def _start_of(workflow: Workflow, inputs: Mapping[str, Any]) -> dict[str, Any]:
    if not (is_agent(workflow) or is_team(workflow)):
        return dict(inputs)
    given = dict(inputs)
    task = given.pop("task", given.pop("input", None))
    if task is not None:
        given.setdefault("user_msg", task)
    if not (given.get("user_msg") or given.get("chat_history")):
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
def _alone(workflow: Workflow) -> Generator[None]:
    """A workflow with num_concurrent_runs in one guarded run at a time: its semaphore doesn't reach across loops."""
    limit: int | None = cast(Any, workflow)._num_concurrent_runs  # noqa: SLF001  it has no other name
    if limit is None:
        yield
        return
    with _lock:
        if id(workflow) in _limited:
            kind = type(workflow).__name__
            raise ConfigError(
                f"workflow {kind} has num_concurrent_runs and is in a guarded run already: run them in turn"
            )
        _limited.add(id(workflow))
    try:
        yield
    finally:
        with _lock:
            _limited.discard(id(workflow))
