"""A thousand concurrent runs of ten steps in one process: steps a second beside AutoGen's, memory a run, and on disk.

Both sides answer at once and execute an async tool at each step but the last, all runs under way together.
CPU seconds are compared, in turns, so that a busy machine slows both.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time

os.environ.setdefault("OTEL_SDK_DISABLED", "true")

from autogen_agentchat.agents import AssistantAgent

from crew_guard import Agent, Crew, Policy, Role, Supervisor, Task
from crew_guard.ports import Store
from tests.benchmarks.autogen_turns import ZeroLatency
from tests.benchmarks.autogen_turns import look as autogen_look
from tests.benchmarks.served import Provider, look

POLICY = Policy.model_validate(
    {
        "limits": {"max_agents": 5, "max_steps": 25, "max_tokens": 10**9, "max_usd": 5, "max_seconds": 600},
        "per_agent": {"max_steps": 20},
    }
)
RUNS, STEPS, MANY = 1_000, 10, 10_000
ROUNDS = 5
TIMES_AUTOGEN = 10.0
KILOBYTES_A_RUN = 50.0
SHARE_OF_GROUP_COMMIT = 0.5


async def _ours(store: Store, runs: int, latency: float) -> None:
    supervisor = Supervisor(POLICY, store=store)
    role = Role(name="agent", goal="go on")

    async def one() -> None:
        model = Provider(talks=20, turns=STEPS - 1, latency=latency)
        crew = Crew([Agent(role, (look,))], [Task("go")])
        result = await Supervisor(POLICY, model=model, store=store).arun(crew)
        if not result.done or result.usage.steps != STEPS:
            raise RuntimeError(f"{STEPS} steps were asked for: {result}")

    del supervisor
    await asyncio.gather(*(one() for _ in range(runs)))


async def _autogen(runs: int) -> None:
    async def one() -> None:
        client = ZeroLatency(STEPS - 1)
        agent = AssistantAgent("agent", client, tools=[autogen_look], max_tool_iterations=STEPS)
        await agent.run(task="go")
        if client.calls != STEPS:
            raise RuntimeError(f"AutoGen made {client.calls} of {STEPS} steps")

    await asyncio.gather(*(one() for _ in range(runs)))


def _seconds(work: object, timer: object = time.process_time) -> float:
    gc.collect()
    began = timer()  # type: ignore[operator]
    asyncio.run(work)  # type: ignore[arg-type]
    return timer() - began  # type: ignore[operator]
