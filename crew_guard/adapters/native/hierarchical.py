"""A manager delegates a task to members, as often as it likes, and then answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from crew_guard.adapters.native.loop import BuiltIn, UnfinishedError
from crew_guard.adapters.native.work import Work, ending
from crew_guard.core.roles import Agent, Task, fill
from crew_guard.core.tools import tool
from crew_guard.ports import RuntimeResult


async def hierarchical(work: Work) -> RuntimeResult:
    """Do the tasks in order, each by the manager."""
    manager = work.crew.manager
    assert isinstance(manager, Agent)  # noqa: S101  the crew made it one

    async def do(task: Task) -> None:
        loop = work.loop(manager, task, delegation(work, manager, ()))
        meant = "" if task.agent == manager.name else f"\n\nIt is meant for {task.agent}."
        with ending(manager.name, loop.so_far, task.name):
            output = await loop.run(work.inputs, work.earlier(task), meant)
        await work.finish(manager.name, task, output)

    return await work.in_order(do)


def delegation(work: Work, boss: Agent, above: Sequence[str]) -> dict[str, BuiltIn]:
    """What lets an agent call members and wait for their answers.

    Args:
        boss: who delegates
        above: who waits for the boss: a member that waits is not called
    """
    waiting = (*above, boss.name)
    members = {agent.name: agent for agent in work.crew.agents if agent.name not in waiting}
    if not members:
        return {}

    async def act(agent: str, task: str) -> str:
        return await _delegated(work, boss, members[agent], task, waiting)

    def delegate(agent: str, task: str) -> str:
        raise NotImplementedError

    goals = "\n".join(f"- {name}: {fill(agent.role.goal, work.inputs)}" for name, agent in members.items())
    delegate.__doc__ = f"Give a part of your task to a member, who sees only what you write, and answers.\n{goals}"
    delegate.__annotations__ = {"agent": Literal[tuple(members)], "task": str, "return": str}
    return {"delegate": BuiltIn(tool(delegate), act)}


async def _delegated(work: Work, boss: Agent, member: Agent, wish: str, waiting: Sequence[str]) -> str:
    task = Task(wish, member.name, name=f"for {boss.name}")
    built_in = delegation(work, member, waiting) if member.delegates else {}
    loop = work.loop(member, task, built_in)

    async def answer() -> str:
        # Not filled in: it was written by a model, and holds no variables of ours.
        loop.brief(work.inputs, wish)
        return str(await loop.turns())

    try:
        return await work.gate.delegate(boss.name, member.name, wish, answer)
    except UnfinishedError as error:
        return f"{member.name} could not finish: {error}"
