"""SDK clients of OpenAI without retries, and with connections of the loop that they are used on.

A connection belongs to the loop that opened it: a client that was used on the caller's loop before can't
go on with its connections on the guarded run's.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any
from weakref import WeakKeyDictionary

_lock = threading.Lock()
_quiet: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
"""By the user's client; its variant holds no reference to it."""
_on_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakKeyDictionary[Any, Any]] = WeakKeyDictionary()


def quiet_client(client: Any, *, kept: bool) -> Any:
    """The same client with the retries of its SDK off.

    Args:
        client: OpenAI's, sync or async
        kept: False where it was made for one request
    """
    if not kept:
        return client.with_options(max_retries=0)
    known = _quiet if _is_sync(client) else _of_this_loop()
    with _lock:
        quiet = known.get(client)
        if quiet is None:
            own = {} if _is_sync(client) else _own_connections(client)
            quiet = known[client] = client.with_options(max_retries=0, **own)
    return quiet


def _is_sync(client: Any) -> bool:
    return not type(client).__name__.startswith("Async")


def _of_this_loop() -> WeakKeyDictionary[Any, Any]:
    loop = asyncio.get_running_loop()
    with _lock:
        return _on_loops.setdefault(loop, WeakKeyDictionary())


def _own_connections(client: Any) -> dict[str, Any]:
    """Connections of its own, unless the user made the HTTP client: then it is theirs to say what it is good for."""
    inner = client._client  # noqa: SLF001  the only way to the HTTP client
    if type(inner).__name__ != "AsyncHttpxClientWrapper":
        return {}
    return {"http_client": type(inner)(base_url=inner.base_url, timeout=inner.timeout, follow_redirects=True)}
