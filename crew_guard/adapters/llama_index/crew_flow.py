"""The Workflow class that a crew becomes: one step for each task, which waits for the events of those it needs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from typing import Any, Union, cast
from weakref import WeakKeyDictionary

from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from crew_guard.adapters.compiling import called_on_host
from crew_guard.adapters.native.work import TaskEndedError
from crew_guard.core.roles import Crew, Task

_BEGIN = "begin"
"""The step that begins the tasks which wait for none."""
_QUALIFIED = "CrewFlow.step"
"""Of every step: the host only takes from it that a function is a class's, and a task's own name may say otherwise."""


class Course:
    """How far one run of a crew's tasks has come."""

    def __init__(self, crew: Crew, do: Callable[[Task], Awaitable[None]]) -> None:
        self._tasks = {task.name: task for task in crew.tasks}
        self._needs = needs(crew)
        self._do = do
        self.ended: TaskEndedError | None = None
        self.error: Exception | None = None
        self._begun: set[str] = set()
        self._done: set[str] = set()
        self._under_way: set[asyncio.Task[Any]] = set()

    def ready(self) -> list[str]:
        """The tasks that may begin now, each once."""
        found = [name for name in self._tasks if name not in self._begun and self._may_begin(name)]
        self._begun.update(found)
        return found

    def _may_begin(self, name: str) -> bool:
        return all(needed in self._done for needed in self._needs[name])

    async def end(self) -> None:
        """End the tasks under way, each of which hands over what there is of it. The host needn't end for that."""
        tasks = tuple(self._under_way)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def carry_out(self, name: str) -> list[str] | None:
        """Do the task of this name; the tasks that may begin now, or None where none is to come."""
        here = cast("asyncio.Task[Any]", asyncio.current_task())
        self._under_way.add(here)
        try:
            await self._do(self._tasks[name])
        except TaskEndedError as error:
            self.ended = self.ended or error
            return None
        except Exception as error:  # noqa: BLE001  it is raised again, outside of the host
            self.error = self.error or error
            return None
        finally:
            self._under_way.discard(here)
        self._done.add(name)
        return None if len(self._done) == len(self._tasks) else self.ready()


class CrewFlow(Workflow):
    """What the workflows of crews share: hardly a name of its own, as its steps have the tasks' names."""

    def __init__(self, course: Course | None = None) -> None:
        """For one run.

        Args:
            course: the run's; None to draw the workflow only
        """
        super().__init__(timeout=None)  # the run has a deadline of its own
        self._course = course

    @property
    def course(self) -> Course:
        """The run's."""
        return cast(Course, self._course)


def needs(crew: Crew) -> dict[str, Sequence[str]]:
    """By task: those that must be done before it. Only a parallel crew's tasks don't wait for the one before."""
    if crew.process == "parallel":
        return {task.name: tuple(task.context or ()) for task in crew.tasks}
    names = [task.name for task in crew.tasks]
    return {name: names[max(0, i - 1) : i] for i, name in enumerate(names)}


_made: WeakKeyDictionary[Crew, type[CrewFlow]] = WeakKeyDictionary()
"""By crew. A class knows its crew's tasks by their names only: else it would keep what keeps it."""


def flow_for(crew: Crew) -> type[CrewFlow]:
    """The class for a crew, made once as long as there is the crew; its steps have the tasks' names."""
    made = _made.get(crew)
    if made is None:
        made = _made[crew] = _flow(crew)
    return made


def _flow(crew: Crew) -> type[CrewFlow]:
    needed = needs(crew)
    events = {name: _event(number) for number, name in enumerate(needed, 1)}
    names = called_on_host(list(needed), _step_name)
    steps = {names[name]: _step(name, names[name], needed, events) for name in needed}
    metaclass: Any = type(Workflow)
    return metaclass(crew.name, (CrewFlow,), {_BEGIN: _begin(events), **steps, "__module__": __name__})


@cache
def _event(number: int) -> type[Event]:
    """By a task's place, for all crews: pydantic never lets go of a class of events."""
    metaclass: Any = type(Event)
    return metaclass(f"task {number} may begin", (Event,), {"__module__": __name__})


def _step_name(task: str) -> str:
    """The task's name, unless a Workflow has something else by it: what only an instance has begins with _."""
    return f"task {task}" if task == _BEGIN or task.startswith("_") or hasattr(CrewFlow, task) else task


def _begin(events: Mapping[str, type[Event]]) -> Any:
    async def begin(self: CrewFlow, ev: Any) -> Any:  # noqa: ARG001  a step's signature
        return _events(self.course.ready(), events)

    return _as_step(begin, _BEGIN, StartEvent, [*events.values()])


def _step(task: str, name: str, needed: Mapping[str, Sequence[str]], events: Mapping[str, type[Event]]) -> Any:
    async def work_on(self: CrewFlow, ev: Any) -> Any:  # noqa: ARG001  a step's signature
        after = await self.course.carry_out(task)
        return StopEvent() if after is None else _events(after, events)

    following = [events[after] for after, before in needed.items() if task in before]
    return _as_step(work_on, name, events[task], [*following, StopEvent])


def _events(tasks: Sequence[str], events: Mapping[str, type[Event]]) -> Any:
    """What begins these: a list is how a step gives several events at once, and None how it gives none."""
    return [events[task]() for task in tasks] or None


def _as_step(function: Any, name: str, accepts: type[Event], gives: Sequence[type[Event]]) -> Any:
    function.__name__ = name
    function.__qualname__ = _QUALIFIED
    lists = [list[kind] for kind in gives if kind is not StopEvent]
    plain = [StopEvent] if StopEvent in gives else []
    returned = (*lists, *plain, type(None))
    function.__annotations__ = {"ev": accepts, "return": Union[returned]}  # noqa: UP007  made at run time
    return step(function)
