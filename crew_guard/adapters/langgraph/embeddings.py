"""LangChain's embeddings under the gate: classes that send by OpenAI's SDK are gated there, all others here.

A class that computes in this process is let through; of the others none tells its usage, so what was counted is
charged.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import cache, wraps
from typing import Any, cast

from langchain_core.embeddings import Embeddings

from crew_guard.adapters.embedding import embedding, embedding_async
from crew_guard.adapters.langgraph.clients import check_retries
from crew_guard.adapters.langgraph.scope import scope_here
from crew_guard.errors import ConfigError

_METHODS = ("embed_documents", "embed_query", "aembed_documents", "aembed_query")
_BY_SDK = ("langchain_openai",)
_HANDS_ON = frozenset({"langchain_core", "langchain", "langchain_classic"})
"""Packages whose classes send nothing themselves: fakes, caches."""
_HERE = frozenset({
    "FastEmbedEmbeddings", "GPT4AllEmbeddings", "HuggingFaceBgeEmbeddings", "HuggingFaceEmbeddings",
    "HuggingFaceInstructEmbeddings", "LlamaCppEmbeddings", "SentenceTransformerEmbeddings", "SpacyEmbeddings",
})  # fmt: skip
"""Classes of LangChain's integrations that compute in this process."""
_NAMES = ("model", "model_name", "model_id")


def install() -> None:
    """Patch all classes of embeddings, and each that is made from now on; call it once."""
    if "__init_subclass__" in vars(Embeddings):
        raise ConfigError("langchain-core's Embeddings has an __init_subclass__ now: its version is not known")
    for kind in _below(Embeddings):
        _patch(kind)

    def patched_when_made(cls: type[Embeddings], **options: Any) -> None:
        cast(Any, super(Embeddings, cls)).__init_subclass__(**options)
        _patch(cls)

    Embeddings.__init_subclass__ = classmethod(patched_when_made)  # pyright: ignore[reportAttributeAccessIssue]


def _below(root: type) -> Iterator[type]:
    for kind in type.__subclasses__(root):
        yield kind
        yield from _below(kind)


def _patch(kind: type) -> None:
    if _sends_nothing(kind):
        return
    for name in _METHODS:
        method = vars(kind).get(name)
        abstract = getattr(method, "__isabstractmethod__", False)
        if inspect.isfunction(method) and not abstract and not hasattr(method, "_crew_guard_patched"):
            patch = _gated(method)
            patch._crew_guard_patched = True  # noqa: SLF001  a mark of our own  # pyright: ignore[reportFunctionMemberAccess]
            setattr(kind, name, patch)


def _gated(own: Any) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(own):

        @wraps(own)
        async def embed_async(embeds: Any, *args: Any, **kwargs: Any) -> Any:
            if scope_here() is None:
                return await own(embeds, *args, **kwargs)
            async with embedding_async(embeds, _checked(embeds), _given(args, kwargs)):
                return await own(embeds, *args, **kwargs)

        return embed_async

    @wraps(own)
    def embed(embeds: Any, *args: Any, **kwargs: Any) -> Any:
        if scope_here() is None:
            return own(embeds, *args, **kwargs)
        with embedding(embeds, _checked(embeds), _given(args, kwargs)):
            return own(embeds, *args, **kwargs)

    return embed


@cache
def _sends_nothing(kind: type) -> bool:
    """Whether a class is gated elsewhere, or has nothing to be gated."""
    package = kind.__module__.partition(".")[0]
    if package in _HANDS_ON:
        return True
    theirs = [base for base in kind.__mro__ if base.__module__.startswith("langchain_") and base is not Embeddings]
    return any(base.__name__ in _HERE or base.__module__.partition(".")[0] in _BY_SDK for base in theirs)


def _checked(embeds: Any) -> str:
    """provider:name, as policies know it; a class of the user's own goes by custom.

    Raises:
        ConfigError: it retries by itself, where the guard can't see it
    """
    kind: type[Any] = cast(Any, type(embeds))
    packages = (base.__module__.partition(".")[0] for base in kind.__mro__ if base is not Embeddings)
    package = next((each for each in packages if each.startswith("langchain_")), None)
    named = next((value for key in _NAMES if isinstance(value := getattr(embeds, key, None), str)), kind.__name__)
    name = f"{package.removeprefix('langchain_') if package else 'custom'}:{named}"
    if package and isinstance(getattr(embeds, "max_retries", None), int):
        check_retries(embeds, name, None, ())
    return name


def _given(args: Any, kwargs: dict[str, Any]) -> Any:
    return args[0] if args else next(iter(kwargs.values()), "")
