"""From a model's name, or a model of a user's own, to one that can be asked and costs what the policy says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import CoroutineType
from typing import Any

from crew_guard import config
from crew_guard.core.messages import ModelReply
from crew_guard.core.plain import shown
from crew_guard.core.policy import Policy
from crew_guard.core.usage import Rates
from crew_guard.errors import ConfigError
from crew_guard.ports import Model

DEFAULT_MODEL = "embedded:smollm2"
_PARTS = ("name", "rates", "window", "streams", "bound", "bound_request", "complete")
_METHODS = _PARTS[4:]
_MOST = 1000
"""Models of a user's own that are kept at another price than theirs."""


class PricedModel:
    """A model as it is, at other rates than its own, or registered under another name."""

    __slots__ = ("_own", "bound", "bound_request", "complete", "rates", "registered_as")

    def __init__(self, own: Model, rates: Rates | None, registered_as: str) -> None:
        self._own = own
        self.rates = rates
        self.registered_as = registered_as
        # Its own methods, so that a turn goes through no further call.
        self.bound: Callable[..., int] = own.bound
        self.bound_request: Callable[..., int] = own.bound_request
        self.complete: Callable[..., CoroutineType[Any, Any, ModelReply]] = own.complete

    @property
    def name(self) -> str:
        """The model's own."""
        return self._own.name

    @property
    def window(self) -> int | None:
        """The model's own."""
        return self._own.window

    @property
    def streams(self) -> bool:
        """The model's own."""
        return self._own.streams

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)


@dataclass(frozen=True, slots=True)
class Known:
    """What a supervisor was given to find models by."""

    models: Mapping[str, Model]
    policy: Policy
    base_url: str | None


@dataclass(slots=True)
class FoundModels:
    """The models of one supervisor, each found once. Usable from any thread."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _named: dict[str, Model] = field(default_factory=dict[str, Model])
    _own: dict[tuple[int, str], tuple[Model, Model]] = field(default_factory=dict[tuple[int, str], tuple[Model, Model]])
    """By a user's object and what it is called: the object, which thereby keeps its id, and what is asked."""

    def find(self, wanted: Model | str, known: Known) -> Model:
        """The model of this name, or this model, at the policy's price.

        Raises:
            ConfigError: there is none, or what is there is no model
            MissingDependencyError: it needs an extra
        """
        with self._lock:
            if not isinstance(wanted, str):
                return self._of_a_user(wanted, "", known.policy)
            own = known.models.get(wanted)
            if own is not None:
                return self._of_a_user(own, wanted, known.policy)
            found = self._named.get(wanted)
            if found is None:
                found = self._named[wanted] = _resolved(wanted, known)
            return found

    def _of_a_user(self, own: Model, called: str, policy: Policy) -> Model:
        kept = self._own.get((id(own), called))
        if kept is not None:
            return kept[1]
        check_model(own, f"models[{called!r}]" if called else "model")
        found = priced(own, policy, called)
        if found is not own:
            if len(self._own) >= _MOST:  # of nodes that make a new one for each question, say
                self._own.clear()
            self._own[id(own), called] = (own, found)
        return found


def _resolved(name: str, known: Known) -> Model:
    from crew_guard.models.registry import model_for

    rates = price_of(known.policy, name)
    found = model_for(name, base_url=known.base_url, api_key=None, env=config.environment(), rates=rates)
    return priced(found, known.policy)


def price_of(policy: Policy, name: str) -> Rates | None:
    """What the policy says that a model costs; None where it says nothing."""
    price = policy.prices.get(name)
    if price is None:
        return None
    from crew_guard.models.prices import dearest, rates_for

    table = rates_for(name) if name in policy.yielding else None
    return price.rates() if table is None else dearest([price.rates(), table])


def priced(model: Model, policy: Policy, called: str = "") -> Model:
    """The model at what the policy says that it costs, under its own name or another; itself where that is no more.

    Of two prices the dearer holds: a policy's caps are not to be stretched by what an object says of itself. A model
    that is called otherwise than it calls itself says so: the policy's lists hold for either name.
    """
    own, other = model.rates, "" if called == model.name else called
    prices = [rates for name in {model.name, called} if (rates := price_of(policy, name)) is not None]
    rates = own
    if prices:
        from crew_guard.models.prices import dearest

        rates = dearest(prices if own is None else [own, *prices])
    return model if rates == own and not other else PricedModel(model, rates, other)


def check_model(model: object, what: str) -> None:
    """Whether something can be asked as a model.

    Raises:
        ConfigError: names what it lacks
    """
    wanted = "a Model (see crew_guard.ports), or a model's name such as 'openai:gpt-4.1-mini'"
    if missing := [name for name in _PARTS if not hasattr(model, name)]:
        raise ConfigError(f"{what} must be {wanted}, not {shown(model)}, which has no {', '.join(missing)}")
    name: Any = getattr(model, "name")  # noqa: B009  of whatever it is
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{what}: the name of {shown(model)} must be a text as PROVIDER:NAME, not {shown(name)}")
    if wrong := [name for name in _METHODS if not callable(getattr(model, name))]:
        raise ConfigError(f"{what}: {wrong[0]} of {shown(model)} must be a method")
