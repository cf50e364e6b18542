"""CrewAI's gemini provider: what is known of its models before a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from crewai.llms.base_llm import BaseLLM

from crew_guard.adapters.hosted import room_beside
from crew_guard.errors import ConfigError

PROVIDER = "crewai.llms.providers.gemini"
LENGTH = "max_output_tokens"


def is_gemini(host: type[BaseLLM]) -> bool:
    """Whether CrewAI's class of a model is the gemini provider's."""
    return host.__module__.startswith(PROVIDER)


def check_gemini(llm: BaseLLM, whose: str) -> None:
    """Whether what a model is sent can be bounded.

    Raises:
        ConfigError: it can't
    """
    options: Any = cast(Any, llm).client_params.get("http_options")
    config = _get(_get(options, "extra_body"), "generationConfig")
    if (choices := _get(config, "candidateCount") or 1) > 1:
        raise ConfigError(
            f"the model of {whose} has candidateCount={choices}: completions that CrewAI throws away; leave it out"
        )


def kept_per_call(kind: type[BaseLLM]) -> tuple[str, ...]:
    """What CrewAI keeps in the model's object for the time of a call, and other runs' calls would write over."""
    return ("tools",) if any(map(is_gemini, kind.__mro__)) else ()


def room_to_think(llm: BaseLLM, wish: int | None) -> tuple[int | None, int | None]:
    """The longest completion asked for, and the shortest of use: what is thought is a part of it."""
    budget = _get(cast(Any, llm).thinking_config, "thinking_budget") or 0  # -1: as much as the model likes
    return room_beside(budget, wish)


def _get(options: Any, name: str) -> Any:
    if isinstance(options, Mapping):
        return cast("Mapping[str, Any]", options).get(name)
    return getattr(options, name, None)
