"""A forked child of a test: it never goes on with the test, and never outlives it for long."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

_SECONDS = 60
"""A child that hangs is ended: it would hold the test's pipes for ever."""


def forked(work: Callable[[], bool]) -> bool:
    """What a child found of itself; False where it raised, or hung."""
    child = os.fork()
    if not child:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(_SECONDS)
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
