"""Crews, models and counters that the runtime contract is told with."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any, Self

from pydantic import BaseModel

from crew_guard.core.limits import Limits
from crew_guard.core.messages import ModelRequest
from crew_guard.core.policy import Policy
from crew_guard.core.processes import Turns
from crew_guard.core.result import Result
from crew_guard.core.roles import Agent, Crew, Role, Task
from crew_guard.core.tools import Tool, tool
from crew_guard.models.scripted import Reply, ScriptedModel
from crew_guard.supervisor.loop import engine_loop

SECONDS = 60
"""The longest a run may take in these tests."""
LONG = 1_000
"""Tokens that a talkative reply has if it may."""


class Served:
    """What a model has served, counted where it is served. Thread-safe."""

    def __init__(self, prompt: int = LONG, completion: int = LONG) -> None:
        self.prompt, self.completion = prompt, completion
        self.calls = self.tokens = 0
        self._lock = threading.Lock()

    def bill(self, max_tokens: int | None) -> int:
        """One call: its completion's tokens, as long as it may be."""
        with self._lock:
            self.calls += 1
            made = self.completion if max_tokens is None else min(self.completion, max_tokens)
            self.tokens += self.prompt + made
            return made


class Answer(BaseModel):
    """An answer with a structure."""

    city: str
    people: int


ANN = Role(name="ann", goal="find things out")
BOB = Role(name="bob", goal="write things up")


class Looking:
    """A tool, and what it was asked for."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        seen = self.seen

        @tool
        def look(query: str) -> str:
            """Look it up."""
            seen.append(query)
            return f"found {query}"

        self.tool: Tool = look


class Session:
    """Something that is open on one loop, and can only be asked there: a queue, and a task that reads it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._questions: asyncio.Queue[tuple[str, asyncio.Future[str]]] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        self._serving = asyncio.ensure_future(self._serve())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._serving.cancel()
        await asyncio.gather(self._serving, return_exceptions=True)

    async def ask(self, question: str) -> str:
        """Ask, and wait for the answer."""
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        await self._questions.put((question, answer))
        return await answer

    async def _serve(self) -> None:
        while True:
            question, answer = await self._questions.get()
            self.asked.append(question)
            answer.set_result(f"answer to {question}")


def limits(**given: Any) -> Policy:
    """A policy of these limits; `per_agent` for those of each agent."""
    per_agent = given.pop("per_agent", {})
    return Policy.model_validate({"limits": Limits.model_validate(given), "per_agent": per_agent})


def searcher(*tools: Tool) -> Crew:
    """One agent with a tool, and a task without end."""
    return Crew([Agent(ANN, tools or (Looking().tool,))], [Task("Find everything.")])


def pair() -> Crew:
    """Two agents: one finds out, one writes up."""
    tasks = [Task("Find out about {topic}.", "ann", name="find"), Task("Write it up.", "bob", name="write")]
    return Crew([Agent(ANN, [Looking().tool]), Agent(BOB)], tasks)


def secretive(process: Any) -> Crew:
    """Two agents without tools: one after the other, or in a conversation until THE END."""
    tasks = [Task("Say it.", "ann", name="one"), Task("Say yours.", "bob", name="two")]
    if process != "conversation":
        return Crew([Agent(ANN), Agent(BOB)], tasks, process=process)
    return Crew([Agent(ANN), Agent(BOB)], tasks[:1], process=process, turns=Turns(until="THE END"))


def of_process(process: Any) -> Crew:
    """Four agents with tools who go about their tasks in this way."""
    names = ("ann", "bob", "cy", "di")
    agents = [Agent(Role(name=name, goal="find things out"), [Looking().tool]) for name in names]
    tasks = [Task("Find everything.", name) for name in names]
    if process in ("hierarchical", "handoff", "conversation"):
        tasks = tasks[:1]
    turns = Turns(until="THE END") if process == "conversation" else None
    return Crew(agents, tasks, process=process, turns=turns)


def conversation() -> list[Reply | str]:
    """What the pair's model says: it looks, it notes, it writes up."""
    return [Reply(tools=(("look", '{"query": "rivers"}'),), tokens=20), "notes on rivers", "all about rivers"]


def hungry(tokens: int = 20) -> Callable[[ModelRequest], Reply]:
    """A model that always wants to look at something else."""
    numbers = iter(range(1, 1 << 30))

    def ask(_: ModelRequest) -> Reply:
        return Reply(tools=(("look", f'{{"query": "x{next(numbers)}"}}'),), tokens=tokens)

    return ask


def restless() -> Callable[[ModelRequest], Reply]:
    """A model that asks for whatever it may ask for, in turn, and never comes to an end."""
    numbers = iter(range(1, 1 << 30))

    def ask(request: ModelRequest) -> Reply:
        number = next(numbers)
        text = f"{number}: there is more to say about it"
        if not request.tools:
            return Reply(text, tokens=400)
        spec = request.tools[number % len(request.tools)]
        return Reply(text, tools=((spec.name, arguments_for(spec.parameters, number)),), tokens=400)

    return ask


def arguments_for(schema: Any, number: int) -> str:
    """Arguments that fit the schema of a tool, new ones for each number."""
    values: dict[str, Any] = {}
    for name, kind in schema.get("properties", {}).items():
        options = kind.get("enum") or ([kind["const"]] if "const" in kind else None)
        values[name] = options[number % len(options)] if options else f"x{number}"
    return json.dumps(values)


def told(model: ScriptedModel, call: int) -> str:
    """All that the model was told at one of its calls."""
    return "\n".join(message.text for message in model.calls[call].messages)


def limit_of(result: Result) -> str:
    """Which limit stopped a run; empty where none did."""
    return "" if result.stopped is None else str(result.stopped.limit)


def reason_of(result: Result) -> str:
    """Why a run was stopped; empty where it was not."""
    return "" if result.stopped is None else result.stopped.reason


async def never() -> None:
    """Wait for ever."""
    await asyncio.get_running_loop().create_future()


def left_over() -> list[str]:
    """Tasks that are still under way on the supervisor's loop, and don't come to an end, by name."""

    async def look_around() -> list[str]:
        mine = asyncio.current_task()
        others = {task for task in asyncio.all_tasks() if task is not mine}
        if others:
            await asyncio.wait(others, timeout=_TO_END)
        return [str(task.get_coro()) for task in others if not task.done()]

    return engine_loop().submit(look_around()).result(SECONDS)


_TO_END = 3.0
"""Seconds that cancelled work has to come to an end."""
