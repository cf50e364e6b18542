"""A conversation as a team of AutoGen: RoundRobinGroupChat, or SelectorGroupChat where somebody chooses.

The crew's turns are the team's termination condition. Who speaks next is known before the team asks: the
selector's word that all is said has to end the team, and only a condition can.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from autogen_agentchat.base import TerminatedException, TerminationCondition
from autogen_agentchat.messages import BaseAgentEvent, BaseChatMessage, StopMessage
from autogen_agentchat.teams import BaseGroupChat, RoundRobinGroupChat, SelectorGroupChat
from autogen_core import CancellationToken

from crew_guard.adapters.autogen.ending import end
from crew_guard.adapters.autogen.looping import HostLoop, HostWork, identifier
from crew_guard.adapters.autogen.member import BridgeClient
from crew_guard.adapters.native.conversation import Talk
from crew_guard.adapters.native.loop import wish_of
from crew_guard.adapters.native.work import ending
from crew_guard.core.messages import Message
from crew_guard.core.processes import Said
from crew_guard.core.roles import Agent, Task
from crew_guard.ports import RuntimeResult


async def conversation(work: HostWork) -> RuntimeResult:
    """Hold one conversation for each task, in order."""

    async def do(task: Task) -> None:
        talk = HostTalk(work, task)
        output = await talk.until_over()
        await work.finish(task.agent if task.output else talk.said[-1].agent, task, output)

    return await work.in_order(do)


@dataclass(slots=True)
class HostTalk(Talk):
    """One conversation as a team."""

    next_name: str = ""

    async def until_over(self) -> Any:
        """See Talk.until_over."""
        crew = self.work.crew
        turns = crew.turns
        assert turns is not None  # noqa: S101  the crew has checked it
        opener = crew.agents.index(crew.agent(self.task.agent))
        speakers = [*crew.agents[opener:], *crew.agents[:opener]]
        loops = {identifier(agent.name): self._seated(agent) for agent in speakers}
        ends = _Turns(self, loops)
        team = self._team(loops, ends)
        self.next_name = identifier(self.task.agent)
        with ending(self.task.agent, lambda: self.said[-1].text if self.said else loops[self.next_name].so_far()):
            await _run(team, wish_of(self.task, self.work.inputs, self.work.earlier(self.task)), loops, ends)
        if self.task.output is not None:
            return await self._conclusion(loops[identifier(self.task.agent)])
        return self._said_last(turns)

    def _seated(self, agent: Agent) -> HostLoop:
        work = self.work
        assert isinstance(work, HostWork)  # noqa: S101  conversation() made it with one
        loop = work.loop(agent, replace(self.task, output=None))
        loop.in_team = True
        loop.brief(work.inputs)
        return loop

    def _team(self, loops: dict[str, HostLoop], ends: _Turns) -> BaseGroupChat:
        members: list[Any] = [loop.member() for loop in loops.values()]
        name = identifier(self.work.crew.name)
        selector = self.work.crew.selector
        if not isinstance(selector, Agent) or len(members) == 1:
            return RoundRobinGroupChat(members, name=name, termination_condition=ends)
        client = BridgeClient(self._seated(selector))
        return SelectorGroupChat(
            members, client, name=name, termination_condition=ends, selector_func=lambda _: self.next_name
        )

    async def goes_on(self, agent: Agent, text: str) -> bool:
        """Note what was said, and whether anybody says more: `next_name`."""
        turns = self.work.crew.turns
        assert turns is not None  # noqa: S101  the crew has checked it
        self.said.append(Said(agent.name, text))
        if await self._over(turns):
            return False
        speaker = await self._next(agent)
        self.next_name = identifier(speaker.name) if speaker else ""
        return speaker is not None

    async def _conclusion(self, loop: HostLoop) -> Any:
        said = [one.agent for one in self.said]
        since = len(said) - said[::-1].index(loop.agent.name)
        whole = HostLoop(loop.agent, self.task, loop.model, loop.gate, loop.transcript, names=loop.names)
        for one in self.said[since:]:
            whole.say(Message("user", f"{one.agent}: {one.text}"))
        whole.say(Message("user", "The conversation is over: give its result."))
        with ending(loop.agent.name, lambda: self.said[-1].text):
            return await whole.turns()


class _Turns(TerminationCondition):
    """The crew's turns as AutoGen asks for them: after each message of a member."""

    def __init__(self, talk: HostTalk, loops: dict[str, HostLoop]) -> None:
        self._talk = talk
        self._loops = loops
        self._over = False
        self.error: BaseException | None = None

    @property
    def terminated(self) -> bool:
        return self._over

    async def __call__(self, messages: Sequence[BaseAgentEvent | BaseChatMessage]) -> StopMessage | None:
        if self._over:
            raise TerminatedException("the conversation is over")
        for message in messages:
            loop = self._loops.get(message.source)
            if loop is None or not isinstance(message, BaseChatMessage):
                continue
            if loop.error is None:
                try:
                    self._over = not await self._talk.goes_on(loop.agent, str(loop.output))
                except Exception as error:  # noqa: BLE001  whoever runs the team raises it
                    self.error = error
            if self._over or loop.error or self.error:
                self._over = True
                return StopMessage(content="the conversation is over", source="crew_guard")
        return None

    async def reset(self) -> None:
        self._over = False


async def _run(team: BaseGroupChat, wish: str, loops: dict[str, HostLoop], ends: _Turns) -> None:
    """Run a team to its end.

    Raises:
        what a member's turn, or the condition, raised itself: a team tells it in words only
    """
    token = CancellationToken()
    work = asyncio.ensure_future(team.run(task=wish, cancellation_token=token))
    try:
        await asyncio.wait({work})
        with suppress(Exception):
            await work
        own = next((loop.error for loop in loops.values() if loop.error is not None), ends.error)
        if own is not None:
            raise own
        await work
    finally:
        await end(work, token, [team], ())
