"""Embeddings under the gate, whichever host asks for them: they cost tokens and dollars, and are no step.

What hosts embed with at OpenAI, Azure or a server that speaks like them sends by OpenAI's SDK: its `create` is
patched, once in a process, and does nothing outside of guarded runs. Other classes are gated where a host can
reach them, and charged what was counted, because they tell no usage.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Self, cast

from crew_guard.adapters.hosted import Attempt, ModelFacts, reported
from crew_guard.core.actions import Grant, ModelCall, Outcome
from crew_guard.core.messages import Message
from crew_guard.errors import RefusedError
from crew_guard.ports import Gate

_lock = threading.Lock()
_installed: list[bool] = []


def _without_retries(client: Any) -> Any:
    return client if getattr(client, "max_retries", 0) == 0 else client.with_options(max_retries=0)


def _as_it_is(error: RefusedError) -> RefusedError:
    error.__context__ = None  # what a host looks for in it is not our refusal's reason
    return error


@dataclass(slots=True)
class Embeds:
    """What one guarded run has embeddings pass."""

    gate: Gate
    facts: ModelFacts
    place: Callable[[], tuple[str, str | None]]
    """Who embeds, and the action that it is a part of. May raise a RefusedError itself."""
    told: Callable[[RefusedError], RefusedError] = _as_it_is
    """A refusal as the host is to see it."""
    quiet: Callable[[Any], Any] = _without_retries
    """A client of OpenAI's SDK without its retries."""
    is_over: Callable[[], bool] = bool
    """Whether the run came to its end: what was begun in it and goes on is no part of it any more."""
    _clients: dict[int, tuple[Any, Any]] = field(default_factory=dict[int, tuple[Any, Any]])

    def client(self, client: Any) -> Any:
        """The same client, sending each request once. Async ones are asked for anew: they may belong to a loop."""
        if type(client).__name__.startswith("Async"):
            return self.quiet(client)
        known = self._clients.get(id(client))
        if known is None:
            known = self._clients[id(client)] = client, self.quiet(client)
        return known[1]

    def action(self, model: str, given: object) -> ModelCall:
        """An embedding as it is admitted."""
        agent, parent = self.place()
        facts = self.facts(model)
        tokens = sum(facts.bound(Message("user", one)) if isinstance(one, str) else len(one) for one in _texts(given))
        return ModelCall(agent, model, tokens, 0, 0, rates=facts.rates, clampable=False, parent=parent, embeds=True)

    @contextmanager
    def admitting(self) -> Generator[None]:
        """While something is admitted: a refusal comes out as the host is to see it."""
        try:
            yield
        except RefusedError as error:
            raise self.told(error) from None


current: ContextVar[Embeds | None] = ContextVar("crew_guard_embeds", default=None)
"""What the run that the current code was begun in has them pass; None outside of guarded runs."""


def _embeds_here() -> Embeds | None:
    embeds = current.get()
    return None if embeds is None or embeds.is_over() else embeds


@dataclass(slots=True, eq=False)
class _Around:
    """A host's class that embeds: what it sends by OpenAI's SDK is gated there, and costs what is told there."""

    owner: object
    attempt: Attempt | None = None

    def hand_over(self) -> None:
        """Another one embeds inside of it."""
        if self.attempt is not None:
            self.attempt.settle(Outcome("withdrawn", text="it embeds by another"))


_around: ContextVar[_Around | None] = ContextVar("crew_guard_embeds_within", default=None)


@contextmanager
def embedding_by(embeds: Embeds) -> Generator[None]:
    """Have all embeddings of this context, and of what it starts, pass this run's gate."""
    install()
    token = current.set(embeds)
    try:
        yield
    finally:
        current.reset(token)


# A host's own class


@contextmanager
def embedding(owner: object, model: str, texts: object) -> Generator[None]:
    """A class of a host embeds texts: gated, unless it is a part of what embeds already.

    Args:
        owner: the object whose code embeds
        model: provider:name, as policies know it
        texts: one, or several
    Raises:
        RefusedError: nothing may be sent
    """
    embeds = _embeds_here()
    if embeds is None or _is_part(owner):
        yield
        return
    with embeds.admitting():
        grant = embeds.gate.admit_blocking(embeds.action(model, texts))
    with _within(_Around(owner, Attempt(embeds.gate, grant))):
        yield


