"""What the copies of a node, or its work on several items, were judged to be: one verdict for the node.

Else the one that ends last would speak for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from crew_guard.core.verdicts import Verdict
from crew_guard.ports import Gate


@dataclass(slots=True)
class Ballot:
    """The gate as one copy sees it: the last verdict on each of its trials is remembered."""

    gate: Gate
    last: dict[tuple[str, str], Verdict] = field(default_factory=dict[tuple[str, str], Verdict])
    """By agent, or node, and task."""

    def judged(self, agent: str, task: str, verdict: Verdict) -> None:
        """See Gate.judged."""
        self.last[agent, task] = verdict
        self.gate.judged(agent, task, verdict)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.gate, name)


def tell(gate: Gate, ballots: Sequence[Ballot], *, voted: bool) -> None:
    """One verdict on what several copies were judged for.

    Args:
        voted: of copies that voted it is the majority's, with the mean of their grades; of items, all of which are
            needed, it is a yes to all, with the least: the first that fails ends the others before they are judged
    """
    told = [verdict for ballot in ballots for verdict in ballot.last.values()]
    blamed = {verdict.blames for verdict in told if verdict.blames and not verdict.passed}
    for agent, task in dict.fromkeys(who for ballot in ballots for who in ballot.last):
        verdicts = [ballot.last[agent, task] for ballot in ballots if (agent, task) in ballot.last]
        if len(verdicts) < 2 or blamed & {task, agent.rpartition("/")[2]}:  # noqa: PLR2004  one speaks for itself
            continue
        count, passed = len(verdicts), sum(verdict.passed for verdict in verdicts)
        grades = [float(one.passed) if one.grade is None else one.grade for one in verdicts]
        good, grade = (passed * 2 > count, sum(grades) / count) if voted else (passed == count, min(grades))
        gate.judged(agent, task, Verdict(good, f"{passed} of {count} passed", grade, source=verdicts[-1].source))
