"""What the copies of a node, or its work on several items, were judged to be: one verdict for the node.

Else the one that ends last would speak for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from crew_guard.core.tried import blamed_inside
from crew_guard.core.verdicts import Verdict
from crew_guard.ports import Gate


@dataclass(slots=True)
class Ballot:
    """The gate as one copy sees it: the last verdict on each of its trials is remembered."""

    gate: Gate
    last: dict[tuple[str, str], Verdict] = field(default_factory=dict[tuple[str, str], Verdict])
    """By agent, or node, and task."""
    raised: tuple[str, str] | None = None
    """The node whose copy gave nothing that could be judged, and why."""

    def judged(self, agent: str, task: str, verdict: Verdict) -> None:
        """See Gate.judged."""
        self.last[agent, task] = verdict
        self.gate.judged(agent, task, verdict)

    def failed(self, node: str, reason: str) -> None:
        """The copy raised: where the others are judged it has failed, though nothing of it was judged."""
        self.raised = None if (node, node) in self.last else (node, reason)

    @property
    def counted(self) -> dict[tuple[str, str], Verdict]:
        """The verdicts as they count: what another one of the same copy blames has failed."""
        found = dict(self.last)
        for (agent, task), verdict in self.last.items():
            if verdict.blames and not verdict.passed:
                blamed = blamed_inside(verdict.blames, agent, self.last)
                if blamed is not None and blamed != (agent, task):
                    found[blamed] = replace(found[blamed], passed=False, grade=0.0)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.gate, name)


def tell(gate: Gate, ballots: Sequence[Ballot], *, voted: bool) -> None:
    """One verdict on what several copies were judged for.

    Args:
        voted: of copies that voted it is the majority's, with the mean of their grades; of items, all of which are
            needed, it is a yes to all, with the least: the first that fails ends the others before they are judged
    """
    told = [ballot.counted for ballot in ballots]
    for verdicts, raised in zip(told, (ballot.raised for ballot in ballots), strict=True):
        if raised is not None and any((raised[0], raised[0]) in each for each in told):
            verdicts[raised[0], raised[0]] = Verdict(passed=False, reason=raised[1], grade=0.0)
    for agent, task in dict.fromkeys(who for verdicts in told for who in verdicts):
        verdicts = [each[agent, task] for each in told if (agent, task) in each]
        if len(verdicts) < 2:  # noqa: PLR2004  one speaks for itself
            continue
        count, passed = len(verdicts), sum(verdict.passed for verdict in verdicts)
        grades = [float(one.passed) if one.grade is None else one.grade for one in verdicts]
        good, grade = (passed * 2 > count, sum(grades) / count) if voted else (passed == count, min(grades))
        gate.judged(agent, task, Verdict(good, f"{passed} of {count} passed", grade, source=verdicts[-1].source))
