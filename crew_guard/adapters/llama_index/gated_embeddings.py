"""The patches of an embedding class's methods: what sends by OpenAI's SDK is gated there, a class of one's own here."""

from __future__ import annotations

import inspect
from functools import cache, wraps
from typing import Any, Literal, TypeAlias, cast

from crew_guard.adapters.embedding import embedding, embedding_async
from crew_guard.adapters.llama_index.scope import HostRun, current
from crew_guard.adapters.stand_in import is_stand_in, own_value, shown, stand_in
from crew_guard.errors import ConfigError

_Way: TypeAlias = Literal["free", "sdk", "own", "unknown"]
_BY_SDK = (
    "llama_index.embeddings.openai.",
    "llama_index.embeddings.azure_openai.",
    "llama_index.embeddings.openai_like.",
)
_HERE = frozenset({"HuggingFaceEmbedding", "FastEmbedEmbedding", "OptimumEmbedding", "InstructorEmbedding"})
"""Classes of LlamaIndex's integrations that compute in this process."""


def gated(_name: str, method: Any) -> Any:
    """A patch of one method: outside of a guarded run it hands through."""
    if inspect.iscoroutinefunction(method):

        @wraps(method)
        async def embed_async(self: Any, *args: Any, **kwargs: Any) -> Any:
            run = current.get()
            if run is None:
                return await method.__get__(self, type(self))(*args, **kwargs)
            way, self = _way(run, self)
            work = method.__get__(self, type(self))
            if way != "own":
                return await work(*args, **kwargs)
            async with embedding_async(self, _name_of(self), _given(args, kwargs)):
                return await work(*args, **kwargs)

        return embed_async

    @wraps(method)
    def embed(self: Any, *args: Any, **kwargs: Any) -> Any:
        run = current.get()
        if run is None:
            return method.__get__(self, type(self))(*args, **kwargs)
        way, self = _way(run, self)
        work = method.__get__(self, type(self))
        if way != "own":
            return work(*args, **kwargs)
        with embedding(self, _name_of(self), _given(args, kwargs)):
            return work(*args, **kwargs)

    return embed


def _way(run: HostRun, embeds: Any) -> tuple[_Way, Any]:
    """How an object embeds, and the object to go on with.

    Raises:
        ConfigError: nobody knows what it sends
    """
    if is_stand_in(embeds):
        return "sdk", embeds
    kind: Any = cast(Any, type(embeds))
    way = _way_of(kind)
    if way == "sdk":
        return way, stand_in(embeds, None, _without_retries)
    if way == "unknown":
        raise run.refuse(
            ConfigError(
                f"{run.who()!r} embeds with {kind.__module__}.{kind.__name__}, whose retries and usage the guard "
                "doesn't know: use OpenAIEmbedding (any OpenAI-compatible server) or AzureOpenAIEmbedding, a class "
                "of your own, or embed by hand, through step_gate()"
            )
        )
    return way, embeds


@cache
def _way_of(kind: type[Any]) -> _Way:
    for base in kind.__mro__:
        module = f"{base.__module__}."
        if module.startswith(_BY_SDK):
            return "sdk"
        if module.startswith("llama_index.embeddings."):
            return "free" if base.__name__ in _HERE else "unknown"
        if module.startswith("llama_index.core."):
            return "own" if base is not kind else "free"  # the core's own send nothing anywhere
    return "own"


def _without_retries(_kind: type[Any]) -> dict[str, Any]:
    return dict(
        shown(("max_retries",), lambda double, name: 0 if _is_number(double, name) else own_value(double, name))
    )


def _is_number(double: Any, name: str) -> bool:
    return isinstance(own_value(double, name), int)


def _name_of(embeds: Any) -> str:
    named = getattr(embeds, "model_name", None)
    return f"custom:{named if isinstance(named, str) and named != 'unknown' else type(embeds).__name__}"


def _given(args: Any, kwargs: dict[str, Any]) -> Any:
    return args[0] if args else next(iter(kwargs.values()), "")
