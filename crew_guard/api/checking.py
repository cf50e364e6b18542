"""Whether a supervisor can work with what it was given: said where it is made, in words of who made it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from crew_guard.api.modelling import check_model
from crew_guard.core.plain import shown
from crew_guard.core.policy import Policy
from crew_guard.errors import ConfigError

_STORES = ("begin", "append", "later", "write", "push", "read")


def check_models(model: object, models: object) -> None:
    """Whether a supervisor's model and models are some.

    Raises:
        ConfigError
    """
    if model is not None and not isinstance(model, str):
        check_model(model, "model")
    if not isinstance(models, Mapping):
        raise ConfigError(f"models must be a mapping of names to models, {{'mine:x': Mine()}}, not {shown(models)}")
    for name, one in cast("Mapping[Any, Any]", models).items():
        check_model(one, f"models[{shown(name)}]")


def check_policy(policy: object) -> None:
    """Whether a policy was given, or what stands for one.

    Raises:
        ConfigError
    """
    if isinstance(policy, Mapping):
        raise ConfigError("policy must be a Policy, a file or a name; make one with Policy.model_validate({...})")
    if policy is not None and not isinstance(policy, Policy | str | Path):
        raise ConfigError(f"policy must be a Policy, a file or a name, not {shown(policy)}")


def check_store(store: object) -> None:
    """Whether journals can be kept there.

    Raises:
        ConfigError
    """
    if store is None or isinstance(store, str | Path):
        return
    if missing := [name for name in _STORES if not callable(getattr(store, name, None))]:
        wanted = "the path of a SQLite file, or a Store (see crew_guard.ports)"
        raise ConfigError(f"store must be {wanted}, not {shown(store)}, which has no {', '.join(missing)}")


def check_observers(observers: object) -> None:
    """Whether each can be told of events: in a run, one that can't would be left out at its first.

    Raises:
        ConfigError
    """
    if isinstance(observers, str) or not isinstance(observers, Sequence):
        raise ConfigError(f"observers must be a list of functions (run_id, event), not {shown(observers)}")
    for observer in cast("Sequence[Any]", observers):
        if not callable(observer):
            raise ConfigError(f"an observer must be a function (run_id, event), not {shown(observer)}")
        if inspect.iscoroutinefunction(observer) or inspect.iscoroutinefunction(type(observer).__call__):
            raise ConfigError(f"an observer is called and not awaited: {shown(observer)} must be no async function")
        try:
            signature = inspect.signature(observer)
        except (TypeError, ValueError):  # of a builtin, which doesn't say
            continue
        try:
            signature.bind("", None)
        except TypeError:
            raise ConfigError(
                f"an observer is called with (run_id, event); {shown(observer)} takes {signature}"
            ) from None
