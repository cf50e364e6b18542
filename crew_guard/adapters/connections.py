"""SDK clients without retries, and with connections of the loop that they are used on.

A connection belongs to the loop that opened it: a client that was used on another loop before can't go on with
its connections on the guarded run's. The SDK's retries would hide that, and they are off.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from copy import copy
from functools import cache, cached_property
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary, ref

from crew_guard.loops import at_the_end

_OfLoops: TypeAlias = dict[asyncio.AbstractEventLoop, WeakKeyDictionary[Any, Any]]
_Made: TypeAlias = tuple[dict[str, Any], Any]
"""What a client was made with when its variant was made, and the variant. Neither holds the client."""

_HTTP_CLIENTS = frozenset(
    {
        "AsyncClient",
        "AsyncHttpxClient",
        "AsyncHttpxClientWrapper",
        "_AsyncHttpxClientWrapper",
        "_DefaultAsyncHttpxClient",
    }
)
"""Classes of httpx and of SDKs whose twins can be made; one of the user's own may hold anything."""

_lock = threading.RLock()
_off_loops: WeakKeyDictionary[Any, _Made] = WeakKeyDictionary()
_on_loops: _OfLoops = {}
"""By loop and by what is the user's: the twin of an HTTP client, or the session that stands for one."""
_variants: _OfLoops = {}
"""By loop and by the user's SDK client, what is Made of it."""


def quiet_client(client: Any, *, kept: bool = True) -> Any:
    """The same client with the retries of its SDK off.

    Args:
        client: OpenAI's, Anthropic's or Ollama's, sync or async
        kept: False where it was made for one request
    """
    if not kept:
        return client.with_options(max_retries=0)
    loop = _loop_of(client)
    with _lock:
        known = _off_loops if loop is None else _of(loop, _variants)
        try:
            made: _Made | None = known.get(client)
            now = _made_with(client)
        except TypeError:  # it can't be kept
            return _variant(client, loop)
        if made is None or made[0] != now:  # a key that was changed in the meantime, say
            made = known[client] = now, _variant(client, loop)
        return made[1]


def _made_with(client: object) -> dict[str, Any]:
    """What a client was given: not the resources that it keeps since they were first asked for, which hold it."""
    kept = _kept(type(client))
    return {name: value for name, value in vars(client).items() if name not in kept}


@cache
def _kept(kind: type) -> frozenset[str]:
    return frozenset(
        name for base in kind.__mro__ for name, value in vars(base).items() if isinstance(value, cached_property)
    )


def http_here(http: Any) -> Any:
    """An HTTP client like the user's, with connections of this loop; their own where it can't be told what it is."""
    found = opened_here(http)
    if found is None:
        found = _twin(http)
        if found is http:
            return http
        keep_here(http, found, found.aclose)
    return found


def opened_here(owner: Any) -> Any:
    """What was kept for something of the user's on this loop; None where nothing was."""
    with _lock:
        kept = _on_loops.get(asyncio.get_running_loop())
        return None if kept is None else kept.get(owner)


def keep_here(owner: Any, opened: Any, close: Callable[[], Awaitable[object]]) -> None:
    """Keep what is opened on this loop in place of something of the user's, and close it with the loop."""
    loop, whose = asyncio.get_running_loop(), ref(owner)

    async def ends() -> None:
        with _lock:
            kept = _on_loops.get(loop)
            if kept is not None and (still := whose()) is not None:
                kept.pop(still, None)
            if not kept:
                _on_loops.pop(loop, None)
                _variants.pop(loop, None)
        await close()

    with _lock:
        _of(loop, _on_loops)[owner] = opened
    opened._crew_guard_closes = at_the_end(ends)  # noqa: SLF001  it lives as long as what it closes


def _of(loop: asyncio.AbstractEventLoop, known: _OfLoops) -> WeakKeyDictionary[Any, Any]:
    found = known.get(loop)
    if found is None:
        for other in [other for other in known if other.is_closed()]:  # one that was just stopped, and left
            del known[other]
        found = known[loop] = WeakKeyDictionary()
    return found


def _variant(client: Any, loop: object) -> Any:
    http: Any = getattr(client, "_client", None)
    twin = http if loop is None else http_here(http)
    if hasattr(client, "with_options"):
        return (
            client.with_options(max_retries=0) if twin is http else client.with_options(max_retries=0, http_client=twin)
        )
    if twin is http:
        return client  # of an SDK that never tries again
    variant = copy(client)
    variant._client = twin  # noqa: SLF001  it has no other name
    return variant


def _loop_of(client: object) -> asyncio.AbstractEventLoop | None:
    """Where a client sends; None for a sync one, and where nothing is sent from here."""
    if not _is_async(type(client)):
        return None
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


@cache
def _is_async(kind: type) -> bool:
    return any(base.__name__.startswith("Async") for base in kind.__mro__)


def _twin(http: Any) -> Any:
    """A copy that shares all but the connections: headers, cookies, hooks, the way to sign requests."""
    transport: Any = getattr(http, "_transport", None)
    pool: Any = getattr(transport, "_pool", None)
    plain = type(http).__name__ in _HTTP_CLIENTS and type(http).__module__.split(".")[0] in _MODULES
    if not plain or http.is_closed or not _is_plain(transport, "httpx", "AsyncHTTPTransport"):
        return http
    if not _is_plain(pool, "httpcore", "AsyncConnectionPool"):
        return http
    if pool._proxy is not None:  # noqa: SLF001  httpcore tells it nowhere else
        return http
    if any(http._mounts.values()):  # noqa: SLF001  proxies: connections of theirs are shared
        return http
    twin = copy(http)
    twin._transport = _transport_like(transport, pool)  # noqa: SLF001  the only way to make one alike
    return twin


def _is_plain(obj: object, package: str, name: str) -> bool:
    return type(obj).__name__ == name and type(obj).__module__.split(".")[0] == package


_MODULES = frozenset({"httpx", "openai", "anthropic", "google", "langchain_openai", "langchain_anthropic"})


def _transport_like(transport: Any, pool: Any) -> Any:
    from httpx import Limits

    limits = Limits(
        max_connections=pool._max_connections,  # noqa: SLF001  httpcore tells them nowhere else
        max_keepalive_connections=pool._max_keepalive_connections,  # noqa: SLF001
        keepalive_expiry=pool._keepalive_expiry,  # noqa: SLF001
    )
    return type(transport)(
        verify=pool._ssl_context,  # noqa: SLF001  making one takes 20 ms
        http1=pool._http1,  # noqa: SLF001
        http2=pool._http2,  # noqa: SLF001
        limits=limits,
        uds=pool._uds,  # noqa: SLF001
        local_address=pool._local_address,  # noqa: SLF001
        retries=pool._retries,  # noqa: SLF001
        socket_options=pool._socket_options,  # noqa: SLF001
    )
