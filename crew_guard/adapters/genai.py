"""The requests of google-genai's client, each sent once, and no longer than it may be.

The client has two kinds of retries: those of its options, and one after a lost connection that nothing switches off.
Both are around what its API client does once, so that one is called by itself, on an object that shares all state.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any, cast

from crew_guard.adapters.hosted import come_from
from crew_guard.errors import ConfigError

_MAKES_TOKENS = (":generateContent", ":streamGenerateContent")


def is_genai(client: object) -> bool:
    """Whether this is a client of google-genai."""
    return come_from(client, "google", frozenset({"Client"})) and hasattr(client, "aio")


class QuietGemini:
    """The user's client, whose requests for completions are watched, and sent once."""

    def __init__(
        self, client: Any, before: Callable[[], int | None], before_async: Callable[[], Awaitable[int | None]]
    ) -> None:
        """Make one.

        Args:
            before: asked before each request; gives its longest completion, None where nothing is clamped
            before_async: the same of requests of the async client
        Raises:
            ConfigError: this version of google-genai has its requests elsewhere
        """
        models = import_module("google.genai.models")
        own: Any = getattr(client, "_api_client", None)
        if not hasattr(own, "_request_once") or not hasattr(own, "_async_request_once"):
            raise ConfigError(
                "the guard can't see the requests of this version of google-genai: take one that it was written for, "
                "pip install 'google-genai>=1.65,<3'"
            )
        api = object.__new__(_derived(cast("type[Any]", type(own)), before, before_async))
        object.__setattr__(api, "__dict__", own.__dict__)
        self._client = client
        self.models = models.Models(api)
        self.aio = _Beside(client.aio, models.AsyncModels(api))

    def __getattr__(self, name: str) -> Any:
        """All else is the user's: files, counting tokens by other ways, what it was made with."""
        return getattr(self._client, name)


class _Beside:
    def __init__(self, client: Any, models: Any) -> None:
        self._client, self.models = client, models

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def _derived(
    kind: type[Any], before: Callable[[], int | None], before_async: Callable[[], Awaitable[int | None]]
) -> type[Any]:
    def request(api: Any, http_request: Any, _options: object = None, stream: bool = False) -> Any:
        if _makes_tokens(http_request):
            _clamp(http_request.data, before())
        return api._request_once(http_request, stream)  # noqa: SLF001  below the SDK's retries

    async def async_request(api: Any, http_request: Any, http_options: object = None, stream: bool = False) -> Any:  # noqa: ARG001  the SDK names it
        if _makes_tokens(http_request):
            _clamp(http_request.data, await before_async())
        return await api._async_request_once(http_request, stream)  # noqa: SLF001  the same

    def session(api: Any) -> Any:
        own = api.__dict__.get("_aiohttp_session")
        return None if own is None else _Once(own)

    def keep_session(api: Any, value: Any) -> None:
        api.__dict__["_aiohttp_session"] = value.session if isinstance(value, _Once) else value

    async def get_session(api: Any) -> Any:
        return _Once(await cast(Any, kind)._get_aiohttp_session(api))  # noqa: SLF001  the SDK hands it out nowhere

    own: dict[str, Any] = {"_request": request, "_async_request": async_request, "__del__": _leave_open}
    if hasattr(kind, "_aiohttp_session"):  # of version 2: it asks for a session each time
        own["_get_aiohttp_session"] = get_session
    else:
        own["_aiohttp_session"] = property(session, keep_session)
    return type(kind.__name__, (kind,), own)


def _leave_open(_: object) -> None:
    """The SDK's own would close the user's connections."""


class _Once:
    """An aiohttp session of the SDK's: a connection that is lost raises what the SDK doesn't try again after."""

    def __init__(self, session: Any) -> None:
        self.session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    async def request(self, *, url: str, **options: Any) -> Any:
        from aiohttp import ClientError

        try:
            response = await self.session.request(url=url, **options)
            if "alt=sse" not in url:
                await response.read()
        except ClientError as error:
            raise ConnectionError(f"{type(error).__name__}: {error}") from error
        return response


def _makes_tokens(http_request: Any) -> bool:
    return any(word in http_request.url for word in _MAKES_TOKENS)


def _clamp(body: dict[str, Any], length: int | None) -> None:
    if length is None:
        return
    config: dict[str, Any] = body.get("generationConfig") or {}
    asked = config.get("maxOutputTokens") or length
    body["generationConfig"] = {**config, "maxOutputTokens": min(asked, length)}
