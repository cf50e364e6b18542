"""The requests of google-genai's client, each sent once, and no longer than it may be.

The client has two kinds of retries: those of its options, and one after a lost connection that nothing switches off.
Both are around what its API client does once, so that one is called by itself, on an object that shares all state.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import cache
from importlib import import_module
from typing import Any, TypeAlias, cast

from crew_guard.adapters.connections import http_here, keep_here, opened_here
from crew_guard.adapters.hosted import come_from
from crew_guard.errors import ConfigError

_Before: TypeAlias = Callable[[], int | None]
_BeforeAsync: TypeAlias = Callable[[], Awaitable[int | None]]
_Hear: TypeAlias = Callable[[Any], object]

_MAKES_TOKENS = (":generateContent", ":streamGenerateContent")


def is_genai(client: object) -> bool:
    """Whether this is a client of google-genai."""
    return come_from(client, "google", frozenset({"Client"})) and hasattr(client, "aio")


class QuietGemini:
    """The user's client, whose requests for completions are watched, and sent once."""

    def __init__(self, client: Any, before: _Before, before_async: _BeforeAsync, hear: _Hear | None = None) -> None:
        """Make one.

        Args:
            before: asked before each request; gives its longest completion, None where nothing is clamped
            before_async: the same of requests of the async client
            hear: told of each answer, and of each piece of a stream
        Raises:
            ConfigError: this version of google-genai has its requests elsewhere
        """
        own: Any = getattr(client, "_api_client", None)
        if not hasattr(own, "_request_once") or not hasattr(own, "_async_request_once"):
            raise ConfigError(
                "the guard can't see the requests of this version of google-genai: take one that it was written for, "
                "pip install 'google-genai>=1.65,<3'"
            )
        api = object.__new__(_derived(cast("type[Any]", type(own)), "_async_httpx_client" in vars(own)))
        object.__setattr__(api, "__dict__", own.__dict__)
        api._crew_guard = own, before, before_async
        self._client = client
        self.models, self.chats = _asking(api, "", hear)
        self.aio = _Beside(client.aio, *_asking(api, "Async", hear))

    def __getattr__(self, name: str) -> Any:
        """All else is the user's: files, counting tokens by other ways, what it was made with."""
        return getattr(self._client, name)


class _Beside:
    def __init__(self, client: Any, models: Any, chats: Any) -> None:
        self._client, self.models, self.chats = client, models, chats

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def _asking(api: Any, prefix: str, hear: _Hear | None) -> tuple[Any, Any]:
    """What asks for completions: models, and chats by them."""
    kind, chats = _asks(prefix)
    models = (kind if hear is None else _heard(kind))(api)
    if hear is not None:
        models._crew_guard_hear = hear  # noqa: SLF001  ours
    return models, chats(modules=models)


@cache
def _asks(prefix: str) -> tuple[type[Any], type[Any]]:
    models, chats = import_module("google.genai.models"), import_module("google.genai.chats")
    return getattr(models, f"{prefix}Models"), getattr(chats, f"{prefix}Chats")


@cache
def _heard(kind: type[Any]) -> type[Any]:
    """A class of models that tells of what is answered."""
    one, several = ("generate_content", "generate_content_stream")
    asks, streams = getattr(kind, one), getattr(kind, several)

    def answer(models: Any, **given: Any) -> Any:
        response = asks(models, **given)
        models._crew_guard_hear(response)  # noqa: SLF001  ours
        return response

    def pieces(models: Any, **given: Any) -> Iterator[Any]:
        for piece in streams(models, **given):
            models._crew_guard_hear(piece)  # noqa: SLF001  ours
            yield piece

    async def answer_async(models: Any, **given: Any) -> Any:
        response = await asks(models, **given)
        models._crew_guard_hear(response)  # noqa: SLF001  ours
        return response

    async def pieces_async(models: Any, **given: Any) -> AsyncIterator[Any]:
        return _told(await streams(models, **given), models._crew_guard_hear)  # noqa: SLF001  ours

    is_async = kind.__name__.startswith("Async")
    methods = {one: answer_async, several: pieces_async} if is_async else {one: answer, several: pieces}
    return type(kind.__name__, (kind,), methods)


async def _told(stream: AsyncIterator[Any], hear: _Hear) -> AsyncIterator[Any]:
    async for piece in stream:
        hear(piece)
        yield piece


@cache
def _derived(kind: type[Any], by_http: bool) -> type[Any]:
    """A class of API clients that send once.

    Args:
        by_http: whether it sends by httpx where there is no aiohttp
    """

    def request(api: Any, http_request: Any, _options: object = None, stream: bool = False) -> Any:
        if _makes_tokens(http_request):
            _clamp(http_request.data, api._crew_guard[1]())  # noqa: SLF001  ours
        return api._request_once(http_request, stream)  # noqa: SLF001  below the SDK's retries

    async def async_request(api: Any, http_request: Any, http_options: object = None, stream: bool = False) -> Any:  # noqa: ARG001  the SDK names it
        if _makes_tokens(http_request):
            _clamp(http_request.data, await api._crew_guard[2]())  # noqa: SLF001  ours
        return await api._async_request_once(http_request, stream)  # noqa: SLF001  the same

    own: dict[str, Any] = {"_request": request, "_async_request": async_request, "__del__": _leave_open}
    return type(kind.__name__, (kind,), {"__slots__": ("_crew_guard",)} | own | _connecting(kind, by_http))


def _connecting(kind: type[Any], by_http: bool) -> dict[str, Any]:
    """What it sends by, of the loop that it is asked on."""

    def session(api: Any) -> Any:
        opened = _users_session(api) or opened_here(_owner(api))
        return None if opened is None else _Once(opened)

    def keep_session(api: Any, value: Any) -> None:
        if not isinstance(value, _Once):
            keep_here(_owner(api), value, value.close)

    async def get_session(api: Any) -> Any:
        return _Once(await cast(Any, kind)._get_aiohttp_session(api))  # noqa: SLF001  the SDK hands it out nowhere

    own: dict[str, Any] = {}
    if by_http:  # what it sends by without aiohttp
        own["_async_httpx_client"] = property(_http)
    if hasattr(kind, "_aiohttp_session"):  # of version 2: it asks for a session each time
        own["_get_aiohttp_session"] = get_session
    else:
        own["_aiohttp_session"] = property(session, keep_session)  # one for all loops, where version 2 has one each
    return own


def _owner(api: Any) -> Any:
    return api._crew_guard[0]  # noqa: SLF001  ours


def _http(api: Any) -> Any:
    return http_here(api.__dict__["_async_httpx_client"])


def _users_session(api: Any) -> Any:
    return getattr(api._http_options, "aiohttp_client", None)  # noqa: SLF001  the SDK's own way to tell


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
