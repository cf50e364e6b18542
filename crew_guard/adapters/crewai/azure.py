"""CrewAI's azure provider: the client of azure-ai-inference takes its retries and its length with each request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from crewai.llms.base_llm import BaseLLM

PROVIDER = "crewai.llms.providers.azure"
LENGTH = "max_tokens"
"""The only length that CrewAI sends there, whatever the model declares."""


def is_azure(host: type[BaseLLM]) -> bool:
    """Whether CrewAI's class of a model is the azure provider's."""
    return host.__module__.startswith(PROVIDER)


class QuietClient:
    """The user's client, sending each request once, and no longer than it may be."""

    def __init__(self, client: Any, before: Callable[[], int | None]) -> None:
        """Make one.

        Args:
            before: asked before each request; gives its longest completion, None where nothing is clamped
        """
        self._client, self._before = client, before

    def complete(self, **request: Any) -> Any:
        """One request."""
        return self._client.complete(**_bounded(request, self._before()))


class QuietAsyncClient:
    """The same for the async client."""

    def __init__(self, client: Any, before: Callable[[], Awaitable[int | None]]) -> None:
        self._client, self._before = client, before

    async def complete(self, **request: Any) -> Any:
        """One request."""
        return await self._client.complete(**_bounded(request, await self._before()))


def _bounded(request: dict[str, Any], length: int | None) -> dict[str, Any]:
    return {**request, **({} if length is None else {LENGTH: length}), "retry_total": 0}
