"""What the functions of a graph's nodes hold: what stands in their closures, and models and tools they name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any, NamedTuple, cast

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.prompts import BasePromptTemplate
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langgraph.pregel import Pregel  # pyright: ignore[reportMissingTypeStubs]  it has types, and no stubs

from crew_guard.adapters.defining import tried

_ENDS = (BaseChatModel, BaseTool, BaseMessage, BasePromptTemplate, str)
"""What is not looked into."""
_NAMED = (Runnable, BaseMessage)
"""What is looked at where a function finds it by its name: models, tools and templates are runnables."""
_DATA = (bytes, int, float, type, type(None))
_INSIDE = (
    "steps",
    "steps__",
    "bound",
    "func",
    "afunc",
    "tools_by_name",
    "runnable",
    "fallbacks",
    "branches",
    "default",
)
"""Where runnables keep what they run."""
_MOST = 10_000
"""Parts that are looked at: closures may lead anywhere."""


class Held(NamedTuple):
    """Something that a node's function holds."""

    part: Any
    alone: bool
    """Whether a name of a closure stands for it: what is in a list, or an attribute, may be what a run collected."""


def held_by(node: object) -> Iterator[Held]:
    """All that the function of a node leads to without being run, each once."""
    seen: dict[tuple[int, bool], Held] = {}
    todo = [Held(node, alone=False)]
    while todo and len(seen) < _MOST:
        one = todo.pop()
        if isinstance(one.part, _DATA if one.alone else (str, *_DATA)) or (id(one.part), one.alone) in seen:
            continue
        seen[id(one.part), one.alone] = one
        yield one
        if not isinstance(one.part, _ENDS):
            todo += tried(list, _inside(one.part)) or ()


def _inside(part: Any) -> Iterator[Held]:
    if isinstance(part, FunctionType):
        yield from _of_function(part)
    elif isinstance(part, MethodType):
        yield Held(part.__func__, alone=False)
        yield from _attributes(part.__self__)
    elif isinstance(part, partial):
        bound = cast("partial[Any]", part)
        yield from (Held(each, alone=True) for each in (bound.func, *bound.args, *bound.keywords.values()))
    elif isinstance(part, Pregel):
        yield from (Held(node.bound, alone=False) for node in cast(Any, part).nodes.values())
    elif isinstance(part, Runnable):
        yield from (Held(tried(getattr, cast(Any, part), name), alone=False) for name in _INSIDE)
    elif isinstance(part, list | tuple):
        yield from (Held(each, alone=False) for each in cast("list[Any]", part))
    elif isinstance(part, Mapping):
        yield from (Held(each, alone=False) for each in cast("Mapping[Any, Any]", part).values())
    elif callable(part):
        yield from _attributes(part)


def _of_function(function: FunctionType) -> Iterator[Held]:
    for cell in function.__closure__ or ():
        try:
            yield Held(cell.cell_contents, alone=True)
        except ValueError:  # one that is not filled yet
            continue
    given = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    yield from (Held(each, alone=True) for each in given)
    yield Held(getattr(function, "__wrapped__", None), alone=False)
    known = function.__globals__
    named = (known.get(name) for name in _names(function.__code__))
    yield from (Held(each, alone=True) for each in named if isinstance(each, _NAMED))


def _names(code: CodeType) -> Iterator[str]:
    """The names that a function looks up, and those that the functions inside of it do."""
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _names(each)


def _attributes(owner: object) -> Iterator[Held]:
    """What an object holds whose method a node is, or that is called itself."""
    yield from (Held(each, alone=False) for each in tuple(getattr(owner, "__dict__", {}).values()))
