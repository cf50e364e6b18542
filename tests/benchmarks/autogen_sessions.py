"""57 recorded model calls of AutoGen agents, replayed under the guard: python -m tests.benchmarks.autogen_sessions

Each call is rebuilt as the turn of an AssistantAgent that made it: its system message, what was said before, and
what it was told; and each session as a team whose agents speak in the recorded order. The request that reaches the
client must be the recorded one, the output the recorded answer, and the ledger's tokens the recorded usage.
"""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autogen_agentchat.agents import AssistantAgent, BaseChatAgent
from autogen_agentchat.base import Response
from autogen_agentchat.messages import BaseChatMessage, MultiModalMessage, TextMessage
from autogen_agentchat.teams import SelectorGroupChat
from autogen_core import CancellationToken
from autogen_core.model_context import UnboundedChatCompletionContext
from autogen_core.models import (
    AssistantMessage,
    ChatCompletionClient,
    CreateResult,
    LLMMessage,
    ModelInfo,
    RequestUsage,
    SystemMessage,
    UserMessage,
)

from crew_guard import Policy, guard
from crew_guard.store.memory import MemoryStore

DATA = Path(os.environ.get("CREW_GUARD_DATA", Path(__file__).parents[2] / "../shared/data"))
FOLDER = DATA / "autogen_recorded_sessions"
SESSIONS = ("demonstration", "self_teaching", "teachability")
_KINDS: Mapping[str, Any] = {
    "SystemMessage": SystemMessage, "UserMessage": UserMessage, "AssistantMessage": AssistantMessage
}  # fmt: skip
_INFO = ModelInfo(vision=True, function_calling=True, json_output=True, family="gpt-4o", structured_output=True)


@dataclass(frozen=True)
class Call:
    """One recorded call."""

    messages: tuple[LLMMessage, ...]
    result: CreateResult

    @property
    def system(self) -> str:
        return str(self.messages[0].content)

    @property
    def tokens(self) -> int:
        return self.result.usage.prompt_tokens + self.result.usage.completion_tokens


@dataclass
class Tally:
    """How the replay of one session compares with its record."""

    calls: int = 0
    requests: int = 0
    outputs: int = 0
    charged: int = 0
    recorded: int = 0
    problems: list[str] = field(default_factory=list[str])


class Replay(ChatCompletionClient):
    """Answers as recorded, and keeps what it was asked. It speaks of max_tokens because the recorded client did."""

    component_type = "model"

    def __init__(self, calls: Sequence[Call]) -> None:
        self.calls = list(calls)
        self.asked: list[list[LLMMessage]] = []

    async def create(self, messages: Sequence[LLMMessage], **options: Any) -> CreateResult:
        assert (options.get("extra_create_args") or {}).get("max_tokens", 1) > 0
        self.asked.append(list(messages))
        return self.calls[len(self.asked) - 1].result.model_copy()

    def create_stream(self, messages: Sequence[LLMMessage], **options: Any) -> AsyncGenerator[str | CreateResult, None]:
        raise NotImplementedError

    async def close(self) -> None: ...

    def actual_usage(self) -> RequestUsage:
        return RequestUsage(0, 0)

    total_usage = actual_usage

    def count_tokens(self, messages: Sequence[LLMMessage], **options: Any) -> int:
        return 0

    remaining_tokens = count_tokens

    @property
    def capabilities(self) -> Any:
        return _INFO

    @property
    def model_info(self) -> ModelInfo:
        return _INFO


class Speaker(BaseChatAgent):
    """Makes the recorded calls of one identity, one a turn."""

    produced_message_types = (TextMessage,)

    def __init__(self, name: str, calls: Sequence[Call]) -> None:
        super().__init__(name, "as recorded")
        self.client = Replay(calls)
        self.right = 0

    async def on_messages(self, messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken) -> Response:
        call = self.client.calls[len(self.client.asked)]
        result = await self.client.create(call.messages, cancellation_token=cancellation_token)
        self.right += result.content == call.result.content
        return Response(chat_message=TextMessage(content=str(result.content), source=self.name))

    async def on_reset(self, cancellation_token: CancellationToken) -> None: ...


