"""The lengths of completions that CrewAI's models declare, and those that they need."""

from __future__ import annotations

from functools import cache
from typing import Any

from crewai.llms.base_llm import BaseLLM

from crew_guard.adapters.crewai import bedrock, gemini
from crew_guard.adapters.crewai.checks import host_class
from crew_guard.adapters.hosted import room_beside

LENGTHS = ("max_completion_tokens", "max_tokens")


def wish(llm: BaseLLM, asked: int | None) -> tuple[int | None, int | None]:
    """The longest completion that the user asks for, and the shortest of use; None where nothing is said."""
    host = host_class(llm)
    if gemini.is_gemini(host):
        return gemini.room_to_think(llm, asked)
    if bedrock.is_bedrock(host):
        return bedrock.room_to_think(llm, asked)
    if host.__name__ != "AnthropicCompletion":
        return asked, None
    from crewai.llms.providers.anthropic import completion as anthropic

    default = anthropic._default_max_tokens_for_model(llm.model)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    if asked == default:
        asked = None  # CrewAI fills in the model's longest, which nobody asked for
    thinks = getattr(getattr(llm, "thinking", None), "budget_tokens", None)
    return room_beside(thinks or 0, asked)


def lengths_of(llm: BaseLLM) -> dict[str, int]:
    """The lengths that a model declares, by the name it has for them; the one that CrewAI sends first."""
    extra = llm.additional_params
    found: dict[str, int] = {}
    for key in (gemini.LENGTH, *LENGTHS) if gemini.is_gemini(host_class(llm)) else LENGTHS:
        if value := declared(llm, key):
            found[key] = int(value)
    for key in LENGTHS:
        if extra and (value := extra.get(key)):
            found[key] = int(value)
    return found


def declared(llm: BaseLLM, name: str) -> Any:
    """An attribute of a model, or None: asking pydantic for what is not there takes it microseconds."""
    fields = object.__getattribute__(llm, "__dict__")
    if name in fields:
        return fields[name]
    return getattr(llm, name, None) if name in (llm.model_extra or ()) or _has(type(llm), name) else None


@cache
def _has(kind: type[BaseLLM], name: str) -> bool:
    return hasattr(kind, name)
