"""Regular expressions that a policy brings: searched so that other threads run meanwhile, and only so long.

Python's own engine holds the whole process while it backtracks, deadlines and Ctrl-C included.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from crew_guard.guardrails.base import needed

SECONDS = 2.0
"""How long all expressions of one check may take."""
_BRACE = re.compile(r"(\\[pPNx]\{[^{}]*\}|\\.)|\{(?!\d*,?\d*\})", re.DOTALL)


@lru_cache(1024)
def expression(pattern: str, what: str, flags: str = "") -> Any:
    """A pattern compiled by the library regex, with the meaning that Python's own engine gives it.

    Args:
        pattern: the expression
        what: what needs it, for the error where the library isn't there
        flags: names of the library's flags, as in "IGNORECASE"
    Raises:
        regex.error: it is no regular expression
        MissingDependencyError
    """
    regex = needed("regex", what)
    # A brace that begins no repetition stands for itself in Python: here {e} would let a text differ.
    literal = _BRACE.sub(lambda found: found[1] or r"\{", pattern)
    return regex.compile(literal, regex.V0 | (getattr(regex, flags) if flags else 0))


def finds(compiled: Any, text: str, seconds: float = SECONDS) -> bool:
    """Whether it matches anywhere.

    Raises:
        TimeoutError: that took too long
    """
    return compiled.search(text, timeout=seconds, concurrent=True) is not None
