"""Async tools that don't end when they are cancelled: their time holds all the same, and the result names them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task, tool
from crew_guard.adapters.tool_time import ToolOverdueError, in_time
from crew_guard.core.actions import Grant, ToolCall
from crew_guard.core.usage import NOTHING
from crew_guard.testing import MemoryStore, Reply, ScriptedModel
from crew_guard.workflows import overdue


class Stubborn:
    """A tool that goes on until it is let go, however it is cancelled."""

    def __init__(self, how: str) -> None:
        self.cancelled = False
        self._how = how
        self._go = asyncio.Event()

    async def work(self) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            if self._how == "cleans up":
                await self._go.wait()
                raise
        while not self._go.is_set():
            try:
                await self._go.wait()
            except asyncio.CancelledError:
                continue
        return "late"

    def let_go(self) -> None:
        self._go.set()


@pytest.mark.parametrize("how", ["cleans up", "swallows it"])
def test_an_async_tool_is_over_at_its_time(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its agent reads so and goes on; the result names what is left."""
    monkeypatch.setattr(overdue, "GRACE", 0.01)
    stubborn = Stubborn(how)

    @tool(max_seconds=0.01)
    async def fetch() -> str:
        """Fetch."""
        return await stubborn.work()

    model = ScriptedModel([Reply(tools=(("fetch", "{}"),)), "done"])
    crew = Crew([Agent(Role(name="ann", goal="x"), [fetch])], [Task("x")])

    async def main() -> Any:
        try:
            return await asyncio.wait_for(Supervisor(Policy(), model=model, store=MemoryStore()).arun(crew), 30)
        finally:
            stubborn.let_go()

    result = asyncio.run(main())
    assert (result.status, result.output, result.late) == ("done", "done", ("ann/fetch",))
    assert stubborn.cancelled
    assert model.calls[1].messages[-1].text == "fetch was ended after 0.01 s, its max_seconds"


def test_an_async_tool_that_ends_when_it_is_cancelled_is_not_late() -> None:
    """What it cleans up within its grace is done."""
    closed: list[str] = []

    @tool(max_seconds=0.01)
    async def fetch() -> str:
        """Fetch."""
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            closed.append("session")
        return "never"

    model = ScriptedModel([Reply(tools=(("fetch", "{}"),)), "done"])
    crew = Crew([Agent(Role(name="ann", goal="x"), [fetch])], [Task("x")])
    result = Supervisor(Policy(), model=model, store=MemoryStore()).run(crew)
    assert (result.output, result.late, closed) == ("done", (), ["session"])


@pytest.mark.parametrize("error", [ValueError("x"), TimeoutError("its own"), SystemExit(3)])
def test_what_a_tool_with_a_time_raises_is_its_own(error: BaseException) -> None:
    """The agent reads it; another run on the loop goes on."""

    @tool(max_seconds=60)
    async def fetch() -> str:
        """Fetch."""
        raise error

    model = ScriptedModel([Reply(tools=(("fetch", "{}"),)), "done"])
    crew = Crew([Agent(Role(name="ann", goal="x"), [fetch])], [Task("x")])
    result = Supervisor(Policy(), model=model, store=MemoryStore()).run(crew)
    assert (result.output, result.late) == ("done", ())
    assert model.calls[1].messages[-1].text == f"fetch failed: {type(error).__name__}: {error}"


class Names:
    """The part of a gate that names what is left behind."""

    def __init__(self) -> None:
        self.left: list[str] = []

    def in_thread(self, grant: Grant) -> Any:
        self.left.append(grant.action.target)
        return self.left.clear


def test_a_hosts_async_tool_is_over_at_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left is named at the gate until it ends at last; without a limit nothing is done beside the work."""
    monkeypatch.setattr(overdue, "GRACE", 0.01)

    async def main() -> None:
        gate, stubborn = Names(), Stubborn("swallows it")
        grant = Grant("a1", ToolCall("ann", "fetch"), 0, NOTHING, 0.0, 0.01)
        with pytest.raises(ToolOverdueError, match=r"fetch was ended after 0.01 s, its max_seconds"):
            await in_time(grant, stubborn.work(), gate=gate)  # type: ignore[arg-type]
        assert gate.left == ["fetch"]
        (left,) = overdue._left
        stubborn.let_go()
        assert (await left)[0] == "late"
        await asyncio.sleep(0)
        assert not gate.left
        assert not overdue._left
        free = Grant("a2", ToolCall("ann", "fetch"), 0, NOTHING, 0.0)
        task = asyncio.current_task()

        async def here() -> bool:
            return asyncio.current_task() is task

        assert await in_time(free, here(), gate=gate)  # type: ignore[arg-type]

    asyncio.run(main())
