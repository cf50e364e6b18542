"""Running a workflow in a test: under a real supervisor, or at a gate whose clock the test owns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest

from crew_guard import Policy, Supervisor, Workflow
from crew_guard.core.events import Event
from crew_guard.core.result import Result
from crew_guard.ports import RuntimeResult
from crew_guard.store.memory import MemoryStore
from crew_guard.supervisor.acting import RunGate
from crew_guard.workflows.context import NodeFailedError
from tests.supervisor.gates import gate_for


class Ran:
    """One run of a workflow by itself, and its journal."""

    def __init__(
        self,
        flow: Workflow,
        inputs: Mapping[str, Any] | None = None,
        *,
        models: Mapping[str, Any] | None = None,
        **policy: Any,
    ) -> None:
        store = MemoryStore()
        supervisor = Supervisor(Policy.model_validate(policy), models=dict(models or {}), store=store)
        self.result: Result = supervisor.run(flow, inputs or {}, run_id="run1")
        self.events: list[Event] = list(store.read("run1"))

    def of(self, kind: type[Any]) -> list[Any]:
        """The events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]


class AtGate:
    """A workflow at the gate of a run, under a clock that fires every timer at once and remembers how long it was."""

    def __init__(self, flow: Workflow, *, fire: Callable[[float], bool] = lambda _: True, **policy: Any) -> None:
        self.flow = flow
        self.gate = RunGate(gate_for(**policy).keeper, "crew")
        self.waited: list[float] = []
        clock = self.gate.keeper.clock
        call_later = clock.call_later

        def seen(seconds: float, callback: Callable[[], None]) -> Any:
            timer = call_later(seconds, callback)
            if fire(seconds):
                self.waited.append(seconds)
                asyncio.get_running_loop().call_soon(clock.advance, seconds)  # type: ignore[attr-defined]
            return timer

        clock.call_later = seen  # type: ignore[method-assign]

    def run(self, inputs: Mapping[str, Any] | None = None, **options: Any) -> RuntimeResult:
        """Run it to its end."""
        return asyncio.run(self.work(inputs, **options))

    def killed(self, begun: asyncio.Event) -> None:
        """Cancel it as soon as a node says that it has begun. Where it had failed by then it says so."""

        async def main() -> None:
            task = asyncio.ensure_future(self.work())
            await begun.wait()
            task.cancel()
            with pytest.raises((asyncio.CancelledError, NodeFailedError)):
                await task

        asyncio.run(main())

    def work(
        self, inputs: Mapping[str, Any] | None = None, done: Mapping[str, Any] | None = None
    ) -> Coroutine[Any, Any, RuntimeResult]:
        """The same as a coroutine."""
        return self.flow.resume(inputs or {}, self.gate, done or {})

    def events(self) -> list[Event]:
        """The journal so far."""
        return list(self.gate.keeper.store.read("run1"))
