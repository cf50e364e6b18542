"""Crews of every process that never end, on a provider that counts what it serves and fails when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from crew_guard import Agent, Crew, Policy, Result, Role, Supervisor, Task
from crew_guard.core.limits import Limits
from crew_guard.core.messages import ModelReply, ModelRequest, ToolRequest
from crew_guard.core.processes import Turns
from crew_guard.core.usage import FREE, NANO, Rate, Rates, Usage
from crew_guard.errors import ModelError
from crew_guard.store.memory import MemoryStore
from tests.benchmarks.served import Provider, look

PRICES = Rates(Rate(2 * NANO), Rate(8 * NANO))
NAMES = ("ann", "bob", "cy")
_KINDS = ("throttled", "unavailable", "broken", "unreachable")


class Caller(Provider):
    """Asks for whatever its request lets it ask for, so that no process ever ends by itself."""

    def __init__(
        self, *, fails: bool = False, rates: Rates = FREE, window: int | None = None, streams: bool = False
    ) -> None:
        super().__init__(talks=300, rates=rates)
        self.streams = streams
        self.window = window  # type: ignore[assignment]
        self._fails = fails

    async def complete(self, request: ModelRequest, max_tokens: int, on_text: Callable[[str], None]) -> ModelReply:
        self.calls += 1
        number = self.calls
        kind = _KINDS[number // 3 % len(_KINDS)] if self._fails and number % 3 == 0 else None
        output = min(max_tokens, self._talks)
        if kind not in ("throttled", "unreachable"):
            usage = Usage(input_tokens=request.prompt_tokens, output_tokens=output)
            self.tokens += usage.tokens
            self.nano_usd += self.rates.price(usage)
        text = f"{number} " + "said " * 30
        if self.streams:
            for word in text[: len(text) // 2 if kind else None].split():
                on_text(word)
        await asyncio.sleep(0)
        if kind is not None:
            raise ModelError("as told", kind=kind, retry_after=0)  # type: ignore[arg-type]
        used = Usage(input_tokens=request.prompt_tokens, output_tokens=output)
        return ModelReply(text, _asked(request, number), used)


def _asked(request: ModelRequest, number: int) -> tuple[ToolRequest, ...]:
    """Every tool at once, each with arguments not used before."""
    asked: list[ToolRequest] = []
    for tool in request.tools:
        if tool.name == "look":
            asked.append(ToolRequest(f"t{number}", "look", f'{{"query": "x{number}"}}'))
            continue
        target = tool.parameters["properties"]["agent"]
        names = target.get("enum") or [target["const"]]
        for place, name in enumerate(names if tool.name == "delegate" else names[number % len(names) :][:1]):
            word = "task" if tool.name == "delegate" else "reason"
            asked.append(ToolRequest(f"t{number}_{place}", tool.name, f'{{"agent": "{name}", "{word}": "{number}"}}'))
    return tuple(asked)


def _agents(*, tools: bool = True, delegates: bool = False) -> list[Agent]:
    given = (look,) if tools else ()
    return [Agent(Role(name=name, goal="go on"), given, delegates=delegates) for name in NAMES]


def crews() -> dict[str, Crew]:
    """One crew for each process, none of which ends by itself."""
    each = [Task("go on for ever", name) for name in NAMES]
    return {
        "sequential": Crew(_agents(), each),
        "parallel": Crew(_agents(), each, process="parallel"),
        "hierarchical": Crew(_agents(tools=False, delegates=True), [Task("go on")], process="hierarchical"),
        "handoff": Crew(_agents(), each[:1], process="handoff"),
        "conversation": Crew(_agents(tools=False), [Task("go on")], process="conversation", turns=Turns("THE END")),
        "conversation, selector": Crew(
            _agents(tools=False),
            [Task("go on")],
            process="conversation",
            turns=Turns("THE END"),
            selector=Role(name="chair", goal="choose"),
        ),
    }


def _run(crew: Crew, provider: Provider, **limits: Any) -> Result:
    policy = Policy(limits=Limits.model_validate(limits), completion_min=256, attempts=9)
    supervisor = Supervisor(policy, model=provider, store=MemoryStore())
    if not provider.streams:
        return supervisor.run(crew)
    stream = supervisor.stream(crew)
    for _ in stream:
        pass
    return stream.result


def process_rows_of() -> Iterable[tuple[str, str, float, Caller, Result]]:
    """(scenario, limit, cap, provider, result) of every process below every cap."""
    for name, crew in crews().items():
        for fails, streams in ((False, False), (True, False), (False, True), (True, True)):
            what = f"{name}{', failing' if fails else ''}{', streamed' if streams else ''}"
            for limit, cap in (("max_tokens", 60_001), ("max_steps", 23), ("max_usd", 0.2)):
                provider = Caller(fails=fails, rates=PRICES if limit == "max_usd" else FREE, streams=streams)
                yield what, limit, cap, provider, _run(crew, provider, **{limit: cap})
    for fails in (False, True):
        for limit, cap in (("max_tokens", 60_001), ("max_steps", 23)):
            provider = Caller(fails=fails, window=4_000)
            crew = Crew(_agents(), [Task("go on for ever", NAMES[0])])
            yield (
                f"compaction{', failing' if fails else ''}",
                limit,
                cap,
                provider,
                _run(crew, provider, **{limit: cap}),
            )
