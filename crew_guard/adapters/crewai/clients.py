"""SDK clients that take no option to send a request once: each is wrapped in its own way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from crewai.llms.base_llm import BaseLLM

from crew_guard.adapters.crewai.azure import QuietAsyncClient, QuietClient
from crew_guard.adapters.crewai.bedrock import QuietBedrock, is_bedrock
from crew_guard.adapters.crewai.gemini import is_gemini
from crew_guard.adapters.genai import QuietGemini


def sent_once(
    host: type[BaseLLM],
    client: Any,
    before: Callable[..., int | None],
    before_async: Callable[[], Awaitable[int | None]],
) -> Any:
    """A client as the host's provider has it, watched.

    Args:
        before: asked before each request, with its messages where they grow in a call; gives its longest completion,
            None where nothing is clamped
        before_async: the same of an async client's
    """
    if is_gemini(host):
        return QuietGemini(client, before, before_async)
    if is_bedrock(host):
        return QuietBedrock(client, before)
    return QuietClient(client, before)


def sent_once_async(client: Any, before: Callable[[], Awaitable[int | None]]) -> Any:
    """The same for a client that is async and nothing else."""
    return client if isinstance(client, QuietGemini) else QuietAsyncClient(client, before)
