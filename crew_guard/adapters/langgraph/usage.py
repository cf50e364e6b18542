"""Usage as LangChain passes it on: on the message, or beside it as older integrations do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crew_guard.adapters.hosted import reported
from crew_guard.core.usage import NO_PARTS, Parts, Usage

_ALIASES = {"input_tokens": "prompt_tokens", "output_tokens": "completion_tokens"}


def usage_of(message: object, output: Mapping[str, Any] | None) -> tuple[Usage | None, Parts]:
    """What the provider reported with a reply; None where it named nothing.

    Args:
        message: the reply
        output: what the integration says beside it
    """
    told: Any = getattr(message, "usage_metadata", None)
    if not told and output:
        beside: Any = output.get("token_usage") or output.get("usage") or {}
        told = {key: beside.get(key) or beside.get(alias) for key, alias in _ALIASES.items()}
    return read(told)


def read(told: Any) -> tuple[Usage | None, Parts]:
    """LangChain's own form of it, a UsageMetadata."""
    if not told:
        return None, NO_PARTS
    sent: Any = told.get("input_token_details") or {}
    made: Any = told.get("output_token_details") or {}
    prompt, completion = int(told.get("input_tokens") or 0), int(told.get("output_tokens") or 0)
    hour = int(sent.get("ephemeral_1h_input_tokens") or 0)
    short = int(sent.get("ephemeral_5m_input_tokens") or 0)
    parts = Parts(
        cache_written=int(sent.get("cache_creation") or 0) + short + hour,  # told in one way or in the other
        kept_an_hour=hour,
        input_audio=int(sent.get("audio") or 0),
        output_audio=int(made.get("audio") or 0),
        reasoning=int(made.get("reasoning") or 0),
    )
    return reported(prompt, completion, int(sent.get("cache_read") or 0)), parts
