"""Names for runs that were given none."""

from __future__ import annotations

import os
from random import Random

_random = Random()  # noqa: S311 - a name, not a secret; one call of the system a process, not one a run
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)


def new_run_id() -> str:
    """128 random bits in hexadecimal."""
    return f"{_random.getrandbits(128):032x}"
