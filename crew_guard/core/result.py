"""What a run hands back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import asdict

from crew_guard.core.decisions import Stop
from crew_guard.core.events import Judged, Status, Via
from crew_guard.core.limits import NO_CAP, POLICY_NAMES, UNCAPPED, Caps
from crew_guard.core.plain import plain
from crew_guard.core.standing import Reliability
from crew_guard.core.usage import NANO, NOTHING, Usage


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended. `output` is there only where the job was done: a stopped run has none."""

    run_id: str
    status: Status
    """done, stopped (by a limit, a deadline or a kill), denied (by a policy), failed."""
    output: Any = None
    via: Via | None = None
    """crew or workflow; None where neither finished."""
    stopped: Stop | None = None
    """Why the run ended without an output; None where it did its job."""
    usage: Usage = NOTHING
    agents: Mapping[str, Usage] = field(default_factory=dict[str, Usage])
    """Usage by agent and by workflow node; the sums equal `usage`."""
    scopes: Mapping[str, Usage] = field(default_factory=dict[str, Usage])
    """Usage that a cap may hold for, such as of agent:NAME or node:NAME: what an agent set off counts for it, too."""
    caps: Caps = UNCAPPED
    """The run's caps, to hold beside `usage`, which counts the agents of crew and workflow together: see Limits."""
    fell_back: str = ""
    """Why the job went from the crew to the workflow; empty where it didn't."""
    error: str = ""
    """What failed; beside a stop what failed then or before, and what of its effects is left."""
    partial: Any = None
    """What there was when the run was stopped: not an answer."""
    verdicts: tuple[Judged, ...] = ()
    reliability: Reliability | None = None
    """What is known of the crew after this run; None where it declares no verdicts and its policy asks for none."""
    overshoot: Usage = NOTHING
    """What providers billed beyond what was reserved with them."""
    unreported: int = 0
    """Model calls charged as reserved because the provider named no usage."""
    late: tuple[str, ...] = ()
    """Actions that could not be ended in time, e.g. a thread that is stuck in a tool."""
    policy: str = ""
    """SHA-256 of the policy that applied."""
    seconds: float = 0.0
    max_seconds: float | None = None
    """The wall-clock cap, to hold beside `seconds`."""

    @property
    def done(self) -> bool:
        """Whether there is an output to rely on."""
        return self.status == "done"

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        stop = self.stopped
        return {
            "run_id": self.run_id,
            "status": self.status,
            "output": plain(self.output),
            "via": self.via,
            "stopped": None if stop is None else {**asdict(stop), "text": str(stop)},
            "fell_back": self.fell_back or None,
            "error": self.error or None,
            "partial": plain(self.partial),
            "usage": self.usage.as_dict(),
            "agents": {name: usage.as_dict() for name, usage in self.agents.items()},
            "scopes": {scope: usage.as_dict() for scope, usage in self.scopes.items()},
            "caps": self.caps_dict(),
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "reliability": None if self.reliability is None else self.reliability.as_dict(),
            "overshoot": self.overshoot.as_dict(),
            "unreported": self.unreported,
            "late": list(self.late),
            "policy": self.policy,
            "seconds": round(self.seconds, 3),
        }

    def caps_dict(self) -> dict[str, int | float]:
        """The caps that are set, under the policy's names, money in dollars."""
        found: dict[str, int | float] = {}
        for name, cap in self.caps._asdict().items():
            if cap < NO_CAP:
                found[POLICY_NAMES[name]] = cap / NANO if name == "nano_usd" else cap
        if self.max_seconds is not None:
            found["max_seconds"] = self.max_seconds
        return found
