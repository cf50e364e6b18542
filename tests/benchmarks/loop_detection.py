"""How many recorded runs of real agents would the default `loops:` rules have told, refused or stopped?

Each tool call of a run with its result, and each message, goes through the same Trail that the gate keeps.
Runs with full reward are honest: none of them may be stopped. Needs the recorded data: CREW_GUARD_DATA.
"""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from crew_guard.core.loops import LoopRules, Trail

DATA = Path(os.environ.get("CREW_GUARD_DATA", "../shared/data"))
RULES = LoopRules()


class Run(NamedTuple):
    """One recorded run."""

    source: str
    honest: bool
    turns: list[tuple[str, str | None]]
    """(call, its result) of a tool call; (message, None) of a message."""


def tau2() -> Iterator[Run]:
    """330 single trials in three domains, the agent's own calls."""
    for path in sorted((DATA / "tau2_action_checks").glob("*.jsonl.gz")):
        with gzip.open(path, "rt") as lines:
            for line in lines:
                run = json.loads(line)
                messages = [one for one in run["messages"] if one.get("requestor") != "user"]
                honest = (run["reward_info"] or {}).get("reward") == 1
                yield Run(path.name.split(".jsonl")[0], honest, list(_turns(messages)))


def tau_bench() -> Iterator[Run]:
    """200 trials of one airline agent."""
    path = DATA / "tau_bench_airline_gpt4o/gpt-4o-airline.json.gz"
    with gzip.open(path, "rt") as file:
        for run in json.load(file):
            yield Run("gpt-4o_airline (tau-bench)", run["reward"] == 1, list(_turns(run["traj"])))


def _turns(messages: Iterable[dict[str, Any]]) -> Iterator[tuple[str, str | None]]:
    asked: dict[str, str] = {}
    for message in messages:
        for call in message.get("tool_calls") or ():
            function = call.get("function", call)
            asked[call["id"]] = f"{function['name']} {json.dumps(function['arguments'], sort_keys=True)}"
        if message["role"] == "tool":
            known = asked.pop(message.get("tool_call_id") or message.get("id"), None)
            if known is not None:
                yield known, str(message.get("content"))
        elif message["role"] == "assistant" and message.get("content") and not message.get("tool_calls"):
            yield message["content"], None


def furthest(run: Run) -> str:
    """The last rung that the run would have got to: nothing, tell, refuse or stop."""
    trail, rungs = Trail(), {"nothing"}
    for place, (what, result) in enumerate(run.turns):
        if result is None:
            found = trail.says(what, place, RULES)
        else:
            refused = trail.asks(hash(what), RULES)
            found = refused or trail.called(hash(what), hash(result), RULES)
        if found is not None:
            rungs.add(found.rung)
    return next(rung for rung in ("stop", "refuse", "tell", "nothing") if rung in rungs)


def table() -> dict[tuple[str, bool], Counter[str]]:
    """How far the runs got, by source and whether they were honest."""
    counts: dict[tuple[str, bool], Counter[str]] = {}
    for run in (*tau2(), *tau_bench()):
        counts.setdefault((run.source, run.honest), Counter())[furthest(run)] += 1
    return counts


def main() -> bool:
    """Print the table; True if no honest run was refused or stopped."""
    if not DATA.is_dir():
        print(f"skipped: the recorded data is not at {DATA} (CREW_GUARD_DATA)")
        return True
    counts = table()
    print(f"{'agent and domain':<34}{'reward':>8}{'runs':>7}{'told':>7}{'refused':>9}{'stopped':>9}")
    for (source, honest), found in sorted(counts.items()):
        figures = f"{found['tell']:>7}{found['refuse']:>9}{found['stop']:>9}"
        print(f"{source:<34}{'full' if honest else 'none':>8}{found.total():>7}{figures}")
    honest = [found for (_, good), found in counts.items() if good]
    wronged = sum(found["refuse"] + found["stop"] for found in honest)
    told = sum(found["tell"] for found in honest)
    runs = sum(found.total() for found in honest)
    print(f"of {runs} runs with full reward {told} would have been told, {wronged} refused or stopped (at most 0)")
    return not wronged


if __name__ == "__main__":
    raise SystemExit(0 if main() else 1)