class embedding_async:  # noqa: N801  it reads as its twin
    """The same for a coroutine."""

    def __init__(self, owner: object, model: str, texts: object) -> None:
        self._owner, self._model, self._texts = owner, model, texts
        self._block: Any = None

    async def __aenter__(self) -> None:
        embeds = _embeds_here()
        if embeds is not None and not _is_part(self._owner):
            with embeds.admitting():
                grant = await embeds.gate.admit(embeds.action(self._model, self._texts))
            self._block = _within(_Around(self._owner, Attempt(embeds.gate, grant)))
            self._block.__enter__()

    async def __aexit__(self, *error: object) -> None:
        if self._block is not None:
            self._block.__exit__(*error)


def _is_part(owner: object) -> bool:
    around = _around.get()
    if around is None:
        return False
    if around.owner is owner:
        return True
    around.hand_over()
    return False


@contextmanager
def _within(around: _Around) -> Generator[None]:
    token = _around.set(around)
    attempt = cast(Attempt, around.attempt)
    try:
        yield
    except BaseException as error:
        attempt.fail(error)
        raise
    finally:
        _around.reset(token)
    attempt.settle(Outcome("ok"))


# OpenAI's SDK


def install() -> None:
    """Patch OpenAI's SDK, where it is installed. Only the first call does anything."""
    with _lock:
        if _installed:
            return
        _installed.append(True)
        if importlib.util.find_spec("openai") is None:
            return
        from openai.resources.embeddings import AsyncEmbeddings, Embeddings

        Embeddings.create = _gated(Embeddings.create)
        AsyncEmbeddings.create = _gated_async(AsyncEmbeddings.create)


def _gated(own: Any) -> Any:
    @wraps(own)
    def create(resource: Any, *args: Any, **kwargs: Any) -> Any:
        embeds = _embeds_here()
        if embeds is None or args:
            return own(resource, *args, **kwargs)
        _hand_over()
        client = resource._client  # noqa: SLF001  the only way to it
        with embeds.admitting():
            grant = embeds.gate.admit_blocking(embeds.action(_name(client, kwargs), _listed(kwargs)))
        with _Sent(embeds, grant) as sent:
            return sent.answered(own(type(resource)(embeds.client(client)), **kwargs))

    return create


def _gated_async(own: Any) -> Any:
    @wraps(own)
    async def create(resource: Any, *args: Any, **kwargs: Any) -> Any:
        embeds = _embeds_here()
        if embeds is None or args:
            return await own(resource, *args, **kwargs)
        _hand_over()
        client = resource._client  # noqa: SLF001  as above
        with embeds.admitting():
            grant = await embeds.gate.admit(embeds.action(_name(client, kwargs), _listed(kwargs)))
        with _Sent(embeds, grant) as sent:
            return sent.answered(await own(type(resource)(embeds.client(client)), **kwargs))

    return create


def _hand_over() -> None:
    around = _around.get()
    if around is not None:
        around.hand_over()


class _Sent:
    """A request under way."""

    def __init__(self, embeds: Embeds, grant: Grant) -> None:
        self._attempt = Attempt(embeds.gate, grant)

    def __enter__(self) -> Self:
        return self

    def answered(self, response: Any) -> Any:
        """Settle with what the provider reported."""
        whole = response if hasattr(response, "usage") or not hasattr(response, "parse") else response.parse()
        told: Any = getattr(whole, "usage", None)
        usage = reported(getattr(told, "prompt_tokens", 0) or getattr(told, "total_tokens", 0) or 0, 0)
        self._attempt.settle(Outcome("ok", usage))
        return response

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None:
            self._attempt.fail(error)


def _name(client: object, given: dict[str, Any]) -> str:
    if "Azure" in type(client).__name__:
        provider = "azure"
    else:
        host = str(getattr(getattr(client, "base_url", None), "host", ""))
        provider = "openrouter" if host.endswith("openrouter.ai") else "openai"
    return f"{provider}:{given.get('model')}"


def _listed(given: dict[str, Any]) -> object:
    """What is to be embedded; an iterator is read here, once."""
    value: Any = given.get("input")
    if not isinstance(value, str | list | tuple) and isinstance(value, Iterable):
        value = given["input"] = list(cast(Iterable[object], value))
    return cast(object, value)


def _texts(given: object) -> list[Any]:
    """Texts and lists of tokens, each by itself."""
    if isinstance(given, str):
        return [given]
    several = list(cast(Iterable[Any], given or ()))
    return [several] if several and isinstance(several[0], int) else several
