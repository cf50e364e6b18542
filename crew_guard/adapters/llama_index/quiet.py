"""SDK clients without retries, and with connections of the loop that they are used on.

A connection belongs to the loop that opened it: a client that was used on the caller's loop before can't
go on with its connections on the guarded run's.
"""

from __future__ import annotations

import asyncio
import threading
from copy import copy
from typing import Any
from weakref import WeakKeyDictionary

_lock = threading.Lock()
_quiet: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
"""By the user's client; its variant holds no reference to it."""
_on_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakKeyDictionary[Any, Any]] = WeakKeyDictionary()


def quiet_client(client: Any, *, kept: bool) -> Any:
    """The same client with the retries of its SDK off.

    Args:
        client: OpenAI's, Anthropic's or Ollama's, sync or async
        kept: False where it was made for one request
    """
    if not kept:
        return client.with_options(max_retries=0)
    known = _quiet if _is_sync(client) else _of_this_loop()
    with _lock:
        quiet = known.get(client)
        if quiet is None:
            quiet = known[client] = _variant(client)
    return quiet


def _variant(client: Any) -> Any:
    own = {} if _is_sync(client) else _own_connections(client)
    if hasattr(client, "with_options"):
        return client.with_options(max_retries=0, **own)
    if not own:
        return client  # of an SDK that never tries again
    variant = copy(client)
    variant._client = own["http_client"]  # noqa: SLF001  it has no other name
    return variant


def _is_sync(client: Any) -> bool:
    return not type(client).__name__.startswith("Async")


def _of_this_loop() -> WeakKeyDictionary[Any, Any]:
    loop = asyncio.get_running_loop()
    with _lock:
        return _on_loops.setdefault(loop, WeakKeyDictionary())


def _own_connections(client: Any) -> dict[str, Any]:
    """Connections of its own, unless the user made the HTTP client: then it is theirs to say what it is good for."""
    inner = client._client  # noqa: SLF001  the only way to the HTTP client
    own: dict[str, Any] = {"base_url": inner.base_url, "timeout": inner.timeout, "follow_redirects": True}
    if type(client).__module__.startswith("ollama."):
        # It makes its HTTP client itself, and hands the user's options on to it: those that can be read are kept.
        pool: Any = getattr(inner._transport, "_pool", None)  # noqa: SLF001
        if type(pool).__name__ != "AsyncConnectionPool" or any(inner._mounts.values()):  # noqa: SLF001
            return {}
        own |= {"headers": inner.headers, "cookies": inner.cookies, "auth": inner.auth}
        own |= {"verify": pool._ssl_context, "event_hooks": inner.event_hooks}  # noqa: SLF001
    elif type(inner).__name__ != "AsyncHttpxClientWrapper":
        return {}
    return {"http_client": type(inner)(**own)}
