"""61 recorded crews of five roles through the gate: is every call in the ledger, on the role that made it?

Each recorded call is admitted with its prompt as the estimate and settled with what the provider had reported.
The logs' own totals are printed beside: where a log tells one, it is seldom the sum of its calls.
"""

from __future__ import annotations

import gzip
import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crew_guard import Policy, Supervisor
from crew_guard.core.actions import ModelCall, Outcome
from crew_guard.core.usage import FREE, Usage
from crew_guard.ports import Gate, RuntimeResult
from crew_guard.store.memory import MemoryStore

DATA = Path(os.environ.get("CREW_GUARD_DATA", Path(__file__).parents[2] / "../shared/data"))
FILE = DATA / "chatdev_logs/llm_calls.jsonl.gz"
POLICY = Policy.model_validate({"limits": {"max_agents": 20, "max_steps": 10_000, "max_tokens": 10**9}})


@dataclass(frozen=True)
class Recorded:
    """A runtime that makes the recorded calls of one run again."""

    calls: Sequence[Mapping[str, Any]]
    name: str = "chatdev"

    def members(self) -> Sequence[str]:
        return list(dict.fromkeys(call["role"] for call in self.calls))

    async def run(self, inputs: Mapping[str, Any], gate: Gate) -> RuntimeResult:
        for call in self.calls:
            wanted = ModelCall(call["role"], "openai:gpt-3.5-turbo", call["prompt_tokens"], 4096, rates=FREE)
            grant = await gate.admit(wanted)
            used = Usage(input_tokens=call["prompt_tokens"], output_tokens=call["completion_tokens"])
            gate.settle(grant, Outcome("ok", used))
        return RuntimeResult("done")


def recorded() -> dict[str, list[dict[str, Any]]]:
    """The calls of each run, in their order."""
    runs: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with gzip.open(FILE, "rt") as lines:
        for line in lines:
            call = json.loads(line)
            runs[call["run"]].append(call)
    return dict(runs)


def by_role(calls: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Tokens of each role, added up from its calls."""
    found: dict[str, int] = defaultdict(int)
    for call in calls:
        found[call["role"]] += call["total_tokens"]
    return dict(found)


def main() -> int:
    """Feed every run, print what agrees; 1 where a ledger is wrong."""
    if not FILE.exists():
        print(f"skipped: {FILE} is not there; CREW_GUARD_DATA names the folder of the recorded runs")
        return 0
    runs = recorded()
    supervisor = Supervisor(POLICY, store=MemoryStore())
    whole = roles = told = right = 0
    for calls in runs.values():
        result = supervisor.run_runtime(Recorded(calls), {}, name="chatdev").wait()
        total, own = sum(call["total_tokens"] for call in calls), calls[0]["run_reported_total_tokens"]
        whole += result.usage.tokens == total and result.usage.steps == len(calls)
        roles += {name: used.tokens for name, used in result.agents.items()} == by_role(calls)
        told += own is not None
        right += own == total
    print(f"{len(runs)} runs, {sum(map(len, runs.values())):,} calls")
    print(f"ledgers whose total is the sum of the calls      {whole} of {len(runs)}")
    print(f"ledgers whose every role is the sum of its calls {roles} of {len(runs)}")
    print(f"logs whose own total is the sum of their calls   {right} of {told} that tell one")
    return 0 if whole == roles == len(runs) else 1


if __name__ == "__main__":
    raise SystemExit(main())
