"""Exceptions that can't even be put into words, from wherever users' code runs, end nothing that they need not end."""

from __future__ import annotations

import asyncio
from typing import Any

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task, tool
from crew_guard.testing import MemoryStore, Reply, ScriptedModel


class SlipError(Exception):
    def __str__(self) -> str:
        return f"code {self.reason}"  # type: ignore[attr-defined]


@tool
def boom() -> str:
    """Boom."""
    raise SlipError


@tool
async def several() -> str:
    """Several at once."""

    async def fails() -> None:
        raise ValueError("no such row")

    async with asyncio.TaskGroup() as group:
        group.create_task(fails())
    return "never"


def go(*said: Any, tools: Any = (), verify: Any = None) -> tuple[Any, ScriptedModel]:
    model = ScriptedModel(list(said))
    crew = Crew([Agent(Role(name="ann", goal="x"), tools)], [Task("x", verify=verify)])
    return Supervisor(Policy(), model=model, store=MemoryStore()).run(crew), model


def test_a_tool_whose_error_has_no_words_has_failed() -> None:
    """Its agent reads the kind, and goes on."""
    result, model = go(Reply(tools=(("boom", "{}"),)), "done", tools=[boom])
    assert (result.status, result.output) == ("done", "done")
    assert model.calls[1].messages[-1].text == "boom failed: SlipError"


def test_an_agent_reads_what_is_inside_of_a_group() -> None:
    """ "1 sub-exception" is no help to anybody."""
    result, model = go(Reply(tools=(("several", "{}"),)), "done", tools=[several])
    assert result.done
    assert model.calls[1].messages[-1].text.endswith("(1 sub-exception): ValueError: no such row")


def test_a_verifier_whose_error_has_no_words_has_not_said_yes() -> None:
    """The run fails with a verdict, and with what the agent said."""

    def verify(_output: Any, _context: Any) -> bool:
        raise SlipError

    result, _ = go("done", verify=verify)
    assert (result.status, result.partial) == ("failed", "done")
    assert "the verifier raised SlipError" in result.error


def test_a_model_whose_error_has_no_words_fails_its_run() -> None:
    """The result says so; nothing else comes out of it."""

    def raises(_request: Any) -> str:
        raise SlipError

    model = ScriptedModel(raises)
    crew = Crew([Agent(Role(name="ann", goal="x"))], [Task("x")])
    result = Supervisor(Policy(), model=model, store=MemoryStore()).run(crew)
    assert result.status == "failed"
    assert "raised SlipError" in result.error
