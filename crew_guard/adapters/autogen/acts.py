"""What a guarded run does at each seam of AutoGen: who acts is known, and each act passes the gate.

An agent's turn and a team's run say who acts from there on; a call within a gated call is a part of it.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import Response
from autogen_agentchat.messages import HandoffMessage
from autogen_core.models import CreateResult

from crew_guard.adapters.autogen.client import Exchange, ModelGate, is_cache
from crew_guard.adapters.autogen.seams import Act, Frame, Here, Original, acted, acting, closed, here, leave
from crew_guard.adapters.autogen.tools import ToolActs, threaded
from crew_guard.adapters.hosted import ModelFacts, failure
from crew_guard.adapters.run_tasks import contained
from crew_guard.core.actions import Handoff, Outcome
from crew_guard.loops import is_being_cancelled
from crew_guard.ports import Gate


@dataclass(slots=True)
class GuardedRun:
    """One run of one host object. Acts of seams."""

    gate: Gate
    facts: ModelFacts
    leaders: Mapping[int, str]
    """Who a team's own model calls belong to, by the team's id."""
    tasks: set[asyncio.Task[Any]] = field(default_factory=set[asyncio.Task[Any]])
    """Where something acted: what is left of them when the run ends is ended."""
    refused: bool = False
    _models: dict[tuple[int, str], ModelGate] = field(default_factory=dict[tuple[int, str], ModelGate])
    """By the id of a client, which its gate holds, and who uses it."""
    acts: Mapping[str, Act] = field(init=False)
    """See Acts."""

    def __post_init__(self) -> None:
        tools = ToolActs(self.gate, self.seen)
        self.acts = {
            "create": self._create,
            "create_stream": self._create_stream,
            "call_tool": tools.call_tool,
            "call_tool_stream": tools.call_tool_stream,
            "run_json": tools.run_json,
            "run_json_stream": tools.run_json_stream,
            "execute_code_blocks": tools.execute_code_blocks,
            "on_messages": self._on_messages,
            "on_messages_stream": self._on_messages_stream,
            "run_stream": self._run_stream,
            "_get_input": self._get_input,
            "on_message_impl": self._on_message_impl,
            "select_speaker": self._select_speaker,
        }

    def seen(self) -> None:
        """Something acts in this task."""
        if (task := asyncio.current_task()) is not None:
            self.tasks.add(task)

    # Who acts

    async def _on_messages(self, original: Original, agent: Any, args: Any, options: Any) -> Any:
        with contained(), acting(Here(self, agent.name)):
            return await original(agent, *args, **options)

    async def _on_messages_stream(
        self, original: Original, agent: Any, args: Any, options: Any
    ) -> AsyncGenerator[Any, None]:
        self.seen()
        now, items = Here(self, agent.name), original(agent, *args, **options)
        assists = isinstance(agent, AssistantAgent)
        try:
            with contained():
                while True:
                    token = here.set(now)  # as `acted` does: one generator less for each item
                    try:
                        item = await anext(items)
                    except StopAsyncIteration:
                        return
                    finally:
                        leave(token)
                    # A refused handoff can't be told within the agent: its tool loop waits for ever for what raises.
                    if assists and isinstance(item, Response):
                        await self._handed_over(agent.name, item)
                    yield item
        finally:
            await closed(now, items)

    async def _handed_over(self, agent: str, response: Response) -> None:
        message = response.chat_message
        if isinstance(message, HandoffMessage):
            action = Handoff(agent, message.target, message.content, nests=False)
            self.gate.settle(await self.gate.admit(action), Outcome("ok", text=message.target))

    def _run_stream(self, original: Original, team: Any, args: Any, options: Any) -> AsyncGenerator[Any, None]:
        now = here.get()
        own = getattr(team, "_group_chat_manager_name", now.agent if now else "")
        return acted(Here(self, self.leaders.get(id(team), own)), original(team, *args, **options))

    async def _on_message_impl(self, original: Original, part: Any, args: Any, options: Any) -> Any:
        """What a team's manager does, and what the team has its members do: in tasks that nobody looks after."""
        context = args[1] if len(args) > 1 else options["ctx"]
        with contained(lambda: is_being_cancelled() or context.cancellation_token.is_cancelled()):
            return await original(part, *args, **options)

    async def _select_speaker(self, original: Original, manager: Any, args: Any, options: Any) -> Any:
        """What a manager does in a task of its own."""
        with contained(is_being_cancelled):
            return await original(manager, *args, **options)

    async def _get_input(self, original: Original, agent: Any, args: Any, options: Any) -> Any:
        """UserProxyAgent._get_input: what asks a person may block a thread, as a tool may."""
        if not agent._is_async:  # noqa: SLF001  AutoGen names it nowhere else
            agent = copy.copy(agent)
            agent.input_func = threaded(self.gate, f"{agent.name}/input_func", agent.input_func)
        return await original(agent, *args, **options)

    # Models

    async def _create(self, original: Original, client: Any, args: Any, options: dict[str, Any]) -> Any:
        now = self._now()
        outer = _of_a_model(now.frame)
        if outer is not None and _is_same(outer.owner, client):
            return await self._part(now, outer, original, args, options)
        asked = _delegated(outer)
        if is_cache(client):
            return await original(client, *args, **options)
        model = self._model(client, now.agent)
        exchange = await model.begin(_messages(args, options), options, outer=asked)
        token = here.set(Here(self, now.agent, Frame("model", model.client, exchange=exchange)))
        try:
            result = await original(model.client, *args, **options)
        except BaseException as error:
            exchange.fail(error)
            raise
        finally:
            leave(token)
        model.end(exchange, result)
        return result

    async def _create_stream(
        self, original: Original, client: Any, args: Any, options: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        now = self._now()
        outer = _of_a_model(now.frame)
        if outer is not None and _is_same(outer.owner, client):
            async for item in self._part_stream(now, outer, original, args, options):
                yield item
            return
        asked = _delegated(outer)
        if is_cache(client):
            async for item in original(client, *args, **options):
                yield item
            return
        model = self._model(client, now.agent)
        exchange = await model.begin(_messages(args, options), options, streams=True, outer=asked)
        inside = Here(self, now.agent, Frame("model", model.client, exchange=exchange))
        items = acted(inside, original(model.client, *args, **options))
        try:
            async for item in items:
                if isinstance(item, CreateResult):
                    model.end(exchange, item)
                elif isinstance(item, str) and not exchange.attempt.settled:
                    self.gate.progress(exchange.attempt.grant, item)
                else:
                    self.gate.progress()
                yield item
        except BaseException as error:
            exchange.fail(error)
            raise
        finally:
            await items.aclose()
        exchange.end(Outcome("failed", text="the stream ended without a result"))

    async def _part(self, now: Here, outer: Frame, original: Original, args: Any, options: Any) -> Any:
        frame, exchange = await self._within(outer)
        try:
            with acting(Here(self, now.agent, frame)):
                result = await original(outer.owner, *args, **options)
        except BaseException as error:
            _leaf(frame, exchange, failure(error))
            raise
        _leaf(frame, exchange, exchange.as_told(result))
        return result

    async def _part_stream(
        self, now: Here, outer: Frame, original: Original, args: Any, options: Any
    ) -> AsyncGenerator[Any, None]:
        frame, exchange = await self._within(outer)
        items = acted(Here(self, now.agent, frame), original(outer.owner, *args, **options))
        try:
            async for item in items:
                if isinstance(item, CreateResult):
                    _leaf(frame, exchange, exchange.as_told(item))
                yield item
        except BaseException as error:
            _leaf(frame, exchange, failure(error))
            raise
        finally:
            await items.aclose()

    async def _within(self, outer: Frame) -> tuple[Frame, Exchange]:
        """A client's call of a method of its own: its first is the call that was let through, each other is one more.

        So is the first one after it has asked another client, for which that call was withdrawn.
        """
        exchange = outer.exchange
        assert exchange is not None  # noqa: S101  a model's has one
        outer.parts += 1
        if outer.parts > 1 or exchange.attempt.settled:
            await exchange.follow(self.gate)
        return Frame("model", outer.owner, exchange=exchange), exchange

    def _now(self) -> Here:
        self.seen()
        now = here.get()
        assert now is not None  # noqa: S101  a seam is only acted at where someone acts
        return now

    def _model(self, client: Any, agent: str) -> ModelGate:
        key = id(client), agent
        known = self._models.get(key)
        if known is None or known.own is not client or known.loop is not asyncio.get_running_loop():
            known = self._models[key] = ModelGate(client, agent, self.gate, self.facts)
        return known


def _of_a_model(frame: Frame | None) -> Frame | None:
    return frame if frame is not None and frame.kind == "model" else None


def _is_same(owner: object, client: object) -> bool:
    """Whether a client is the one whose call is under way: what stands in for it has the same attributes."""
    return vars(owner) is vars(client)


def _delegated(outer: Frame | None) -> Exchange | None:
    """A client whose own code asks another one has sent nothing itself, or what it sent before."""
    exchange = outer.exchange if outer is not None else None
    if outer is not None and exchange is not None:
        exchange.delegate(sends=outer.parts > 0)
    return exchange


def _leaf(frame: Frame, exchange: Exchange, outcome: Outcome) -> None:
    if frame.parts == 0:
        exchange.last = outcome


def _messages(args: Any, options: Mapping[str, Any]) -> Any:
    return args[0] if args else options["messages"]
