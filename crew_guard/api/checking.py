"""Whether a supervisor can work with what it was given: said where it is made, in words of who made it."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, cast

from crew_guard.api.modelling import check_model
from crew_guard.core.given import listed, must_be_of, must_name_model, must_take, text
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
    must_name_model(model, "model", ConfigError)
    must_be_of(models, Mapping, "models", "a mapping of names to models, {'mine:x': Mine()}", ConfigError)
    for name, one in cast("Mapping[Any, Any]", models).items():
        check_model(one, f"models[{shown(name)}]")


def check_policy(policy: object) -> None:
    """Whether a policy was given, or what stands for one.

    Raises:
        ConfigError
    """
    if isinstance(policy, Mapping):
        raise ConfigError("policy must be a Policy, a file or a name; make one with Policy.model_validate({...})")
    must_be_of(policy, Policy | str | Path | None, "policy", "a Policy, a file or a name", ConfigError)


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


def check_runtime(runtime: object, known: Collection[str]) -> None:
    """Whether a runtime's name is known, where it is no function that makes one.

    Raises:
        ConfigError
    """
    if callable(runtime):
        return
    must_be_of(runtime, str, "runtime", "a runtime's name, such as 'native', or a function", ConfigError)
    if runtime not in known:
        raise ConfigError(f"there is no runtime {runtime!r}; there are {', '.join(known)}")


def check_mapping(inputs: object) -> None:
    """Whether inputs are values by name.

    Raises:
        ConfigError
    """
    must_be_of(inputs, Mapping, "inputs", "a mapping of names to values", ConfigError)


def said(value: object, what: str) -> str | None:
    """A text that its user may give, as journals hold it.

    Raises:
        ConfigError: it is no text, or says nothing
    """
    if value is None:
        return None
    words = text(value, what, ConfigError)
    if not words.strip():
        raise ConfigError(f"{what} must say something, not {shown(value)}; leave it out where there is nothing to say")
    return words


def check_observers(observers: object) -> None:
    """Whether each can be told of events: in a run, one that can't would be left out at its first.

    Raises:
        ConfigError
    """
    for observer in listed(observers, "observers", "functions (run_id, event)", ConfigError):
        if not callable(observer):
            raise ConfigError(f"an observer must be a function (run_id, event), not {shown(observer)}")
        if inspect.iscoroutinefunction(observer) or inspect.iscoroutinefunction(type(observer).__call__):
            raise ConfigError(f"an observer is called and not awaited: {shown(observer)} must be no async function")
        must_take(observer, ("run_id", "event"), "an observer", ConfigError)