def recorded(session: str) -> list[Call]:
    """The calls of a session, in order."""
    entries = json.loads(gzip.decompress((FOLDER / f"{session}.json.gz").read_bytes()))
    return [
        Call(
            tuple(_KINDS[one["type"]].model_validate(one) for one in entry["messages"]),
            CreateResult.model_validate(entry["response"]),
        )
        for entry in entries
    ]


def turns(calls: Sequence[Call]) -> Tally:
    """Each call as the turn of an AssistantAgent."""
    tally = Tally()
    for number, call in enumerate(calls):
        told = call.messages[-1]
        assert isinstance(told, UserMessage)
        client = Replay([call])
        context = UnboundedChatCompletionContext(initial_messages=list(call.messages[1:-1]))
        agent = AssistantAgent("agent", client, system_message=call.system, model_context=context)
        if isinstance(told.content, str):
            task: Any = TextMessage(content=told.content, source=told.source)
        else:
            task = MultiModalMessage(content=told.content, source=told.source)
        result = guard(agent, _policy(), store=MemoryStore()).run({"task": task})
        tally.calls += 1
        tally.requests += client.asked == [list(call.messages)]
        tally.outputs += result.output == call.result.content
        tally.charged += result.usage.tokens
        tally.recorded += call.tokens
        if result.usage.tokens != call.tokens or result.output != call.result.content:
            tally.problems.append(f"call {number}: {result.usage.tokens} of {call.tokens} tokens, {result.status}")
    return tally


def team(calls: Sequence[Call]) -> Tally:
    """A whole session as one team: an identity for each system message, who speak in the recorded order."""
    names = {system: f"speaker_{i}" for i, system in enumerate(dict.fromkeys(call.system for call in calls))}
    order = [names[call.system] for call in calls]
    speakers = [Speaker(name, [one for one in calls if one.system == system]) for system, name in names.items()]
    said: Iterator[str] = iter(order)
    chat = SelectorGroupChat(list(speakers), Replay(()), selector_func=lambda _: next(said, None), max_turns=len(calls))
    result = guard(chat, _policy(), store=MemoryStore()).run("go on")
    by_name: Counter[str] = Counter()
    for call in calls:
        by_name[names[call.system]] += call.tokens
    tally = Tally(len(calls), recorded=by_name.total(), charged=result.usage.tokens)
    for speaker in speakers:
        tally.requests += len(speaker.client.asked)
        tally.outputs += speaker.right
        used = result.agents[speaker.name].tokens
        if used != by_name[speaker.name]:
            tally.problems.append(f"{speaker.name}: {used} of {by_name[speaker.name]} tokens")
    if result.status != "done" or result.output != calls[-1].result.content:
        tally.problems.append(f"{result.status}: {result.error or result.stopped}")
    return tally


def _policy() -> Policy:
    return Policy.model_validate({"limits": {"max_steps": 100, "max_tokens": 10_000_000}})


def main() -> int:
    """Replay, and print; 1 where something differs."""
    if not FOLDER.exists():
        print(f"skipped: the recorded sessions are not at {DATA}; set CREW_GUARD_DATA")
        return 0
    differs = False
    print(f"{'session':28}{'calls':>7}{'same requests':>15}{'same outputs':>14}{'tokens':>9}{'recorded':>10}")
    for session in SESSIONS:
        calls = recorded(session)
        for how, tally in ((", turn by turn", turns(calls)), (", as a team", team(calls))):
            counts = (tally.calls, tally.requests, tally.outputs, tally.charged, tally.recorded)
            print(
                f"{session + how:28}"
                + "".join(f"{one:>{width},}" for one, width in zip(counts, (7, 15, 14, 9, 10), strict=True))
            )
            for problem in tally.problems:
                print(f"     {problem}")
            differs |= not (tally.calls == tally.requests == tally.outputs and tally.charged == tally.recorded)
            differs |= bool(tally.problems)
    return int(differs)


if __name__ == "__main__":
    raise SystemExit(main())
