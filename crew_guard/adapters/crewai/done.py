"""What a crew's tasks, or a flow's methods, have given so far: a run that is stopped hands it over."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from crew_guard.adapters.crewai.checks import name_of

_at_task: ContextVar[bool] = ContextVar("crew_guard_at_task", default=False)


class Done:
    """Of one run."""

    def __init__(self, flow: object | None = None, *, several: bool = False) -> None:
        """Nothing yet.

        Args:
            flow: the flow that is run, where it is one
            several: whether a crew is kicked off for each of several inputs
        """
        self._flow, self._several = flow, several
        self._methods: dict[str, Any] = {}
        self._tasks: list[tuple[object, Any]] = []
        self._under_way: dict[int, str] = {}

    def method(self, flow: object, name: str, output: Any) -> None:
        """A method has given this."""
        if flow is self._flow:
            self._methods[name] = output

    @contextmanager
    def at_task(self, task: Any, agent: Any) -> Generator[Callable[[Any], Any]]:
        """While a task is done: gives what takes its output. A task inside of another one's is a part of that."""
        if self._flow is not None or _at_task.get():
            yield lambda output: output
            return

        def note(output: Any) -> Any:
            self._tasks.append((getattr(agent, "crew", None), output))
            return output

        token = _at_task.set(True)
        self._under_way[id(task)] = f"{name_of(agent) or 'crew'}/{name_of_task(task, agent)}"
        try:
            yield note
        finally:
            self._under_way.pop(id(task), None)
            _at_task.reset(token)

    @property
    def under_way(self) -> tuple[str, ...]:
        """A crew's tasks that were begun and haven't ended, as agent/task."""
        return tuple(self._under_way.values())

    @property
    def outputs(self) -> Mapping[str, Any]:
        """By task or method, as the whole run's would be."""
        if self._flow is not None:
            return dict(self._methods)
        tasks = tuple(self._tasks)
        if not self._several:
            return by_task(output for _, output in tasks)
        crews = list({id(crew): crew for crew, _ in tasks}.values())  # a copy for each of the inputs, one by one
        each = (by_task(output for its, output in tasks if its is crew) for crew in crews)
        return of_each(each)


def name_of_task(task: Any, agent: Any) -> str:
    """The task's own name, or by its place in the crew of its agent."""
    tasks = getattr(getattr(agent, "crew", None), "tasks", ())
    return task.name or next((f"task_{i}" for i, one in enumerate(tasks, 1) if one is task), "task")


def by_task(outputs: Iterable[Any]) -> dict[str, Any]:
    """Texts of tasks' outputs by the tasks' names."""
    return {task.name or f"task_{i}": task.raw for i, task in enumerate(outputs, 1)}


def of_each(several: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The outputs for several inputs, each by its number."""
    return {f"{i}.{name}": text for i, outputs in enumerate(several, 1) for name, text in outputs.items()}
