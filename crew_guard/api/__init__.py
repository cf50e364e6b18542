"""The public Supervisor and guard: they wire defaults, and hold no logic of their own."""

from crew_guard.api.guarding import Guarded, guard
from crew_guard.api.loading import load_crew_files, load_policy, load_role
from crew_guard.api.relying import calibrated
from crew_guard.api.supervising import DEFAULT_POLICY, Supervisor

__all__ = [
    "DEFAULT_POLICY",
    "Guarded",
    "Supervisor",
    "calibrated",
    "guard",
    "load_crew_files",
    "load_policy",
    "load_role",
]
