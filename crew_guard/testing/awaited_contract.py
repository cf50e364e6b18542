"""What every runtime must do where a run is awaited: work on the caller's loop, and leave nothing there.

A part of RuntimeContract, which says how to subclass it.
"""

# ruff: noqa: S101 - these are tests, though they ship in the package

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from crew_guard.api import Supervisor
from crew_guard.core.policy import Policy
from crew_guard.core.result import Result
from crew_guard.core.tools import tool
from crew_guard.models.scripted import Reply, ScriptedModel
from crew_guard.testing.crews import SECONDS, Session, hungry, left_over, limits, never, reason_of, searcher, told

T = TypeVar("T")


class AwaitedContract(ABC):
    """Subclassed by RuntimeContract."""

    @abstractmethod
    def supervisor(self, model: ScriptedModel, rules: Policy | None = None) -> Supervisor:
        """See RuntimeContract."""

    def test_what_is_open_on_the_callers_loop_can_be_used(self) -> None:
        """A session of one loop, as of a database or an MCP server, asked by a tool of a run that is awaited there."""

        async def both() -> tuple[Result, list[str]]:
            async with Session() as session:

                @tool
                async def look(query: str) -> str:
                    """Look it up."""
                    return await session.ask(query)

                result = await self.supervisor(model).arun(searcher(look))
                return result, session.asked

        model = ScriptedModel([Reply(tools=(("look", '{"query": "rivers"}'),)), "it is done"])
        result, asked = _within_time(both())
        assert result.done, result
        assert asked == ["rivers"]
        assert "answer to rivers" in told(model, -1)

    @pytest.mark.parametrize("how", ["deadline", "kill", "cancel"])
    def test_an_awaited_run_that_is_ended_leaves_no_task_on_its_loop(self, how: str) -> None:
        """Whichever way it ends while its model is asked."""

        async def ended() -> tuple[str, list[str]]:
            asked, before = asyncio.Event(), asyncio.all_tasks()
            loop = asyncio.get_running_loop()

            async def stall() -> None:
                loop.call_soon_threadsafe(asked.set)  # a host's model may be asked in a thread
                await never()

            model = ScriptedModel(hungry(), wait=stall)
            supervisor = self.supervisor(model, limits(max_seconds=0.5) if how == "deadline" else None)
            run = asyncio.ensure_future(supervisor.arun(searcher(), run_id="awaited"))
            await asked.wait()
            if how == "kill":
                assert supervisor.kill("awaited")
            elif how == "cancel":
                run.cancel()
            (result,) = await asyncio.gather(run, return_exceptions=True)
            reason = "cancel" if isinstance(result, asyncio.CancelledError) else reason_of(result)  # pyright: ignore[reportArgumentType]
            left = asyncio.all_tasks() - before
            if left:
                await asyncio.wait(left, timeout=5)
            return reason, [str(task.get_coro()) for task in left if not task.done()]

        _within_time(self.supervisor(ScriptedModel(["done"])).arun(searcher()))  # the first may take its time
        assert _within_time(ended()) == ({"kill": "killed"}.get(how, how), [])
        assert not left_over()


def _within_time(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, SECONDS))
