"""Names of runs: the user's own, and those that are made for runs without one."""

from __future__ import annotations

import os
from random import Random

from crew_guard.core.plain import shown
from crew_guard.errors import ConfigError

_random = Random()  # noqa: S311 - a name, not a secret; one call of the system a process, not one a run
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)


def new_run_id() -> str:
    """128 random bits in hexadecimal."""
    return f"{_random.getrandbits(128):032x}"


def run_id_of(given: str | None) -> str:
    """The run's id as it was given, or a new one.

    Raises:
        ConfigError: it can't be the name of a run
    """
    if given is None:
        return new_run_id()
    if not isinstance(given, str):  # pyright: ignore[reportUnnecessaryIsInstance]  users' code
        raise ConfigError(f"run_id must be a text, not {shown(given)}")
    if not given.strip():
        raise ConfigError("run_id is empty; give a name not used before, or none to have one made")
    try:
        given.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"run_id {shown(given)} holds what is no character, a lone surrogate; take it out") from None
    return str.__str__(given)
