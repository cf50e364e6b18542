"""What tests of crews, and of new stores and runtimes, are made of.

`ScriptedModel` says what a test tells it to, `FakeClock` passes time when the test says so;
`store_contract.StoreContract` states what every store must do, `runtime_contract.RuntimeContract` every runtime.
"""

from crew_guard.models.scripted import Reply, ScriptedModel
from crew_guard.store.memory import MemoryStore
from crew_guard.testing.clock import FakeClock

__all__ = ["FakeClock", "MemoryStore", "Reply", "ScriptedModel"]
