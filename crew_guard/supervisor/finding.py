"""What came of one side's work, the crew's or its workflow's."""

from __future__ import annotations

from dataclasses import dataclass

from crew_guard.core.decisions import Stop
from crew_guard.core.events import Status
from crew_guard.ports import RuntimeResult, Workflow


@dataclass(frozen=True, slots=True)
class Ended:
    """How one side of a run ended."""

    done: bool
    stop: Stop | None = None
    fault: bool = False
    """Whether a provider that could not be used ended it."""
    workflow: Workflow | None = None
    """Where it was that."""
    node: str = ""
    """The workflow's node whose error ended it."""
    by: tuple[str, str] = ("", "")
    """The crew's agent whose own error ended it, and its task, where they are known."""


@dataclass(slots=True)
class Finding:
    """What became of the crew, or of the workflow."""

    result: RuntimeResult | None = None
    stop: Stop | None = None
    error: str = ""
    fault: bool = False
    """Whether a provider that could not be used is behind the error."""
    node: str = ""
    """The workflow's node that the error comes from."""
    by: tuple[str, str] = ("", "")
    """The crew's agent that it comes from, and its task."""
    left: str = ""
    """What failed, or could not be undone, where a stop is what it ended with, or what ended the crew before it."""

    @property
    def done(self) -> bool:
        return self.stop is None and not self.error and self.result is not None and not self.result.partial

    @property
    def ended(self) -> Ended:
        by = ("", "") if self.fault else self.by
        return Ended(self.done, self.stop, self.fault, node=self.node, by=by)

    @property
    def reason(self) -> str:
        if self.stop is not None:
            return str(self.stop)
        return self.error or (self.result.reason if self.result else "") or "the crew gave no output"

    @property
    def status(self) -> Status:
        """How a run ends that found this last."""
        if self.done:
            return "done"
        if self.stop is None or self.stop.reason == "failed":
            return "failed"
        return "denied" if self.stop.reason == "denied" else "stopped"


NOTHING = Finding()
"""Before anything was found."""
