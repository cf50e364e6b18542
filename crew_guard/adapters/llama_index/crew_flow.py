"""The Workflow class that a crew becomes: one step for each task, which waits for the events of those it needs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, Union, cast
from weakref import WeakKeyDictionary

from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from crew_guard.adapters.native.work import TaskEndedError
from crew_guard.core.roles import Crew, Task


class CrewFlow(Workflow):
    """What the workflows of crews share. A task's step gives the events that begin the tasks after it."""

    events_of: ClassVar[Mapping[str, type[Event]]]
    """By task: what begins its step."""
    needs_of: ClassVar[Mapping[str, Sequence[str]]]
    """By task: those that must be done before it."""

    def __init__(self, do: Callable[[Task], Awaitable[None]], tasks: Sequence[Task] = ()) -> None:
        super().__init__(timeout=None)  # the run has a deadline of its own
        self.tasks = {task.name: task for task in tasks}
        self.do = do
        self.ended: TaskEndedError | None = None
        self.error: Exception | None = None
        self.begun: set[str] = set()
        self.done: set[str] = set()
        self._under_way: set[asyncio.Task[Any]] = set()

    def ready(self) -> list[Event]:
        """The events of the tasks that may begin now, each once."""
        found = [name for name in self.tasks if name not in self.begun and self._may_begin(name)]
        self.begun.update(found)
        return [self.events_of[name]() for name in found]

    def _may_begin(self, name: str) -> bool:
        return all(needed in self.done for needed in self.needs_of[name])

    async def end(self) -> None:
        """End the tasks under way, each of which hands over what there is of it. The host needn't end for that."""
        tasks = tuple(self._under_way)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def carry_out(self, name: str) -> list[Event] | StopEvent:
        """Do the task of this name; what comes after it."""
        here = cast("asyncio.Task[Any]", asyncio.current_task())
        self._under_way.add(here)
        try:
            await self.do(self.tasks[name])
        except TaskEndedError as error:
            self.ended = self.ended or error
            return StopEvent()
        except Exception as error:  # noqa: BLE001  it is raised again, outside of the host
            self.error = self.error or error
            return StopEvent()
        finally:
            self._under_way.discard(here)
        self.done.add(name)
        return StopEvent() if len(self.done) == len(self.tasks) else self.ready()


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
    steps = {_step_name(name): _step(name, needed, events) for name in needed}
    namespace = {"events_of": events, "needs_of": needed, "begin": _begin(events), **steps, "__module__": __name__}
    metaclass: Any = type(Workflow)
    return metaclass(crew.name, (CrewFlow,), namespace)


@cache
def _event(number: int) -> type[Event]:
    """By a task's place, for all crews: pydantic never lets go of a class of events."""
    metaclass: Any = type(Event)
    return metaclass(f"task {number} may begin", (Event,), {"__module__": __name__})


def _step_name(task: str) -> str:
    """The task's name, unless a Workflow has something else by it."""
    return f"task {task}" if task == "begin" or hasattr(CrewFlow, task) else task


def _begin(events: Mapping[str, type[Event]]) -> Any:
    async def begin(self: CrewFlow, ev: Any) -> Any:  # noqa: ARG001  a step's signature
        return _sent(self.ready())

    return _as_step(begin, StartEvent, [*events.values()])


def _step(task: str, needed: Mapping[str, Sequence[str]], events: Mapping[str, type[Event]]) -> Any:
    async def work_on(self: CrewFlow, ev: Any) -> Any:  # noqa: ARG001  a step's signature
        after = await self.carry_out(task)
        return after if isinstance(after, StopEvent) else _sent(after)

    work_on.__name__ = _step_name(task)
    following = [events[name] for name, before in needed.items() if task in before]
    return _as_step(work_on, events[task], [*following, StopEvent])


def _sent(events: list[Event]) -> Any:
    """A list is how a step gives several events at once."""
    return events or None


def _as_step(function: Any, accepts: type[Event], gives: Sequence[type[Event]]) -> Any:
    function.__qualname__ = f"CrewFlow.{function.__name__}"  # else it is taken for a function without a class
    lists = [list[kind] for kind in gives if kind is not StopEvent]
    plain = [StopEvent] if StopEvent in gives else []
    returned = (*lists, *plain, type(None))
    function.__annotations__ = {"ev": accepts, "return": Union[returned]}  # noqa: UP007  made at run time
    return step(function)
