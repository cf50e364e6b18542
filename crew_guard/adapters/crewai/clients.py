"""SDK clients that take no option to send a request once: each is wrapped in its own way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from crewai.llms.base_llm import BaseLLM

from crew_guard.adapters.crewai.azure import QuietAsyncClient, QuietClient
from crew_guard.adapters.crewai.bedrock import QuietBedrock, is_bedrock
from crew_guard.adapters.crewai.gemini import is_gemini
from crew_guard.adapters.genai import QuietGemini
from crew_guard.core.reported import mapping, parse_usage
from crew_guard.core.usage import Usage


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


def watched(client: Any, before: Callable[[], object], heard: Callable[[Any], object]) -> Any:
    """A client of OpenAI's or Anthropic's that tells of its requests, and of its answers before it reads them.

    Args:
        client: it is changed
        before: asked before each request
        heard: given the HTTP response of each whole answer, what streams left out
    """
    prepare = client._prepare_request  # noqa: SLF001

    def prepared(request: Any) -> Any:
        before()
        return prepare(request)

    client._prepare_request = prepared  # noqa: SLF001
    return _heard(client, heard)


def watched_async(client: Any, before: Callable[[], Awaitable[object]], heard: Callable[[Any], object]) -> Any:
    """The same of an async client."""
    prepare = client._prepare_request  # noqa: SLF001

    async def prepared(request: Any) -> Any:
        await before()
        return await prepare(request)

    client._prepare_request = prepared  # noqa: SLF001
    return _heard(client, heard)


def _heard(client: Any, heard: Callable[[Any], object]) -> Any:
    process = client._process_response  # noqa: SLF001

    def processed(*, response: Any, stream: bool, **options: Any) -> Any:
        if not stream:
            heard(response)
        return process(response=response, stream=stream, **options)

    client._process_response = processed  # noqa: SLF001
    return client


def usage_of(response: Any) -> Usage | None:
    """The usage that an answer reports, read from its body; None where there is none."""
    try:
        return parse_usage(mapping(response.json()).get("usage"))[0]
    except Exception:  # noqa: BLE001  whatever a server sends
        return None


def sent_once_async(client: Any, before: Callable[[], Awaitable[int | None]]) -> Any:
    """The same for a client that is async and nothing else."""
    return client if isinstance(client, QuietGemini) else QuietAsyncClient(client, before)
