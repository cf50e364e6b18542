"""Agents talk in turns until the conversation is over; each knows what all others said."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from crew_guard.adapters.native.loop import AgentLoop, wish_of
from crew_guard.adapters.native.work import TaskEndedError, Work, ending
from crew_guard.core.messages import Message
from crew_guard.core.plain import error_words
from crew_guard.core.processes import Said, Turns
from crew_guard.core.roles import Agent, Task
from crew_guard.ports import RuntimeResult


async def conversation(work: Work) -> RuntimeResult:
    """Hold one conversation for each task, in order."""

    async def do(task: Task) -> None:
        talk = Talk(work, task)
        output = await talk.until_over()
        await work.finish(task.agent if task.output else talk.said[-1].agent, task, output)

    return await work.in_order(do)


@dataclass(slots=True)
class Talk:
    """One conversation: a loop for each who takes part, and what was said."""

    work: Work
    task: Task
    said: list[Said] = field(default_factory=list[Said])
    _loops: dict[str, AgentLoop] = field(default_factory=dict[str, AgentLoop])
    _heard: dict[str, int] = field(default_factory=dict[str, int])
    """How much of it each one knows."""

    async def until_over(self) -> Any:
        """The conversation's output: what was said last, or the opener's conclusion where the task has a model.

        Raises:
            TaskEndedError: it came to no end
        """
        turns = self.work.crew.turns
        assert turns is not None  # noqa: S101  the crew has checked it
        speaker: Agent | None = self.work.crew.agent(self.task.agent)
        while speaker is not None:
            text = await self._turn(speaker, self.task.description, plain=True)
            self.said.append(Said(speaker.name, str(text)))
            if await self._over(turns):
                break
            speaker = await self._next(speaker)
        if self.task.output is not None:
            return await self._turn(self.work.crew.agent(self.task.agent), "", plain=False)
        return self._said_last(turns)

    def _said_last(self, turns: Turns) -> str:
        """The last message without the phrase that ended it; where nothing is left of it, the one before."""
        text = self.said[-1].text
        if isinstance(turns.until, str):
            text = text.replace(turns.until, "").strip()
        return text or self.said[-2 if len(self.said) > 1 else -1].text

    async def _over(self, turns: Turns) -> bool:
        try:
            found = turns.over(self.said)
            over = bool(await found) if inspect.isawaitable(found) else found
        except Exception as error:
            raise TaskEndedError(f"until raised {error_words(error)}", self.said[-1].text) from error
        if over or turns.max_turns is None or len(self.said) < turns.max_turns:
            return over
        if turns.until is not None:
            raise TaskEndedError(f"the conversation came to no end in {turns.max_turns} turns", self.said[-1].text)
        return True

    async def _next(self, speaker: Agent) -> Agent | None:
        """Who speaks next: the one after in order, or whom the selector names; None where it says that all is done."""
        crew = self.work.crew
        agents = list(crew.agents)
        after = agents[(agents.index(speaker) + 1) % len(agents)]
        selector = crew.selector
        if not isinstance(selector, Agent):
            return after
        names = [agent.name for agent in agents]
        ask = f"Who speaks next? Answer with one of these names: {', '.join(names)}; or with DONE, if all is said."
        return self._named(str(await self._turn(selector, ask, plain=True)), agents, after)

    def _named(self, answer: str, agents: Sequence[Agent], after: Agent) -> Agent | None:
        found = [agent for agent in agents if re.search(rf"(?<!\w){re.escape(agent.name)}(?!\w)", answer)]
        if len(found) == 1:
            return found[0]
        # Nobody, or several: the order goes on, so that a muddled selector costs a step and no run.
        return None if not found and re.search(r"\bDONE\b", answer) else after

    async def _turn(self, agent: Agent, ask: str, *, plain: bool) -> Any:
        loop = self._loops.get(agent.name) or self._joined(agent)
        for one in self.said[self._heard[agent.name] :]:
            if one.agent != agent.name:
                loop.say(Message("user", f"{one.agent}: {one.text}"))
        self._heard[agent.name] = len(self.said)
        if agent is self.work.crew.selector:
            loop.say(Message("user", ask))
        if not plain:
            loop.say(Message("user", "The conversation is over: give its result."))
            loop = type(loop)(agent, self.task, loop.model, loop.gate, loop.transcript)
        with ending(agent.name, lambda: self.said[-1].text if self.said else loop.so_far(), self.task.name):
            return await loop.turns()

    def _joined(self, agent: Agent) -> AgentLoop:
        work = self.work
        loop = self._loops[agent.name] = work.loop(agent, replace(self.task, output=None))
        loop.brief(work.inputs, wish_of(self.task, work.inputs, work.earlier(self.task)))
        self._heard[agent.name] = 0
        return loop
