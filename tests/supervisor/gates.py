"""A gate under test: real store, real core, a clock that the test owns."""

from typing import Any

from crew_guard.core.events import RunStarted
from crew_guard.core.limits import NO_CAP, Caps
from crew_guard.core.policy import Policy
from crew_guard.store.memory import MemoryStore
from crew_guard.supervisor.acting import RunGate
from crew_guard.supervisor.estimating import Estimator
from crew_guard.supervisor.gate import Gatekeeper
from crew_guard.supervisor.outbox import Outbox
from crew_guard.testing.clock import FakeClock


def gate_for(crew_caps: Caps | None = None, **policy: Any) -> RunGate:
    """A gate of a run that has begun."""
    checked = Policy.model_validate(policy)
    caps = checked.limits.caps()
    gate = Gatekeeper("run1", checked, MemoryStore(), FakeClock(), Outbox("run1", ()), estimator=Estimator())
    gate.begin(RunStarted, "crew", "native", "p", {}, caps._replace(agents=NO_CAP), crew_caps or caps).result()
    return RunGate(gate, "crew")
