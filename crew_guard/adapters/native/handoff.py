"""One agent is active at a time, and may hand the conversation to another, who goes on in its place."""

from __future__ import annotations

from typing import Literal

from crew_guard.adapters.native.loop import AgentLoop, BuiltIn
from crew_guard.adapters.native.work import Work, ending
from crew_guard.core.actions import Handoff, Outcome
from crew_guard.core.roles import Agent, Task, fill
from crew_guard.core.tools import tool
from crew_guard.ports import RuntimeResult


async def handoff(work: Work) -> RuntimeResult:
    """Do the tasks in order; each begins with its agent and ends with whoever answers."""

    async def do(task: Task) -> None:
        loop = _loop(work, work.crew.agent(task.agent), task)
        with ending(task.agent, loop.so_far, task.name):
            output = await loop.run(work.inputs, work.earlier(task))
        while loop.heir is not None:
            loop = _taken_over(work, loop, work.crew.agent(loop.heir))
            with ending(loop.agent.name, loop.so_far, task.name):
                output = await loop.turns()
        await work.finish(loop.agent.name, task, output)

    return await work.in_order(do)


def _loop(work: Work, agent: Agent, task: Task) -> AgentLoop:
    built_in: dict[str, BuiltIn] = {}
    loop = work.loop(agent, task, built_in)
    others = {other.name: other for other in work.crew.agents if other.name != agent.name}

    async def act(agent: str, reason: str) -> str:
        if loop.heir is not None:
            return f"not to {agent}: the conversation goes to {loop.heir}"
        work.gate.settle(
            await work.gate.admit(Handoff(loop.agent.name, agent, reason, nests=False)), Outcome("ok", text=agent)
        )
        loop.heir = agent
        return f"{agent} goes on: {reason}"

    def handoff(agent: str, reason: str) -> str:
        raise NotImplementedError

    if others:
        goals = "\n".join(f"- {name}: {fill(other.role.goal, work.inputs)}" for name, other in others.items())
        handoff.__doc__ = f"Hand the conversation to another, who goes on in your place, and say why.\n{goals}"
        handoff.__annotations__ = {"agent": Literal[tuple(others)], "reason": str, "return": str}
        built_in["handoff"] = BuiltIn(tool(handoff), act)
    return loop


def _taken_over(work: Work, before: AgentLoop, agent: Agent) -> AgentLoop:
    """A loop of the next agent: who it is, and all that was said so far."""
    loop = _loop(work, agent, before.task)
    loop.brief(work.inputs)
    told = before.transcript
    known = told.bounds if loop.model is before.model else map(loop.model.bound, told.messages)
    for message, bound in list(zip(told.messages, known, strict=True))[1:]:
        loop.transcript.append(message, bound)
    return loop
