"""What ends a conversation may be an async function."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task
from crew_guard.core.processes import Said, Turns
from crew_guard.testing import MemoryStore, ScriptedModel


@pytest.mark.parametrize("runtime", ["native", "autogen", "langgraph", "llama-index"])
def test_an_async_until_is_awaited(runtime: Any) -> None:
    """A coroutine is no yes by itself: the conversation goes on until it gives one."""

    async def agreed(said: Sequence[Said]) -> bool:
        await asyncio.sleep(0)
        return "AGREED" in said[-1].text

    model = ScriptedModel(["no", "still no", "AGREED", "never asked for"])
    crew = Crew(
        [Agent(Role(name="ann", goal="x")), Agent(Role(name="bob", goal="y"))],
        [Task("Agree")],
        process="conversation",
        turns=Turns(until=agreed),
    )
    result = Supervisor(Policy(), model=model, store=MemoryStore(), runtime=runtime).run(crew)
    assert (result.output, result.usage.steps) == ("AGREED", 3)


def test_an_async_until_that_raises_ends_the_task() -> None:
    """With what was said, as one that isn't async."""

    async def broken(_said: Sequence[Said]) -> bool:
        raise KeyError("x")

    crew = Crew([Agent(Role(name="ann", goal="x"))], [Task("Agree")], process="conversation", turns=Turns(until=broken))
    result = Supervisor(Policy(), model=ScriptedModel(["no"]), store=MemoryStore()).run(crew)
    assert (result.status, result.partial) == ("failed", "no")
    assert "until raised KeyError: 'x'" in result.error
